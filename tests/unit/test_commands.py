"""The rare commands: their grammar, every name of `stats`, and what the tools that read it rely on."""

import copy
import logging
import re
from collections.abc import Iterator
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from cacheserver import PROTOCOL_VERSION, __version__, stats
from cacheserver.commands import Commands
from cacheserver.crawler import Crawler
from cacheserver.reports import seconds_text


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
            ceiling=12345678,
            limit=1000,
            usage=900,
            binding="cgroup /docker/a b",
            shrinks_soft=1,
            shrinks_hard=2,
            bytes_asked_soft=10,
            bytes_asked_hard=20,
        )
        self.monitor = SimpleNamespace(status=lambda: self.status)
        self.started = 100.0
        self.stopped = 0

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def commands(server: FakeServer) -> Commands:
    return Commands(server, monotonic=lambda: 160.9, wall=lambda: 1_800_000_000.7)


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


# -- stats --

MEMCACHED_FIELDS = """
pid uptime time version libevent pointer_size rusage_user rusage_system max_connections curr_connections
total_connections rejected_connections connection_structures response_obj_oom response_obj_count
response_obj_bytes read_buf_count read_buf_bytes read_buf_bytes_free read_buf_oom reserved_fds cmd_get
cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses get_expired get_flushed delete_misses
delete_hits incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval touch_hits
touch_misses store_too_large store_no_memory auth_cmds auth_errors idle_kicks bytes_read bytes_written
limit_maxbytes accepting_conns listen_disabled_num time_in_listen_disabled_us threads conn_yields
hash_power_level hash_bytes hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues
slab_reassign_inline_reclaim slab_reassign_busy_items slab_reassign_busy_nomem slab_reassign_busy_deletes
slab_reassign_last_busy_status slab_reassign_running slabs_moved lru_crawler_running lru_crawler_starts
lru_maintainer_juggles malloc_fails log_worker_dropped log_worker_written log_watcher_skipped
log_watcher_sent log_watchers unexpected_napi_ids round_robin_fallback bytes curr_items total_items
slab_global_page_pool expired_unfetched evicted_unfetched evicted_active evictions reclaimed
crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru
direct_reclaims lru_bumps_dropped
"""


def test_stats_has_every_name_of_memcached_in_its_order(commands: Commands) -> None:
    names = list(fields(commands(b"stats")))
    expected = MEMCACHED_FIELDS.split()
    assert names[: len(expected)] == expected


def test_idle_kicks_stand_only_where_connections_time_out() -> None:
    assert "idle_kicks" not in fields(Commands(FakeServer(idle_timeout=0))(b"stats"))


def test_stats_sums_the_workers_and_prefers_their_count_to_the_store_s(commands: Commands) -> None:
    found = fields(commands(b"stats"))
    expected = {
        "uptime": "60",
        "time": "1800000000",
        "version": PROTOCOL_VERSION,
        "cacheserver_version": __version__,
        "cmd_get": "110",
        "get_hits": "77",
        "store_no_memory": "3",
        "curr_connections": "7",
        "max_connections": "2000",
        "total_connections": "50",
        "bytes_read": "3030",
        "udp_datagrams_dropped": "6",
        "read_buf_bytes": "800",
        "threads": "2",
        "evictions": "9",
        "get_flushed": "0",
        "reserved_fds": "80",
        "response_obj_count": "2",
        "read_buf_bytes_free": "800",
        "conn_pending_bytes": "33",
        "store_committed": str(3 << 20),
    }
    assert {name: found[name] for name in expected} == expected


def test_the_limit_follows_the_pressure_monitor(commands: Commands, server: FakeServer) -> None:
    assert fields(commands(b"stats"))["limit_maxbytes"] == "12345678"
    server.status.ceiling = 99
    assert fields(commands(b"stats"))["limit_maxbytes"] == "99"
    assert fields(commands(b"stats settings"))["maxbytes"] == "99"


