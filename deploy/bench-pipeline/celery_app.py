"""Celery's side: an app that loses no job, with the fastest settings that we found, and its client.

    celery_app.py noop COUNT THREADS  submits no-op jobs; prints the seconds until every result is stored
    celery_app.py pace COUNT PER_S    submits jobs at a rate; prints the milliseconds that each waited for its start
"""

import os
import struct
import sys
import time
from pathlib import Path

from celery import Celery
from celery.signals import worker_ready

from client import paced, report, submit_all, wait_until

WORK = Path(os.environ["BENCH_WORK"])
RESULTS = WORK / "celery-results"
RESULTS.mkdir(exist_ok=True)
WAITS = WORK / "celery-waits"
WAITS.touch()
waits = os.open(WAITS, os.O_WRONLY | os.O_APPEND)

app = Celery("bench", broker=os.environ["BENCH_AMQP_URL"])
app.conf.update(
    task_default_queue="bench-celery",
    # A replicated, fsynced queue, as ours. Celery then sets no global QoS, which quorum queues refuse
    # (worker_detect_quorum_queues, on by default).
    task_default_queue_type="quorum",
    # A job is acked after it ran, so that a dying worker loses none.
    task_acks_late=True,
    # A submission returns once the broker has stored the job.
    broker_transport_options={"confirm_publish": True},
    # Results are kept, one file each: of the stores that need no further server this is the fastest. SQLite takes a
    # transaction per result (a third of the rate), and `rpc` keeps nothing.
    result_backend=f"file://{RESULTS}",
    # Short jobs need many deliveries in flight; Celery's advice is 64 or more where 4 is the default.
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64")),
    # Both are defaults, and would cost a message or a write per job.
    task_send_sent_event=False,
    task_track_started=False,
)


@worker_ready.connect
def say_ready(**_):
    print("bench worker ready", flush=True)


@app.task(name="noop")
def noop():
    pass


@app.task(name="stamp", ignore_result=True)
def stamp(submitted_at):
    os.write(waits, struct.pack("<d", time.time() - submitted_at))


def submit(count, threads):
    for old in RESULTS.iterdir():
        old.unlink()
    begin = time.monotonic()
    pending = [result.id for result in submit_all(count, threads, noop.apply_async)]

    def all_stored():
        # Every result is looked for until it is there and then never again: cheaper than to read or list them.
        while pending and (RESULTS / app.backend.get_key_for_task(pending[-1]).decode()).exists():
            pending.pop()
        return not pending

    wait_until(all_stored)
    return time.monotonic() - begin


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["noop", count, threads]:
            report(submit(int(count), int(threads)))
        case ["pace", count, per_s]:
            report(paced(WAITS, int(count), float(per_s), lambda now: stamp.apply_async((now,))))
