#!/usr/bin/env bash
# Installs what building and running Augur needs, by package name, and writes .cargo/config.toml.
# Idempotent, and quick when nothing is missing. Needs root (or sudo) only where a Debian package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

duckdb_version=1.5.6-r.1     # npm; must go with the crate version in Cargo.toml (1.10506.x)
onnxruntime_version=1.31.1   # PyPI
ort_web_version=1.30.0       # npm
geckodriver_version=0.37.1   # crates.io; Debian has no package of it
cache="${XDG_CACHE_HOME:-$HOME/.cache}/augur"
libraries="$cache/lib"
tools="$cache/tools"
ort_web="$libraries/ort-web"
mkdir -p "$libraries"

note() { printf '\033[2msetup: %s\033[0m\n' "$*" >&2; }

debian_packages=()
need() { # need COMMAND-OR-FILE PACKAGE...
    local probe=$1; shift
    if ! command -v "$probe" >/dev/null 2>&1 && ! compgen -G "$probe" >/dev/null; then
        debian_packages+=("$@")
    fi
}
need g++ g++
need make make
need cmake cmake
need clang clang
need '/usr/lib/llvm-*/lib/libclang*.so*' libclang-dev
need /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
need '/usr/lib/python3/dist-packages/pytest' python3-pytest
need /usr/lib/chromium/chromium chromium
need chromedriver chromium-driver
need firefox-esr firefox-esr
need '/usr/share/vulkan/icd.d/lvp_icd*.json' mesa-vulkan-drivers # WebGPU in Firefox, on the processor
[ "$(cat "$ort_web/version" 2>/dev/null)" = "$ort_web_version" ] || need npm npm
[ -e "$libraries/libduckdb.so" ] && [ "$(cat "$libraries/duckdb.version" 2>/dev/null)" = "$duckdb_version" ] || need npm npm
if [ "$(cat "$libraries/onnxruntime.version" 2>/dev/null)" != "$onnxruntime_version" ]; then
    need unzip unzip
    need python3 python3
    python3 -m pip --version >/dev/null 2>&1 || debian_packages+=(python3-pip)
fi

if [ ${#debian_packages[@]} -gt 0 ]; then
    note "installing Debian packages: ${debian_packages[*]}"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    log=$(mktemp)
    "${as_root[@]}" apt-get update -qq >"$log" 2>&1 &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${debian_packages[@]}" >>"$log" 2>&1 ||
        { cat "$log" >&2; note "Debian packages could not be installed"; exit 1; }
    rm -f "$log"
fi

if [ "$(cat "$libraries/duckdb.version" 2>/dev/null)" != "$duckdb_version" ]; then
    note "fetching DuckDB's prebuilt library $duckdb_version from npm"
    scratch=$(mktemp -d)
    (cd "$scratch" && npm pack --silent "@duckdb/node-bindings-linux-x64@$duckdb_version" >/dev/null && tar xzf ./*.tgz)
    install -m 644 "$(find "$scratch" -name 'libduckdb.so*' | head -n 1)" "$libraries/libduckdb.so"
    echo "$duckdb_version" >"$libraries/duckdb.version"
    rm -rf "$scratch"
fi

if [ "$(cat "$libraries/onnxruntime.version" 2>/dev/null)" != "$onnxruntime_version" ]; then
    note "fetching ONNX Runtime $onnxruntime_version from PyPI"
    scratch=$(mktemp -d)
    # A fixed Python version, so that any pip finds a wheel: only the shared library inside is used.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 -d "$scratch" "onnxruntime==$onnxruntime_version"
    unzip -q "$scratch"/*.whl 'onnxruntime/capi/libonnxruntime.so.*' -d "$scratch"
    install -m 644 "$scratch/onnxruntime/capi/libonnxruntime.so.$onnxruntime_version" "$libraries/libonnxruntime.so"
    echo "$onnxruntime_version" >"$libraries/onnxruntime.version"
    rm -rf "$scratch"
fi

if [ "$(cat "$ort_web/version" 2>/dev/null)" != "$ort_web_version" ]; then
    note "fetching ONNX Runtime Web $ort_web_version from npm"
    scratch=$(mktemp -d)
    (cd "$scratch" && npm pack --silent "onnxruntime-web@$ort_web_version" >/dev/null && tar xzf ./*.tgz)
    mkdir -p "$ort_web"
    # One build per platform: wasm, webgpu, webnn, each with the module and the binary that it loads.
    for file in ort.wasm.min.mjs ort-wasm-simd-threaded.{mjs,wasm} ort.webgpu.min.mjs \
        ort-wasm-simd-threaded.asyncify.{mjs,wasm} ort.all.min.mjs ort-wasm-simd-threaded.jsep.{mjs,wasm}; do
        install -m 644 "$scratch/package/dist/$file" "$ort_web/$file"
    done
    echo "$ort_web_version" >"$ort_web/version"
    rm -rf "$scratch"
fi

# Slow to build, so only where it is missing or another version; not in cargo's own target folder, which is the clone's.
# Not through `grep -q`, which ends before it has read all: then the pipe fails and it is built anew every time.
if [[ $("$tools/bin/geckodriver" --version 2>/dev/null) != "geckodriver $geckodriver_version"* ]]; then
    note "building geckodriver $geckodriver_version from crates.io"
    scratch=$(mktemp -d)
    CARGO_TARGET_DIR="$scratch" cargo install --quiet --locked --force --root "$tools" "geckodriver@$geckodriver_version"
    rm -rf "$scratch"
fi

# Plain `cargo build`, `cargo test` and editors then see what `make` sees. Dependencies stay cached outside the clone.
mkdir -p .cargo
config=$(mktemp)
cat >"$config" <<CONFIG
# Written by deploy/setup.sh.
[build]
target-dir = "${CARGO_TARGET_DIR:-$cache/target}"
rustflags = ["-C", "link-arg=-Wl,-rpath,$libraries"]

[env]
DUCKDB_LIB_DIR = "$libraries"
AUGUR_ONNXRUNTIME_LIBRARY = "$libraries/libonnxruntime.so"
AUGUR_ORT_WEB_DIRECTORY = "$ort_web"
CONFIG
if cmp -s "$config" .cargo/config.toml; then rm "$config"; else mv "$config" .cargo/config.toml; note "wrote .cargo/config.toml"; fi
