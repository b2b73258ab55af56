"""`stats` of the live server: memcached's names in its order, its counts, and what memcached_exporter reads.

Knows: the replies' form. The metrics are data in the module beside this one.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cacheserver.roster import PATIENCE, SLICE, roster
from cacheserver.stats import COUNTERS
from tests.integration.exporter_metrics import METRICS, WHOLE_CLASS, Metric
from tests.integration.test_lifecycle import not_memcached, wait_for
from tests.servers import HOST, Server, bare_command, reference, serving
from tests.wire import Wire

Replies = dict[str, dict[str, str]]
KINDS = ("", "settings", "items", "slabs")

# A little of everything, each with its own number of hits and misses.
WORK = (
    b"set a 0 0 1\r\n1\r\nset b 0 0 3\r\nabc\r\nset c 0 0 1\r\n1\r\nset d 0 0 1\r\n1\r\n"
    b"get a b\r\nget a miss\r\ngets a\r\ngat 100 a\r\ngat 100 miss\r\n"
    b"incr a 1\r\nincr miss 1\r\nincr miss 1\r\ndecr a 1\r\ndecr a 1\r\ndecr miss 1\r\n"
    b"touch a 100\r\ntouch miss 100\r\ntouch miss 1\r\ndelete c\r\ndelete miss\r\ndelete miss\r\n"
    b"add a 0 0 1\r\nx\r\nreplace miss 0 0 1\r\nx\r\nappend b 0 0 1\r\nx\r\nprepend miss 0 0 1\r\nx\r\n"
    b"cas miss 0 0 1 1\r\nx\r\ncas a 0 0 1 999999\r\nx\r\ncas a 0 0 1 999999\r\nx\r\n"
    b"set large 0 0 2000000\r\n" + b"x" * 2_000_000 + b"\r\n"
    b"set gone 0 -1 1\r\nx\r\nget gone\r\nflush_all 1000\r\nflush_all x\r\nverbosity 0\r\n"
)


def work(wire: Wire) -> None:
    """Do WORK, and a cas that hits."""
    wire.send(WORK + b"gets a\r\nversion\r\n")
    reply, _ = wire.read_until(b"VERSION ")
    wire.read_line()
    unique = reply.rsplit(b"VALUE a 0 1 ", 1)[1].split(b"\r\n")[0]
    assert wire.ask(b"cas a 0 0 1 %b\r\n7\r\n" % unique) == b"STORED"


@pytest.fixture(scope="module")
def busy() -> Iterator[Server]:
    """A server that has done WORK and holds items of several classes."""
    with serving("-t", "2", "-c", "2000") as server, server.connect() as wire:
        work(wire)
        for size in (10, 1000, 100_000, 900_000):
            assert wire.set(b"size%d" % size, b"x" * size) == b"STORED"
        yield server


@pytest.fixture
def replies(busy: Server) -> Replies:
    with busy.connect() as wire:
        return {kind: wire.stats(kind.encode()) for kind in KINDS}


def classes(reply: dict[str, str], prefix: str) -> dict[str, dict[str, str]]:
    """Return the fields by class, as the exporter takes them apart."""
    found: dict[str, dict[str, str]] = {}
    for name, value in reply.items():
        parts = name.removeprefix(prefix).split(":")
        if len(parts) == 2:
            found.setdefault(parts[0], {})[parts[1]] = value
    return found


def holders(metric: Metric, replies: Replies) -> dict[str, dict[str, str]]:
    """Return where the exporter looks for a metric's fields: by class, or under "" in the whole reply."""
    if metric.reply in ("items", "slabs") and metric.fields[0] not in WHOLE_CLASS:
        return classes(replies[metric.reply], "items:" if metric.reply == "items" else "")
    return {"": replies[metric.reply]}


def parsed(text: str, form: str) -> Any:
    """Read a value as the exporter reads it. Raises where it would fail."""
    if form == "number":
        return float(text)
    if form == "switch":
        return {"yes": 1.0, "no": 0.0}[text]
    if form == "time":
        assert re.fullmatch(r"\d+\.\d{6}", text)
        seconds, micros = text.split(".")
        return int(seconds) + int(micros) / 1e6
    assert re.fullmatch(r"\d+\.\d+\.\d+", text)
    return text


