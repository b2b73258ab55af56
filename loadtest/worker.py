"""One process of the load: turns words into the generator's numbers, runs it, reports each second.

Knows: workloads, loads, the generator. Must not know: the other processes, what becomes of the reports. It
talks over a pipe: sends ("ready", problem); receives the start in nanoseconds of time.monotonic_ns(); sends
Part after Part and at last an End; receives "stop" to end at once. Threads: a trace is read by a second one,
ahead of the generator.
"""

from __future__ import annotations

import gc
import queue
import resource
import signal
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

from loadtest.engine.draw import KINDS
from loadtest.engine.generator import Generator
from loadtest.replay import LARGEST, stream
from loadtest.sizes import LARGEST_KEY, LARGEST_VALUE, table
from loadtest.traces import FORMS, Block, TraceError, read
from loadtest.workload import PROTOCOLS, Load, Workload, parse_popularity, parse_ttl

NS = 1_000_000_000
SLICE = NS // 10  # between two looks at the pipe
AHEAD = 8  # blocks of a trace that are read ahead
FOREVER = 1 << 40  # seconds
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # come to all processes of a terminal or a group


class Plan(NamedTuple):
    """What one process does, number `place` of `of`. once: each key is set once, then it ends."""

    sockaddr: bytes
    workload: Workload
    load: Load
    place: int
    of: int
    once: bool


class Part(NamedTuple):
    """One process's share of a second, as Generator.take() gives it."""

    number: int  # of the second, from 0
    at: float  # seconds since the start when it ended
    counts: tuple[int, ...]
    latency: tuple[bytes, bytes]
    service: tuple[bytes, bytes]
    sets: tuple[bytes, bytes]
    backlog: int


class End(NamedTuple):
    """How it ended: `problem` in a few words, "" where all is well."""

    at: float
    problem: str
    complaint: str  # the first error reply of the server
    refusal: str  # why a connection could not be opened
    dropped: int  # requests given up
    waited: float  # seconds, by the oldest request without a reply
    busy: float  # share of the time in which it had a processor; an open loop polls, so it says nothing there
    parts: int  # that it has sent


def edges(load: Load, once: bool) -> Iterator[tuple[float, bool]]:
    """Yield the ends of the seconds, in seconds since the start, and whether it is warm-up until there.

    The warm-up ends exactly at one of them; the last one before the end may be shorter than a second.
    """
    for start, end in ((0.0, load.warmup), (load.warmup, FOREVER if once else load.warmup + load.seconds)):
        at = start
        while end - at > 1e-9:
            at = min(end, at + 1.0)
            yield at, end == load.warmup


def share(total: int, index: int, of: int) -> int:
    """How many of `total` fall to process number `index`."""
    return total * (index + 1) // of - total * index // of


def generator(plan: Plan) -> Generator:
    """Make the generator of a plan. Raises ValueError, MemoryError, OSError."""
    workload, load, index, of = plan.workload, plan.load, plan.place, plan.of
    name, a, b = parse_popularity(workload.popularity)
    connections = share(load.connections, index, of)
    if load.rate:
        steps = [(int(at * NS), value / of) for at, value in load.steps]
        most = connections
    else:
        steps = [(int(at * NS), float(share(int(value), index, of))) for at, value in load.steps]
        most = max([connections, *(int(value) for _, value in steps)])
    first = workload.keys * index // of
    return Generator(
        plan.sockaddr,
        protocol=PROTOCOLS.index(workload.protocol),
        prefix=workload.key_prefix.encode(),
        key_sizes=table(workload.key_size, LARGEST_KEY),
        value_sizes=table(workload.value_size, LARGEST_VALUE),
        kind=KINDS[name],
        a=a,
        b=b,
        keys=workload.keys,
        first=first,
        last=first + share(workload.keys, index, of),
        once=plan.once,
        get_share=workload.get_share,
        multiget=workload.multiget,
        ttl=parse_ttl(workload.ttl),
        fill=workload.fill,
        backend=int(workload.backend_ms * 1e6),
        verify=workload.verify,
        traced=bool(workload.trace),
        connections=connections,
        most_connections=most,
        depth=load.depth,
        rate=load.rate / of,
        offset=index / load.rate * NS if load.rate else 0.0,
        churn=load.churn,
        patience=int(load.patience * NS),
        steps=steps,
        seed=load.seed * 65536 + index,
    )


