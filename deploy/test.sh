#!/usr/bin/env bash
# Runs every test of what is built: what only computes runs beside the others, which mostly wait for brokers and browsers.
set -uo pipefail
cd "$(dirname "$0")/.."

selection=(--release --workspace --locked --no-fail-fast)
# Beside the unit tests; a name that is no test's is an error.
computing=(few_shots fuzz measurement_tables table_releases tables zeus zoo)
mapfile -t waiting < <(cargo metadata --no-deps --format-version 1 --locked | python3 -c '
import json, sys
targets = [target for package in json.load(sys.stdin)["packages"] for target in package["targets"]]
print(*sorted({target["name"] for target in targets if "test" in target["kind"]} - set(sys.argv[1:])), sep="\n")
' "${computing[@]}")

log=$(mktemp)
nice cargo test "${selection[@]}" --lib --bins --examples "${computing[@]/#/--test=}" >"$log" 2>&1 &
computed=$!
trap 'kill "$computed" 2>/dev/null; rm -f "$log"' EXIT
cargo test "${selection[@]}" "${waiting[@]/#/--test=}"
waited=$?
wait "$computed"
computed_ended=$?
echo "tests that ran beside these:"
cat "$log"
exit $((computed_ended ? computed_ended : waited))
