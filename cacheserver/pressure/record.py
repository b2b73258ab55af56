"""A recording: what a monitor saw, decided and got, as lines of JSON that a simulation can replay.

Knows: readings, decisions, one file. Must not know: how they came about.
Threads: `look` and `act` in the thread that ticks, which only puts what is there anyway into a queue; a
thread of its own makes text of it and writes. Memory: QUEUE_MAX looks at most; what comes on top is dropped,
and the next line says how many were.

One object a line, for each time the monitor read all its bounds; sizes in bytes, times in seconds:

    t         since the first line
    readings  every bound as it was read, by the names of source.Reading
    ledger    [resident, untouched, returning, whether these are counted] of all shrinkers together
    stalled   whether a PSI trigger had fired since the last one
    decision  what was made of that, by the names of policy.Decision; the level by its name
    asked     what the shrinkers were asked for until the next line, 0 when they were not
    freed     and what they freed at once
    dropped   only where lines are missing before this one: how many

The last line of a process that was killed, or of a full disk, may be torn.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol

from cacheserver.pressure.policy import Decision, Ledger
from cacheserver.pressure.source import Reading

log = logging.getLogger("cacheserver.pressure")

QUEUE_MAX = 1000  # looks; one second of hard requests, about 2 MiB
BYTES_MAX = 1 << 30  # of the file
CLOSE_WAIT = 1.0  # seconds that close() waits at most for the disk


class Recorded(Protocol):
    """What is recorded: a monitor."""

    recorder: Recorder | None


class _Look(NamedTuple):
    """One line to be."""

    now: float
    readings: Sequence[Reading]
    ledger: Ledger
    stalled: bool
    decision: Decision
    asked: int = 0
    freed: int = 0
    dropped: int = 0  # looks lost before this one


class Recorder:
    """Records `monitor` into the file `path` until `close`, or until the file would exceed `bytes_max` or
    cannot be written, which a line in the log then says.

    A file of that name is kept under the name with ".1" behind it, whose old one goes: after a crash and a
    restart it is the crash that one wants to see. OSError where the file cannot be made, RuntimeError where
    no thread is to be had; ValueError when the monitor is being recorded already.
    """

    def __init__(self, monitor: Recorded, path: str, *, bytes_max: int = BYTES_MAX) -> None:
        if monitor.recorder is not None:
            raise ValueError("this monitor is being recorded already")
        if os.path.isfile(path):
            os.replace(path, path + ".1")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._path = path
        self._bytes_max = bytes_max
        self._bytes = 0
        self._monitor = monitor
        self._lock = threading.Lock()  # a leaf: `close` may come while the monitor ticks
        self._queue: SimpleQueue[_Look | None] = SimpleQueue()
        self._open: _Look | None = None  # not yet known what comes of it
        self._dropped = 0
        self._start: float | None = None
        self._thread = threading.Thread(target=self._run, name="cacheserver-pressure-record", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # no thread to be had
            os.close(self._fd)
            raise
        monitor.recorder = self

    # -- the thread that ticks --

    def look(
        self, now: float, readings: Sequence[Reading], ledger: Ledger, stalled: bool, decision: Decision
    ) -> None:
        """Take down a look at everything, at `now` (seconds); the readings must not change any more."""
        with self._lock:
            self._put(QUEUE_MAX)
            self._open = _Look(now, readings, ledger, stalled, decision)

    def act(self, asked: int, freed: int) -> None:
        """Add a request to the last look, in bytes."""
        with self._lock:
            if (look := self._open) is not None:
                self._open = look._replace(asked=look.asked + asked, freed=look.freed + freed)

    def _put(self, most: int) -> None:
        """Pass the last look on, unless `most` wait already."""
        look, self._open = self._open, None
        if look is None:
            return
        if self._queue.qsize() >= most:
            self._dropped += 1
            return
        if self._dropped:
            look, self._dropped = look._replace(dropped=self._dropped), 0
        self._queue.put(look)

    # -- any thread --

    def close(self) -> None:
        """End the recording. Waits a second at most for what is left to be written."""
        self._detach()
        with self._lock:
            self._put(QUEUE_MAX + 1)
            self._queue.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_WAIT)

    def _detach(self) -> None:
        if self._monitor.recorder is self:
            self._monitor.recorder = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread that writes --

    def _run(self) -> None:
        try:
            while looks := self._next():
                text = b"".join(map(self._line, looks))
                if self._bytes + len(text) > self._bytes_max:
                    log.warning("recording %s ends: its %d bytes are enough", self._path, self._bytes)
                    break
                self._write(text)
        except Exception as error:  # a full disk, or a source's reading that JSON cannot hold
            log.error("recording %s ends: %s", self._path, getattr(error, "strerror", None) or repr(error))
        self._detach()
        os.close(self._fd)

    def _next(self) -> list[_Look]:
        """Wait for looks and return all that are there; none: it is over."""
        looks: list[_Look] = []
        look = self._queue.get()
        while look is not None:
            looks.append(look)
            try:
                look = self._queue.get_nowait()
            except Empty:
                return looks
        if looks:
            self._queue.put(None)
        return looks

    def _write(self, text: bytes) -> None:
        """Write at once, so that a process that is killed leaves all it saw."""
        self._bytes += len(text)
        while text:
            text = text[os.write(self._fd, text) :]

    def _line(self, look: _Look) -> bytes:
        if self._start is None:
            self._start = look.now
        line: dict[str, Any] = {
            "t": round(look.now - self._start, 6),
            "readings": [reading._asdict() for reading in look.readings],
            "ledger": look.ledger,
            "stalled": look.stalled,
            "decision": look.decision._asdict() | {"level": look.decision.level.name},
            "asked": look.asked,
            "freed": look.freed,
        }
        if look.dropped:
            line["dropped"] = look.dropped
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"
