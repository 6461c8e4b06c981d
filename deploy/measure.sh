#!/usr/bin/env bash
# Measures Augur end to end with its real daemons, on a private RabbitMQ node, and prints a Markdown table of the
# README's numbers with the command behind each. Called by `make bench`, after the criterion benches whose
# estimates it shows. Takes about two minutes; needs the release build, bash and python3.
#
#   deploy/measure.sh [--no-build-time]    leaves the warm build out
#
# MEASURE_BINARY names another binary, MEASURE_JOBS another size of the no-op runs (default 20000).
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/augur/target}
augur=${MEASURE_BINARY:-$target/release/augur}
jobs=${MEASURE_JOBS:-20000}
concurrency=64
prefetch=500
runs=3
# Unloaded submissions: this many runs of this many jobs each, one run after the other.
quiet_runs=20
quiet_jobs=50
ready_s_max=120
run_s_max=300

[ -x "$augur" ] || { echo "measure.sh: $augur is not there; run \`make build\` first" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/augur-measure.XXXXXX")
up_pid='' worker_pid='' second_pid=''
# Ends only what this script started, by process id.
stop() {
    local pid
    for pid in "$@"; do
        [ -n "$pid" ] || continue
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
finish() {
    local status=$?
    stop "$worker_pid" "$second_pid" "$up_pid"
    if [ "$status" -ne 0 ]; then
        echo "measure.sh: failed; logs are in $work" >&2
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# wait_for FILE TEXT PID: until a log has the text, while the process lives.
wait_for() {
    local deadline=$((SECONDS + ready_s_max))
    until grep -q "$2" "$1" 2>/dev/null; do
        kill -0 "$3" 2>/dev/null || { echo "measure.sh: ended before \`$2\`:" >&2; tail -5 "$1" >&2; exit 1; }
        [ $SECONDS -lt $deadline ] || { echo "measure.sh: no \`$2\` after $ready_s_max s" >&2; exit 1; }
        sleep 0.1
    done
}

now() { date +%s.%N; }

rows=()
row() { rows+=("| $1 | $2 | $3 |"); echo "measure.sh: $1: $2" >&2; }

# --- Set-up: broker, topology, aggregator and updater by `augur up`, one worker beside it.

port=$(deploy/free_port.py)
unset AUGUR_AMQP_URL
export AUGUR_STATE_DIRECTORY=$work/state
export AUGUR_AGGREGATOR__LISTEN=127.0.0.1:$port AUGUR_AGGREGATOR_URL=http://127.0.0.1:$port
"$augur" up --workers 0 >"$work/up.out" 2>"$work/up.log" &
up_pid=$!
wait_for "$work/up.out" '^ready: ' "$up_pid"
"$augur" worker start --concurrency $concurrency --prefetch $prefetch 2>"$work/worker.log" &
worker_pid=$!
wait_for "$work/worker.log" 'worker ready' "$worker_pid"

# --- Idle memory. PSS shares the pages of the common executable between its processes.

idle_memory() {
    python3 - "$1" <<'PY'
import sys
kb = {line.split()[0]: int(line.split()[1]) for line in open(f"/proc/{sys.argv[1]}/smaps_rollup").readlines()[1:]}
print(f"{kb['Rss:'] / 1e3 * 1.024:.0f} MB RSS, {kb['Pss:'] / 1e3 * 1.024:.0f} MB PSS")
PY
}
child_of_up() {
    local pid
    for pid in $(cat "/proc/$up_pid/task/"*/children); do
        if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q " $1 start"; then echo "$pid"; return; fi
    done
    echo "measure.sh: \`augur up\` has no $1" >&2
    exit 1
}
for daemon in aggregator updater; do
    pid=$(child_of_up $daemon)
    memory=$(idle_memory "$pid")
    row "idle memory, $daemon" "$memory" "\`/proc/PID/smaps_rollup\` of \`augur $daemon start\`, no run yet"
done
memory=$(idle_memory "$worker_pid")
row "idle memory, worker" "$memory" "the same of \`augur worker start\`"

# --- No-op jobs end to end: from the submission to the commit of the last result in DuckDB.

noop_suite() { printf 'version: 1\nname: noop-%s\ntests:\n  - {name: noop, profile: noop, repeat: %s}\n' "$1" "$1" >"$work/noop-$1.yaml"; }
noop_suite "$jobs"
noop_suite "$quiet_jobs"

rates=()
for _ in $(seq $runs); do
    run=$("$augur" suite submit "$work/noop-$jobs.yaml" 2>>"$work/client.log")
    "$augur" run wait "$run" --timeout-s $run_s_max >/dev/null 2>>"$work/client.log"
    stored=$(now)
    rate=$("$augur" run show "$run" --format json | python3 -c '
import datetime, json, sys
run = json.load(sys.stdin)
assert run["passed"] == run["jobs_total"] == int(sys.argv[2]), run
submitted = datetime.datetime.fromisoformat(run["submitted_at"].replace("Z", "+00:00")).timestamp()
print(round(run["jobs_total"] / (float(sys.argv[1]) - submitted)))' "$stored" "$jobs")
    echo "measure.sh: $jobs no-op jobs at $rate/s" >&2
    rates+=("$rate")
done
median=$(printf '%s\n' "${rates[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p")
row "no-op jobs end to end (published, run, result stored)" "$median jobs/s" \
    "\`augur suite submit noop-$jobs.yaml; augur run wait RUN\`, one \`augur worker start --concurrency $concurrency --prefetch $prefetch\`, median of $runs"

# --- Submit to start on an idle worker.

waits=$work/waits
for _ in $(seq $quiet_runs); do
    run=$("$augur" suite submit "$work/noop-$quiet_jobs.yaml" 2>>"$work/client.log")
    "$augur" run wait "$run" --timeout-s $run_s_max >/dev/null 2>>"$work/client.log"
    "$augur" run results "$run" --format json |
        python3 -c 'import json, sys; [print(row["queue_wait_s"]) for row in json.load(sys.stdin)]' >>"$waits"
done
percentiles=$(python3 - "$waits" <<'PY'
import sys
waits = sorted(float(line) * 1e3 for line in open(sys.argv[1]))
at = lambda share: waits[min(len(waits) - 1, int(share * len(waits)))]
print(f"p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms ({len(waits)} jobs)")
PY
)
row "submit to start, idle worker" "$percentiles" \
    "\`queue_wait_s\` of \`augur run results RUN --format json\`, $quiet_runs runs of $quiet_jobs no-op jobs one after the other; includes the submitter's connections"

# --- A second aggregator over an empty database works off the whole stream as its backlog.

stop "$worker_pid"
worker_pid=''
total=$((runs * jobs + quiet_runs * quiet_jobs))
second=$(deploy/free_port.py)
AUGUR_LOG=info,pipeline::aggregator=debug,lapin=off AUGUR_AGGREGATOR__LISTEN=127.0.0.1:$second \
    "$augur" --log-format json aggregator start --db "$work/second.duckdb" 2>"$work/second.log" &
second_pid=$!
# One aggregator is active at a time: the second takes over when the first goes (and comes back as its stand-by).
first_pid=$(child_of_up aggregator)
kill -TERM "$first_pid"
wait_for "$work/second.log" 'aggregator ready' "$second_pid"
rate=$(python3 - "$work/second.log" "$total" $run_s_max <<'PY'
import datetime, json, sys, time

path, total, limit_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
deadline = time.monotonic() + limit_s
while True:
    events = [json.loads(line) for line in open(path) if line.endswith("\n")]
    new = sum(event["fields"].get("new", 0) for event in events)
    if new >= total:
        break
    assert time.monotonic() < deadline, f"{new} of {total} results after {limit_s} s"
    time.sleep(0.2)
at = lambda event: datetime.datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()
ready = next(event for event in events if event["fields"]["message"] == "aggregator ready")
commits = [event for event in events if event["fields"]["message"] == "batch committed"]
print(f"{total / (at(commits[-1]) - at(ready)):.0f}")
PY
)
stop "$second_pid"
second_pid=''

# --- Replay.

timed() {
    local begin
    begin=$(now)
    "$@" >/dev/null 2>>"$work/client.log"
    python3 -c 'import sys; print(round(float(sys.argv[1]) / (float(sys.argv[3]) - float(sys.argv[2]))))' "$total" "$begin" "$(now)"
}
replay_to_stdout=$(timed "$augur" result replay --from first --format json)
replay_into=$(timed "$augur" result replay --from first --into "$work/fresh.duckdb")
# Replayed once more, which adds nothing, to count the rows and to hold them against the aggregator's.
"$augur" result replay --from first --into "$work/fresh.duckdb" --compare >"$work/compare.out" 2>>"$work/client.log"
rows_per_second=$(python3 - "$work/compare.out" "$total" "$rate" <<'PY'
import re, sys
tables = re.findall(r"^\W*(\w+)\W+(\d+)\W+\d+\W+yes\W*$", open(sys.argv[1]).read(), re.MULTILINE)
print(round(sum(int(rows) for _, rows in tables) / int(sys.argv[2]) * float(sys.argv[3])))
PY
)
row "aggregator, backlog of no-op results" "$rate results/s, $rows_per_second rows/s" \
    "\`augur aggregator start --db fresh.duckdb\` over $total results in the stream, from ready to the last commit in its log; rows of all tables"
row "replay to stdout" "$replay_to_stdout results/s" \
    "\`augur result replay --from first --format json > /dev/null\`, $total results, whole process"
row "replay into a database" "$replay_into results/s" \
    "\`augur result replay --from first --into fresh.duckdb\`, whole process"

stop "$up_pid"
up_pid=''

# --- What criterion measured last, and the warm build.

estimate() { # GROUP/BENCH elements
    python3 - "$target/criterion/$1/new/estimates.json" "$2" <<'PY'
import json, sys
try:
    estimates = json.load(open(sys.argv[1]))
except FileNotFoundError:
    sys.exit(print("not measured: run `cargo bench` first"))
estimate = estimates.get("slope") or estimates["mean"]
print(f"{int(sys.argv[2]) * 1e9 / estimate['point_estimate']:,.0f}/s".replace(",", " "))
PY
}
row "predictions, single" "$(estimate predict/single 1)" "\`cargo bench --bench predict\`, three metrics with intervals each"
row "predictions, batch of 10,000" "$(estimate predict/batch_10000 10000)" "the same"

if [ "${1:-}" != --no-build-time ]; then
    touch crates/messages/src/lib.rs
    begin=$(now)
    make --no-print-directory build >"$work/build.log" 2>&1
    row "warm build" "$(python3 -c 'import sys; print(round(float(sys.argv[2]) - float(sys.argv[1])))' "$begin" "$(now)") s" \
        "\`touch crates/messages/src/lib.rs; make build\`"
fi

echo
echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), load $(cut -d' ' -f1 /proc/loadavg), $(date -u +%Y-%m-%d)"
echo
echo '| what | measured | with |'
echo '|---|---|---|'
printf '%s\n' "${rows[@]}"
