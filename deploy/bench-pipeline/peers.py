"""Celery and Dramatiq in a virtual environment of their own, measured like Augur."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import processes

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
# Either client waits for the confirm of each job before it publishes the next, so a plain loop measures that wait; this
# many threads keep the worker busy (more gave no more). Ours has its window of confirms in one thread.
CLIENT_THREADS = 8


def virtual_environment(log: Path) -> Path:
    """The environment's `bin`, made in the user's cache where it is missing or holds something else."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "augur"
    root = cache / "bench-pipeline"
    # Written last, so that an installation that was interrupted is done again.
    installed = root / "requirements.txt"
    if installed.is_file() and installed.read_text() == REQUIREMENTS.read_text():
        return root / "bin"
    if importlib.util.find_spec("ensurepip") is None:
        as_root = [] if os.geteuid() == 0 else ["sudo"]
        processes.run([*as_root, "apt-get", "install", "-y", "--no-install-recommends", "python3-venv"], None, log)
    processes.run([sys.executable, "-m", "venv", "--clear", root], None, log)
    pip = [root / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    processes.run([*pip, "--requirement", REQUIREMENTS], None, log)
    installed.write_text(REQUIREMENTS.read_text())
    return root / "bin"


@dataclass(frozen=True)
class Setting:
    """How a peer's worker is started: one command, with as many processes and threads below it as it likes."""

    text: str
    arguments: tuple
    prefetch: int

    def __str__(self):
        return self.text


class Peer:
    """One of the two, by the commands that start its worker and its client."""

    def __init__(self, app: str, worker: list, ready: str, prefetch_variable: str, url: str, work: Path, scripts: Path):
        self.client = [scripts / "python", HERE / f"{app}.py"]
        self.worker_command, self.ready, self.prefetch_variable = worker, ready, prefetch_variable
        self.log, self.worker_log = work / f"{app}-client.log", work / f"{app}-worker.log"
        self.environment = os.environ | {
            "BENCH_AMQP_URL": url,
            "BENCH_WORK": str(work),
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def worker(self, setting: Setting):
        environment = self.environment | {self.prefetch_variable: str(setting.prefetch)}
        command = [*self.worker_command, *setting.arguments]
        return processes.daemon(command, self.worker_log, self.ready, environment)

    def noop_jobs_per_s(self, jobs: int, client_threads: int = CLIENT_THREADS) -> float:
        """From the client's first publish until the last job is done."""
        return jobs / self.ask("noop", jobs, client_threads)

    def paced_waits_ms(self, jobs: int, per_s: float) -> list[float]:
        return self.ask("pace", jobs, per_s)

    def ask(self, *arguments):
        return json.loads(processes.run([*self.client, *arguments], self.environment, self.log))


def celery(url: str, work: Path, scripts: Path) -> Peer:
    # Gossip, mingle and heartbeats are messages between workers; there is one, so they would only cost it time.
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    worker = [scripts / "celery", "-A", "celery_app", "worker", *quiet]
    return Peer("celery_app", worker, "bench worker ready", "BENCH_PREFETCH", url, work, scripts)


def celery_setting(pool: str, concurrency: int, prefetch: int) -> Setting:
    arguments = ("--pool", pool, "--concurrency", str(concurrency))
    return Setting(f"{pool} pool, concurrency {concurrency}, prefetch × {prefetch}", arguments, prefetch)


def dramatiq(url: str, work: Path, scripts: Path) -> Peer:
    worker = [scripts / "dramatiq", "dramatiq_app"]
    return Peer("dramatiq_app", worker, "ready for action", "dramatiq_queue_prefetch", url, work, scripts)


def dramatiq_setting(worker_processes: int, threads: int, prefetch: int) -> Setting:
    arguments = ("--processes", str(worker_processes), "--threads", str(threads))
    return Setting(f"processes {worker_processes}, threads {threads}, prefetch {prefetch}", arguments, prefetch)


# Prefork is Celery's default pool; more children than cores only take turns. The other two spare it the pipe to a
# child.
CELERY_SETTINGS = [
    celery_setting("prefork", 1, 64),
    celery_setting("prefork", 2, 64),
    celery_setting("prefork", 4, 64),
    celery_setting("threads", 4, 64),
    celery_setting("solo", 1, 64),
]
# One process with 8 threads is Dramatiq's default on one core; threads share a core, processes do not.
DRAMATIQ_SETTINGS = [
    dramatiq_setting(1, 1, 100),
    dramatiq_setting(1, 8, 16),
    dramatiq_setting(1, 8, 200),
    dramatiq_setting(2, 4, 100),
]


def versions(scripts: Path) -> dict[str, str]:
    names = ("celery", "dramatiq")
    script = f"from importlib.metadata import version; print(*map(version, {names}))"
    found = subprocess.run([scripts / "python", "-c", script], capture_output=True, text=True, check=True)
    return dict(zip(names, found.stdout.split(), strict=True))
