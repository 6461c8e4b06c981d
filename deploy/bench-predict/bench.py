#!/usr/bin/env python3
"""Holds Augur's predictors against their baselines and against Python's XGBoost and LightGBM.

    deploy/bench-predict/bench.py [--data FOLDER] [--protocols "NAME;..."] [--json FILE] [--augur FILE]

Prints Markdown: errors and intervals under every protocol, then the time of training and of predictions. All learners
get the same features (`augur feature extract`) and the same splits (`augur predictor evaluate --predictions`). The data
are read from where they lie, by default `AUGUR_SHARED_DATA`/timm. It takes about half an hour on two cores; `make
bench-predict` builds what it needs and calls it.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import csv
import gzip
import importlib.util
import io
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "augur"
PROTOCOLS = {
    "random": ["--protocol", "random"],
    "leave-family-out": ["--protocol", "leave-family-out"],
    "leave-device-out": ["--protocol", "leave-device-out"],
    **{f"few-shot, {shots} random": ["--protocol", "few-shot", "--shots", str(shots)] for shots in (5, 10, 20)},
    "few-shot, 10 representative": ["--protocol", "few-shot", "--shots", "10", "--choose", "representative"],
}
# Where a device is new, GPUs and processors have nothing to do with each other; the mean is over these.
ACCELERATORS_NOT = {"cpu", "wasm"}
TRAINING_ROWS, ROUNDS = 20_000, 250
STEP_S_MAX = 1_800


class Failed(Exception):
    """A command did not do what it was asked."""


def say(text: str):
    print(f"bench-predict: {text}", file=sys.stderr, flush=True)


def run(command: list) -> str:
    """Standard output of a command that must succeed; what it says on the other one passes through."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, timeout=STEP_S_MAX)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(str(word) for word in command[:4])} …` ended with {done.returncode}")
    return done.stdout


