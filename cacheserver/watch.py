"""The `watch` command: each watcher gets lines of what happens, as far as it reads them.

Knows: the grammar, the face of the watch log, streams. Must not know: journals, what a line says, the server.
Owns: one thread that turns records into lines, as long as anybody watches, and each watcher's queue.
Threads: command(), stop() and counters() from any; each watcher is a job in a thread of its own (see desk),
which takes lines from its queue and waits for its client. A client that does not read fills its queue, and
then loses lines.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cacheserver.desk import Alone, Job, Kind, Stream
from cacheserver.lines import ERROR, OK, reply

NOT_ALLOWED = b"CLIENT_ERROR watch commands not allowed\r\n"
NOT_ALONE = b"ERROR cannot pipeline other commands before watch\r\n"
TOO_MANY = b"WATCHER_TOO_MANY log watcher limit reached\r\n"
FAILED = b"WATCHER_FAILED failed to add log watcher\r\n"

WATCHERS_MAX = 20  # memcached's
QUEUE_BYTES = 256 << 10
PIECE = 64 << 10  # bytes handed to a client at once
LOOK_SECONDS = 0.25  # between two looks whether a silent watcher's client is still there
PATIENCE = 10.0 * 365 * 86400  # seconds: who does not read loses lines, and keeps its place, as in memcached
# Seconds between two looks at the journals: while something happens, and after a quiet while.
REST_SHORT, REST_LONG = 0.0005, 0.01


class LogLike(Protocol):
    """The watch log, and its kinds of lines as bits; see watchlog. A queue has `pending` and take(most)."""

    def add(self, kinds: int, nbytes: int) -> Any: ...
    def remove(self, queue: Any) -> None: ...
    def drain(self) -> int: ...
    def counters(self) -> Mapping[str, int]: ...


class _Watcher:
    def __init__(self, queue: Any, stream: Stream) -> None:
        self.queue = queue
        self.stream = stream
        self.news = threading.Event()


class Watch:
    """Everybody who watches.

    kinds: the log's bits by memcached's names; names not in it but in QUIET are accepted and see nothing.
    allowed: False refuses the command (memcached's -W). queue_bytes: of each watcher's queue.
    """

    QUIET = frozenset((b"rawcmds", b"sysevents", b"proxyreqs", b"proxyevents", b"proxyuser"))

    def __init__(
        self,
        journal: LogLike,
        kinds: Mapping[bytes, int],
        *,
        allowed: bool = True,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self._log = journal
        self._kinds = kinds
        self._allowed = allowed
        self._queue_bytes = queue_bytes
        self._lock = threading.Lock()
        self._watchers: list[_Watcher] = []
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopped = False

    def command(self, arguments: Sequence[bytes]) -> bytes | Job:
        """Return the reply to `watch` with these arguments, or the job that watches."""
        if not self._allowed:
            return NOT_ALLOWED
        mask = 0
        for name in arguments or (b"fetchers",):
            if name in self._kinds:
                mask |= self._kinds[name]
            elif name not in self.QUIET:
                return reply(ERROR, arguments)
        return Alone(Kind.WATCH, lambda stream: self._watch(mask, stream), NOT_ALONE)

    def counters(self) -> dict[str, int]:
        """memcached's log_* fields of `stats`."""
        return {**self._log.counters(), "log_watchers": len(self._watchers)}

    def stop(self) -> None:
        """End every watcher, now and from now on; the server ends."""
        with self._lock:
            self._stopped = True
            watchers = list(self._watchers)
        self._wake.set()
        for watcher in watchers:
            watcher.stream.hang_up()
            watcher.news.set()

    # -- one watcher, in its job's thread --

    def _watch(self, mask: int, stream: Stream) -> None:
        watcher = self._begin(mask, stream)
        if isinstance(watcher, bytes):
            stream.send(watcher)
            return
        try:
            stream.send(OK, patience=PATIENCE)
            while not self._stopped:
                lines = watcher.queue.take(PIECE)
                if lines:
                    stream.send(lines, patience=PATIENCE)
                else:
                    watcher.news.wait(LOOK_SECONDS)
                    watcher.news.clear()
                if stream.gone():
                    break
        finally:
            self._end(watcher)
            stream.close()  # what the client has sent while it watched is no request

    def _begin(self, mask: int, stream: Stream) -> _Watcher | bytes:
        """Join the watchers, or return why not. From here on events are kept, so OK promises the next one."""
        with self._lock:
            if self._stopped:
                raise ConnectionError("the server ends")
            if len(self._watchers) >= WATCHERS_MAX:
                return TOO_MANY
            try:
                watcher = _Watcher(self._log.add(mask, self._queue_bytes), stream)
            except MemoryError:
                return FAILED
            self._watchers.append(watcher)
            if self._thread is None:
                self._thread = threading.Thread(target=self._tell, name="watch", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the system has no thread left
                    self._thread = None
                    self._watchers.pop()
                    self._log.remove(watcher.queue)
                    return FAILED
            return watcher

    def _end(self, watcher: _Watcher) -> None:
        with self._lock:
            self._watchers.remove(watcher)
            self._log.remove(watcher.queue)
        self._wake.set()

    # -- the thread that tells all watchers --

    def _tell(self) -> None:
        rest = REST_SHORT
        while True:
            busy = self._log.drain() > 0
            with self._lock:
                if not self._watchers:
                    self._thread = None
                    return
                for watcher in self._watchers:
                    if watcher.queue.pending:
                        watcher.news.set()
            rest = REST_SHORT if busy else min(2 * rest, REST_LONG)
            self._wake.wait(rest)
            self._wake.clear()
