#!/usr/bin/env bash
# Runs every test of what is built: unit tests beside the others, which mostly wait for brokers and browsers.
set -uo pipefail
cd "$(dirname "$0")/.."

selection=(--release --workspace --locked)
log=$(mktemp)
cargo test "${selection[@]}" --lib --bins --examples >"$log" 2>&1 &
units=$!
trap 'kill "$units" 2>/dev/null; rm -f "$log"' EXIT
cargo test "${selection[@]}" --test '*'
others=$?
wait "$units"
units_ended=$?
echo "unit tests:"
cat "$log"
exit $((units_ended ? units_ended : others))