def python() -> Path:
    """The interpreter of the virtual environment, made in the user's cache where it is missing or holds other things."""
    root, requirements = CACHE / "bench-predict", HERE / "requirements.txt"
    # Written last, so that an installation that was interrupted is done again.
    installed = root / "requirements.txt"
    if not installed.is_file() or installed.read_text() != requirements.read_text():
        if importlib.util.find_spec("ensurepip") is None:
            as_root = [] if os.geteuid() == 0 else ["sudo"]
            run([*as_root, "apt-get", "install", "-y", "--no-install-recommends", "python3-venv"])
        run([sys.executable, "-m", "venv", "--clear", root])
        pip = [root / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        run([*pip, "--requirement", requirements])
        installed.write_text(requirements.read_text())
    return root / "bin/python"


@dataclass
class Bench:
    """Whom to ask, about what, and where to keep files meanwhile."""

    augur: Path
    python: Path
    data: Path
    work: Path

    @property
    def beside(self) -> list:
        return ["--devices", self.data / "devices.csv", "--operators", self.data / "operators.jsonl.gz"]

    @property
    def table(self) -> Path:
        return self.data / "measurements.csv.gz"

    def features(self, table: Path) -> Path:
        features = self.work / f"{table.name}.parquet"
        run([self.augur, "feature", "extract", "--input", table, *self.beside, "--output", features])
        return features

    def evaluate(self, name: str) -> tuple[dict, Path]:
        """Our report under one protocol, and the file of all predictions."""
        report, predictions = self.work / f"{name}.json", self.work / f"{name}.csv"
        run([self.augur, "predictor", "evaluate", "--input", self.table, *self.beside, *PROTOCOLS[name],
             "--output", report, "--predictions", predictions])  # fmt: skip
        return json.loads(report.read_text()), predictions

    def baselines(self, *arguments) -> dict:
        return json.loads(run([self.python, HERE / "baselines.py", *arguments]))

    def speed(self) -> dict:
        """One booster on one thread, here and there: 20,000 rows of one device, asked about rows of another."""
        rows = list(csv.reader(io.StringIO(gzip.decompress(self.table.read_bytes()).decode())))
        header, rows = rows[0], [row for row in rows[1:] if any(row)]
        device = header.index("device")
        names = sorted({row[device] for row in rows})
        train, test = self.work / "train.csv", self.work / "test.csv"
        renamed = lambda row, name: [*row[:device], name, *row[device + 1 :]]
        many = [renamed(rows[index % len(rows)], names[0]) for index in range(TRAINING_ROWS)]
        for path, lines in ((train, many), (test, [renamed(row, names[1]) for row in many])):
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([header, *lines])
        report = self.work / "speed.json"
        run([self.augur, "predictor", "evaluate", "--train", train, "--test", test, *self.beside, "--output", report,
             "--learner", "gradient-boosting", "--threads", 1, "--rounds", ROUNDS, "--ensemble", 1])  # fmt: skip
        ours = json.loads(report.read_text())
        theirs = self.baselines("speed", self.features(train), train, ROUNDS, 1)
        return {"augur": {"train_s": ours["train_seconds"], "batch_us": 1e6 / ours["predict_rows_per_second"]},
                "xgboost": theirs}  # fmt: skip


def mean_of_accelerators(by_device: dict[str, float], platforms: dict[str, str]) -> float | None:
    values = [value for device, value in by_device.items() if platforms.get(device) not in ACCELERATORS_NOT]
    return sum(values) / len(values) if values else None


def errors_line(name: str, report: dict, theirs: dict, platforms: dict[str, str]) -> list[str]:
    """One protocol's row: mean error / median error / share within 10 %, of new devices by accelerators and all."""
    new_device = name.startswith(("leave-device-out", "few-shot"))

    def cell(errors: dict, by_device: dict[str, float]) -> str:
        text = f"{errors['mape_pct']:.2f} / {errors['median_ape_pct']:.2f} / {errors['within_10_pct']:.1f}"
        mean = mean_of_accelerators(by_device, platforms) if new_device else None
        return text if mean is None else f"**{mean:.2f}**; {text}"

    ours = cell(report, {device["group"]: device["mape_pct"] for device in report["devices"]})
    others = [cell(theirs[learner], theirs[learner]["devices"]) for learner in ("xgboost", "lightgbm")]
    baselines = [report["baselines"][kind]["mape_pct"] for kind in ("roofline", "nearest_same_model")]
    worst = min(report["devices"], key=lambda device: device["interval_90_coverage_pct"])
    interval = (f"{report['interval_90_coverage_pct']:.1f} (±{report['interval_90_half_width_median_pct']:.1f} %), "
                f"least {worst['interval_90_coverage_pct']:.1f}")  # fmt: skip
    return [name, ours, *others, *(f"{mape:.2f}" for mape in baselines), interval]


def markdown(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def show(result: dict):
    machine, speed = result["machine"], result["speed"]
    python = speed["xgboost"]
    print(f"{machine['cores']} cores, {machine['cpu']}, load {machine['load']:.1f} at the start, {machine['at']};"
          f" {result['augur']}, XGBoost {python['xgboost']} and LightGBM {python['lightgbm']} from PyPI\n")  # fmt: skip
    print("Mean error / median error / share within ±10 %, in percent; where the device is new, first the mean over"
          " accelerators of their mean errors.\n")  # fmt: skip
    header = ["protocol", "Augur", "Python XGBoost", "Python LightGBM", "roofline", "nearest same model",
              "90 % intervals held (median half-width), least of a device"]  # fmt: skip
    print(markdown(header, result["lines"]))
    print()
    ours = speed["augur"]
    theirs = ", ".join(f"{seconds:.2f} with {bins} bins" for bins, seconds in python["train_s"].items())
    lines = [
        [f"training {python['rows']:,} rows, {ROUNDS} rounds, one thread, s", f"{ours['train_s']:.2f} with 64 bins", theirs],
        ["a prediction in a batch, µs", f"{ours['batch_us']:.1f} with its interval", f"{python['batch_us']:.1f}"],
        ["a single prediction, µs", "`cargo bench --bench predict`", f"{python['single_us']:.0f}"],
    ]  # fmt: skip
    print(markdown(["time", "Augur", "Python XGBoost"], lines))


def machine() -> dict:
    names = [line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    now = datetime.now(UTC).isoformat(" ", "minutes")
    return {"cores": cores, "cpu": names[0] if names else "unknown", "load": os.getloadavg()[0], "at": now}


def bench(arguments, work: Path) -> dict:
    run_by = machine()
    it = Bench(arguments.augur, python(), arguments.data, work)
    reports, predictions = {}, {}
    for name in arguments.protocols:
        say(name)
        reports[name], predictions[name] = it.evaluate(name)
    theirs = it.baselines("accuracy", it.features(it.table), *(f"{name}={path}" for name, path in predictions.items()))
    say("speed")
    speed = it.speed()
    with (it.data / "devices.csv").open() as file:
        platforms = {row["device"]: row["platform"] for row in csv.DictReader(file)}
    return {
        "machine": run_by, "augur": run([it.augur, "--version"]).strip(), "reports": reports, "python": theirs,
        "speed": speed,
        "lines": [errors_line(name, reports[name], theirs[name], platforms) for name in arguments.protocols],
    }  # fmt: skip


def parse_arguments():
    shared = Path(os.environ.get("AUGUR_SHARED_DATA", ROOT.parent / "shared/data"))
    target = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared / "timm", help="folder of the tables (default %(default)s)")
    parser.add_argument("--augur", type=Path, default=target / "release/augur", help="(default %(default)s)")
    parser.add_argument("--protocols", type=lambda text: text.split(";"), default=list(PROTOCOLS), metavar="NAME;…",
                        help=f"some of: {'; '.join(PROTOCOLS)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes everything measured there too")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.protocols if name not in PROTOCOLS]
    if unknown:
        parser.error(f"no protocol `{unknown[0]}`; there are: {'; '.join(PROTOCOLS)}")
    if set(arguments.protocols) <= {"random"}:
        parser.error("`random` holds out a fifth of the rows, and Python learns from what is held out elsewhere;"
                     " name another protocol beside it")  # fmt: skip
    for needed in (arguments.data / "measurements.csv.gz", arguments.augur):
        if not needed.is_file():
            parser.error(f"{needed} is not there; --data names the tables, --augur the binary")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="augur-bench-predict.") as work:
        try:
            result = bench(arguments, Path(work))
        except (Failed, subprocess.SubprocessError, OSError) as error:
            say(str(error))
            return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
