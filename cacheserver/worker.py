"""One worker: a thread with its own uvloop event loop, which watches one reactor and some UDP sockets, and
runs its housekeeping.

Knows: the event loop, one reactor, UDP sockets, callables to call at intervals. Must not know: what
housekeeping does, other workers, the store, signals.
Threads: start(), call_soon_threadsafe(), drain(), stop(), join() may be called from any thread; everything
the worker runs, the reactor included, runs on its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

from cacheserver.net.datagram import Datagrams
from cacheserver.net.reactor import Reactor

log = logging.getLogger("cacheserver.worker")

SWEEP_SECONDS = 1.0
DRAIN_POLL_SECONDS = 0.01
DRAIN_SERVE_SECONDS = 0.5

Task = Callable[[], object]


class Worker:
    """A thread that serves one reactor, and `datagrams`, until stop(), or until drain() has finished.

    housekeeping: (interval in seconds, callable) pairs, called on the worker's thread; the reactor's own
    sweep is added. on_error: called once, on the worker's thread, with the first exception that escapes a
    callback or the loop. It is expected to stop the server; until then the worker goes on serving.
    """

    def __init__(
        self,
        name: str,
        reactor: Reactor,
        *,
        datagrams: Sequence[Datagrams] = (),
        housekeeping: Sequence[tuple[float, Task]] = (),
        on_error: Callable[[BaseException], object],
    ) -> None:
        for interval, _ in housekeeping:
            if interval <= 0:
                raise ValueError(f"a housekeeping interval must be positive, not {interval} s")
        self.reactor = reactor
        self._datagrams = tuple(datagrams)
        self._unfinished: set[Datagrams] = set()
        self._housekeeping = [*housekeeping, (SWEEP_SECONDS, self._sweep)]
        self._on_error = on_error
        self._failed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def name(self) -> str:
        return self._thread.name

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; returns when its loop watches the reactor, or when it failed to (see
        on_error)."""
        self._thread.start()
        self._running.wait()

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> bool:
        """Run `callback(*args)` on the worker's thread; False when the worker has not started or has
        ended."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop was closed
            return False
        return True

    def drain(self, deadline: float) -> None:
        """Serve the open connections for another half second (or half the time there is), then answer what is
        in flight, close each that waits for a new request, and end the thread; at once where there is none.

        deadline: a time.monotonic() value at which the thread ends with whatever is still open.
        """
        self.call_soon_threadsafe(self._drain, deadline)

    def stop(self) -> None:
        """Close everything now and end the thread."""
        loop = self._loop
        if loop is not None:
            self.call_soon_threadsafe(loop.stop)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end, at most `timeout` seconds; True when it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            loop = uvloop.new_event_loop()
        except BaseException as error:
            self._report(error)
            self._running.set()
            return
        loop.set_exception_handler(self._callback_failed)
        fd = self.reactor.fileno()
        try:
            loop.add_reader(fd, self.reactor.on_ready)
            for each in self._datagrams:
                loop.add_reader(each.fileno(), self._answer, each)
            for interval, task in self._housekeeping:
                self._schedule(loop, interval, task)
            self._loop = loop
            loop.call_soon(self._running.set)
            loop.run_forever()
        except BaseException as error:
            self._report(error)
        finally:
            self._running.set()
            self._close_datagrams(loop)
            loop.remove_reader(fd)
            self.reactor.close()
            loop.close()

    def _schedule(self, loop: asyncio.AbstractEventLoop, interval: float, task: Task) -> None:
        def run() -> None:
            # Scheduled again first, so that a task that raises is not lost.
            loop.call_later(interval, run)
            task()

        loop.call_later(interval, run)

    def _sweep(self) -> None:
        self.reactor.sweep(time.monotonic())

    def _answer(self, datagrams: Datagrams, again: bool = False) -> None:
        """Let a UDP socket have its turn; one that is in the middle of an answer gets the next by itself."""
        assert self._loop is not None
        if not again and datagrams in self._unfinished:
            return
        self._unfinished.discard(datagrams)
        if datagrams.on_ready():
            self._unfinished.add(datagrams)
            self._loop.call_soon(self._answer, datagrams, True)

    def _close_datagrams(self, loop: asyncio.AbstractEventLoop) -> None:
        for each in self._datagrams:
            if each.fileno() >= 0:
                loop.remove_reader(each.fileno())
                each.close()

    def _drain(self, deadline: float) -> None:
        # A connection closed while its next request is on the way is reset, which looks like a broken server;
        # in this time clients notice that new connections are refused, and `version` still answers.
        loop = self._loop
        assert loop is not None
        self._close_datagrams(loop)
        left = deadline - time.monotonic()
        loop.call_later(max(0.0, min(DRAIN_SERVE_SECONDS, left / 2)), self.reactor.drain)
        self._end_when_drained(deadline)

    def _end_when_drained(self, deadline: float) -> None:
        loop = self._loop
        assert loop is not None
        if self.reactor.drained or time.monotonic() >= deadline:
            loop.stop()
        else:
            loop.call_later(DRAIN_POLL_SECONDS, self._end_when_drained, deadline)

    def _callback_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._report(error or RuntimeError(context.get("message", "the event loop failed")))

    def _report(self, error: BaseException) -> None:
        log.error("worker %s failed", self.name, exc_info=error)
        if not self._failed:
            self._failed = True
            self._on_error(error)
