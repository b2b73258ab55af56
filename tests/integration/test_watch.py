"""Watchers over real sockets: the lines of memcached, and nobody waits for whoever does not read them.

Knows: two running servers with one worker each. Lines are compared with those of Debian's memcached for the
same requests, without what cannot be equal: times, numbers, file descriptors, ports, numbers of slab classes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.exchanges import put
from tests.servers import Server, command, free_port, reference, reference_command, serving
from tests.wire import Wire

PATIENCE = 10.0
FIELDS = re.compile(r"(\w+)=(\S*)")
END_KEY = b"the-end-of-the-test"
MIB = 1 << 20

Line = dict[str, str]


class Watching:
    """A connection that watches."""

    def __init__(self, server: Server, kinds: bytes, **how: int) -> None:
        self.wire = server.connect(**how)
        self.reply = self.wire.ask(b"watch " + kinds + b"\r\n" if kinds else b"watch\r\n")

    def line(self) -> Line:
        text, ended = self.wire.read_until(b"\n")
        assert not ended, "the server has closed the watcher"
        fields = FIELDS.findall(text.decode())
        assert " ".join(f"{name}={value}" for name, value in fields) == text.decode()
        return dict(fields)

    def until(self, last: Callable[[Line], bool]) -> list[Line]:
        """The lines up to the one before `last`."""
        lines = []
        while not last(line := self.line()):
            lines.append(line)
        return lines


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Server]]:
    """A server under test and a reference, one worker each so that the order of all lines is fixed."""
    with ExitStack() as stack:
        yield [stack.enter_context(serving("-t", "1")), stack.enter_context(reference("-t", "1"))]


@pytest.fixture
def own(pair: list[Server]) -> Server:
    return pair[0]


def end_of(kinds: bytes) -> bytes:
    """A request whose last line shows that all lines before have come."""
    if b"mutations" in kinds:
        return put(END_KEY, b"x")
    return b"get " + END_KEY + b"\r\n"


def watched(server: Server, kinds: bytes, requests: list[bytes]) -> list[Line]:
    """What a watcher of `kinds` is told while one client sends `requests`, each of which is answered."""
    with server.connect() as wire:
        assert wire.ask(b"flush_all\r\n") == b"OK"
        watching = Watching(server, kinds)
        assert watching.reply == b"OK"
        for request in requests:
            wire.send(request + b"version\r\n")
            while not wire.read_line().startswith(b"VERSION"):
                pass
        wire.send(end_of(kinds))
        lines = watching.until(lambda line: line["key"] == END_KEY.decode())
        watching.wire.close()
    return lines


def comparable(line: Line) -> Line:
    """A line without what differs from run to run and from server to server."""
    kept = {name: value for name, value in line.items() if name not in ("ts", "gid", "cfd", "rport")}
    if kept.get("clsid", "0") != "0":
        kept["clsid"] = "some"
    if line.get("status") == "too_large":  # memcached 1.6.18 prints one field in the place of another here
        kept.update(clsid="", size="")
    if line.get("status") == "flushed":  # a flushed item leaves nothing behind here
        kept["status"] = "not_found"
    if int(line.get("ttl", 0)) > 90:
        kept["ttl"] = "about 100"
    return kept


def told_alike(pair: list[Server], kinds: bytes, requests: list[bytes]) -> list[Line]:
    ours, theirs = ([comparable(line) for line in watched(each, kinds, requests)] for each in pair)
    assert ours == theirs
    assert [list(line) for line in ours] == [list(line) for line in theirs]
    return ours


REQUESTS = [
    b"get foo\r\n",
    put(b"foo", b"bar"),
    b"get foo\r\n",
    b"gets foo nope foo\r\n",
    b"gat 100 foo zap\r\n",
    put(b"foo", b"bar", exptime=b"100"),
    b"add foo 0 100 1\r\n1\r\n",
    b"add new 0 100 1\r\n1\r\n",
    b"replace foo 0 0 1\r\n1\r\n",
    b"replace nope 0 0 1\r\n1\r\n",
    b"append foo 0 0 2\r\n22\r\n",
    b"append new 0 0 2\r\n22\r\n",
    b"prepend foo 0 0 1\r\n3\r\n",
    b"append nope 0 0 2\r\n22\r\n",
    b"cas foo 0 0 1 999999999\r\n1\r\n",
    b"cas nope 0 0 1 9\r\n1\r\n",
    b"incr foo 1\r\n",
    b"incr foo 100000\r\n",
    b"decr foo 1\r\n",
    b"incr nope 1\r\n",
    put(b"text", b"text"),
    b"incr text 1\r\n",
    b"touch foo 100\r\n",
    b"touch nope 100\r\n",
    b"delete foo\r\n",
    b"delete foo\r\n",
    b"set quiet 0 0 1 noreply\r\n1\r\n",
    b"set flagged 77 0 0\r\n\r\n",
    b"get flagged\r\n",
    put(b'a%b&c=d~._-\t"\xff', b"x"),
    b'get a%b&c=d~._-\t"\xff\r\n',
    put(b"k" * 250, b"x"),
    b"set bad 0 0 1\r\nxyz\r\n",
    put(b"large", b"x" * 600_000),
    b"append large 0 0 5\r\nxxxxx\r\n",
    b"get large\r\n",
    put(b"big", b"x" * 2_000_000),
    b"add big 0 0 2000000\r\n" + b"x" * 2_000_000 + b"\r\n",
    put(b"flushed", b"x"),
    b"flush_all\r\n",
    b"get flushed\r\n",
]


@pytest.mark.parametrize("kinds", [b"fetchers", b"mutations", b"fetchers mutations", b""])
def test_lookups_and_stores_are_told_as_memcached_tells_them(pair: list[Server], kinds: bytes) -> None:
    lines = told_alike(pair, kinds, REQUESTS)
    types = {line["type"] for line in lines}
    assert (
        types
        == {
            b"fetchers": {"item_get"},
            b"mutations": {"item_store"},
            b"": {"item_get"},
            b"fetchers mutations": {"item_get", "item_store"},
        }[kinds]
    )
    assert len(lines) > 20


def test_numbers_rise_by_one_and_times_are_those_of_now(own: Server) -> None:
    before = time.time()
    lines = watched(own, b"fetchers mutations", REQUESTS)
    gids = [int(line["gid"]) for line in lines]
    assert gids == list(range(gids[0], gids[0] + len(gids)))
    times = [float(line["ts"]) for line in lines]
    assert before - 1 < times[0]
    assert times == sorted(times)
    assert times[-1] < time.time() + 1
    assert all(re.fullmatch(r"\d+\.\d{6}", line["ts"]) for line in lines)
    assert len({line["cfd"] for line in lines}) == 1


def test_deletions_are_told_with_what_was_deleted(own: Server) -> None:
    """Debian's memcached does not know this kind yet; 1.6.45 writes this form."""
    requests = [put(b"a b".replace(b" ", b"%"), b"four"), b"delete a%b\r\n", b"delete a%b\r\n", b"get x\r\n"]
    with own.connect() as wire:
        watching = Watching(own, b"deletions")
        assert watching.reply == b"OK"
        for request in [*requests, put(END_KEY, b"x"), b"delete " + END_KEY + b"\r\n"]:
            wire.send(request)
            wire.read_line()
        line = watching.line()
        assert list(line) == ["ts", "gid", "type", "key", "cmd", "clsid", "size"]
        assert (line["type"], line["key"], line["cmd"], line["size"]) == ("deleted", "a%25b", "delete", "4")
        assert watching.line()["key"] == END_KEY.decode()
        watching.wire.close()


