"""Reads and overwrites self-describing values while the server is made to give its memory back all the time.

Run as `python -m tests.soak --seconds 60`: several client processes, each with several connections, store,
read, touch and delete values of 1 KiB to 1 MiB and check every byte of every hit. Status 1 on any wrong byte,
stale value or error. Knows: sockets and `tests.values`; where the memory is demanded is the business of
`tests.shrinking_server`.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from multiprocessing import get_context

from tests.limits import memory_group
from tests.servers import HOST, REPLACEMENT, Server, command, free_port
from tests.values import WrongBytes, check, make
from tests.wire import Wire

KIB = 1 << 10
MIB = 1 << 20
SHARED_KEYS = 300
OWN_KEYS = 100
LARGEST = MIB - 2 * KIB  # bytes: the largest value under the server's default item limit
GROUP_LIMIT = 192 * MIB
GENERATION = 1 << 40  # versions of client n begin at n * GENERATION


@dataclass(frozen=True)
class Plan:
    """How to run: seconds, worker threads, client processes, connections of each."""

    seconds: float
    workers: int = 2
    clients: int = 3
    connections: int = 4
    group: bool = False  # put the server into a limited cgroup as well
    asan_ok: bool = False  # the extensions are built with AddressSanitizer


@dataclass
class Tally:
    """What one client, or all of them, did and found."""

    operations: int = 0
    sets: int = 0
    hits: int = 0
    misses: int = 0
    bytes_verified: int = 0
    refused: int = 0  # sets that were not stored: out of memory, because the demand took the reservation
    wrong: int = 0  # wrong bytes, stale values, unexpected replies
    messages: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class SoakClient:
    """One client process: some connections, keys of its own and keys shared with all other clients."""

    def __init__(self, number: int, port: int, connections: int) -> None:
        self._dice = random.Random(number + 1)
        self._version = (number + 1) * GENERATION
        self._own = [b"own%d_%d" % (number, i) for i in range(OWN_KEYS)]
        self._shared = [b"shared%d" % i for i in range(SHARED_KEYS)]
        self._last: dict[bytes, int] = {}  # own key -> version last stored; absent when it must miss
        # Every other connection takes in little at a time, so that replies wait in the server while others
        # write.
        self._wires = [
            Wire((HOST, port), timeout=30, receive_buffer=4096 if i % 2 else 0) for i in range(connections)
        ]
        self.tally = Tally()

    def run(self, seconds: float) -> Tally:
        deadline = time.monotonic() + seconds
        turns = (self._write, self._write, self._read, self._read, self._read, self._linger, self._remove)
        try:
            while time.monotonic() < deadline and self.tally.wrong < 20:
                self._dice.choice(turns)(self._dice.choice(self._wires))
        except (OSError, EOFError, AssertionError) as error:
            self._report(f"{type(error).__name__}: {error}")
        return self.tally

    def _report(self, message: str) -> None:
        self.tally.wrong += 1
        self.tally.messages.append(message[:300])

    def _keys(self, most: int) -> list[bytes]:
        pool = self._own if self._dice.random() < 0.4 else self._shared
        return self._dice.sample(pool, self._dice.randint(1, most))

    def _write(self, wire: Wire) -> None:
        """Store a few values in one packet; the replies tell which of them count."""
        keys = self._keys(4)
        words = []
        for key in keys:
            self._version += 1
            size = int(KIB * (LARGEST / KIB) ** self._dice.random())
            words.append((key, self._version))
            wire.send(b"set %b 0 0 %d\r\n" % (key, size) + make(key, self._version, size) + b"\r\n")
        for key, version in words:
            reply = wire.read_line()
            self.tally.operations += 1
            if reply == b"STORED":
                self.tally.sets += 1
                self._last[key] = version
            elif reply == b"SERVER_ERROR out of memory storing object":
                self.tally.refused += 1
                self._last.pop(key, None)
            else:
                self._report(f"set {key!r}: {reply!r}")

    def _read(self, wire: Wire) -> None:
        keys = self._keys(8)
        wire.send(b"get " + b" ".join(keys) + b"\r\n")
        self._verify(keys, wire.read_values())

    def _linger(self, wire: Wire) -> None:
        """Ask, let the reply wait while the same keys are written by another connection, then read it."""
        keys = self._keys(3)
        before = {key: self._last.get(key) for key in keys}
        wire.send(b"gat 0 " + b" ".join(keys) + b"\r\n")
        others = [other for other in self._wires if other is not wire]
        if others:
            self._write(self._dice.choice(others))
        time.sleep(self._dice.random() * 0.005)
        values = wire.read_values()
        after = {key: self._last.get(key) for key in keys}
        # What was written meanwhile may or may not be in the reply: only keys that were left alone are
        # compared.
        self._verify([key for key in keys if before[key] == after[key]], values)
        self._verify([], values)

    def _remove(self, wire: Wire) -> None:
        key = self._keys(1)[0]
        reply = wire.ask(b"delete %b\r\n" % key)
        self._last.pop(key, None)
        self.tally.operations += 1
        if reply not in (b"DELETED", b"NOT_FOUND"):
            self._report(f"delete {key!r}: {reply!r}")

    def _verify(self, latest: Sequence[bytes], values: dict[bytes, bytes]) -> None:
        """Check every byte; for own keys among `latest` also that the value is the one stored last."""
        exact = set(latest) & set(self._own)
        if latest:
            self.tally.operations += 1
            self.tally.misses += sum(key not in values for key in latest)
        for key, value in values.items():
            try:
                version = check(key, value)
            except WrongBytes as error:
                self._report(str(error))
                continue
            self.tally.hits += 1
            self.tally.bytes_verified += len(value)
            if key in exact and version != self._last.get(key):
                self._report(f"{key!r} holds version {version}, last stored was {self._last.get(key)}")


def client(number: int, port: int, connections: int, seconds: float) -> Tally:
    """Run one client in this process; its tally."""
    return SoakClient(number, port, connections).run(seconds)


def sanitizer_environment() -> dict[str, str]:
    """What a server built with AddressSanitizer needs to run inside an ordinary interpreter."""
    compiler = os.environ.get("CC", "cc")
    library = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return {
        "LD_PRELOAD": library.stdout.strip(),
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=0"),
        "PYTHONMALLOC": "malloc",
    }


def start_server(stack: ExitStack, plan: Plan) -> Server:
    """Start the shrinking server, in a memory-limited group where the plan says so."""
    port = free_port()
    argv = command(port, "-t", str(plan.workers))
    if not REPLACEMENT:
        argv[argv.index("cacheserver")] = "tests.shrinking_server"
    group = stack.enter_context(memory_group(GROUP_LIMIT)).path if plan.group else None
    environment = sanitizer_environment() if plan.asan_ok else {}
    server = Server(argv, (HOST, port), group=group, environment=environment, stdin=subprocess.PIPE)
    return stack.enter_context(server)


def stop_demands(server: Server) -> str:
    """End the thread that demands memory; return its totals."""
    assert server.process.stdin is not None
    server.process.stdin.close()
    deadline = time.monotonic() + 10
    while server.running() and "demands=" not in server.output() and time.monotonic() < deadline:
        time.sleep(0.02)
    return "".join(line for line in server.output().splitlines() if line.startswith("demands="))


def soak(plan: Plan) -> tuple[Tally, str]:
    """Run the whole; return the sum of the clients' tallies and the totals of the demands."""
    total = Tally()
    with ExitStack() as stack:
        server = start_server(stack, plan)
        assert isinstance(server.address, tuple)
        port = server.address[1]
        pool = stack.enter_context(ProcessPoolExecutor(plan.clients, mp_context=get_context("spawn")))
        runs = [
            pool.submit(client, number, port, plan.connections, plan.seconds)
            for number in range(plan.clients)
        ]
        for run in runs:
            total.add(run.result())
        totals = "" if REPLACEMENT else stop_demands(server)
        end(server, total)
    return total, totals