@pytest.mark.parametrize("metric", [m for m in METRICS if not m.lent], ids=lambda metric: metric.name)
def test_the_exporter_finds_a_metric_in_its_form(metric: Metric, replies: Replies) -> None:
    found = holders(metric, replies)
    assert found
    for fields in found.values():
        for name in metric.fields:
            parsed(fields[name], metric.form)


def test_the_exporter_s_table_is_whole_and_what_is_not_here_is_not_claimed(replies: Replies) -> None:
    assert len({metric.name for metric in METRICS} | {"up"}) == 103
    for metric in METRICS:
        if metric.lent:
            assert metric.fields[0] not in replies[""]


def test_no_metric_comes_twice(replies: Replies) -> None:
    # The exporter reads these names from two replies, and a scrape with a metric twice fails as a whole.
    for fields in classes(replies["items"], "items:").values():
        assert not {"store_too_large", "store_no_memory"} & set(fields)
    for fields in classes(replies["slabs"], "").values():
        assert "mem_requested" not in fields


def test_sets_are_counted_so_that_the_exporter_s_difference_is_right(replies: Replies) -> None:
    def sets(found: dict[str, str], *cas: str) -> int:
        return int(found["cmd_set"]) - sum(int(found[name]) for name in cas)

    whole = sets(replies[""], "cas_misses", "cas_hits", "cas_badval")
    by_class = [sets(found, "cas_hits", "cas_badval") for found in classes(replies["slabs"], "").values()]
    assert all(number >= 0 for number in by_class)
    assert whole >= sum(by_class) > 0


def test_the_crawler_is_on_so_that_the_exporter_looks_at_its_settings(replies: Replies) -> None:
    assert replies["settings"]["lru_crawler"] == "yes"


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
    assert total(slabs, "touch_hits") == int(replies[""]["touch_hits"])
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


# -- stats conns --

FORM = re.compile(r"(\d+):(addr|listen_addr|state|secs_since_last_cmd)")
ADDRESS = re.compile(r"tcp:[\d.]+:\d+|tcp6:\[[\da-f:]+\]:\d+|unix:\S*")
ATTRIBUTES = ["addr", "listen_addr", "state", "secs_since_last_cmd"]


def connections(wire: Wire) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, value in wire.stats(b"conns").items():
        match = FORM.fullmatch(name)
        assert match
        found.setdefault(match[1], {})[match[2]] = value
    return found


def test_conns_tell_each_connection_of_each_worker(busy: Server) -> None:
    assert isinstance(busy.address, tuple)
    others = [busy.connect() for _ in range(3 * SLICE)]
    assert all(other.ask(b"delete nothing\r\n") == b"NOT_FOUND" for other in others)
    half = busy.connect()
    half.send(b"set a 0 0 200000\r\n" + b"x" * 100_000)
    with busy.connect() as wire:
        found = connections(wire)
        assert wire.ask(b"version\r\n").startswith(b"VERSION")
        own = "tcp:{}:{}".format(*wire.socket.getsockname())
    listening = [each for each in found.values() if each["state"] == "conn_listening"]
    assert [list(each) for each in listening] == [["addr", "state", "secs_since_last_cmd"]]
    server_side = f"tcp:{HOST}:{busy.address[1]}"
    assert listening[0]["addr"] == server_side
    peers = {each["addr"]: each for each in found.values() if each not in listening}
    assert {"tcp:{}:{}".format(*other.socket.getsockname()) for other in others} | {own} <= set(peers)
    for each in peers.values():
        assert list(each) == ATTRIBUTES
        assert ADDRESS.fullmatch(each["addr"])
        assert each["listen_addr"] == server_side
        assert 0 <= int(each["secs_since_last_cmd"]) < 600
    assert peers[own]["state"] == "conn_parse_cmd"
    assert peers["tcp:{}:{}".format(*half.socket.getsockname())]["state"] == "conn_nread"
    assert peers["tcp:{}:{}".format(*others[0].socket.getsockname())]["state"] == "conn_read"
    for each in (*others, half):
        each.close()


def test_conns_have_the_form_of_memcached(busy: Server, memcached: Server) -> None:
    found = []
    for server in (busy, memcached):
        with server.connect() as wire, server.connect() as idle:
            idle.ask(b"version\r\n")
            wire.send(b"stats conns\r\n")
            text, _ = wire.read_until(b"END\r\n")
            lines = {re.sub(rb"\d+", b"n", line) for line in text.split(b"\r\n")}
            found.append(lines)
    assert found[0] == found[1]