def test_an_eviction_has_memcached_s_fields() -> None:
    """Ours is tried on a store alone (see test_watchlog); here is the form that it is held against."""
    with reference("-m", "8", "-t", "1") as memcached, memcached.connect() as wire:
        watching = Watching(memcached, b"evictions")
        for number in range(400):
            wire.set(b"k%d" % number, bytes(100_000))
        line = watching.line()
        watching.wire.close()
    fields = ["ts", "gid", "type", "key", "fetch", "ttl", "la", "clsid", "size"]
    assert list(line) == fields
    assert (line["type"], line["fetch"], line["ttl"], line["size"]) == ("eviction", "no", "-1", "100000")


def closed(server: Server, leave: Callable[[Wire], None]) -> list[Line]:
    """The two lines about a client that comes and goes."""
    watching = Watching(server, b"connevents")
    wire = server.connect()
    port = str(wire.socket.getsockname()[1])
    leave(wire)
    lines = []
    while len(lines) < 2:
        line = watching.line()
        if line["rport"] == port:
            lines.append(line)
    wire.close()
    watching.wire.close()
    assert lines[0]["cfd"] == lines[1]["cfd"]
    return [comparable(line) for line in lines]


def hang_up(wire: Wire) -> None:
    wire.ask(b"version\r\n")
    wire.close()


