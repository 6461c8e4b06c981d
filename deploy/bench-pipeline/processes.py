"""Processes under control: started with a log, waited for, measured, ended by their id."""

import ctypes
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

READY_S_MAX = 120
STOP_S_MAX = 40
# Longest single step: a run of jobs, a replay, the installation of the peers.
STEP_S_MAX = 600
POLL_S = 0.05
# After it says that it is ready, a daemon may still be settling.
IDLE_SETTLE_S = 3
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A step that did not do what it should; the text says which, and where its log is."""


@contextmanager
def daemon(command: list, log: Path, ready: str, environment: dict):
    """Runs a process from when its log has the text `ready` until the block ends; gives its process id."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            # Ctrl-C is ours to pass on, in order; and whatever ends us ends it too.
            start_new_session=True, preexec_fn=end_with_parent,
        )  # fmt: skip
    try:
        wait_for(log, ready, process)
        yield process.pid
    finally:
        stop(process)


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for(log: Path, text: str, process: subprocess.Popen):
    deadline = time.monotonic() + READY_S_MAX
    while text not in log.read_text(errors="replace"):
        if process.poll() is not None:
            raise Failed(f"{process.args[0]} ended before `{text}`; see {log}")
        if time.monotonic() > deadline:
            raise Failed(f"no `{text}` after {READY_S_MAX} s; see {log}")
        time.sleep(POLL_S)


def stop(process: subprocess.Popen):
    """Asks a process to end, then kills the session that was made for it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(command: list, environment: dict, log: Path) -> str:
    """Runs a command to its end and gives what it printed; its stderr goes into the log."""
    command = [str(word) for word in command]
    with open(log, "ab") as errors:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True,
                timeout=STEP_S_MAX, preexec_fn=end_with_parent,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"`{' '.join(command)}` took longer than {STEP_S_MAX} s; see {log}") from None
    if done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}; see {log}")
    return done.stdout.strip()


def seconds_of(command: list, environment: dict, log: Path) -> float:
    """How long a command takes from its start to its end; what it prints goes nowhere."""
    begin = time.monotonic()
    with open(log, "ab") as errors:
        subprocess.run(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            env=environment, timeout=STEP_S_MAX, preexec_fn=end_with_parent, check=True,
        )  # fmt: skip
    return time.monotonic() - begin


def idle_memory_mb(pid: int) -> float:
    """PSS of a process and all its descendants once they are idle, in MB (10^6 bytes).

    PSS shares out every page among the processes that have it, so nothing is counted twice within a tree.
    """
    time.sleep(IDLE_SETTLE_S)
    return sum(pss_kib(member) for member in tree(pid)) * 1024 / 1e6


def tree(pid: int) -> list[int]:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [pid] + [member for child in children for member in tree(child)]


def pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise Failed(f"process {pid} has no PSS")


def free_port() -> int:
    return int(subprocess.check_output([Path(__file__).resolve().parent.parent / "free_port.py"]))
