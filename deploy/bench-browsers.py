#!/usr/bin/env python3
"""Measures the browser pool: cold and warm jobs beside plain thirtyfour, what pool and queue add, browsers beside native.

    deploy/bench-browsers.py [--quick] [--json FILE]

Prints Markdown tables; `make bench-browsers` builds what it needs and calls it. It needs the release build with its
examples, Chromium and Firefox, and wants an idle machine for about three minutes. What it starts it ends, by id.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from free_port import free_port

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "augur"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target") / "release"
READY_S_MAX = 180
RUN_S_MAX = 1500
# The first jobs of a run find nothing warm.
COLD_JOBS = 3

# Warm jobs, one after the other, of a model that takes about a millisecond.
QUEUE_SUITE = """version: 1
name: bench-browsers-queue
web:
  - {{models: [bert-tiny], platforms: [wasm], browsers: [chromium], sequence_lengths: [16], warmup_iterations: 1,
     iterations_min: 10, iterations_max: 10, repeat: {jobs}}}
"""

# The same models natively and in browsers, one thread each; WebGPU without a GPU only for what it does in seconds.
MODELS_SUITE = """version: 1
name: bench-browsers-models
benchmarks:
  - {{models: [mobilenet-v2, resnet18], threads: [1], iterations_min: 10, repeat: {repeat}}}
  - {{models: [bert-tiny], threads: [1], sequence_lengths: [64], iterations_min: 10, repeat: {repeat}}}
web:
  - {{models: [mobilenet-v2, resnet18], platforms: [wasm], browsers: [chromium, firefox], threads: [1],
     iterations_min: 10, repeat: {repeat}}}
  - {{models: [bert-tiny], platforms: [wasm], browsers: [chromium, firefox], threads: [1], sequence_lengths: [64],
     iterations_min: 10, repeat: {repeat}}}
  - {{models: [bert-tiny], platforms: [webgpu], browsers: [chromium, firefox], sequence_lengths: [64],
     warmup_iterations: 2, iterations_min: 3, iterations_max: 10, repeat: {repeat}}}
  - {{models: [mobilenet-v2], platforms: [webgpu], browsers: [chromium, firefox],
     warmup_iterations: 1, iterations_min: 3, iterations_max: 3}}
"""


def say(text: str):
    print(f"bench-browsers: {text}", file=sys.stderr, flush=True)


def fail(text: str):
    sys.exit(f"bench-browsers: {text}")


def environment() -> dict[str, str]:
    """What `deploy/setup.sh` wrote down for cargo, for programs that are started without it."""
    known = dict(os.environ)
    section = ""
    for line in (ROOT / ".cargo/config.toml").read_text().splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == "[env]" and "=" in line:
            name, value = (part.strip().strip('"') for part in line.split("=", 1))
            known.setdefault(name, value)
    return known


class Augur:
    """`augur up` with a worker and a browser worker, in a state directory of its own."""

    def __init__(self, directory: Path):
        self.directory = directory
        address = f"127.0.0.1:{free_port()}"
        self.environment = environment() | {
            "AUGUR_STATE_DIRECTORY": str(directory / "state"),
            "AUGUR_AGGREGATOR__LISTEN": address,
            "AUGUR_AGGREGATOR_URL": f"http://{address}",
        }
        self.environment.pop("AUGUR_AMQP_URL", None)

    def __enter__(self):
        out, log = open(self.directory / "up.out", "w"), open(self.directory / "up.log", "w")
        command = [TARGET / "augur", "up", "--workers", "1", "--browsers", "1"]
        self.up = subprocess.Popen(command, stdout=out, stderr=log, env=self.environment, cwd=self.directory)
        deadline = time.monotonic() + READY_S_MAX
        while not any(line.startswith("ready: ") for line in open(self.directory / "up.out")):
            if self.up.poll() is not None or time.monotonic() > deadline:
                fail("augur up is not ready:\n" + (self.directory / "up.log").read_text()[-2000:])
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.up.send_signal(signal.SIGTERM)
        self.up.wait(60)

    def ask(self, *arguments: str) -> str:
        command = [str(TARGET / "augur"), *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.directory, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done.stdout

    def measure(self, suite: str) -> list[dict]:
        """Submits a suite and gives its results in the order of their ends."""
        path = self.directory / "suite.yaml"
        path.write_text(suite)
        run = self.ask("suite", "submit", str(path)).strip()
        self.ask("run", "wait", run, "--timeout-s", str(RUN_S_MAX))
        rows = json.loads(self.ask("run", "results", run, "--format", "json"))
        bad = [row for row in rows if row["status"] != "passed"]
        if bad:
            fail(f"{len(bad)} of {len(rows)} jobs did not pass: {bad[0]['case']}: {bad[0]['failure_message']}")
        return sorted(rows, key=lambda row: row["finished_at"])


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def queue(augur: Augur, jobs: int) -> dict:
    """What pool, worker and queue add to the page's own time, where the next job always waits."""
    rows = augur.measure(QUEUE_SUITE.format(jobs=jobs))[COLD_JOBS:]
    warm = [row for row in rows if row["web"]["warmth"] == "warm-model"]
    page_ms = [row["web"]["total_ms"] for row in warm]
    ends = [seconds(row["finished_at"]) for row in rows]
    gaps_ms = [(after - before) * 1e3 for before, after in zip(ends, ends[1:])]
    return {
        "jobs": len(rows),
        "warm_jobs": len(warm),
        "job_ms": statistics.median(gaps_ms),
        "page_ms": statistics.median(page_ms),
        "added_by_pool_and_worker_ms": statistics.median(
            row["duration_s"] * 1e3 - row["web"]["total_ms"] for row in warm
        ),
        "added_by_pool_worker_and_queue_ms": statistics.median(
            gap - row["web"]["total_ms"] for gap, row in zip(gaps_ms, rows[1:])
        ),
    }