def test_stats_tells_what_the_monitor_does(commands: Commands) -> None:
    found = fields(commands(b"stats"))
    assert {name: value for name, value in found.items() if name.startswith("pressure_")} == {
        "pressure_kicks": "0",
        "pressure_level": "medium",
        "pressure_headroom": "-5",
        "pressure_reserve": "60",
        "pressure_limit": "1000",
        "pressure_usage": "900",
        "pressure_binding": "cgroup:/docker/a:b",
        "pressure_shrinks_soft": "1",
        "pressure_shrinks_hard": "2",
        "pressure_bytes_asked_soft": "10",
        "pressure_bytes_asked_hard": "20",
        "pressure_bytes_released_soft": "8",
        "pressure_bytes_released_hard": "19",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.000000"), (1.000005, "1.000005"), (12.5, "12.500000"), (0.9999999, "1.000000")],
)
def test_cpu_time_has_six_digits_behind_its_dot(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_stats_items_and_slabs_show_the_classes_that_hold_something(commands: Commands) -> None:
    items, slabs = fields(commands(b"stats items")), fields(commands(b"stats slabs"))
    assert {name.split(":")[1] for name in items} == {"3"}
    assert (items["items:3:number"], items["items:3:mem_requested"], items["items:3:tailrepairs"]) == (
        "2",
        "130",
        "0",
    )
    assert [name for name in slabs if name.endswith("chunk_size")] == ["3:chunk_size", "12:chunk_size"]
    assert (slabs["3:cmd_set"], slabs["12:cmd_set"]) == ("55", "0")
    assert (slabs["active_slabs"], slabs["total_malloced"]) == ("2", str(2 << 20))


def test_reset_counts_afresh_but_forgets_no_state(commands: Commands, server: FakeServer) -> None:
    assert commands(b"stats reset") == b"RESET\r\n"
    server.engines[0].numbers["cmd_get"] += 4
    server.snapshot["classes"][12]["evicted"] += 1
    server.snapshot["evictions"] += 1
    found = fields(commands(b"stats"))
    names = (
        "cmd_get",
        "cmd_set",
        "evictions",
        "total_connections",
        "curr_connections",
        "bytes",
        "curr_items",
    )
    assert [found[name] for name in names] == ["4", "0", "1", "0", "7", "130", "2"]
    slabs, items = fields(commands(b"stats slabs")), fields(commands(b"stats items"))
    assert (slabs["3:cmd_set"], slabs["3:chunk_size"], slabs["total_malloced"]) == ("0", "96", str(2 << 20))
    assert (items["items:3:number"], items["items:3:age"]) == ("2", "4")


def test_reset_forgets_the_age_at_an_eviction_that_is_not_counted_any_more(server: FakeServer) -> None:
    server.snapshot["classes"][3] |= {"evicted": 5, "evicted_time": 70}
    commands = Commands(server)
    assert fields(commands(b"stats items"))["items:3:evicted_time"] == "70"
    commands(b"stats reset")
    assert fields(commands(b"stats items"))["items:3:evicted_time"] == "0"
    server.snapshot["classes"][3]["evicted"] = 6
    assert fields(commands(b"stats items"))["items:3:evicted_time"] == "70"


def test_watch_and_stats_detail_are_answered_by_those_whose_they_are(
    commands: Commands, server: FakeServer
) -> None:
    assert commands(b"watch fetchers  evictions") == b"<fetchers,evictions>\r\n"
    assert commands(b"watch") == b"<>\r\n"
    assert commands(b"stats detail dump x") == b"<dump,x>\r\n"
    found = fields(commands(b"stats"))
    assert [found[name] for name in ("log_watchers", "log_watcher_sent", "detail_dropped")] == ["2", "7", "5"]
    assert fields(commands(b"stats settings"))["detail_enabled"] == "yes"
    commands(b"stats reset")
    assert server.detail.numbers == {}
    found = fields(commands(b"stats"))
    assert [found[name] for name in ("log_watchers", "log_watcher_sent")] == ["2", "0"]


def test_an_empty_store_still_answers(server: FakeServer) -> None:
    server.snapshot = {}
    commands = Commands(server)
    assert commands(b"stats items") == b"END\r\n"
    assert fields(commands(b"stats slabs")) == {"active_slabs": "0", "total_malloced": "0"}
    assert fields(commands(b"stats"))["curr_items"] == "0"


@pytest.mark.parametrize("line", [b"stats sizes", b"stats   settings ", b"stats items noreply"])
def test_the_other_kinds_of_stats_end(commands: Commands, line: bytes) -> None:
    fields(commands(line))


# -- the exporter for Prometheus --

Metric = tuple[str, tuple[str, ...]]
COMMAND_HITS = ("get", "delete", "incr", "decr", "cas", "touch")


def scrape(commands: Commands) -> dict[Metric, float]:
    """Make the metrics the exporter makes, by its rules: a missing key or a metric twice fails."""
    general, by_item, by_slab = fields(commands(b"stats")), {}, {}
    for reply, into, skip in ((b"stats items", by_item, 1), (b"stats slabs", by_slab, 0)):
        for name, value in fields(commands(reply)).items():
            parts = name.split(":")[skip:]
            if len(parts) == 1:
                general[name] = value
            else:
                into.setdefault(parts[0], {})[parts[1]] = value
    metrics: dict[Metric, float] = {}
    for metric, value in [
        *general_metrics(general),
        *class_metrics(by_item, by_slab),
        *settings_metrics(fields(commands(b"stats settings"))),
    ]:
        assert metric not in metrics, f"{metric} twice"
        metrics[metric] = value
    return metrics


def general_metrics(found: dict[str, str]) -> Iterator[tuple[Metric, float]]:
    for name in stats.STORE_FIELDS + stats.COUNTERS + ("limit_maxbytes", "uptime", "time", "total_malloced"):
        yield (name, ()), float(found[name])
    for name in ("rusage_user", "rusage_system"):
        assert re.fullmatch(r"\d+\.\d{6}", found[name])
    cas = sum(float(found[name]) for name in ("cas_misses", "cas_hits", "cas_badval"))
    yield ("commands", ("set", "hit")), float(found["cmd_set"]) - cas


def class_metrics(
    items: dict[str, dict[str, str]], slabs: dict[str, dict[str, str]]
) -> Iterator[tuple[Metric, float]]:
    for number, found in items.items():
        for name in ("store_too_large", "store_no_memory"):
            assert name not in found, "a metric without labels must not come from a class"
        for name, value in found.items():
            yield (f"slab_{name}", (number,)), float(value)
    for number, found in slabs.items():
        for command in COMMAND_HITS:
            yield ("slab_commands", (number, command, "hit")), float(found[f"{command}_hits"])
        cas = float(found["cas_hits"]) + float(found["cas_badval"])
        yield ("slab_commands", (number, "set", "hit")), float(found["cmd_set"]) - cas
        for name, value in found.items():
            if name in ("chunk_size", "chunks_per_page", "mem_requested") or "chunks" in name:
                yield (f"slab_{name}", (number,)), float(value)


def settings_metrics(found: dict[str, str]) -> Iterator[tuple[Metric, float]]:
    yield ("maxconns", ()), float(found["maxconns"])
    switches = {"yes": 1.0, "no": 0.0}
    assert found["lru_crawler"] == "yes"
    for name in ("lru_crawler", "lru_maintainer_thread"):
        yield (name, ()), switches[found[name]]
    for name in ("lru_crawler_sleep", "lru_crawler_tocrawl", "hot_lru_pct", "warm_lru_pct"):
        yield (name, ()), float(int(found[name]))
    for name in ("hot_max_factor", "warm_max_factor"):
        yield (name, ()), float(found[name])


def test_the_exporter_can_scrape_everything_once(commands: Commands) -> None:
    metrics = scrape(commands)
    assert metrics["commands", ("set", "hit")] == 55 - (3 + 1 + 1)
    assert metrics["slab_mem_requested", ("3",)] == 130
    assert metrics["slab_commands", ("3", "get", "hit")] == 70
    assert metrics["limit_maxbytes", ()] == 12345678


# -- control --


@pytest.mark.parametrize(
    "line",
    [
        b"foo",
        b"stats foo",
        b"stats noreply",
        b"STATS",
        b"lru",
        b"slabs",
        b"lru_crawler",
        b"mg a v",
        b"",
    ],
)
def test_what_is_not_in_the_table_is_an_error(commands: Commands, line: bytes) -> None:
    assert commands(line) == b"ERROR\r\n"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (b"1", b"OK\r\n"),
        (b"0 x", b"OK\r\n"),
        (b"1 noreply", b""),
        (b"", b"CLIENT_ERROR bad command line format\r\n"),
        (b"x", b"CLIENT_ERROR bad command line format\r\n"),
        (b"-1", b"CLIENT_ERROR bad command line format\r\n"),
        (b"noreply", b""),
    ],
)
def test_verbosity_needs_a_level(commands: Commands, arguments: bytes, answer: bytes) -> None:
    log = logging.getLogger("cacheserver")
    before = log.level
    try:
        assert commands(b"verbosity " + arguments) == answer
    finally:
        log.setLevel(before)