def quit_politely(wire: Wire) -> None:
    wire.send(b"quit\r\n")
    assert wire.read_to_end() == b""


def reset(wire: Wire) -> None:
    wire.ask(b"version\r\n")
    wire.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: on, no time
    wire.close()


def ramble(wire: Wire) -> None:
    wire.send(b"x" * 4000)
    wire.read_to_end()


@pytest.mark.parametrize("leave", [hang_up, quit_politely, reset, ramble])
def test_clients_that_come_and_go_are_told_alike(pair: list[Server], leave: Callable[[Wire], None]) -> None:
    ours, theirs = (closed(each, leave) for each in pair)
    assert ours == theirs
    assert [line["type"] for line in ours] == ["conn_new", "conn_close"]
    assert [list(line) for line in ours] == [list(line) for line in theirs]


def test_an_idle_client_goes_for_that_reason() -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(make("-t", "1", "-o", "idle_timeout=1")) for make in (serving, reference)]
        ours, theirs = (closed(each, lambda wire: time.sleep(0)) for each in both)
    assert ours == theirs
    assert ours[1]["reason"] == "idle_timeout"


def test_clients_of_a_unix_socket_have_no_address(tmp_path: Path) -> None:
    found = []
    for name, make in (("ours", command), ("theirs", reference_command)):
        path = str(tmp_path / name)
        with Server(make(free_port(), "-t", "1", "-s", path), path) as server:
            found.append(unix_lines(server))
    assert found[0] == found[1]
    assert found[0][0]["rip"] == "unix"


def unix_lines(server: Server) -> list[Line]:
    watching = Watching(server, b"connevents")
    with server.connect() as wire:
        wire.ask(b"version\r\n")
    lines = [comparable(watching.line()), comparable(watching.line())]
    watching.wire.close()
    return lines


@pytest.mark.parametrize(
    "line",
    [
        b"bogus",
        b"fetchers bogus",
        b"Fetchers",
        b"rawcmds",
        b"sysevents",
        b"proxyreqs",
        b"proxyuser evictions",
    ],
)
def test_kinds_are_accepted_and_refused_alike(pair: list[Server], line: bytes) -> None:
    replies = []
    for each in pair:
        watching = Watching(each, line)
        replies.append(watching.reply)
        watching.wire.close()
    assert replies[0] == replies[1]


def test_watching_can_be_forbidden() -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(make("-W")) for make in (serving, reference)]
        replies = [each.connect().ask(b"watch fetchers\r\n") for each in both]
        assert replies == [b"CLIENT_ERROR watch commands not allowed"] * 2
        assert both[0].stats(b"settings")["watch_enabled"] == "no"


def test_the_twenty_first_watcher_is_turned_away(pair: list[Server]) -> None:
    for each in pair:
        until(lambda: each.stats()["log_watchers"] == "0")  # noqa: B023
        watching = [Watching(each, b"fetchers") for _ in range(20)]
        assert {one.reply for one in watching} == {b"OK"}
        with each.connect() as wire:
            assert wire.ask(b"watch fetchers\r\n") == b"WATCHER_TOO_MANY log watcher limit reached"
            assert wire.ask(b"version\r\n").startswith(b"VERSION")
        until(lambda: each.stats()["log_watchers"] == "20")  # noqa: B023
        for one in watching:
            one.wire.close()
        until(lambda: each.stats()["log_watchers"] == "0")  # noqa: B023
        again = Watching(each, b"fetchers")
        assert again.reply == b"OK"
        again.wire.close()


def test_what_a_watcher_says_is_ignored(own: Server) -> None:
    with own.connect() as wire:
        watching = Watching(own, b"fetchers")
        watching.wire.send(b"get a\r\nversion\r\n" + b"x" * 100_000)
        wire.get(b"seen")
        assert watching.line()["key"] == "seen"
        watching.wire.half_close()
        watching.wire.read_to_end()


def test_a_server_that_ends_ends_its_watchers_at_once() -> None:
    with serving("-t", "2") as server:
        reading, deaf = Watching(server, b"fetchers"), Watching(server, b"fetchers", receive_buffer=4096)
        flood(server, 20)
        begun = time.monotonic()
        server.signal(15)
        assert server.wait(5) == 0
        assert time.monotonic() - begun < 0.9
        reading.wire.read_to_end()
        deaf.wire.close()


