"""The server as the rare commands see it: small protocols, one for each part they look at.

Knows: names. Must not know: how any part works. A command's module asks for no more than it needs, so a test
can give it a few numbers instead of a server.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cacheserver.desk import Job
from cacheserver.listings import ListerLike
from cacheserver.steering import CrawlerLike


class Knobs(Protocol):
    """The part of the configuration that commands look at."""

    @property
    def conn_limit(self) -> int: ...
    @property
    def enable_shutdown(self) -> bool: ...
    @property
    def idle_timeout(self) -> int: ...
    @property
    def dumps(self) -> bool: ...
    def settings(self) -> Mapping[str, str]: ...


class WatchLike(Protocol):
    """The watchers; see watch."""

    def command(self, arguments: Sequence[bytes]) -> bytes | Job: ...
    def counters(self) -> Mapping[str, int]: ...


class DetailLike(Protocol):
    """The statistics by prefix; see detail."""

    def command(self, arguments: Sequence[bytes]) -> bytes | Job: ...
    def counters(self) -> Mapping[str, int]: ...
    def settings(self) -> Mapping[str, str]: ...
    def reset(self) -> None: ...


class CertificatesLike(Protocol):
    """`age`: seconds since they were loaded. confirm(): whether the files are those; at once. refresh() loads
    them, and returns "", or what is wrong with the new ones."""

    @property
    def age(self) -> int: ...
    def confirm(self) -> bool: ...
    def refresh(self) -> str: ...


class Counting(Protocol):
    """An engine, a reactor, a UDP socket or a listener: counts under memcached's names."""

    def counters(self) -> Mapping[str, int]: ...


class Seat(NamedTuple):
    """One connection at one moment; `idle`: seconds since bytes last moved."""

    fd: int
    peer: str
    local: str
    state: str
    idle: int


class Seating(Protocol):
    """What holds connections, on one thread: a reactor."""

    def seats(self, first: int, most: int) -> Sequence[Seat | tuple[int, str, str, str, int]]: ...


class Thread(Protocol):
    """A worker, which owns one reactor."""

    @property
    def reactor(self) -> Seating: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> bool: ...


class Bound(Protocol):
    """A listening socket."""

    def fileno(self) -> int: ...
    def getsockname(self) -> Any: ...


class Listening(Counting, Protocol):
    @property
    def sockets(self) -> Sequence[Any]: ...


class Walking(Counting, CrawlerLike, ListerLike, Protocol):
    """The crawler."""


class StoreLike(Protocol):
    @property
    def class_count(self) -> int: ...
    def reassign(self, source: int, target: int) -> str: ...
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
    def limit(self) -> int: ...
    @property
    def usage(self) -> int: ...
    @property
    def binding(self) -> str: ...
    @property
    def shrunk_at(self) -> float | None: ...


class ShrinkerLike(Protocol):
    """What one shrinker has done; sizes in bytes, times in seconds."""

    @property
    def name(self) -> str: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def cost(self) -> float: ...


class MonitorLike(Protocol):
    def status(self) -> StatusLike: ...
    def shrinkers(self) -> Sequence[ShrinkerLike]: ...


class ClusterLike(Protocol):
    def answer(self, arguments: list[bytes]) -> bytes: ...


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
    def datagrams(self) -> Sequence[Counting]: ...
    @property
    def workers(self) -> Sequence[Thread]: ...
    @property
    def listener(self) -> Listening: ...
    @property
    def monitor(self) -> MonitorLike: ...
    @property
    def ceiling(self) -> int: ...
    @property
    def started(self) -> float: ...
    @property
    def watch(self) -> WatchLike: ...
    @property
    def detail(self) -> DetailLike: ...
    @property
    def crawler(self) -> Walking: ...
    @property
    def certificates(self) -> CertificatesLike | None: ...
    @property
    def handshakes(self) -> Counting | None: ...
    @property
    def reserved_files(self) -> int: ...
    @property
    def cluster(self) -> ClusterLike: ...
    def stop(self) -> None: ...
