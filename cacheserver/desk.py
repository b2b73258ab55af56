"""The desk: where commands that take long are done, each in a thread of its own, off the event loops.

Knows: streams (one client's connection, for the time of a job) and jobs. Must not know: what a job does,
sockets, the server. Owns: its threads.
Threads: take() may be called from every worker at once.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

log = logging.getLogger("cacheserver.desk")

PATIENCE = 20.0  # seconds for each 64 KiB: a client slower than 3.2 KiB/s gives its place to others
BUSY = b"SERVER_ERROR too many long commands at once, try again later\r\n"
NO_THREAD = b"SERVER_ERROR out of threads\r\n"


class Kind(enum.Enum):
    """Whose places a job takes, so that clients that are slow to take one thing do not lock out another."""

    LISTING = "what is in the store: dumps, lists and histograms of items, prefixes"
    CONNECTIONS = "who is connected"
    WATCH = "watchers"
    OTHER = "all else"


PLACES = {Kind.LISTING: 16, Kind.CONNECTIONS: 16, Kind.WATCH: 24, Kind.OTHER: 8}  # jobs at once


class Stream(Protocol):
    """A client's connection while a job has it for itself. Belongs to the job's thread."""

    def send(self, data: bytes | bytearray | memoryview, *, patience: float = PATIENCE) -> None:
        """Send all of `data`, waiting for the client. Raises ConnectionError: it is gone, let the job wait
        for `patience` seconds in all before 64 KiB were taken, in however many calls, or the server ends."""

    def gone(self, timeout: float = 0.0) -> bool:
        """Whether the client has hung up; waits for that up to `timeout` seconds."""

    def resume(self) -> None:
        """Give the connection back: the conversation goes on."""

    def close(self) -> None:
        """Give the connection back to be closed."""

    def hang_up(self) -> None:
        """Shut the connection, so that its job's waiting ends with a ConnectionError. Any thread."""


Job = Callable[[Stream], object]


class JobOf:
    """A job of a kind; one that is just a function is of Kind.OTHER."""

    def __init__(self, kind: Kind, job: Job) -> None:
        self.kind = kind
        self._job = job

    def __call__(self, stream: Stream) -> object:
        return self._job(stream)


class Alone(JobOf):
    """A job that is not begun where replies to earlier commands of the same input are still to be sent:
    `refusal` is the reply then."""

    def __init__(self, kind: Kind, job: Job, refusal: bytes) -> None:
        super().__init__(kind, job)
        self.refusal = refusal


class Desk:
    """Runs jobs, of each kind as many at once as it has places. A job returns when its reply is out; its
    stream's ConnectionErrors may pass through it."""

    def __init__(self, places: Mapping[Kind, int] = PLACES) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, Kind] = {}

    def take(self, stream: Stream, job: Job) -> bytes:
        """Begin `job` and return b""; or leave its stream alone and return the reply: why it cannot begin."""
        kind = getattr(job, "kind", Kind.OTHER)
        with self._lock:
            if Counter(self._threads.values())[kind] >= self._places[kind]:
                return BUSY
            thread = threading.Thread(target=self._run, args=(stream, job), name="job", daemon=True)
            self._threads[thread] = kind
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._forget(thread)
            return NO_THREAD
        return b""

    def join(self, timeout: float) -> bool:
        """Wait for the jobs' ends, at most `timeout` seconds in all; True when none is left."""
        deadline = time.monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _forget(self, thread: threading.Thread) -> None:
        with self._lock:
            self._threads.pop(thread, None)

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
            self._forget(threading.current_thread())