def flood(server: Server, rounds: int) -> float:
    """Send `rounds` times 50,000 gets; returns the seconds."""
    begun = time.monotonic()
    with server.connect(timeout=60) as wire:
        request = (b"get" + b" key:%d" * 50 % tuple(range(50)) + b"\r\n") * 1000
        for _ in range(rounds):
            wire.send(request)
            wire.read_exactly(5 * 1000)
    return time.monotonic() - begun


def test_a_watcher_that_never_reads_costs_nobody_time_and_the_server_no_memory() -> None:
    with serving("-t", "1") as server:
        flood(server, 2)
        alone = min(flood(server, 4) for _ in range(3))
        deaf = [Watching(server, b"fetchers mutations", receive_buffer=4096) for _ in range(5)]
        flood(server, 2)
        before = server.rss()
        with_deaf = min(flood(server, 4) for _ in range(3))
        assert server.rss() - before < 4 * MIB
        # The thread that tells watchers takes a CPU of its own, if there is one. Waiting would take for ever.
        assert with_deaf < 10 * alone + 1
        found = {name: int(value) for name, value in server.stats().items() if name.startswith("log_")}
        assert found["log_watchers"] == 5
        assert found["log_watcher_skipped"] > 0
        assert found["log_worker_written"] + found["log_worker_dropped"] == 50_000 * (2 + 12)
        for one in deaf:
            one.wire.close()
        until(lambda: server.stats()["log_watchers"] == "0")
        with server.connect() as wire:
            wire.get(b"unseen")
            assert wire.ask(b"stats reset\r\n") == b"RESET"
        assert server.stats()["log_worker_written"] == "0"


def test_a_slow_watcher_is_told_how_much_it_missed() -> None:
    with serving("-t", "1", "-o", "watcher_logbuf_size=4") as server:
        watching = Watching(server, b"fetchers", receive_buffer=4096)
        flood(server, 4)
        written = int(server.stats()["log_worker_written"])
        skipped, seen, gid = 0, 0, 0
        while seen + skipped < written:
            line = watching.line()
            if "skipped" in line:
                skipped += int(line["skipped"])
            else:
                seen += 1
                assert int(line["gid"]) > gid
                gid = int(line["gid"])
        found = server.stats()
        assert (skipped, seen) == (int(found["log_watcher_skipped"]), int(found["log_watcher_sent"]))
        assert min(skipped, seen) > 0
        watching.wire.close()


def test_many_workers_and_watchers_at_once_see_each_worker_s_order() -> None:
    with serving("-t", "4", "-o", "worker_logbuf_size=4096,watcher_logbuf_size=4096") as server:
        watching = [Watching(server, b"fetchers mutations evictions connevents") for _ in range(2)]
        wires = [server.connect() for _ in range(8)]
        for wire in wires:  # all are accepted before one closes: none gets a descriptor that another had
            assert wire.ask(b"version\r\n").startswith(b"VERSION")
        for number in range(100):
            for wire in wires:
                wire.send(b"get n:%d\r\n" % number)
        for wire in wires:
            for _ in range(100):
                assert wire.read_values() == {}
            wire.close()
        for one in watching:
            lines = []
            while sum(line["type"] == "conn_close" for line in lines) < 8:
                lines.append(one.line())
            by_client: dict[str, list[str]] = {}
            for line in lines:
                if line["type"] == "item_get":
                    by_client.setdefault(line["cfd"], []).append(line["key"])
            assert len(by_client) == 8
            assert all(keys == [f"n%3A{number}" for number in range(100)] for keys in by_client.values())
            one.wire.close()


def test_the_sizes_of_the_logs_are_settings() -> None:
    with ExitStack() as stack:  # memcached 1.6.18 takes a worker_logbuf_size for the slab size, too
        flags = ("-o", "watcher_logbuf_size=100,worker_logbuf_size=20")
        ours = stack.enter_context(serving(*flags)).stats(b"settings")
        theirs = stack.enter_context(reference("-o", "watcher_logbuf_size=100")).stats(b"settings")
    assert ours["watcher_logbuf_size"] == theirs["watcher_logbuf_size"] == "102400"
    assert ours["worker_logbuf_size"] == "20480"
