"""What a start takes: time from exec to the first answered request, of it on a processor, and the size then.

From the repository root, on a quiet machine:

    python -m tests.bench.start
    python -m tests.bench.start --starts 51

Both servers are started in turn with their own defaults; the medians are printed. The request is `version`,
sent as soon as a connection is taken. The resident size is the kernel's (VmRSS), a second later, with that
one connection; of it, anonymous memory is the server's own, and the rest is pages of files, which several
processes share. Compiled modules are there already, as an installation leaves them.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.replay import at_least
from tests.servers import HOST, START_TIMEOUT, Server, command, free_port, reference_command

POLL_SECONDS = 0.0005  # between two tries to connect
SETTLE_SECONDS = 1.0  # until the resident size is read
MIB = 1 << 20


class Start(NamedTuple):
    """One start: seconds, seconds on a processor, bytes resident, and of these anonymous."""

    wall: float
    cpu: float
    resident: int
    anonymous: int


def first_answer(port: int) -> socket.socket:
    """Connect as soon as that can be, and ask; returns the connection once the answer is there."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            client = socket.create_connection((HOST, port), timeout=START_TIMEOUT)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
    client.sendall(b"version\r\n")
    if not client.recv(100).startswith(b"VERSION "):
        raise OSError("the server does not answer `version`")
    return client


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads that live, in seconds; finer than the ticks of `stat`."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident(pid: int) -> tuple[int, int]:
    """Bytes resident, and of these anonymous."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    known = dict(line.split(":", 1) for line in lines)
    return int(known["VmRSS"].split()[0]) << 10, int(known["RssAnon"].split()[0]) << 10


def start(argv: Sequence[str], port: int, environment: Mapping[str, str]) -> Start:
    began = time.monotonic()
    with Server(argv, None, environment=environment) as server, first_answer(port):
        wall = time.monotonic() - began
        cpu = cpu_seconds(server.pid)
        time.sleep(SETTLE_SECONDS)
        return Start(wall, cpu, *resident(server.pid))


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.start",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--starts", type=at_least(1), default=15, help="of each server (15)")
    plan = parser.parse_args(given)
    starts: dict[str, list[Start]] = {"memcached": [], "cacheserver": []}
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(1 + plan.starts):
            for name, argv in (("memcached", reference_command), ("cacheserver", command)):
                port = free_port()
                starts[name].append(start(argv(port), port, environment))
    print("| server | to the first answer | processor time | resident | anonymous |\n|---|---|---|---|---|")
    for name, found in starts.items():
        wall, cpu, size, own = (statistics.median(column) for column in zip(*found[1:], strict=True))
        sizes = f"{size / MIB:.1f} MiB | {own / MIB:.1f} MiB"
        print(f"| {name} | {1000 * wall:.0f} ms | {1000 * cpu:.0f} ms | {sizes} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
