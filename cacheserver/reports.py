"""The `stats` command: which report, from which numbers. The names and their order are in stats.

Knows: the kinds of reports, the parts that keep the numbers. Must not know: how they count, sockets.
Owns: the point from which `stats reset` counts. Threads: any worker's, several at once.
"""

import os
import resource
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from cacheserver import PROTOCOL_VERSION, __version__, stats
from cacheserver.desk import Job
from cacheserver.lines import ERROR
from cacheserver.parts import ServerParts, ShrinkerLike, StatusLike
from cacheserver.roster import roster

POINTER_BITS = 8 * struct.calcsize("P")
STATUS_COUNTS = (
    "shrinks_soft",
    "shrinks_hard",
    "bytes_asked_soft",
    "bytes_asked_hard",
    "ticks",
)
STATUS_TIMES = {
    "shrink_us_soft": "seconds_soft",
    "shrink_us_hard": "seconds_hard",
    "longest_shrink_us_soft": "longest_soft",
    "longest_shrink_us_hard": "longest_hard",
    "cpu_us": "cpu_seconds",
}
SHRINKER_COUNTS = (
    "count",
    "carried",
    "strikes",
    "requests_soft",
    "requests_hard",
    "bytes_asked_soft",
    "bytes_asked_hard",
    "bytes_freed_soft",
    "bytes_freed_hard",
)
SHRINKER_TIMES = {
    "last_us_soft": "last_soft",
    "last_us_hard": "last_hard",
    "longest_us_soft": "longest_soft",
    "longest_us_hard": "longest_hard",
}

Kind = Callable[[list[bytes]], bytes | Job]


class Reading(NamedTuple):
    """All numbers at one moment; sums over the engines and reactors."""

    numbers: dict[str, int]
    classes: dict[int, dict[str, int]]


