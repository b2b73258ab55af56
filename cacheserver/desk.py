"""The desk: where commands that take long are done, each in a thread of its own, off the event loops.

Knows: streams (one client's connection, for the time of a job) and jobs. Must not know: what a job does,
sockets, the server. Owns: its threads.
Threads: take() may be called from every worker at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("cacheserver.desk")

JOBS_MAX = 64
BUSY = b"SERVER_ERROR too many long commands at once, try again later\r\n"


class Stream(Protocol):
    """A client's connection while a job has it for itself. Belongs to the job's thread."""

    def send(self, data: bytes | bytearray | memoryview, *, patience: float = 60.0) -> None:
        """Send all of `data`, waiting for the client. Raises ConnectionError: it is gone, took no byte for
        `patience` seconds, or the server ends."""

    def gone(self, timeout: float = 0.0) -> bool:
        """Whether the client has hung up; waits for that up to `timeout` seconds."""

    def resume(self) -> None:
        """Give the connection back: the conversation goes on."""

    def close(self) -> None:
        """Give the connection back to be closed."""

    def hang_up(self) -> None:
        """Shut the connection, so that its job's waiting ends with a ConnectionError. Any thread."""


Job = Callable[[Stream], object]


class Alone:
    """A job that is not begun where replies to earlier commands of the same input are still to be sent:
    `refusal` is the reply then."""

    def __init__(self, job: Job, refusal: bytes) -> None:
        self._job = job
        self.refusal = refusal

    def __call__(self, stream: Stream) -> object:
        return self._job(stream)


class Desk:
    """Runs jobs. A job returns when its reply is out; its stream's ConnectionErrors may pass through it."""

    def __init__(self, most: int = JOBS_MAX) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def take(self, stream: Stream, job: Job) -> None:
        """Begin `job`, or tell its client that there is too much to do."""
        thread = threading.Thread(target=self._run, args=(stream, job), name="job", daemon=True)
        with self._lock:
            free = len(self._threads) < self._most
            if free:
                self._threads.add(thread)
        if not free:
            self._turn_away(stream)
            return
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            with self._lock:
                self._threads.discard(thread)
            self._turn_away(stream)

    def join(self, timeout: float) -> bool:
        """Wait for the jobs' ends, at most `timeout` seconds in all; True when none is left."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _turn_away(self, stream: Stream) -> None:
        with contextlib.suppress(ConnectionError):
            stream.send(BUSY, patience=0.0)
        stream.resume()

    def _run(self, stream: Stream, job: Job) -> None:
        try:
            job(stream)
        except ConnectionError:
            stream.close()
        except Exception:
            log.exception("a job failed; its connection is closed")
            stream.close()
        else:
            stream.resume()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
