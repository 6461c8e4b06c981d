#!/usr/bin/env python3
"""Prints a free port of 127.0.0.1 below those that the kernel gives to connections: of theirs, one would take it before
whoever asked listens there."""

import random
import socket

PORTS = range(15_000, 30_000)


def free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise SystemExit("free_port: of 100 ports that were tried none is free")


if __name__ == "__main__":
    print(free_port())