class Reports:
    """The reports of one server.

    changed: returns the settings that commands have changed, by their names in `stats settings`.
    more: further kinds, by their names; each is called with what stands behind it.
    """

    def __init__(
        self,
        server: ServerParts,
        changed: Callable[[], Mapping[str, str]],
        more: Mapping[bytes, Kind] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._changed = changed
        self._monotonic = monotonic
        self._wall = wall
        self._origin = Reading({}, {})
        self._kinds: dict[bytes, Kind] = {
            b"settings": self._settings,
            b"items": self._items,
            b"slabs": self._slabs,
            b"conns": self._conns,
            b"shrinkers": self._shrinkers,
            b"reset": self._reset,
            **(more or {}),
        }

    def answer(self, arguments: list[bytes]) -> bytes | Job:
        """stats [<kind> ...]: what a kind has no use for is ignored, as in memcached."""
        if not arguments:
            return self._general()
        kind = self._kinds.get(arguments[0])
        return ERROR if kind is None else kind(arguments[1:])

    # -- stats --

    def _general(self) -> bytes:
        now = self._reading().numbers
        status = self._server.monitor.status()
        return stats.render(
            [
                *self._process_rows(),
                *self._connection_rows(now),
                *stats.picked(stats.COUNTERS, now),
                *(stats.picked(("idle_kicks",), now) if self._server.config.idle_timeout else ()),
                *stats.picked(("bytes_read", "bytes_written"), now),
                ("limit_maxbytes", self._server.ceiling),
                *stats.picked(("accepting_conns", "listen_disabled_num", "time_in_listen_disabled_us"), now),
                ("threads", len(self._server.engines)),
                *stats.picked(("conn_yields", *stats.STORE_FIELDS), now),
                *self._certificate_rows(),
                *stats.own_rows(now),
                *pressure_rows(status),
                ("pressure_time_since_shrink", self._seconds_since(status.shrunk_at)),
                ("cacheserver_version", __version__),
            ]
        )

    def _process_rows(self) -> list[stats.Row]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return [
            ("pid", os.getpid()),
            ("uptime", self._seconds_since(None)),
            ("time", int(self._wall())),
            ("version", PROTOCOL_VERSION),
            ("libevent", "none"),
            ("pointer_size", POINTER_BITS),
            ("rusage_user", seconds_text(used.ru_utime)),
            ("rusage_system", seconds_text(used.ru_stime)),
        ]

    def _connection_rows(self, numbers: stats.Numbers) -> list[stats.Row]:
        """Connections and their buffers; a worker has one buffer to read into and one to collect replies in.

        All of the former is free between two wake-ups, whoever asks.
        """
        now = numbers.get("curr_connections", 0)
        buffers = numbers.get("read_buf_bytes", 0)
        return [
            ("max_connections", self._server.config.conn_limit),
            ("curr_connections", now),
            *stats.picked(("total_connections", "rejected_connections"), numbers),
            ("connection_structures", now),
            ("response_obj_oom", 0),
            ("response_obj_count", len(self._server.reactors)),
            ("response_obj_bytes", numbers.get("output_buf_bytes", 0)),
            ("read_buf_count", len(self._server.reactors)),
            ("read_buf_bytes", buffers),
            ("read_buf_bytes_free", buffers),
            ("read_buf_oom", 0),
            ("reserved_fds", self._server.reserved_files),
        ]

    def _certificate_rows(self) -> list[stats.Row]:
        certificates = self._server.certificates
        return [] if certificates is None else [("time_since_server_cert_refresh", certificates.age)]

    # -- the other kinds --

    def _settings(self, _rest: list[bytes]) -> bytes:
        knobs = {**self._server.config.settings(), **self._changed()}
        return stats.render(stats.settings_rows(knobs, self._server.ceiling))

    def _items(self, _rest: list[bytes]) -> bytes:
        return stats.render(stats.item_rows(self._reading().classes))

    def _slabs(self, _rest: list[bytes]) -> bytes:
        now = self._reading()
        active, malloced = (now.numbers.get(name, 0) for name in ("active_slabs", "total_malloced"))
        return stats.render(stats.slab_rows(now.classes, active, malloced))

    def _conns(self, _rest: list[bytes]) -> Job:
        return roster(self._server.listener, self._server.workers, self._seconds_since(None))

    def _shrinkers(self, _rest: list[bytes]) -> bytes:
        return stats.render(
            row
            for number, shrinker in enumerate(self._server.monitor.shrinkers(), 1)
            for row in shrinker_rows(number, shrinker)
        )

    def _reset(self, _rest: list[bytes]) -> bytes:
        self._server.detail.reset()
        self._origin = self._absolute()
        return b"RESET\r\n"

    # -- the numbers --

    def _seconds_since(self, event: float | None) -> int:
        """Whole seconds since `event`, a time.monotonic() value; since the start where there was none."""
        return int(self._monotonic() - (self._server.started if event is None else event))

    def _reading(self) -> Reading:
        """Return the numbers, counted from the last `stats reset` on."""
        origin, now = self._origin, self._absolute()
        return Reading(
            stats.since(now.numbers, origin.numbers, stats.RESETTABLE),
            stats.classes_since(now.classes, origin.classes),
        )

    def _absolute(self) -> Reading:
        """Return the numbers, counted from the start on. The engines' count goes before the store's."""
        store = dict(self._server.store.snapshot())
        classes = store.pop("classes", {})
        counted: Counter[str] = Counter()
        server = self._server
        threads = (*server.engines, *server.reactors, *server.datagrams)
        others = (server.listener, server.handshakes, server.crawler, server.watch, server.detail)
        for part in (*threads, *others):
            counted.update(part.counters() if part is not None else {})
        return Reading({**store, **counted}, classes)


def seconds_text(seconds: float) -> str:
    """Write CPU time as memcached does: seconds, a dot, six digits of microseconds."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{whole}.{micros:06d}"


def pressure_rows(status: StatusLike) -> list[stats.Row]:
    """What the monitor sees and has done; sizes in bytes."""
    return [
        ("pressure_level", status.level.name.lower()),
        ("pressure_headroom", status.headroom),
        ("pressure_reserve", status.reserve),
        ("pressure_limit", status.limit),
        ("pressure_usage", status.usage),
        ("pressure_binding", stats.one_word(status.binding)),
        *((f"pressure_{name}", getattr(status, name)) for name in STATUS_COUNTS),
        *((f"pressure_{name}", micros(getattr(status, each))) for name, each in STATUS_TIMES.items()),
    ]


def shrinker_rows(number: int, shrinker: ShrinkerLike) -> list[stats.Row]:
    """One block of `stats shrinkers`; sizes in bytes."""
    rows: list[stats.Row] = [
        ("name", stats.one_word(shrinker.name)),
        ("enabled", "yes" if shrinker.enabled else "no"),
        ("cost", f"{shrinker.cost:g}"),
        *((name, getattr(shrinker, name)) for name in SHRINKER_COUNTS),
        *((name, micros(getattr(shrinker, each))) for name, each in SHRINKER_TIMES.items()),
    ]
    return [(f"{number}:{name}", value) for name, value in rows]


def micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
