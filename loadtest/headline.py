"""The headline demonstration: three servers, one after the other, in one cgroup beside the same neighbour.

Knows: how servers are started in a limited cgroup, what they are asked. Must not know: what they are made
of; this server is a command like the others. A server that the kernel kills is started anew after a second,
as a container engine does. Every process and every cgroup ends with the run.

The sizes of memcached: "well chosen" is what is left beside the neighbour at its largest, less MARGIN for
what -m does not count (the hash table, connections, threads); "too large" fits into the cgroup as long as it
is alone.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import IO, NamedTuple

from loadtest import groups
from loadtest.groups import Group, NoGroup
from loadtest.outcome import Outcome
from loadtest.play import Run, Watch, play
from loadtest.scenario import Event, Scenario, Size
from loadtest.timeline import connect
from loadtest.units import MIB, size_text
from loadtest.whose import Target
from loadtest.workload import Load, Workload

HOST = "127.0.0.1"
START_SECONDS = 30.0
RESTART_SECONDS = 1.0  # from a kill to a new start
MARGIN = 0.15  # of what is left beside the neighbour
ALONE = 0.85  # of the limit: -m of one who has not thought of a neighbour
OURS = f"{shlex.quote(sys.executable)} -m cacheserver -l {HOST} -p {{port}}"
MEMCACHED = f"memcached -l {HOST} -U 0 -p {{port}}"


class Plan(NamedTuple):
    """What is demonstrated: bytes, seconds, requests a second."""

    limit: int = 256 * MIB
    peak: int = 96 * MIB  # the neighbour at its largest
    seconds: float = 120.0
    rate: float = 20_000.0
    keys: int = 400_000
    value_size: str = "lognormal:1500:0.7"
    ours: str = OURS
    memcached: str = MEMCACHED

    def scenario(self) -> Scenario:
        """Read-through; after a third and after two thirds of the time the neighbour grows and falls."""
        third = self.seconds / 3.0
        event = Event(
            third, "hog", Size(self.peak), rate=self.peak, hold=max(1.0, third / 2.0 - 1.0), every=third
        )
        workload = Workload.parse(
            {"get_share": 1.0, "keys": self.keys, "value_size": self.value_size, "fill": True}
        )
        # As long as the server is away the load waits for it: its users would, too.
        load = Load.parse({"rate": self.rate, "seconds": self.seconds, "patience": self.seconds})
        return Scenario("headline", "", workload, load, (event,), ())

    def contenders(self) -> list[tuple[str, str]]:
        """(label, command) of each server."""
        well = int((self.limit - self.peak) * (1.0 - MARGIN)) // MIB
        large = int(self.limit * ALONE) // MIB
        root = " -u nobody" if os.geteuid() == 0 else ""  # memcached wants to know whom to become
        return [
            ("cacheserver", self.ours),
            (f"memcached -m {well}", f"{self.memcached}{root} -m {well}"),
            (f"memcached -m {large}", f"{self.memcached}{root} -m {large}"),
        ]

    def about(self) -> str:
        return (
            f"Each server alone in a cgroup of {size_text(self.limit)}, with a neighbour that twice takes"
            f" {size_text(self.peak)} in a second and lets go; {self.rate:g} gets a second, read-through,"
            f" {self.keys} keys after Zipf's law."
        )


class HeadlineError(Exception):
    """Why nothing can be demonstrated, in one line."""


class Supervised:
    """A server in a cgroup, started anew whenever it ends; a context manager."""

    def __init__(self, command: str, port: int, group: Group) -> None:
        self._argv = shlex.split(command.format(port=port))
        self._address = f"{HOST}:{port}"
        self._group = group
        self._over = threading.Event()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="loadtest-supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def __enter__(self) -> Supervised:
        try:
            self._start()
            self._wait()
        except BaseException:
            self._end()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._end()

    def _start(self) -> None:
        joining = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._group.procs)]
        self._process = subprocess.Popen(  # in a group of its own: Ctrl-C is for who started it
            [*joining, *self._argv],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            process_group=0,
        )

    def _wait(self) -> None:
        """Until it answers. HeadlineError."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self._process is not None
            with contextlib.suppress(OSError):
                connect(self._address, 1.0).close()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self._errors.seek(0)
        said = self._errors.read(2000).decode(errors="replace").strip().splitlines()
        raise HeadlineError(f"{shlex.join(self._argv)} does not start: {said[-1] if said else 'silence'}")

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            if self.pid is None and not self._over.wait(RESTART_SECONDS):
                self._start()

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def demonstrate(
    plan: Plan,
    run: Run,
    *,
    watch: Callable[[str], contextlib.AbstractContextManager[Watch]],
    stop: Callable[[], bool] | None = None,
    limited: Callable[[int], contextlib.AbstractContextManager[Group]] = groups.make,
) -> Iterator[Outcome]:
    """Yield what each server gave, as soon as it has. HeadlineError where one cannot be tried."""
    scenario = plan.scenario()
    for _, command in plan.contenders():
        program = shlex.split(command)[0]
        if shutil.which(program) is None:
            raise HeadlineError(f"{program} is not installed: install it, or say --ours or --memcached")
    for label, command in plan.contenders():
        if stop is not None and stop():
            return
        try:
            with limited(plan.limit) as group:
                port = free_port()
                with Supervised(command, port, group) as server, watch(label) as shown:
                    outcome = play(
                        f"{HOST}:{port}",
                        scenario,
                        run,
                        find=partial(_target, server, group),
                        watch=shown,
                        stop=stop,
                        label=label,
                    )
        except NoGroup as error:
            raise HeadlineError(str(error)) from None
        yield outcome._replace(facts={**outcome.facts, "command": command})


def _target(server: Supervised, group: Group) -> Target:
    return Target(server.pid, group)


def figures(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """What the picture says, in numbers, for each server."""
    return [
        {
            "server": outcome.label,
            "hit ratio": outcome.figure("hit"),
            "p99, ms": None if (p99 := outcome.figure("p99")) is None else p99 / 1000.0,
            "kills": outcome.kills,
            "seconds without an answer": silent(outcome),
            "mean memory used of the limit": used(outcome),
            "requests": outcome.result.total.requests,
            "errors": outcome.result.total.errors,
        }
        for outcome in outcomes
    ]


def silent(outcome: Outcome) -> int:
    """Seconds of the load in which nothing was answered."""
    return sum(1 for second in outcome.result.seconds if not second.counters.requests)


def used(outcome: Outcome) -> float | None:
    """The mean share of the limit that was used, neighbour included."""
    shares = [
        sample.usage / sample.limit
        for sample in outcome.samples
        if sample.at >= 0 and sample.usage is not None and sample.limit
    ]
    return sum(shares) / len(shares) if shares else None
