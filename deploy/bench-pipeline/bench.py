#!/usr/bin/env python3
"""Measures the pipeline beside Celery, Dramatiq and a bare lapin loop, on one private broker.

    deploy/bench-pipeline/bench.py [--runs N] [--quick] [--json FILE]

Prints a Markdown table of medians and spreads with the aims beside them; `make bench-pipeline` builds what it needs
and calls it. It takes about ten minutes, needs the release build, and wants an idle machine. Every round
measures everything once, so that noise hits all alike. What it starts it ends, by id; a run that was killed leaves
nothing that stops the next.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import augur
import peers
import processes
from table import Comparison, markdown, percentile

CORES = len(os.sched_getaffinity(0))
# Runs long enough that neither a connection nor a scheduler's whim matters: seconds on the machine that this was
# written on. The faster side gets more jobs, which cost it as much time.
OUR_JOBS, CELERY_JOBS, DRAMATIQ_JOBS = 20_000, 2_000, 4_000
# Before each measurement: opens connections and warms caches on either side.
WARM_UP_JOBS = 200
LAPIN_MESSAGES = 40_000
PACED_JOBS, PACED_PER_S = 500, 100
RUNS = 5
# `--quick`: to try the script itself; its numbers mean little.
QUICK_DIVISOR = 10


@dataclass
class Bench:
    """What is measured, and what has been measured so far: samples by name."""

    ours: augur.Augur
    celery: peers.Peer
    dramatiq: peers.Peer
    divisor: int
    samples: dict[str, list[float]]

    def note(self, name: str, value: float):
        self.samples[name].append(value)
        say(f"{name}: {value:,.1f}")

    def jobs(self, count: int) -> int:
        return count // self.divisor

    def best(self, name: str, settings: list, measure) -> tuple:
        """The setting with the highest rate, each tried once, and what all of them gave."""
        tried = {}
        for setting in settings:
            tried[setting] = measure(setting)
            say(f"{name}, {setting}: {tried[setting]:,.0f} jobs/s")
        return max(tried, key=tried.get), {str(setting): rate for setting, rate in tried.items()}

    def our_rate(self, setting: augur.Setting, jobs: int = OUR_JOBS) -> float:
        with self.ours.aggregator(), self.ours.worker(setting):
            self.ours.noop_jobs_per_s(WARM_UP_JOBS)
            return self.ours.noop_jobs_per_s(self.jobs(jobs))

    def peer_rate(self, peer: peers.Peer, setting: peers.Setting, jobs: int) -> float:
        with peer.worker(setting):
            peer.noop_jobs_per_s(WARM_UP_JOBS)
            return peer.noop_jobs_per_s(self.jobs(jobs))

    def jobs_round(self, best: dict):
        """No-op jobs at full speed, then at a rate at which nobody has to queue."""
        with self.ours.aggregator(), self.ours.worker(best["augur"]):
            self.ours.noop_jobs_per_s(WARM_UP_JOBS)
            self.note("noop.augur", self.ours.noop_jobs_per_s(self.jobs(OUR_JOBS)))
            self.paced("augur", self.ours)
        for name, peer, jobs in (("celery", self.celery, CELERY_JOBS), ("dramatiq", self.dramatiq, DRAMATIQ_JOBS)):
            with peer.worker(best[name]):
                peer.noop_jobs_per_s(WARM_UP_JOBS)
                self.note(f"noop.{name}-loop", peer.noop_jobs_per_s(self.jobs(jobs), client_threads=1))
                self.note(f"noop.{name}-threads", peer.noop_jobs_per_s(self.jobs(jobs)))
                self.paced(name, peer)

    def paced(self, name: str, measured):
        waits = measured.paced_waits_ms(self.jobs(PACED_JOBS), PACED_PER_S)
        self.note(f"start-p50.{name}", percentile(waits, 50))
        self.note(f"start-p99.{name}", percentile(waits, 99))

    def lapin_round(self, number: int):
        """Fills and empties one lane; who goes first changes from round to round."""
        messages = self.jobs(LAPIN_MESSAGES)
        sides = ["bare", "ours"] if number % 2 else ["ours", "bare"]
        for acks in ("each", "multiple"):
            for side in sides:
                published_s = float(self.ours.part(side, "publish", messages))
                self.note(f"publish.{side}", messages / published_s)
                consumed_s = float(self.ours.part(side, "consume", messages, acks))
                self.note(f"consume-{acks}.{side}", messages / consumed_s)

    def memory_round(self):
        """Workers before their first job, all with room for as many jobs as there are cores."""
        with self.ours.worker(augur.Setting(CORES, 0)) as worker:
            self.note("memory.augur", processes.idle_memory_mb(worker))
        for pool in ("prefork", "threads"):
            with self.celery.worker(peers.celery_setting(pool, CORES, 64)) as worker:
                self.note(f"memory.celery-{pool}", processes.idle_memory_mb(worker))
        with self.dramatiq.worker(peers.dramatiq_setting(1, CORES, 100)) as worker:
            self.note("memory.dramatiq", processes.idle_memory_mb(worker))

    def stream_round(self, number: int, results: int, last_offset: int):
        """Reads the stream that the rounds of jobs left; whole processes, with their connections."""
        self.note("replay.augur", results / self.ours.replay_s())
        self.note("replay.bare", results / self.ours.bare_read_s(last_offset))
        results_per_s, rows_per_s = self.ours.backlog(f"backlog-{number}.duckdb", results)
        self.note("aggregate.results", results_per_s)
        self.note("aggregate.rows", rows_per_s)

    def measure(self, runs: int) -> tuple[dict, dict]:
        """All rounds; gives the best settings and what every setting gave that was tried."""
        best, tried = {}, {}
        best["augur"], tried["augur"] = self.best("augur", augur.SETTINGS, self.our_rate)
        for name, peer, settings, jobs in (
            ("celery", self.celery, peers.CELERY_SETTINGS, CELERY_JOBS),
            ("dramatiq", self.dramatiq, peers.DRAMATIQ_SETTINGS, DRAMATIQ_JOBS),
        ):
            measure = lambda setting, peer=peer, jobs=jobs: self.peer_rate(peer, setting, jobs)
            best[name], tried[name] = self.best(name, settings, measure)
        for number in range(1, runs + 1):
            say(f"round {number} of {runs}")
            self.jobs_round(best)
            self.lapin_round(number)
            self.memory_round()
        results, last_offset = self.ours.replayed()
        for number in range(1, runs + 1):
            say(f"round {number} of {runs} over the stream of {results:,} results")
            self.stream_round(number, results, last_offset)
        return best, tried


def comparisons(best: dict, versions: dict) -> list[Comparison]:
    celery, dramatiq = f"Celery {versions['celery']}", f"Dramatiq {versions['dramatiq']}"
    noop = "no-op jobs from submission to the stored result"
    start, memory = f"submit to start at {PACED_PER_S} jobs/s", f"idle worker of concurrency {CORES}, PSS"
    clients = (("loop", "client in a loop"), ("threads", f"client of {peers.CLIENT_THREADS} threads"))
    return [
        *(Comparison(noop, "jobs/s", "noop.augur", f"noop.celery-{kind}", f"{celery}, {text}", ">= 10")
          for kind, text in clients),
        *(Comparison(noop, "jobs/s", "noop.augur", f"noop.dramatiq-{kind}",
                     f"{dramatiq}, {text}, keeps no results", ">= 5")
          for kind, text in clients),
        Comparison("publish, confirmed", "messages/s", "publish.ours", "publish.bare", "bare lapin", ">= 0.85"),
        Comparison("consume, an ack for each", "messages/s",
                   "consume-each.ours", "consume-each.bare", "bare lapin", ">= 0.85"),
        Comparison("consume, an ack for 100", "messages/s",
                   "consume-multiple.ours", "consume-multiple.bare", "bare lapin", ">= 0.85"),
        *(Comparison(f"{start}, {part}", "ms", f"start-{part}.augur", f"start-{part}.{name}", text)
          for part in ("p50", "p99") for name, text in (("celery", celery), ("dramatiq", dramatiq))),
        Comparison("replay to JSON lines", "results/s",
                   "replay.augur", "replay.bare", "bare lapin, decodes nothing", ">= 0.8"),
        Comparison("aggregation of a backlog", "rows/s", "aggregate.rows", aim=">= 20000"),
        Comparison("aggregation of a backlog", "results/s", "aggregate.results"),
        Comparison(memory, "MB", "memory.augur", "memory.celery-prefork",
                   f"{celery}, prefork (its default)", "<= 0.2"),
        Comparison(memory, "MB", "memory.augur", "memory.celery-threads", f"{celery}, threads"),
        Comparison(memory, "MB", "memory.augur", "memory.dramatiq", f"{dramatiq}, threads"),
    ]  # fmt: skip


def say(text: str):
    print(f"bench-pipeline: {text}", file=sys.stderr, flush=True)


def machine() -> dict:
    names = [line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    model = names[0] if names else "unknown"
    return {"cores": CORES, "cpu": model, "load": os.getloadavg()[0], "at": datetime.now(UTC).isoformat("T", "minutes")}


def target_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("CARGO_TARGET_DIR", cache / "augur/target"))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="rounds (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to try the script")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every sample there too")
    return parser.parse_args()


def bench(arguments, work: Path) -> dict:
    before = machine()
    target = target_directory()
    scripts = peers.virtual_environment(work / "pip.log")
    with augur.broker(target, work / "broker.log") as url:
        ours = augur.Augur(target, work, url)
        ours.call("topology", "apply")
        divisor = QUICK_DIVISOR if arguments.quick else 1
        celery, dramatiq = peers.celery(url, work, scripts), peers.dramatiq(url, work, scripts)
        run = Bench(ours, celery, dramatiq, divisor, defaultdict(list))
        best, tried = run.measure(arguments.runs)
    versions = peers.versions(scripts) | {"augur": ours.call("--version")}
    return {
        "machine": before, "versions": versions, "runs": arguments.runs, "quick": arguments.quick,
        "best": {name: str(setting) for name, setting in best.items()}, "tried": tried,
        "lines": [line.judge(run.samples) for line in comparisons(best, versions)],
    }  # fmt: skip


def show(report: dict):
    machine = report["machine"]
    print(f"{machine['cores']} cores, {machine['cpu']}, load {machine['load']:.1f} at the start, {machine['at']};"
          f" {report['versions']['augur']}; medians of {report['runs']} rounds (smallest–largest)\n")  # fmt: skip
    print(markdown(report["lines"]))
    print()
    for name, tried in report["tried"].items():
        rates = "; ".join(f"{setting}: {rate:,.0f}" for setting, rate in tried.items())
        print(f"{name.capitalize()} ran with {report['best'][name]}. Tried, jobs/s: {rates}.")


def main() -> int:
    arguments = parse_arguments()
    # Ends the blocks above in order, so that what they started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="augur-bench-pipeline."))
    try:
        report = bench(arguments, work)
    except (processes.Failed, subprocess.SubprocessError, OSError) as error:
        say(f"{error}; logs are in {work}")
        return 1
    except BaseException as stopped:
        say(f"stopped by {type(stopped).__name__}; everything that was started has ended")
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
