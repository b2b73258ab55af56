"""`stats`: every name, from which numbers, and what `stats reset` sets back."""

import pytest

from cacheserver import PROTOCOL_VERSION, __version__
from cacheserver.commands import Commands
from cacheserver.pressure import ShrinkerStatus
from cacheserver.reports import seconds_text
from tests.unit.fake_server import FakeServer, Part, fields

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


def test_the_limit_is_what_the_cache_may_hold_now(commands: Commands, server: FakeServer) -> None:
    assert fields(commands(b"stats"))["limit_maxbytes"] == "12345678"
    server.ceiling = 99
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
        "pressure_ticks": "77",
        "pressure_shrink_us_soft": "500000",
        "pressure_shrink_us_hard": "1234",
        "pressure_longest_shrink_us_soft": "250000",
        "pressure_longest_shrink_us_hard": "11",
        "pressure_cpu_us": "1500000",
        "pressure_time_since_shrink": "60",
    }


def test_the_last_shrink_is_told_as_the_time_since(commands: Commands, server: FakeServer) -> None:
    server.status.shrunk_at = 150.5
    assert fields(commands(b"stats"))["pressure_time_since_shrink"] == "10"


def test_stats_shrinkers_has_a_block_for_each_in_the_order_they_came(
    commands: Commands, server: FakeServer
) -> None:
    assert fields(commands(b"stats shrinkers")) == {}
    server.shrinkers = [
        ShrinkerStatus("my cache\r\n", True, 5, 2, 1, 2, 3, 4, 30, 40, 31, 41, 0.5, 0.25, 0.75, 1.0),
        ShrinkerStatus("other", False, 0, 2.5, 0, 3, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0),
    ]
    found = fields(commands(b"stats shrinkers"))
    assert [f"{name} {value}" for name, value in found.items()][: len(FIRST)] == FIRST
    assert [name.removeprefix("2:") for name in found][len(FIRST) :] == [
        line.split()[0].removeprefix("1:") for line in FIRST
    ]
    assert [found[f"2:{name}"] for name in ("name", "enabled", "cost")] == ["other", "no", "2.5"]


FIRST = [
    "1:name my:cache",
    "1:enabled yes",
    "1:cost 2",
    "1:count 5",
    "1:carried 1",
    "1:strikes 2",
    "1:requests_soft 3",
    "1:requests_hard 4",
    "1:bytes_asked_soft 30",
    "1:bytes_asked_hard 40",
    "1:bytes_freed_soft 31",
    "1:bytes_freed_hard 41",
    "1:last_us_soft 500000",
    "1:last_us_hard 250000",
    "1:longest_us_soft 750000",
    "1:longest_us_hard 1000000",
]


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


def test_an_empty_store_still_answers(server: FakeServer) -> None:
    server.snapshot = {}
    commands = Commands(server)
    assert commands(b"stats items") == b"END\r\n"
    assert fields(commands(b"stats slabs")) == {"active_slabs": "0", "total_malloced": "0"}
    assert fields(commands(b"stats"))["curr_items"] == "0"


@pytest.mark.parametrize("line", [b"stats sizes", b"stats   settings ", b"stats items noreply"])
def test_the_other_kinds_of_stats_end(commands: Commands, line: bytes) -> None:
    fields(commands(line))


def test_handshakes_are_counted_with_the_connections(commands: Commands, server: FakeServer) -> None:
    server.handshakes = Part(ssl_handshakes=7, ssl_handshake_errors=2, ssl_unfinished=1, ssl_bytes=16384)
    server.reactors[0].numbers["ssl_connections"] = 5
    found = fields(commands(b"stats"))
    names = ("ssl_connections", "ssl_handshakes", "ssl_handshake_errors", "ssl_unfinished", "ssl_bytes")
    assert [found[name] for name in names] == ["5", "7", "2", "1", "16384"]
    commands(b"stats reset")
    found = fields(commands(b"stats"))
    assert [found[name] for name in names] == ["5", "0", "0", "1", "16384"]
