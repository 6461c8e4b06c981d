#!/usr/bin/env python3
"""Does the active learner save benchmarks on this machine? 30 jobs that it proposed, beside 30 random ones.

Everything is real: a private broker, the daemons of `augur up`, jobs through the queue. First a held-out set of
configurations is measured, whose sizes the learner may not propose. Then, for each seed and strategy, a new installation
that knows nothing lets `augur learner start` spend its jobs in batches of ten; what its release predicts of the held-out
set is compared with what was measured. Prints a table and whether the aim was met; exits with 1 if it was missed, with 2
if it could not be looked at. Called by `make bench-learning-live`, which builds what it needs; takes about a quarter of
an hour on two cores, which should have nothing else to do.
"""

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from free_port import free_port

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path.home() / ".cache/augur/target"))

TEXT, IMAGE = ["bert-tiny", "distilbert-base"], ["mobilenet-v2", "resnet18", "vit-tiny-patch16-224",
                                                 "deit-tiny-distilled-patch16-224"]  # fmt: skip
THREADS = [1, 2]
PROPOSED_BATCHES, PROPOSED_SEQUENCES = [1, 2, 4, 8], [32, 64, 128]
# 80 configurations: some may be throttled or disturbed.
HELD_OUT_BATCHES, HELD_OUT_SEQUENCES = [3, 5, 6, 7], [48, 80, 96]
HELD_OUT_MIN = 60
STRATEGIES = ["random", "hybrid"]
# Fewer pairs of a strategy's error and that of chance say nothing.
SEEDS_MIN = 3


def say(text: str):
    print(f"bench-learning-live: {text}", file=sys.stderr, flush=True)


def give_up(reason: str) -> NoReturn:
    say(reason)
    raise SystemExit(2)


class Installation:
    """A state directory of its own with `augur up` on it."""

    def __init__(self, augur: Path, folder: Path, settings: dict[str, object]):
        self.augur, self.folder = augur, folder
        folder.mkdir()
        self.environment = {key: value for key, value in os.environ.items() if key != "AUGUR_AMQP_URL"}
        port = free_port()
        self.environment |= {
            "AUGUR_STATE_DIRECTORY": str(folder / "state"),
            "AUGUR_AGGREGATOR__LISTEN": f"127.0.0.1:{port}",
            "AUGUR_AGGREGATOR_URL": f"http://127.0.0.1:{port}",
        } | {name: str(value) for name, value in settings.items()}

    def __enter__(self):
        log = (self.folder / "up.log").open("w")
        self.up = subprocess.Popen([self.augur, "up", "--workers", "1"], cwd=ROOT, env=self.environment, text=True,
                                   stdout=subprocess.PIPE, stderr=log)  # fmt: skip
        for line in self.up.stdout:
            # The line about the logs is the last that it prints once all are ready.
            if line.startswith("  logs "):
                return self
        give_up(f"augur up ended early; the end of its log is\n{Path(log.name).read_text()[-2000:]}")

    def __exit__(self, *_):
        self.up.send_signal(signal.SIGTERM)
        self.up.wait()

    def run(self, *arguments: object, codes: tuple[int, ...] = (0,)) -> str:
        command = [str(self.augur), *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, text=True, capture_output=True)
        if done.returncode not in codes:
            give_up(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr}")
        return done.stdout


def key(model: str, batch_size: int, sequence_length: int | None, threads: int) -> tuple:
    return (model, batch_size, sequence_length if model in TEXT else None, threads)


def held_out(installation: Installation) -> dict[tuple, float]:
    """Median latencies in ms of the held-out configurations, where the measurement is trusted."""
    suite = {"version": 1, "name": "held-out", "benchmarks": [
        {"models": TEXT, "batch_sizes": HELD_OUT_BATCHES, "sequence_lengths": HELD_OUT_SEQUENCES, "threads": THREADS},
        {"models": IMAGE, "batch_sizes": HELD_OUT_BATCHES, "threads": THREADS},
    ]}  # fmt: skip
    path = installation.folder / "held-out.yaml"
    path.write_text(json.dumps(suite))
    # It is 1 if a job failed: then enough others have to be there.
    run = json.loads(installation.run("suite", "submit", path, "--wait", "--format", "json", codes=(0, 1)))
    installation.run("run", "wait", run["run_id"], codes=(0, 1))
    rows = json.loads(installation.run("run", "results", run["run_id"], "--format", "json"))
    measured = {}
    for row in rows:
        if row["status"] == "passed" and row["accepted"] is not False:
            place = key(row["model"], row["batch_size"], row.get("sequence_length"), row["threads"])
            measured[place] = row["latency_p50_ms"]
    if len(measured) < HELD_OUT_MIN:
        reasons = sorted({row["rejection"] or row["status"] for row in rows if row["accepted"] is not True})
        give_up(f"{len(measured)} of {len(rows)} held-out configurations were measured, {HELD_OUT_MIN} are needed: "
                f"{'; '.join(reasons)}")  # fmt: skip
    return measured


