"""The replay against live servers: every hit is counted; the store answers alike in process and by socket."""

from __future__ import annotations

import random
import socketserver
import threading
from array import array
from collections.abc import Iterator

import pytest

from cacheserver.store.store import Store
from loadtest.replay import Values, key_name, main, replay
from loadtest.streams import make
from loadtest.traces import Block, first, requests
from loadtest.wire import Wire, WireError
from tests.bench.hit_ratio import in_process
from tests.capped_server import capped_command
from tests.requirements import require_tool
from tests.servers import HOST, REPLACEMENT, Server, free_port, reference, serving

MIB = 1 << 20


@pytest.fixture(params=["cacheserver", "memcached"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that has nothing stored."""
    if request.param == "memcached":
        require_tool("memcached")
    with serving("-t", "1") if request.param == "cacheserver" else reference("-t", "1") as server:
        yield server


def address(server: Server) -> str:
    assert isinstance(server.address, tuple)
    return f"{server.address[0]}:{server.address[1]}"


@pytest.mark.parametrize("window", [1, 16])
@pytest.mark.parametrize("classic", [False, True])
def test_where_all_fits_only_the_first_request_for_a_key_misses(
    fresh: Server, window: int, classic: bool
) -> None:
    dice = random.Random(window)
    keys = array("q", (dice.randrange(300) for _ in range(4000)))  # many come again in the same window
    with Wire(address(fresh)) as wire:
        tally = replay(
            wire, [Block(keys[:1000]), Block(keys[1000:])], Values(50), window=window, classic=classic
        )
    distinct = set(keys)
    assert (tally.requests, tally.hits, tally.refused) == (4000, 4000 - len(distinct), 0)
    with fresh.connect() as wire_:
        assert wire_.get(key_name(keys[0])) == b"v" * 50
    stats = fresh.stats()
    assert int(stats["get_hits"]) - 1 == tally.hits
    assert int(stats["get_misses"]) == int(stats["cmd_set"]) == int(stats["curr_items"]) == len(distinct)


def test_values_have_the_sizes_that_the_trace_tells(fresh: Server) -> None:
    block = Block(array("q", [1, 2, 3, 2]), array("q", [0, 70_000, 3_000_000, 5]))
    with Wire(address(fresh)) as wire:
        tally = replay(wire, [block], Values(factor=2.0))
    assert (tally.requests, tally.hits, tally.refused) == (4, 1, 0)
    with fresh.connect() as wire_:
        found = wire_.get_many([key_name(key) for key in (1, 2, 3)])
    assert [len(found[key_name(key)]) for key in (1, 2, 3)] == [0, 140_000, 1_000_000]


def test_what_a_server_refuses_is_counted_and_asked_for_again(fresh: Server) -> None:
    with Wire(address(fresh)) as wire:
        block = Block(array("q", [1, 1, 2]), array("q", [2 * MIB, 2 * MIB, 1]))
        tally = replay(wire, [block], Values(largest=2 * MIB), window=1)
    assert (tally.requests, tally.hits, tally.refused) == (3, 0, 2)


@pytest.mark.skipif(bool(REPLACEMENT), reason="the store of another server cannot be capped")
def test_the_store_hits_as_often_over_a_socket_as_in_process() -> None:
    """Equal items, ten times as many keys as fit."""
    capacity, size = 6 * MIB - 1, 2500
    blocks = list(first(make("zipf:keys=20000,skew=0.8"), 100_000))
    names = [key_name(key) for key, _ in requests(blocks)]
    stores = [Store(capacity=capacity) for _ in range(5)]  # each with its own hash key
    inside = sum(in_process(store, names, None, size) for store in stores) / len(stores) / len(names)
    store = stores[0]
    assert 0.2 < inside < 0.8  # the store is full: what it evicts decides
    assert store.snapshot()["evictions"] > 10_000
    port = free_port()
    with (
        Server(capped_command(port, capacity, "-t", "1"), (HOST, port)) as server,
        Wire(address(server)) as wire,
    ):
        tally = replay(wire, blocks, Values(size))
        assert int(server.stats()["curr_items"]) == store.snapshot()["curr_items"]
    assert tally.ratio == pytest.approx(inside, abs=0.005)


def test_the_program_prints_one_line_or_one_complaint(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([address(server), "loop:keys=10", "--requests", "100"]) == 0
    port = int(address(server).rpartition(":")[2])
    assert capsys.readouterr().out.startswith("100 requests, 90 hits, hit ratio 0.9000, 0 refused; ")
    for arguments in (
        [f"{HOST}:{port + 65536}", "loop:keys=10", "--requests", "1"],  # a resolver takes it modulo 65536
        [f"{HOST}:{free_port()}", "loop"],
        ["somewhere", "loop"],
        [address(server), "no-such-file"],
        [address(server), __file__],
    ):
        assert main(arguments) == 1
        complaint = capsys.readouterr().err
        assert complaint.startswith("replay: ")
        assert complaint.count("\n") == 1


class Stranger(socketserver.StreamRequestHandler):
    """Something that is no memcached server."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"ERROR\r\nHTTP/1.1 400 Bad Request\r\n")


def test_a_server_of_another_kind_is_told_apart() -> None:
    with socketserver.TCPServer((HOST, 0), Stranger) as stranger:
        threading.Thread(target=stranger.handle_request, daemon=True).start()
        with (
            Wire(f"{HOST}:{stranger.server_address[1]}") as wire,
            pytest.raises(WireError, match="memcached"),
        ):
            replay(wire, [Block(array("q", [1]))], Values())