def test_verbosity_changes_what_is_logged_and_is_shown(commands: Commands) -> None:
    log = logging.getLogger("cacheserver")
    before = log.level
    try:
        commands(b"verbosity 99")
        assert log.level == logging.DEBUG
        assert fields(commands(b"stats settings"))["verbosity"] == "2"
        commands(b"verbosity 0")
        assert log.level == logging.WARNING
    finally:
        log.setLevel(before)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (b"64", b"OK\r\n"),
        (b"8 noreply", b""),
        (b"7", b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"),
        (b"7 noreply", b""),
        (b"1000000001", b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"),
        (b"4294967296", b"ERROR\r\n"),
        (b"x", b"ERROR\r\n"),
        (b"", b"ERROR\r\n"),
    ],
)
def test_cache_memlimit_checks_its_number_and_changes_nothing(
    commands: Commands, arguments: bytes, answer: bytes
) -> None:
    before = fields(commands(b"stats"))["limit_maxbytes"]
    assert commands(b"cache_memlimit " + arguments) == answer
    assert fields(commands(b"stats"))["limit_maxbytes"] == before


def test_shutdown_is_refused_unless_enabled(commands: Commands, server: FakeServer) -> None:
    assert commands(b"shutdown") == b"SERVER_ERROR: shutdown not enabled\r\n"
    assert server.stopped == 0