def models(augur: Augur, repeat: int) -> list[dict]:
    """Medians of the same models natively and in browsers."""
    cases: dict[tuple, list[dict]] = {}
    for row in augur.measure(MODELS_SUITE.format(repeat=repeat)):
        cases.setdefault((row["model"], row["platform"], row.get("browser")), []).append(row)
    native = {
        model: statistics.median(row["latency_p50_ms"] for row in rows)
        for (model, platform, _), rows in cases.items()
        if platform == "cpu"
    }
    found = []
    for (model, platform, browser), rows in sorted(cases.items(), key=lambda case: [str(part) for part in case[0]]):
        latency_ms = statistics.median(row["latency_p50_ms"] for row in rows)
        webs = [row["web"] for row in rows if row["web"]]
        found.append(
            {
                "model": model,
                "platform": platform,
                "browser": browser,
                "browser_version": webs[0]["browser_version"] if webs else None,
                "adapter": webs[0]["adapter"] if webs else None,
                "is_fallback": webs[0]["is_fallback"] if webs else None,
                "jobs": len(rows),
                "latency_p50_ms": latency_ms,
                "times_native": latency_ms / native[model],
            }
        )
    return found


def table(headings: list[str], rows: list[list]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def pool_table(pool: dict, queue: dict) -> str:
    rates = pool["jobs_per_second"]
    rows = [
        ["cold job: pool, browser, probes, verification, model", f"{pool['cold_job_ms']:.0f} ms", ""],
        ["model never seen, browser runs (with verification)", f"{pool['new_model_ms']:.0f} ms", ""],
        ["warm session: model seen before, no tab holds it", f"{pool['warm_session_ms']:.0f} ms", ""],
        ["warm model", f"{pool['warm_model_ms']:.1f} ms", ""],
        ["cold by warm", f"{pool['cold_by_warm']:.0f} ×", "≥ 5 ×"],
        ["added by the pool to a warm job", f"{pool['added_by_pool_to_warm_job_ms']:.1f} ms", "≤ 20 ms"],
        ["… by pool and worker", f"{queue['added_by_pool_and_worker_ms']:.1f} ms", "≤ 20 ms"],
        ["… by pool, worker and RabbitMQ", f"{queue['added_by_pool_worker_and_queue_ms']:.1f} ms", "≤ 20 ms"],
        ["plain thirtyfour, a browser for each job", f"{pool['plain_browser_per_job_ms']:.0f} ms", ""],
        ["plain thirtyfour, a page for each job", f"{pool['plain_page_per_job_ms']:.0f} ms", ""],
        ["jobs per second: pool, one at a time", f"{rates['pool_one_at_a_time']:.1f}", ""],
        ["… pool, three at once", f"{rates['pool_three_at_once']:.1f}", ""],
        ["… through RabbitMQ, one at a time", f"{1e3 / queue['job_ms']:.1f}", ""],
        ["… plain thirtyfour, a page for each job", f"{rates['plain_page_per_job']:.2f}", ""],
        ["… plain thirtyfour, a browser for each job", f"{rates['plain_browser_per_job']:.2f}", ""],
    ]
    return table(["warm and cold jobs", "median", "aim"], rows)


def models_table(models: list[dict]) -> str:
    def where(row):
        software = " on the processor" if row["is_fallback"] else ""
        return f"{row['platform']}{software} in {row['browser']} {row['browser_version']}" if row["browser"] else "native"

    rows = [
        [row["model"], where(row), f"{row['latency_p50_ms']:.2f}", f"{row['times_native']:.1f} ×"] for row in models
    ]
    return table(["model", "runtime", "p50 ms", "of native"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="to try the script itself; its numbers mean little")
    parser.add_argument("--json", type=Path, help="keeps all numbers")
    arguments = parser.parse_args()
    example = TARGET / "examples/pool_against_plain"
    for program in (TARGET / "augur", example):
        if not program.exists():
            fail(f"{program} is not there; run `make build` first")
    rounds, jobs, repeat = ("1", "6", 1) if arguments.quick else ("3", "21", 3)
    say("pool beside plain thirtyfour")
    ran = subprocess.run([example, rounds, jobs], env=environment(), stdout=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        fail(f"{example} failed")
    numbers = {"pool": json.loads(ran.stdout)}
    with tempfile.TemporaryDirectory(prefix="augur-bench-browsers.") as directory, Augur(Path(directory)) as augur:
        say("warm jobs through RabbitMQ")
        numbers["queue"] = queue(augur, 10 if arguments.quick else 60)
        say("models natively and in browsers")
        numbers["models"] = models(augur, repeat)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")
    print(pool_table(numbers["pool"], numbers["queue"]), end="\n\n")
    print(models_table(numbers["models"]))


if __name__ == "__main__":
    main()