def predicted(installation: Installation) -> dict[tuple, float]:
    """What the current release says of them."""
    answers = {}
    for models, sequence, threads in [
        *((TEXT, sequence, threads) for sequence, threads in itertools.product(HELD_OUT_SEQUENCES, THREADS)),
        *((IMAGE, None, threads) for threads in THREADS),
    ]:
        size = [] if sequence is None else ["--sequence-length", sequence]
        batches = ",".join(map(str, HELD_OUT_BATCHES))
        answer = installation.run("predictor", "predict", "--model", ",".join(models), "--batch-sizes", batches, "--threads",
                                  threads, *size, "--metrics", "latency_ms", "--format", "json")  # fmt: skip
        for row in json.loads(answer):
            answers[key(row["model"], row["batch_size"], sequence, threads)] = row["predicted"]
    return answers


def error_pct(answers: dict[tuple, float], measured: dict[tuple, float]) -> float:
    unknown = [place for place in measured if answers.get(place) is None]
    if unknown:
        give_up(f"nothing is predicted of {unknown}")
    return 100 * statistics.fmean(abs(answers[place] / latency - 1) for place, latency in measured.items())


def learned_from(installation: Installation, told: str) -> int:
    """How many jobs of the runs that the learner named may be learned from: not those of marked measurements."""
    runs = told.partition("; runs: ")[2].strip()
    if not runs:
        give_up(f"the learner names no run: {told}")
    rows = []
    for run in runs.split(", "):
        installation.run("run", "wait", run, codes=(0, 1))
        rows += json.loads(installation.run("run", "results", run, "--format", "json"))
    return sum(row["accepted"] is True for row in rows)


def learn(
    augur: Path, folder: Path, strategy: str, seed: int, jobs: int, measured: dict[tuple, float]
) -> tuple[float, int]:
    """The error in percent, and of how many jobs it was learned."""
    settings = {
        "AUGUR_LEARNER__MODELS": ",".join(TEXT + IMAGE),
        "AUGUR_LEARNER__BATCH_SIZES": ",".join(map(str, PROPOSED_BATCHES)),
        "AUGUR_LEARNER__SEQUENCE_LENGTHS": ",".join(map(str, PROPOSED_SEQUENCES)),
        "AUGUR_LEARNER__THREADS": ",".join(map(str, THREADS)),
        "AUGUR_LEARNER__SEED": seed,
    }
    with Installation(augur, folder, settings) as installation:
        # It is 1 if a job was not measured; what the others gave is compared all the same.
        budget = ["--batch", 10, "--budget", jobs]
        told = installation.run("learner", "start", "--strategy", strategy, *budget, codes=(0, 1))
        rows = learned_from(installation, told)
        installation.run("predictor", "wait", "--rows", rows, "--timeout-s", 120)
        return error_pct(predicted(installation), measured), rows


def judge(errors: dict[str, list[float]]) -> tuple[str, int]:
    """Whether `hybrid` errs less than chance over the seeds that both had, for people and as an exit code."""
    over = [own - random for own, random in zip(errors["hybrid"], errors["random"], strict=True)]
    mean = statistics.fmean(over)
    better = sum(difference < 0 for difference in over)
    what = (f"hybrid errs {mean:+.1f} percentage points more than random over {len(over)} seeds, wanted below 0; "
            f"it was better in {better} of them")  # fmt: skip
    if len(over) < SEEDS_MIN:
        return f"not judged: {len(over)} seeds, {SEEDS_MIN} are needed: {what}", 0
    return (f"met: {what}", 0) if mean < 0 else (f"MISSED: {what}", 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--augur", type=Path, default=TARGET / "release/augur", help="(default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=30, help="that each strategy may spend (default %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes everything measured there too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="augur-bench-learning.") as work:
        with Installation(arguments.augur, Path(work) / "held-out", {}) as installation:
            measured = held_out(installation)
        say(f"{len(measured)} configurations are held out")
        errors = {strategy: [] for strategy in STRATEGIES}
        rows = {strategy: [] for strategy in STRATEGIES}
        for seed, strategy in itertools.product(range(1, arguments.seeds + 1), STRATEGIES):
            folder = Path(work) / f"{strategy}-{seed}"
            error, learned = learn(arguments.augur, folder, strategy, seed, arguments.jobs, measured)
            errors[strategy].append(error)
            rows[strategy].append(learned)
            say(f"seed {seed}, {strategy}: {error:.1f} %, learned from {learned} of {arguments.jobs} jobs")
    if arguments.json:
        held_out_rows = [[*place, latency] for place, latency in measured.items()]
        told = {"held_out": held_out_rows, "mean_error_pct": errors, "learned_from": rows}
        arguments.json.write_text(json.dumps(told, indent=2) + "\n")
    seeds = range(1, arguments.seeds + 1)
    print(f"mean error in percent of {arguments.jobs} jobs' predictors on {len(measured)} other configurations\n")
    print("| strategy |" + "".join(f" seed {seed} |" for seed in seeds) + " mean |")
    print("|---|" + "---|" * (arguments.seeds + 1))
    for strategy, found in errors.items():
        print(f"| {strategy} |" + "".join(f" {error:.1f} |" for error in found) + f" {statistics.fmean(found):.1f} |")
    counts = "; ".join(f"{strategy} {', '.join(map(str, learned))}" for strategy, learned in rows.items())
    print(f"\njobs that were learned from, by seed: {counts} (the others failed or are marked)")
    verdict, code = judge(errors)
    print(f"\n{verdict}")
    return code


if __name__ == "__main__":
    sys.exit(main())
