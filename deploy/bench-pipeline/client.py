"""What the clients of Celery and Dramatiq have in common: submitting at a rate, waiting, answering."""

import json
import struct
import time
from concurrent.futures import ThreadPoolExecutor

POLL_S = 0.01
DONE_S_MAX = 300


def wait_until(is_done):
    deadline = time.monotonic() + DONE_S_MAX
    while not is_done():
        if time.monotonic() > deadline:
            raise SystemExit(f"the jobs were not done after {DONE_S_MAX} s")
        time.sleep(POLL_S)


def submit_all(count, threads, submit):
    """Submits `count` jobs from as many threads, each in a plain loop; gives what `submit` gave."""
    if threads == 1:
        return [submit() for _ in range(count)]
    shares = [count // threads + (number < count % threads) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        answers = pool.map(lambda share: [submit() for _ in range(share)], shares)
        return [answer for share in answers for answer in share]


def paced(waits, count, per_s, submit):
    """Submits `count` jobs, `per_s` a second whatever becomes of them; gives how long each waited, in ms.

    Each job appends its wait to the file `waits`, as one little-endian double of seconds.
    """
    waits.write_bytes(b"")
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / per_s - time.monotonic()))
        submit(time.time())
    wait_until(lambda: waits.stat().st_size >= 8 * count)
    return [seconds * 1e3 for (seconds,) in struct.iter_unpack("<d", waits.read_bytes())]


def report(answer):
    print(json.dumps(answer))
