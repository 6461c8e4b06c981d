#!/usr/bin/env bash
# The main job from end to end, on real input; `make demo` calls it after the build.
# Everything it makes lies in .augur/demo (or AUGUR_STATE_DIRECTORY), which it empties first.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(sed -n 's/^target-dir = "\(.*\)"/\1/p' .cargo/config.toml)
augur="$target/release/augur"
export AUGUR_SETTINGS=deploy/demo.toml
export AUGUR_STATE_DIRECTORY="${AUGUR_STATE_DIRECTORY:-$PWD/.augur/demo}"
AUGUR_ONNXRUNTIME_LIBRARY="${AUGUR_ONNXRUNTIME_LIBRARY:-$(sed -n 's/^AUGUR_ONNXRUNTIME_LIBRARY = "\(.*\)"/\1/p' .cargo/config.toml)}"
export AUGUR_ONNXRUNTIME_LIBRARY
state=$AUGUR_STATE_DIRECTORY

# A free port, so that the demo also runs beside another aggregator.
port=$(deploy/free_port.py)
export AUGUR_AGGREGATOR__LISTEN="127.0.0.1:$port" AUGUR_AGGREGATOR_URL="http://127.0.0.1:$port"

started=$SECONDS
step() { printf '\n\033[1m%s\033[0m\n' "── $* (${SECONDS} s)"; }

rm -rf "$state"
mkdir -p "$state"

step "1. What works on this machine"
"$augur" doctor

step "2. Broker, topology, and the daemons: aggregator, updater, two workers"
coproc UP { exec "$augur" up --workers 2 2>"$state/up.log"; }
up_pid=$UP_PID
finish() {
    status=$?
    trap - EXIT
    if kill -TERM "$up_pid" 2>/dev/null; then
        wait "$up_pid" || { status=$?; tail -n 20 "$state/up.log" >&2; }
    fi
    exit "$status"
}
trap finish EXIT
# `up` prints the topology's plan, then what it started; the line of the logs is its last.
while :; do
    IFS= read -r line <&"${UP[0]}" || { tail -n 20 "$state/up.log" >&2; echo "augur up ended early" >&2; exit 1; }
    printf '%s\n' "$line"
    [[ $line == "  logs "* ]] && break
done

step "3. A suite of benchmarks and tests"
run=$("$augur" suite submit deploy/suites/demo.yaml --wait)
"$augur" run wait "$run"
"$augur" run results "$run"

step "4. Predictors trained on what was measured"
# What was disturbed is marked, and teaches nothing.
rows=$("$augur" run results "$run" --format json |
  python3 -c 'import json, sys; print(sum(row["accepted"] is True for row in json.load(sys.stdin)))')
"$augur" predictor wait --rows "$rows" --timeout-s 60
"$augur" predictor show

step "5. A configuration that was never measured: predicted, then measured through the queue"
"$augur" predictor predict --model resnet50 --platforms cpu --batch-sizes 3 --threads 2
"$augur" job submit --kind benchmark --model resnet50 --batch-size 3 --threads 2 --predict --wait

step "6. The active learner asks for the ten configurations it is least sure of"
"$augur" plan next --strategy uncertainty --count 10 --submit --wait

step "7. The result stream replayed into a fresh database"
"$augur" run list --format json >"$state/runs.json"
while read -r pending; do "$augur" run wait "$pending" >/dev/null; done < <(python3 -c '
import json, sys
for run in json.load(open(sys.argv[1])): print(run["run_id"])' "$state/runs.json")
rm -f "$state/fresh.duckdb"
"$augur" result replay --from first --into "$state/fresh.duckdb" --compare

step "8. A report"
"$augur" run report "$run" --format html --output "$state/report.html"

printf '\nDone in %s s.\n  database  %s\n  releases  %s\n  report    %s\n' \
    "$((SECONDS - started))" "$state/augur.duckdb" "$state/releases" "$state/report.html"
