"""`stats detail`: statistics by prefix, turned on, off and told.

Knows: the grammar, the table's face, the engines' switch. Must not know: who counts, the server.
Owns: whether the statistics are on. Threads: command() and reset() from any.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from cacheserver.desk import Job, JobOf, Kind, Stream
from cacheserver.lines import END, OK

USAGE = b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"

PIECE = 512  # prefixes told at once; a dump of more is a job


class TableLike(Protocol):
    """The counts by prefix; see prefixes."""

    @property
    def dropped(self) -> int: ...
    def __len__(self) -> int: ...
    def rows(self, start: int, most: int) -> list[tuple[bytes, int, int, int, int]]: ...
    def clear(self) -> None: ...


class SwitchLike(Protocol):
    def count_prefixes(self, on: bool) -> None: ...


class Detail:
    """The statistics by prefix of all `engines`, which count in `table`; `on`: from the start."""

    def __init__(self, table: TableLike, engines: Sequence[SwitchLike], *, on: bool = False) -> None:
        self._table = table
        self._engines = engines
        self._lock = threading.Lock()
        self._on = False
        self._turn(on)

    def command(self, arguments: Sequence[bytes]) -> bytes | Job:
        """Return the reply to `stats detail` with these arguments; that to a long dump is a job."""
        word = arguments[0] if arguments else b""
        if word in (b"on", b"off"):
            self._turn(word == b"on")
            return OK
        if word != b"dump":
            return USAGE
        if len(self._table) > PIECE:
            return JobOf(Kind.LISTING, self._dump)
        return render(self._table.rows(0, PIECE)) + END

    def settings(self) -> dict[str, str]:
        """Return whether they are on, by its name in `stats settings`."""
        return {"detail_enabled": "yes" if self._on else "no"}

    def reset(self) -> None:
        """Forget the counts, as `stats reset` does."""
        self._table.clear()

    def counters(self) -> dict[str, int]:
        """How many operations could not be counted because the table was full."""
        return {"detail_dropped": self._table.dropped}

    def _turn(self, on: bool) -> None:
        with self._lock:
            self._on = on
            for engine in self._engines:
                engine.count_prefixes(on)

    def _dump(self, stream: Stream) -> None:
        start = 0
        while rows := self._table.rows(start, PIECE):
            stream.send(render(rows))
            start += len(rows)
        stream.send(END)


def render(rows: Sequence[tuple[bytes, int, int, int, int]]) -> bytes:
    """Write counts as memcached does: prefix, gets, hits, sets, deletes."""
    return b"".join(b"PREFIX %b get %d hit %d set %d del %d\r\n" % row for row in rows)