def named(words: str) -> tuple[str, str]:
    """The form and the path of a trace: of "FORM:PATH"; the form is "" where only the other is said."""
    form, _, path = words.partition(":")
    return (form, path) if form in FORMS else ("", words)


def trace(words: str, keys: int) -> Iterator[Block]:
    """The blocks of a trace: "FORM:PATH", PATH, a folder or a law. Raises TraceError."""
    form, path = named(words)
    return read(path, form) if form else stream(words, "", keys)


class Feeder:
    """Reads a trace ahead in a thread of its own; every `of`-th request from `index` on."""

    def __init__(self, blocks: Iterable[Block], index: int, of: int) -> None:
        self._queue: queue.Queue[tuple[array[int], array[int] | None] | str] = queue.Queue(AHEAD)
        self._parts = (blocks, index, of)
        threading.Thread(target=self._read, name="trace", daemon=True).start()

    def _read(self) -> None:
        blocks, index, of = self._parts
        try:
            for block in blocks:
                keys, sizes = block.keys[index::of], None
                if block.sizes is not None:
                    sizes = array("q", (min(LARGEST, size) for size in block.sizes[index::of]))
                if keys:
                    self._queue.put((keys, sizes))
            self._queue.put("")
        except TraceError as error:
            self._queue.put(str(error))

    def feed(self, made: Generator) -> str:
        """Hand the next block on, if it is there, or tell that there is none; returns what is wrong."""
        try:
            found = self._queue.get(timeout=0.001)
        except queue.Empty:
            return ""
        if isinstance(found, str):
            made.feed(None, None)
            return found
        made.feed(*found)
        return ""


def work(pipe: Connection, plan: Plan) -> None:
    """Be the process. Ends when its parent does."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # the parent tells it to stop
    _open_files()
    try:
        made = generator(plan)
        feeder = None
        if plan.workload.trace:
            feeder = Feeder(trace(plan.workload.trace, plan.workload.keys), plan.place, plan.of)
        problem = made.connect()
    except (ValueError, MemoryError, OSError, TraceError) as error:
        problem = str(error) or type(error).__name__
    try:
        pipe.send(("ready", problem))
        start = pipe.recv()
        if not problem:
            gc.disable()  # nothing here makes cycles, and a collection would be a pause
            pipe.send(_run(pipe, plan, made, feeder, start))
    except (EOFError, BrokenPipeError):
        pass  # the parent has gone


def _open_files() -> None:
    """Let this process have as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(pipe: Connection, plan: Plan, made: Generator, feeder: Feeder | None, start: int) -> End:
    time.sleep(max(0, start - time.monotonic_ns()) / NS)
    made.begin(start)
    used = time.process_time()
    problem, outcome, stopped = "", "time", False
    for number, (edge, _) in enumerate(edges(plan.load, plan.once)):
        until = start + int(edge * NS)
        while outcome in ("time", "block") and not stopped and not problem and time.monotonic_ns() < until:
            outcome = made.run(min(until, time.monotonic_ns() + SLICE))
            if outcome == "block" and feeder is not None:
                problem = feeder.feed(made)
            if pipe.poll():
                pipe.recv()
                stopped = True
        at = (time.monotonic_ns() - start) / NS
        pipe.send(Part(number, at, *made.take()))
        if outcome in ("end", "trouble") or problem or stopped:
            break
    return End(
        at,
        problem or made.trouble(),
        made.complaint(),
        made.refusal(),
        made.dropped,
        made.waited / NS,
        (time.process_time() - used) / at if at > 0 else 0.0,
        number + 1,
    )
