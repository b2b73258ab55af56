"""Loads a server from several processes and puts together what they report.

Knows: processes, seconds, sums. Must not know: bytes of requests and replies. Threads: run() may be called
from any, and calls its callbacks there. The processes are spawned, so a program that calls run() guards its
own start with `if __name__ == "__main__"`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from loadtest.address import LoadError, probe
from loadtest.results import Counters, Histogram, Result, Second
from loadtest.traces import TraceError
from loadtest.worker import ENDING, NS, End, Part, Plan, edges, named, trace, work
from loadtest.workload import Load, Workload

__all__ = ["LoadError", "prefill", "run"]

LOOK = 0.1  # seconds between two looks at `stop`
SPARE_FILES = 32  # of a process, beside its connections
START = 60.0  # seconds that the processes have to come up
SILENT = 0.9  # seconds at the end without an answer that are worth a word: a last second, a little short
SATURATED = 0.9  # of a processor: a generator that has no more to give
FEW = 10  # requests of an open loop that may happen not to be answered yet
SILENCE = 15.0  # seconds without a report after which they count as dead
LEAD = NS // 50  # between the word to start and the start

OnSecond = Callable[[Second], None]
Stop = Callable[[], bool]


def run(
    address: str,
    workload: Workload,
    load: Load,
    on_second: OnSecond | None = None,
    stop: Stop | None = None,
) -> Result:
    """Load the server at `address` and return what came of it.

    address: "host:port", "[v6]:port", or the path of a Unix socket.
    on_second is told each second as soon as all processes have reported it; stop is asked ten times a second.
    Raises LoadError, in one line, where nothing could be measured: nobody listens, the wrong host, another
    protocol, a field of the workload or of the load that makes no sense. A server that dies later, a stop and
    Ctrl-C give a Result that is not complete, with all that was measured.
    """
    return _run(address, workload, load, on_second, stop, once=False)


def prefill(
    address: str,
    workload: Workload,
    load: Load,
    on_second: OnSecond | None = None,
    stop: Stop | None = None,
) -> Result:
    """Set each key of the workload once, as fast as it goes, and return what came of it; see run()."""
    workload = workload._replace(get_share=0.0, popularity="scan", fill=False, trace="")
    load = load._replace(depth=max(16, load.depth), rate=0.0, warmup=0.0, churn=0, steps=())
    return _run(address, workload, load, on_second, stop, once=True)


def _run(
    address: str,
    workload: Workload,
    load: Load,
    on_second: OnSecond | None,
    stop: Stop | None,
    once: bool,
) -> Result:
    try:
        workload = Workload.parse(workload._asdict())
        load = Load.parse(load._asdict())
    except ValueError as error:
        raise LoadError(str(error)) from None
    if workload.trace:
        _check_trace(workload)
    sockaddr = probe(address, workload.protocol)
    of = min(load.processes, load.connections)
    _check_open_files(load, of)
    with _Crew([Plan(sockaddr, workload, load, index, of, once) for index in range(of)], address) as crew:
        report = _Report(workload, load, once, of)
        crew.start()
        started = time.time() + LEAD / NS
        try:
            problem = _listen(crew, report, on_second, stop)
        except KeyboardInterrupt:
            crew.stop()
            problem = _listen(crew, report, on_second, None) or "interrupted"
        return report.result(address, started, problem)


def _listen(crew: _Crew, report: _Report, on_second: OnSecond | None, stop: Stop | None) -> str:
    """Take what the processes report until each has ended; returns what ended it before its time."""
    problem = ""
    try:
        for message in crew.messages():
            for second in report.take(message):
                if on_second is not None:
                    on_second(second)
            if not problem:
                if isinstance(message, End):
                    problem = message.problem
                elif stop is not None and stop():
                    problem = "stopped"
                if problem:
                    crew.stop()
    except _Dead as error:
        problem = problem or str(error)
    for second in report.rest():
        if on_second is not None:
            on_second(second)
    return problem


def _check_trace(workload: Workload) -> None:
    """LoadError where the trace is none, as far as its beginning shows; a pipe can be read only once."""
    _, path = named(workload.trace)
    try:
        blocks = trace(workload.trace, workload.keys)
        if Path(path).is_file() and next(iter(blocks), None) is None:
            raise LoadError(f"trace: there is no request in {path}: is it of another form?")
    except TraceError as error:
        raise LoadError(f"trace: {error}") from None


def _check_open_files(load: Load, of: int) -> None:
    """LoadError where one of `of` processes may not open its share of the connections."""
    steps = [int(value) for _, value in load.steps] if not load.rate else []
    needed = -(-max(load.connections, *steps, 0) // of) + SPARE_FILES
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and needed > allowed:
        raise LoadError(
            f"a process with {needed - SPARE_FILES} connections needs {needed} open files, and the system"
            f" allows {allowed}: raise the limit (ulimit -n), or say --processes {-(-needed // allowed) * of}"
        )


def silence(seconds: Sequence[Second], workload: Workload, load: Load) -> float:
    """For how many seconds at its end a load had no answer that it should have had; 0: none."""
    heard = (each.at for each in seconds if each.counters.requests or each.counters.errors)
    end = seconds[-1].at if seconds else 0.0
    lasted = end - max(heard, default=0.0)
    if lasted < SILENT + workload.backend_ms / 1000.0:
        return 0.0
    return 0.0 if load.rate and load.value_at(end) * lasted < FEW else lasted


def saturated(busy: Sequence[float], load: Load) -> str:
    """What to know of processes that had a processor for these shares of the time; "" where they waited.

    An open loop polls, so it tells nothing of it; there the backlog does.
    """
    mean = sum(busy) / max(1, len(busy))
    if load.rate or mean <= SATURATED:
        return ""
    return (
        f"the load generator itself was busy {mean:.0%} of the time, so it may be what was measured:"
        f" --processes {2 * len(busy)} will tell"
    )


class _Dead(Exception):
    """A process of the generator has ended by itself."""


class _Crew:
    """The processes. As a context it leaves none of them behind."""

    def __init__(self, plans: list[Plan], address: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._address = address
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        resource_tracker.ensure_running()  # where it is started by the first process, it undoes the mask
        # They inherit the mask: what ends a program goes to all of its group, and is the parent's to answer.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            for plan in plans:
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, plan), daemon=True)
                process.start()
                theirs.close()
                self._pipes.append(ours)
                self._processes.append(process)
        except BaseException:
            self.__exit__()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._talking = list(self._pipes)

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # which tells them to end
        for process in self._processes:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()

    def start(self) -> None:
        """Wait until all are connected, and let them begin at one time. Raises LoadError."""
        for pipe in self._pipes:
            if not pipe.poll(START):
                raise LoadError("the load generator's processes do not come up: is this machine overloaded?")
            try:
                _, problem = pipe.recv()
            except EOFError:
                raise LoadError("a process of the load generator died as it started") from None
            if problem:
                raise LoadError(f"{self._address} cannot be loaded: {problem}")
        begin = time.monotonic_ns() + LEAD
        for pipe in self._pipes:
            pipe.send(begin)

    def stop(self) -> None:
        """Let all end now; they report what they have."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send("stop")

    def messages(self) -> Iterator[Part | End | None]:
        """Yield what they say until each has ended; None when nothing has come for a while. Raises _Dead."""
        heard = time.monotonic()
        while self._talking:
            ready = wait(self._talking, LOOK)
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE:
                raise _Dead("the load generator's own processes do not answer")
            else:
                yield None
            for pipe in ready:
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    raise _Dead("a process of the load generator died") from None
                if isinstance(message, End):
                    self._talking.remove(pipe)
                yield message


