"""Dramatiq's side: an app that loses no job, with the fastest settings that we found, and its client.

    dramatiq_app.py noop COUNT THREADS  submits no-op jobs; prints the seconds until every one has run
    dramatiq_app.py pace COUNT PER_S    submits jobs at a rate; prints the milliseconds that each waited for its start
"""

import os
import struct
import sys
import time
from pathlib import Path

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from client import paced, report, submit_all, wait_until

WORK = Path(os.environ["BENCH_WORK"])
DONE = WORK / "dramatiq-done"
WAITS = WORK / "dramatiq-waits"
for path in (DONE, WAITS):
    path.touch()
# One byte per finished job: results themselves would need a further server (Redis or Memcached), so Dramatiq is
# spared what the others do here.
done = os.open(DONE, os.O_WRONLY | os.O_APPEND)
waits = os.open(WAITS, os.O_WRONLY | os.O_APPEND)

# `confirm_delivery`: a submission returns once the broker has stored the job. Its queue is a durable classic one, the
# only kind that it declares; jobs are acked after they ran; the middleware is what it has by default.
dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_AMQP_URL"], confirm_delivery=True))


@dramatiq.actor(queue_name="bench-dramatiq")
def noop():
    os.write(done, b".")


@dramatiq.actor(queue_name="bench-dramatiq")
def stamp(submitted_at):
    os.write(waits, struct.pack("<d", time.time() - submitted_at))


def submit(count, threads):
    before = DONE.stat().st_size
    begin = time.monotonic()
    submit_all(count, threads, noop.send)
    wait_until(lambda: DONE.stat().st_size >= before + count)
    return time.monotonic() - begin


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["noop", count, threads]:
            report(submit(int(count), int(threads)))
        case ["pace", count, per_s]:
            report(paced(WAITS, int(count), float(per_s), stamp.send))
