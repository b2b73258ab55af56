"""A server for the rare commands to look at, and the eyes of a client that reads `stats`."""

from __future__ import annotations

import copy
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

from cacheserver.crawler import Crawler


class Level(IntEnum):
    NONE = 0
    MEDIUM = 2


class Part:
    """An engine, a reactor, a listener: numbers a test can change."""

    def __init__(self, **numbers: int) -> None:
        self.numbers = numbers

    def counters(self) -> dict[str, int]:
        return dict(self.numbers)


class Elsewhere(Part):
    """The watchers, or the statistics by prefix: who answers `watch` and `stats detail`."""

    def command(self, arguments: list[bytes]) -> bytes:
        return b"<%b>\r\n" % b",".join(arguments)

    def settings(self) -> dict[str, str]:
        return {"detail_enabled": "yes"}

    def reset(self) -> None:
        self.numbers.clear()


class FakeServer:
    """Numbers that differ everywhere, so that a mix-up shows."""

    def __init__(self, *, enable_shutdown: bool = False, idle_timeout: int = 60) -> None:
        knobs = {"maxconns": "2000", "verbosity": "0", "shutdown_command": "no"}
        self.config = SimpleNamespace(
            conn_limit=2000,
            enable_shutdown=enable_shutdown,
            idle_timeout=idle_timeout,
            dumps=True,
            settings=lambda: dict(knobs),
        )
        self.reserved_files = 80
        self.workers: list[Any] = []
        self.engines = [
            Part(
                cmd_get=10, get_hits=7, cmd_set=5, cas_hits=1, cas_misses=0, cas_badval=1, store_no_memory=3
            ),
            Part(cmd_get=100, get_hits=70, cmd_set=50, cas_hits=2, cas_misses=1, cas_badval=0),
        ]
        self.reactors = [
            Part(curr_connections=3, bytes_read=1000, read_buf_bytes=400, pending_bytes=11),
            Part(curr_connections=4, bytes_read=2000, read_buf_bytes=400, pending_bytes=22),
        ]
        self.datagrams = [Part(bytes_read=30, udp_dropped=6)]
        self.watch = Elsewhere(log_watchers=2, log_watcher_sent=7)
        self.detail = Elsewhere(detail_dropped=5)
        self.certificates: Any = None
        self.handshakes: Any = None
        self.listener = Part(total_connections=50, rejected_connections=2, accepting_conns=1)
        small = {"chunk_size": 96, "total_pages": 1, "number": 2, "mem_requested": 130, "get_hits": 70}
        self.snapshot: dict[str, Any] = {
            "curr_items": 2,
            "total_items": 60,
            "bytes": 130,
            "evictions": 9,
            "store_no_memory": 4,
            "active_slabs": 2,
            "total_malloced": 2 << 20,
            "committed": 3 << 20,
            "released_soft": 8,
            "released_hard": 19,
            "classes": {
                12: {"chunk_size": 512, "total_pages": 1, "number": 0, "evicted": 9},
                3: {**small, "cmd_set": 55, "number_cold": 2, "age": 4, "evicted": 0},
                4: {"chunk_size": 128, "total_pages": 0, "number": 0},
            },
        }
        self.store = SimpleNamespace(
            snapshot=lambda: copy.deepcopy(self.snapshot),
            class_count=150,
            reassign=lambda source, target: "OK",
        )
        self.crawler = Crawler(lambda classes: iter(()), lambda: 60)
        self.status = SimpleNamespace(
            level=Level.MEDIUM,
            headroom=-5,
            reserve=60,
            limit=1000,
            usage=900,
            binding="cgroup /docker/a b",
            shrinks_soft=1,
            shrinks_hard=2,
            bytes_asked_soft=10,
            bytes_asked_hard=20,
            ticks=77,
            seconds_soft=0.5,
            seconds_hard=0.0012344,
            longest_soft=0.25,
            longest_hard=0.000011,
            shrunk_at=None,
            cpu_seconds=1.5,
        )
        self.shrinkers: list[Any] = []
        self.monitor = SimpleNamespace(status=lambda: self.status, shrinkers=lambda: self.shrinkers)
        self.ceiling = 12345678
        self.started = 100.0
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


def fields(reply: object) -> dict[str, str]:
    """Read a stats reply as strictly as any client: three words a line, END last, no name twice."""
    assert isinstance(reply, bytes)
    *lines, end, rest = reply.split(b"\r\n")
    assert (end, rest) == (b"END", b"")
    found: dict[str, str] = {}
    for line in lines:
        word, name, value = line.decode().split(" ")
        assert word == "STAT"
        assert name not in found
        found[name] = value
    return found