def end(server: Server, total: Tally) -> None:
    """End the server in order; a crash, a bad status or a sanitizer's report counts as wrong."""
    complaint = ""
    if not server.running():
        complaint = f"the server has ended with {server.wait(0)}"
    else:
        server.process.terminate()
        if (status := server.wait(30)) != 0:
            complaint = f"the server ended with {status}"
    errors = server.errors()
    if "Sanitizer" in errors or "Traceback" in errors:
        complaint = complaint or "the server complains"
    if complaint:
        total.wrong += 1
        total.messages.append(f"{complaint}: {errors[-3000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program; status 1 on anything wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the clients run")
    parser.add_argument("--workers", type=int, default=2, help="worker threads of the server")
    parser.add_argument("--clients", type=int, default=3, help="client processes")
    parser.add_argument("--connections", type=int, default=4, help="connections of each client")
    parser.add_argument("--group", action="store_true", help="also put the server into a limited cgroup")
    parser.add_argument(
        "--asan-ok", action="store_true", help="the extensions are built with AddressSanitizer"
    )
    plan = Plan(**vars(parser.parse_args(arguments)))
    total, totals = soak(plan)
    for message in total.messages[:20]:
        print(message, file=sys.stderr)
    print(
        f"operations {total.operations}, sets {total.sets} ({total.refused} refused), hits {total.hits},"
        f" misses {total.misses}, bytes verified {total.bytes_verified}, wrong {total.wrong}; {totals}"
    )
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
