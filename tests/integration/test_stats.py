"""`stats` of the live server: memcached's names in its order, and its counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cacheserver.stats import COUNTERS
from tests.integration.test_lifecycle import not_memcached
from tests.integration.work import KINDS, Replies, classes, work
from tests.servers import Server, bare_command, reference, serving

# -- names and their order, against the reference --

WHY_SLABS = "1.6.45 counts moved slabs in another way"
WHY_FLASH = "Debian builds with the flash tier; a build without it does not have it"
WHY_PLACE = "in 1.6.18 a setting of the flash tier, in 1.6.45 one of the slabs"
WHY_EXPORTER = (
    "memcached leaves it out where no temporary segment is set up; the exporter has a metric for it"
)
GONE = {
    "slab_reassign_evictions_nomem": WHY_SLABS,
    "slab_automove_freeratio": WHY_PLACE,
    **{
        f"ext_{name}": WHY_FLASH
        for name in (
            "item_size", "item_age", "low_ttl", "recache_rate", "wbuf_size", "compact_under", "drop_under",
            "max_sleep", "max_frag", "drop_unread",
        )
    },
}  # fmt: skip
NEW = {
    "slab_reassign_busy_nomem": WHY_SLABS,
    "slab_reassign_last_busy_status": WHY_SLABS,
    "slab_automove_freeratio": WHY_PLACE,
    "watch_enabled": "the state of -W",
    "client_flags_size": "1.6.45 can be built with flags of 8 bytes",
    "number_temp": WHY_EXPORTER,
}
OWN = re.compile(
    "conn_(?!yields)|store_(?!too_large|no_memory)|pressure_|udp_|detail_dropped|ssl_(?:conn|hand|proto|unf|bytes)|cacheserver_version"
)  # this server's, behind all others


def names(server: Server, kind: bytes) -> list[str]:
    """The names of a reply; those of a class without its number, of the first class only."""
    with server.connect() as wire:
        wire.set(b"a", b"1")
        found = [re.sub(r"\d+:", "", name) for name in wire.stats(kind)]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("kind", [b"", b"settings", b"items", b"slabs"], ids=repr)
def test_the_names_and_their_order_are_memcacheds(kind: bytes, server: Server, memcached: Server) -> None:
    ours = names(server, kind)
    added = [name for name in ours if OWN.match(name)]
    assert ours[len(ours) - len(added) :] == added
    assert bool(added) == (kind == b"")
    assert [n for n in ours if n.removeprefix("items:") not in NEW and n not in added] == [
        n for n in names(memcached, kind) if n not in GONE
    ]


def test_the_tables_of_names_hold_no_stale_entry(server: Server, memcached: Server) -> None:
    here, there = (
        {name.removeprefix("items:") for kind in KINDS for name in names(each, kind.encode())}
        for each in (server, memcached)
    )
    assert set(GONE) <= there
    assert set(NEW) <= here
    moved = {"slab_automove_freeratio"}
    assert not (set(GONE) - moved) & here
    assert not (set(NEW) - moved) & there


def test_idle_kicks_are_told_where_memcached_tells_them() -> None:
    flags = ("-o", "idle_timeout=100")
    with serving(*flags) as ours, reference(*flags) as theirs:
        found = [names(each, b"") for each in (ours, theirs)]
    assert [each[each.index("idle_kicks") - 1 :][:3] for each in found] == [
        ["auth_errors", "idle_kicks", "bytes_read"]
    ] * 2


# -- numbers --

SAME = (*COUNTERS, "curr_items", "total_items")


def test_the_same_work_gives_the_same_counts_as_in_memcached() -> None:
    found = []
    # memcached's LRU thread may hold an item for a moment, and an incr that comes then makes a new item,
    # which counts: without the thread total_items is the same in every run.
    for start in (serving(), reference("-o", "no_lru_maintainer")):
        with start as server, server.connect() as wire:
            before = wire.stats()
            work(wire)
            after = wire.stats()
            found.append({name: int(after[name]) - int(before[name]) for name in SAME})
    ours, theirs = found
    assert {name for name in SAME if theirs[name]} >= {
        "cas_hits",
        "cas_badval",
        "touch_hits",
        "store_too_large",
    }
    assert ours == theirs


def test_the_classes_count_as_the_whole_does(replies: Replies) -> None:
    slabs, items = classes(replies["slabs"], ""), classes(replies["items"], "items:")

    def total(found: dict[str, dict[str, str]], name: str) -> int:
        return sum(int(fields[name]) for fields in found.values())

    assert total(items, "number") == total(slabs, "used_chunks") == int(replies[""]["curr_items"])
    assert total(items, "mem_requested") == int(replies[""]["bytes"])
    for name in (
        "get_hits",
        *(f"{each}_hits" for each in ("touch", "delete", "incr", "decr", "cas")),
        "cas_badval",
    ):
        assert total(slabs, name) == int(replies[""][name]) > 0, name
    assert 0 < total(slabs, "cmd_set") <= int(replies[""]["cmd_set"])  # a write without room has no class
    assert total(items, "hits_to_hot") + total(items, "hits_to_warm") == total(slabs, "get_hits")
    for fields in slabs.values():
        used, free, untouched = (
            int(fields[f"{n}_chunks{e}"]) for n, e in [("used", ""), ("free", ""), ("free", "_end")]
        )
        assert used + free + untouched == int(fields["total_chunks"])
        assert int(fields["total_chunks"]) in (
            int(fields["total_pages"]) * int(fields["chunks_per_page"]),
            used,  # an item that has pages of its own
        )


RESET = (*COUNTERS, "total_items", "total_connections", "evictions", "curr_items")
RESET_IN_CLASS = ("get_hits", "cmd_set", "delete_hits", "incr_hits", "cas_badval", "touch_hits")


def test_reset_sets_back_what_it_sets_back_in_memcached() -> None:
    found = []
    for start in (serving(), reference("-o", "no_lru_maintainer")):  # why: see above
        with start as server, server.connect() as wire:
            work(wire)
            assert wire.ask(b"stats reset\r\n") == b"RESET"
            whole, slabs = wire.stats(), classes(wire.stats(b"slabs"), "")
            by_class = {fields[name] for fields in slabs.values() for name in RESET_IN_CLASS}
            found.append(({name: whole[name] for name in RESET}, by_class))
    assert found[0] == found[1]
    assert found[0][0]["curr_items"] != "0"


def test_what_is_told_of_the_process_is_true(busy: Server) -> None:
    with busy.connect() as wire:
        found = wire.stats()
        again = wire.stats()
    assert int(found["pid"]) == busy.pid
    cpu = float(found["rusage_user"]) + float(found["rusage_system"])
    assert abs(cpu - busy.cpu_seconds()) < 1.0
    assert found["threads"] == "2"
    assert found["max_connections"] == "2000"
    assert int(again["bytes_written"]) > int(found["bytes_written"]) > 0
    assert int(again["lru_maintainer_juggles"]) >= int(found["lru_maintainer_juggles"]) > 0
    assert int(found["reserved_fds"]) > 0
    assert int(found["read_buf_bytes"]) >= int(found["read_buf_bytes_free"]) > 0
    assert int(found["limit_maxbytes"]) > int(found["bytes"])


@not_memcached
def test_stats_shrinkers_shows_the_store(server: Server) -> None:
    found = server.stats(b"shrinkers")
    assert (found["1:name"], found["1:enabled"], found["1:strikes"]) == ("store", "yes", "0")
    assert {name.split(":")[0] for name in found} == {"1"}


@not_memcached
def test_settings_follow_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    flags = (
        "-s", str(path), "-a", "770", "-c", "77", "-t", "3", "-b", "99", "-I", "2m", "-M", "-C", "-F", "-A",
        "-v", "-D", "/", "-o", "idle_timeout=50",
    )  # fmt: skip
    expected = {
        "domain_socket": str(path), "umask": "770", "maxconns": "77", "num_threads": "3", "tcp_backlog": "99",
        "item_size_max": "2097152", "evictions": "off", "cas_enabled": "no", "flush_enabled": "no",
        "shutdown_command": "yes", "verbosity": "1", "stat_key_prefix": "/", "idle_timeout": "50",
        "auth_enabled_ascii": "no", "binding_protocol": "auto-negotiate",
    }  # fmt: skip
    with Server(bare_command(*flags), str(path)) as server, server.connect() as wire:
        found = wire.stats(b"settings")
        assert {name: found[name] for name in expected} == expected
        assert wire.ask(b"verbosity 2\r\n") == b"OK"
        assert wire.stats(b"settings")["verbosity"] == "2"
