"""The rare commands: a table from the first word to its handler. Everything not in it is answered `ERROR`.

Knows: the grammar of these commands, and the faces of the parts they look at, as small protocols. Must not
know: how any part works, sockets. Owns nothing but the point from which `stats reset` counts.
Threads: handle() may be called from every worker at once; it changes nothing but single references.
"""

import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cacheserver import __version__, stats
from cacheserver.desk import Job

OK = b"OK\r\n"
ERROR = b"ERROR\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
NOREPLY = b"noreply"

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
MEMLIMIT_MIN = 8  # MB
MEMLIMIT_MAX = 1_000_000_000  # MB: more is taken for bytes given by mistake
U32_MAX = 2**32 - 1


class Knobs(Protocol):
    """The part of the configuration that commands look at."""

    @property
    def conn_limit(self) -> int: ...
    @property
    def enable_shutdown(self) -> bool: ...
    def settings(self) -> Mapping[str, str]: ...


class Counting(Protocol):
    """An engine, a reactor or a listener: counts under memcached's names."""

    def counters(self) -> Mapping[str, int]: ...


class StoreLike(Protocol):
    def snapshot(self) -> Mapping[str, Any]: ...


class StatusLike(Protocol):
    """What the pressure monitor says; sizes in bytes."""

    @property
    def level(self) -> Any: ...
    @property
    def headroom(self) -> int: ...
    @property
    def reserve(self) -> int: ...
    @property
    def ceiling(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def usage(self) -> int: ...
    @property
    def binding(self) -> str: ...


class MonitorLike(Protocol):
    def status(self) -> StatusLike: ...


class CertificatesLike(Protocol):
    """`age`: seconds since they were loaded. refresh() returns "", or what is wrong with the new ones."""

    @property
    def age(self) -> int: ...
    def refresh(self) -> str: ...


class ServerParts(Protocol):
    """The server as the commands see it; `started` is a time.monotonic() value."""

    @property
    def config(self) -> Knobs: ...
    @property
    def store(self) -> StoreLike: ...
    @property
    def engines(self) -> Sequence[Counting]: ...
    @property
    def reactors(self) -> Sequence[Counting]: ...
    @property
    def listener(self) -> Counting: ...
    @property
    def certificates(self) -> CertificatesLike | None: ...
    @property
    def handshakes(self) -> Counting | None: ...
    @property
    def monitor(self) -> MonitorLike: ...
    @property
    def started(self) -> float: ...
    def stop(self) -> None: ...


class Reading(NamedTuple):
    """All numbers at one moment; sums over the engines and reactors."""

    numbers: dict[str, int]
    classes: dict[int, dict[str, int]]


STATUS_COUNTS = (
    "shrinks_soft",
    "shrinks_hard",
    "bytes_asked_soft",
    "bytes_asked_hard",
)


class Commands:
    """The handlers, bound to one server.

    monotonic, wall: clocks in seconds, for tests to replace.
    """

    def __init__(
        self,
        server: ServerParts,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._monotonic = monotonic
        self._wall = wall
        self._origin = Reading({}, {})
        self._verbosity: int | None = None
        self._table: dict[bytes, Callable[[list[bytes]], bytes | Job | None]] = {
            b"stats": self._stats,
            b"verbosity": self._set_verbosity,
            b"cache_memlimit": self._cache_memlimit,
            b"shutdown": self._shutdown,
            b"refresh_certs": self._refresh_certs,
        }
        self._kinds: dict[bytes, Callable[[], bytes]] = {
            b"settings": self._settings,
            b"items": self._items,
            b"slabs": self._slabs,
            b"sizes": lambda: stats.render([("sizes_status", "disabled")]),
            b"conns": lambda: stats.render([]),
            b"reset": self._reset,
        }

    def handle(self, line: bytes) -> bytes | Job | None:
        """Return the reply to one command line (without its CRLF); b"": none; None: close the connection.

        A job is what takes long: it is for the desk, which sends its reply.
        """
        word, *arguments = [token for token in line.split(b" ") if token] or [b""]
        handler = self._table.get(word)
        return ERROR if handler is None else handler(arguments)

    __call__ = handle

    # -- stats --

    def _stats(self, arguments: list[bytes]) -> bytes:
        if not arguments:
            return self._general()
        kind = self._kinds.get(arguments[0])
        return ERROR if kind is None else kind()

    def _general(self) -> bytes:
        now = self._reading().numbers
        status = self._server.monitor.status()
        return stats.render(
            [
                *self._process_rows(),
                *self._connection_rows(now),
                *stats.picked(stats.COUNTERS, now),
                ("limit_maxbytes", status.ceiling),
                *stats.picked(("accepting_conns", "listen_disabled_num", "time_in_listen_disabled_us"), now),
                ("threads", len(self._server.engines)),
                *stats.picked(("conn_yields", *stats.STORE_FIELDS), now),
                *self._certificate_rows(),
                *stats.own_rows(now),
                *pressure_rows(status),
            ]
        )

    def _process_rows(self) -> list[stats.Row]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return [
            ("pid", os.getpid()),
            ("uptime", int(self._monotonic() - self._server.started)),
            ("time", int(self._wall())),
            ("version", __version__),
            ("libevent", "none"),
            ("pointer_size", 64),
            ("rusage_user", seconds_text(used.ru_utime)),
            ("rusage_system", seconds_text(used.ru_stime)),
        ]

    def _connection_rows(self, numbers: stats.Numbers) -> list[stats.Row]:
        now = numbers.get("curr_connections", 0)
        return [
            ("max_connections", self._server.config.conn_limit),
            ("curr_connections", now),
            *stats.picked(("total_connections", "rejected_connections"), numbers),
            ("connection_structures", now),
            *stats.picked(("response_obj_oom", "response_obj_count", "response_obj_bytes"), numbers),
            ("read_buf_count", len(self._server.reactors)),
            *stats.picked(("read_buf_bytes", "read_buf_bytes_free", "read_buf_oom", "reserved_fds"), numbers),
        ]

    def _certificate_rows(self) -> list[stats.Row]:
        certificates = self._server.certificates
        return [] if certificates is None else [("time_since_server_cert_refresh", certificates.age)]

    def _settings(self) -> bytes:
        knobs = dict(self._server.config.settings())
        if self._verbosity is not None:
            knobs["verbosity"] = str(self._verbosity)
        return stats.render(stats.settings_rows(knobs, self._server.monitor.status().ceiling))

    def _items(self) -> bytes:
        return stats.render(stats.item_rows(self._reading().classes))

    def _slabs(self) -> bytes:
        now = self._reading()
        active, malloced = (now.numbers.get(name, 0) for name in ("active_slabs", "total_malloced"))
        return stats.render(stats.slab_rows(now.classes, active, malloced))

    def _reset(self) -> bytes:
        self._origin = self._absolute()
        return b"RESET\r\n"

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
        for part in (
            *self._server.engines,
            *self._server.reactors,
            self._server.listener,
            self._server.handshakes,
        ):
            counted.update(part.counters() if part is not None else {})
        return Reading({**store, **counted}, classes)

    # -- control --

    def _set_verbosity(self, arguments: list[bytes]) -> bytes:
        level = whole_number(arguments)
        if level is None:
            return reply(BAD_FORMAT, arguments)
        self._verbosity = level = min(level, len(LEVELS) - 1)
        logging.getLogger("cacheserver").setLevel(LEVELS[level])
        return reply(OK, arguments)

    def _cache_memlimit(self, arguments: list[bytes]) -> bytes:
        """Check the number and change nothing: this cache has the size that its host leaves it."""
        limit = whole_number(arguments)
        if limit is None:
            return reply(ERROR, arguments)
        if limit < MEMLIMIT_MIN:
            return reply(b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n", arguments)
        if limit > MEMLIMIT_MAX:
            return reply(b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n", arguments)
        return reply(OK, arguments)

    def _refresh_certs(self, _arguments: list[bytes]) -> bytes:
        """Load the certificates again, or say what is wrong with them: `Error`, in memcached's spelling."""
        certificates = self._server.certificates
        if certificates is None:
            return b"Error TLS not enabled\r\n"
        why = certificates.refresh()
        return f"Error {why}\r\n".encode() if why else OK

    def _shutdown(self, arguments: list[bytes]) -> bytes | None:
        if not self._server.config.enable_shutdown:
            return b"SERVER_ERROR: shutdown not enabled\r\n"
        if arguments not in ([], [b"graceful"]):
            return b"CLIENT_ERROR invalid shutdown mode\r\n"
        self._server.stop()
        return None


def reply(line: bytes, arguments: list[bytes]) -> bytes:
    """Return `line`, or nothing where the client asked for silence."""
    return b"" if arguments and arguments[-1] == NOREPLY else line


def whole_number(arguments: list[bytes]) -> int | None:
    """Return the first argument as 0..2**32-1; None if it is missing or something else."""
    if not arguments or not arguments[0].isdigit() or len(arguments[0]) > 10:
        return None
    value = int(arguments[0])
    return value if value <= U32_MAX else None


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
    ]