class _Report:
    """Puts parts together to seconds, in their order."""

    def __init__(self, workload: Workload, load: Load, once: bool, of: int) -> None:
        self._workload, self._load = workload, load
        self._edges = edges(load, once)
        self._of = of
        self._waiting: dict[int, list[Part]] = {}
        self._ends: list[End] = []
        self._seconds: list[Second] = []
        self._total = Counters()
        self._latency, self._service, self._sets = Histogram(), Histogram(), Histogram()

    def take(self, message: Part | End | None) -> list[Second]:
        """Count a part or an end; returns the seconds that are complete by it."""
        if isinstance(message, End):
            self._ends.append(message)
        elif message is not None:
            self._waiting.setdefault(message.number, []).append(message)
        found = []
        while len(self._waiting.get(len(self._seconds), ())) >= max(1, self._speaking()):
            found.append(self._close())
        return found

    def _speaking(self) -> int:
        """How many processes have, or will have, something to say about the next second."""
        return self._of - sum(end.parts <= len(self._seconds) for end in self._ends)

    def rest(self) -> list[Second]:
        """The seconds to which not all processes had something to say, because some have ended before."""
        found = []
        while self._waiting:
            found.append(self._close())
        return found

    def _close(self) -> Second:
        """Put the next second together."""
        parts = self._waiting.pop(len(self._seconds), [])
        _, warmup = next(self._edges)
        counters, latency, service = Counters(), Histogram(), Histogram()
        for part in parts:
            counters = counters.plus(Counters(*part.counts))
            latency.add(Histogram.packed(*part.latency))
            service.add(Histogram.packed(*part.service))
            if not warmup:
                self._sets.add(Histogram.packed(*part.sets))
        at = max((part.at for part in parts), default=0.0)
        second = Second(at, counters, latency, service, sum(part.backlog for part in parts), warmup)
        self._seconds.append(second)
        if not warmup:
            self._total = self._total.plus(counters)
            self._latency.add(latency)
            self._service.add(service)
        return second

    def result(self, address: str, started: float, problem: str) -> Result:
        """What the load gave; `problem` is what ended it before its time."""
        end = self._seconds[-1].at if self._seconds else 0.0
        begun = max((second.at for second in self._seconds if second.warmup), default=0.0)
        complete = not problem and not self._given_up()
        problem = f"{problem} at {end:.1f} s" if problem else self._given_up() or self._remark()
        return Result(
            self._workload,
            self._load,
            address,
            started,
            tuple(self._seconds),
            self._total,
            self._latency,
            self._service,
            self._sets,
            end - begun,
            complete,
            problem,
        )

    def _given_up(self) -> str:
        """Why the figures of a load that ran to its end are not whole; "" where they are."""
        if dropped := sum(each.dropped for each in self._ends):
            return f"the rate was never reached: {dropped} requests were overdue by a minute and given up"
        if lasted := silence(self._seconds, self._workload, self._load):
            return f"the server answered nothing in the last {lasted:.1f} s, which is in no latency"
        waited = max((each.waited for each in self._ends), default=0.0)
        longest = self._service.max() / 1e6 if self._service.total() else 0.0
        if waited > max(longest, SILENT + self._workload.backend_ms / 1000.0):
            return f"a request still waited for its reply after {waited:.1f} s, which is in no latency"
        return ""

    def _remark(self) -> str:
        """What a reader of whole figures must know; "" where it is nothing."""
        total = self._total
        backlog = self._seconds[-1].backlog if self._seconds else 0
        if backlog > self._load.value_at(self._seconds[-1].at if self._seconds else 0.0):
            return f"the rate was not reached: {backlog} requests were due in the end and had not been sent"
        if total.wrong:
            return (
                f"{total.wrong} values are not what this workload sets: they are broken, or left by another"
                " workload (flush the server, or say another --key-prefix)"
            )
        if total.errors or total.refused:
            said = next((each.complaint for each in self._ends if each.complaint), "nothing, and hung up")
            what = "requests and fills" if self._workload.fill else "requests"
            return f"{total.errors + total.refused} {what} failed; of the first one the server said {said}"
        if found := saturated([each.busy for each in self._ends], self._load):
            return found
        if refusal := next((each.refusal for each in self._ends if each.refusal), ""):
            return f"there were fewer connections than asked for: one could not be opened ({refusal})"
        return ""
