"""Our side of each comparison, with the real daemons, and the bare lapin loops beside it."""

import json
import os
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import processes


@dataclass(frozen=True)
class Setting:
    """How a worker is started."""

    concurrency: int
    prefetch: int

    def __str__(self):
        return f"concurrency {self.concurrency}, prefetch {self.prefetch}"


# A no-op job waits for nothing but its result's confirm, so many at once keep the broker's pipeline full.
SETTINGS = [Setting(64, 500), Setting(256, 1000), Setting(512, 1000)]


@contextmanager
def broker(target: Path, log: Path):
    """A private RabbitMQ node with default settings; gives its URL. It ends with its stdin, even if we are killed."""
    with open(log, "wb") as errors:
        node = subprocess.Popen(
            [target / "release/examples/pipeline_bench", "node"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        url = node.stdout.readline().strip()
        if not url:
            raise processes.Failed(f"the broker did not start; see {log}")
        yield url
    finally:
        node.stdin.close()
        node.wait()


class Augur:
    """The binary with a broker, an HTTP port and a directory of its own."""

    def __init__(self, target: Path, work: Path, url: str):
        self.binary = target / "release/augur"
        self.parts = target / "release/examples/pipeline_bench"
        self.work = work
        self.log = work / "augur-client.log"
        self.api = f"127.0.0.1:{processes.free_port()}"
        # Settings of whoever calls us must not change what is measured.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("AUGUR_")}
        self.environment = outside | {
            "AUGUR_AMQP_URL": url,
            "AUGUR_STATE_DIRECTORY": str(work / "state"),
            "AUGUR_AGGREGATOR__LISTEN": self.api,
            "AUGUR_AGGREGATOR_URL": f"http://{self.api}",
            "AUGUR_LOG": "info,pipeline::aggregator=debug,lapin=off",
        }

    def call(self, *arguments) -> str:
        return processes.run([self.binary, *arguments], self.environment, self.log)

    def part(self, *arguments) -> str:
        return processes.run([self.parts, *arguments], self.environment, self.log)

    def aggregator(self, database: str = "augur.duckdb"):
        command = [self.binary, "--log-format", "json", "aggregator", "start", "--db", self.work / database]
        return processes.daemon(command, self.work / f"{database}.log", "aggregator ready", self.environment)

    def worker(self, setting: Setting):
        command = [
            self.binary, "worker", "start", "--concurrency", setting.concurrency, "--prefetch", setting.prefetch,
        ]  # fmt: skip
        return processes.daemon(command, self.work / "augur-worker.log", "worker ready", self.environment)

    def noop_jobs_per_s(self, jobs: int) -> float:
        """From before the client starts until every result is committed in DuckDB."""
        suite = self.work / f"noop-{jobs}.yaml"
        suite.write_text(
            f"version: 1\nname: noop-{jobs}\ntests:\n  - {{name: noop, profile: noop, repeat: {jobs}}}\n"
        )
        begin = time.monotonic()
        run = self.call("suite", "submit", suite)
        self.call("run", "wait", run, "--timeout-s", processes.STEP_S_MAX)
        return jobs / (time.monotonic() - begin)

    def paced_waits_ms(self, jobs: int, per_s: float) -> list[float]:
        run = self.part("ours", "pace", jobs, per_s)
        self.call("run", "wait", run, "--timeout-s", processes.STEP_S_MAX)
        rows = json.loads(self.call("run", "results", run, "--format", "json"))
        return [row["queue_wait_s"] * 1e3 for row in rows]

    def replayed(self) -> tuple[int, int]:
        """Number of results in the stream, and the offset of the last."""
        command = [self.binary, "result", "replay", "--from", "first", "--format", "json"]
        lines = processes.run(command, self.environment, self.log).splitlines()
        return len(lines), json.loads(lines[-1])["offset"]

    def replay_s(self) -> float:
        command = [self.binary, "result", "replay", "--from", "first", "--format", "json"]
        return processes.seconds_of(command, self.environment, self.log)

    def bare_read_s(self, last_offset: int) -> float:
        return processes.seconds_of([self.parts, "bare", "read", last_offset], self.environment, self.log)

    def backlog(self, database: str, results: int) -> tuple[float, float]:
        """Results and rows of all tables per second of an aggregator over an empty database and the whole stream.

        Counted from when it is ready to its last commit, as its log has them.
        """
        with self.aggregator(database):
            commits = self.wait_for_commits(self.work / f"{database}.log", results)
            with urllib.request.urlopen(f"http://{self.api}/api/digest", timeout=processes.STEP_S_MAX) as answer:
                rows = sum(table["rows"] for table in json.load(answer))
        return results / commits, rows / commits

    def wait_for_commits(self, log: Path, results: int) -> float:
        deadline = time.monotonic() + processes.STEP_S_MAX
        while True:
            events = [json.loads(line) for line in open(log) if line.startswith("{") and line.endswith("\n")]
            new = sum(event["fields"].get("new", 0) for event in events)
            if new >= results:
                break
            if time.monotonic() > deadline:
                raise processes.Failed(f"{new} of {results} results after {processes.STEP_S_MAX} s; see {log}")
            time.sleep(0.5)
        moments = {event["fields"]["message"]: moment(event["timestamp"]) for event in events}
        return moments["batch committed"] - moments["aggregator ready"]


def moment(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
