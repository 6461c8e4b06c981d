#!/usr/bin/env bash
# Replays timm's published measurements as if their GPUs were devices that one can measure, and prints for every strategy
# of `augur plan next` the error against the rows measured, then what it had to reach; exits with 1 if it missed some of it,
# with 2 if it could not run. Called by `make bench-learning`, which builds what it needs.
#
#   deploy/bench-learning.sh [--data FOLDER] [--seeds N] [--seed-first N] [--part cold|warm|update] [--json FILE] [--svg FILE]
#
# The data are read from where they lie, by default AUGUR_SHARED_DATA/timm. It takes about ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/augur/target}
bench=${LEARNING_BENCH:-$target/release/examples/learning_bench}
data=${AUGUR_SHARED_DATA:-../shared/data}/timm
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=$2; shift 2 ;;
    *) arguments+=("$1"); shift ;;
  esac
done
if [ ! -f "$data/measurements.csv.gz" ]; then
  echo "bench-learning: no measurements.csv.gz in $data; name the folder with --data or AUGUR_SHARED_DATA" >&2
  exit 2
fi
exec "$bench" "$data" --threads "$(nproc)" "${arguments[@]}"