@not_memcached
def test_conns_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Server(bare_command("-s", path), path) as server, server.connect() as wire:
        found = list(connections(wire).values())
    assert [(each["addr"], each["state"]) for each in found] == [
        (f"unix:{path}", "conn_listening"),
        ("unix:", "conn_parse_cmd"),
    ]
    assert found[1]["listen_addr"] == f"unix:{path}"


@not_memcached
def test_conns_do_not_hold_up_a_server_that_ends() -> None:
    with serving("-t", "2") as server:
        wires = [server.connect() for _ in range(20)]
        for wire in wires:
            wire.send(b"stats conns\r\n" * 5)
        server.signal(signal.SIGTERM)
        assert server.wait(3) == 0


class Silent:
    """A worker that never does what it is told."""

    def call_soon_threadsafe(self, *_: object) -> bool:
        return True


class Ended(Silent):
    def call_soon_threadsafe(self, *_: object) -> bool:
        return False


class Obedient:
    """A worker with `count` connections, asked from a thread of its own."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[tuple[int, int]] = []
        self.reactor = self

    def seats(self, first: int, most: int) -> list[tuple[int, str, str, str, int]]:
        self.asked.append((first, most))
        return [(i, "p", "l", "s", 0) for i in range(first, min(self.count, first + most))]

    def call_soon_threadsafe(self, callback: Any, *_: object) -> bool:
        threading.Thread(target=callback).start()
        return True


class Heard:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def send(self, data: bytes, **_: object) -> None:
        self.parts.append(data)


def test_a_worker_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cacheserver.roster.PATIENCE", PATIENCE / 100)
    workers: Any = [Silent(), Ended(), Obedient(SLICE + 1)]
    heard: Any = Heard()
    listener: Any = type("L", (), {"sockets": ()})()
    roster(listener, workers, 0)(heard)
    text = b"".join(heard.parts)
    assert text.endswith(b"END\r\n")
    assert text.count(b":addr ") == SLICE + 1
    assert workers[2].asked == [(0, SLICE), (SLICE, SLICE)]
    assert max(map(len, heard.parts)) < 200 * SLICE, "no part is as large as the whole"


# -- switches --


def test_shutdown_ends_as_memcached_ends() -> None:
    found = []
    for start in (serving, reference):
        for request in (b"shutdown\r\n", b"shutdown graceful\r\n"):
            with start("-A") as server, server.connect() as wire:
                refusals = [
                    wire.ask(b"shutdown %b\r\n" % mode) for mode in (b"now", b"noreply", b"graceful now")
                ]
                wire.send(b"set a 0 0 1\r\n1\r\n")
                assert wire.read_line() == b"STORED"
                wire.send(request)
                found.append((refusals, wire.read_to_end(), server.wait(5)))
    assert found[0] == found[2]
    assert found[1] == found[3]


def test_flush_all_is_refused_in_memcacheds_words() -> None:
    requests = (
        b"flush_all",
        b"flush_all 0",
        b"flush_all 10",
        b"flush_all -1",
        b"flush_all x",
        b"flush_all 0 0",
    )
    found = []
    for start in (serving, reference):
        with start("-F") as server, server.connect() as wire:
            wire.set(b"a", b"1")
            lines = [wire.ask(request + b"\r\n") for request in requests]
            wire.send(b"flush_all noreply\r\nflush_all 5 noreply\r\n")
            counted = wire.stats()["cmd_flush"]
            found.append((lines, wire.get(b"a"), counted, wire.stats(b"settings")["flush_enabled"]))
    assert found[0] == found[1]


@not_memcached
def test_cache_memlimit_changes_nothing() -> None:
    with serving() as server, server.connect() as wire:
        value = b"x" * 500_000
        for number in range(40):
            wire.set(b"%d" % number, value)
        assert wire.ask(b"cache_memlimit 8\r\n") == b"OK"
        assert wait_for(lambda: int(wire.stats()["evictions"]) == 0, 1)
        assert sum(wire.get(b"%d" % number) == value for number in range(40)) == 40
        assert int(wire.stats(b"settings")["maxbytes"]) > 40 * len(value)
