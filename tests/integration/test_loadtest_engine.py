"""The load generator on live servers: this one, Debian's memcached, and Redis."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.address import LoadError, probe
from loadtest.results import Histogram, Second, value_at
from loadtest.run import prefill, run
from loadtest.workload import Load, Workload
from tests.requirements import require_tool
from tests.servers import HOST, Server, free_port, reference, serving

KEYS = 2000


def redis() -> Server:
    """Redis on a free port, with nothing on disk."""
    port = free_port()
    flags = ("--save", "", "--appendonly", "no", "--bind", HOST, "--port", str(port))
    server = Server([require_tool("redis-server"), *flags], None)
    server.address = (HOST, port)
    deadline = time.monotonic() + 20
    while True:
        try:
            probe(address(server), "resp")
            return server
        except LoadError:
            assert server.running(), server.errors()
            assert time.monotonic() < deadline
            time.sleep(0.02)


def address(server: Server) -> str:
    assert isinstance(server.address, tuple)
    return f"{server.address[0]}:{server.address[1]}"


@pytest.fixture(
    params=["cacheserver-text", "cacheserver-meta", "memcached-text", "memcached-meta", "redis-resp"]
)
def spoken(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    """A server and a protocol that it speaks."""
    name, _, protocol = request.param.partition("-")
    if name == "redis":
        with redis() as server:
            yield server, protocol
    else:
        with serving() if name == "cacheserver" else reference() as server:
            yield server, protocol


@pytest.mark.parametrize("multiget", [1, 20])
def test_every_value_comes_back_as_it_was_stored(spoken: tuple[Server, str], multiget: int) -> None:
    server, protocol = spoken
    workload = Workload(
        protocol,
        keys=KEYS,
        multiget=multiget,
        value_size="lognormal:200:1.5",
        verify=True,
        ttl="range:600-900",
    )
    assert prefill(address(server), workload, Load(connections=4)).total.stored == KEYS
    load = Load(connections=20, depth=8, processes=2, seconds=1.0, churn=50)
    result = run(address(server), workload, load)
    total = result.total
    assert (result.complete, result.problem) == (True, "")
    assert (total.errors, total.refused, total.wrong, total.misses) == (0, 0, 0, 0)
    assert total.gets == total.hits
    assert (
        0 <= total.hits - (total.requests - total.sets) * multiget < 20 * 8 * multiget
    )  # some are half answered
    assert total.stored == total.sets > 0
    assert total.reconnects > 0


def test_values_of_megabytes_are_verified_to_their_last_byte(spoken: tuple[Server, str]) -> None:
    server, protocol = spoken
    workload = Workload(protocol, keys=20, value_size="range:300000-1000000", verify=True, get_share=0.5)
    prefill(address(server), workload, Load(connections=2))
    total = run(address(server), workload, Load(connections=3, depth=4, seconds=1.0)).total
    assert (total.errors, total.refused, total.wrong, total.misses) == (0, 0, 0, 0)
    assert total.bytes_in > 300_000 * total.hits > 0
    assert total.bytes_out > 300_000 * total.sets > 0


def test_read_through_fills_what_it_misses(spoken: tuple[Server, str]) -> None:
    server, protocol = spoken
    workload = Workload(
        protocol, get_share=1.0, keys=KEYS, fill=True, multiget=3, popularity="scan", verify=True
    )
    total = run(address(server), workload, Load(connections=1, seconds=2.0)).total
    assert total.fills == total.stored == total.misses == KEYS
    assert total.hits > 0
    assert (total.errors, total.wrong) == (0, 0)


def test_what_the_server_counts_is_what_the_generator_counts() -> None:
    with serving() as server:
        result = run(address(server), Workload(keys=50), Load(connections=5, seconds=0.5, depth=3))
        stats, total = server.stats(), result.total
        in_flight = 5 * 3
        for name, count in (("get_hits", total.hits), ("get_misses", total.misses), ("cmd_set", total.sets)):
            assert 0 <= int(stats[name]) - count <= in_flight + 1  # and the probe's miss


@pytest.mark.parametrize("processes", [1, 2])
def test_the_rate_is_held(processes: int) -> None:
    """What was due and could not be sent counts: a busy machine is not the generator's fault."""
    with serving() as server:
        load = Load(connections=20, rate=2000, seconds=5.0, processes=processes)
        result = run(address(server), Workload(keys=KEYS), load)
    sent = result.total.requests + result.seconds[-1].backlog
    assert sent / result.elapsed == pytest.approx(2000, rel=0.01)


def test_a_staircase_of_rates_is_climbed() -> None:
    with serving() as server:
        load = Load(connections=20, rate=500, seconds=3.0, steps=((1.0, 2000), (2.0, 1000)))
        result = run(address(server), Workload(keys=KEYS), load)
    due = 500 + 2000 + 1000 * (result.elapsed - 2)
    assert result.total.requests + result.seconds[-1].backlog == pytest.approx(due, rel=0.02)


def above(histogram: Histogram, us: int) -> int:
    return sum(count for index, count in histogram.pairs() if value_at(index) > us)


def test_an_open_loop_shows_the_wait_that_a_closed_one_hides() -> None:
    """The server stands still for half a second: all that was due meanwhile has waited."""
    seen: list[Second] = []
    with serving() as server:

        def halt(second: Second) -> None:
            seen.append(second)
            if len(seen) == 1:
                server.signal(signal.SIGSTOP)
                time.sleep(0.5)
                server.signal(signal.SIGCONT)

        load = Load(connections=2, rate=1000, seconds=2.5)
        result = run(address(server), Workload(keys=KEYS), load, halt)
    assert result.complete
    assert above(result.latency, 50_000) > 350  # of 500 that fell due, those in the first 450 ms
    assert above(result.service, 50_000) < 50  # two were on their way, and few on a busy machine


def test_a_server_that_is_killed_leaves_a_partial_result() -> None:
    with serving() as server:
        load = Load(connections=10, seconds=60, processes=2)
        result = run(address(server), Workload(keys=KEYS), load, lambda _: server.signal(signal.SIGKILL))
    assert not result.complete
    assert result.problem.startswith("the server closed all connections at ")
    assert result.total.requests > 0
    assert len(result.seconds) >= 2


def test_a_unix_socket_is_an_address(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with Server([require_tool("memcached"), "-u", "root", "-s", str(path)], str(path)):
        total = run(str(path), Workload(keys=KEYS, verify=True), Load(connections=5, seconds=0.5)).total
    assert total.requests > 0
    assert (total.errors, total.wrong) == (0, 0)


def test_another_protocol_is_refused_before_the_load() -> None:
    with redis() as server, pytest.raises(LoadError, match="does not speak text"):
        run(address(server), Workload(), Load())
    with reference() as server, pytest.raises(LoadError, match="does not speak resp"):
        run(address(server), Workload("resp"), Load())