@pytest.mark.parametrize("line", [b"shutdown", b"shutdown graceful"])
def test_shutdown_stops_the_server_and_closes(line: bytes) -> None:
    server = FakeServer(enable_shutdown=True)
    assert Commands(server)(line) is None
    assert server.stopped == 1


def test_shutdown_knows_no_other_mode() -> None:
    server = FakeServer(enable_shutdown=True)
    assert Commands(server)(b"shutdown now") == b"CLIENT_ERROR invalid shutdown mode\r\n"
    assert server.stopped == 0


def test_refresh_certs_says_what_memcached_says(commands: Commands, server: FakeServer) -> None:
    assert commands(b"refresh_certs") == b"Error TLS not enabled\r\n"
    assert "time_since_server_cert_refresh" not in fields(commands(b"stats"))
    server.certificates = SimpleNamespace(age=5, confirm=lambda: True)
    assert commands(b"refresh_certs") == b"OK\r\n"  # at once
    server.certificates.confirm = lambda: False
    for why, answer in (("", b"OK\r\n"), ("the key does not belong", b"Error the key does not belong\r\n")):
        server.certificates.refresh = lambda why=why: why
        sent: list[bytes] = []
        job = commands(b"refresh_certs")
        assert not isinstance(job, bytes | None)
        job(SimpleNamespace(send=sent.append))
        assert sent == [answer]
    assert fields(commands(b"stats"))["time_since_server_cert_refresh"] == "5"


def test_handshakes_are_counted_with_the_connections(commands: Commands, server: FakeServer) -> None:
    server.handshakes = Part(ssl_handshakes=7, ssl_handshake_errors=2, ssl_unfinished=1, ssl_bytes=16384)
    server.reactors[0].numbers["ssl_connections"] = 5
    found = fields(commands(b"stats"))
    names = ("ssl_connections", "ssl_handshakes", "ssl_handshake_errors", "ssl_unfinished", "ssl_bytes")
    assert [found[name] for name in names] == ["5", "7", "2", "1", "16384"]
    commands(b"stats reset")
    found = fields(commands(b"stats"))
    assert [found[name] for name in names] == ["5", "0", "0", "1", "16384"]
