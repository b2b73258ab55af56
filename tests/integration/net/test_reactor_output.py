"""What goes out: partial sends of mixed replies, back-pressure, and the bounds on unsent output."""

import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from cacheserver.net.budget import Budget

MakeRig = Callable[..., Any]
pytestmark = pytest.mark.parametrize("make_rig", ["plain", "tls"], indirect=True)


def pattern(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def values(seed: int, count: int) -> dict[bytes, bytes]:
    """Values of 0 bytes to 1 MiB, small and large mixed so that replies alternate between text and spans."""
    rng = random.Random(seed)
    sizes = [0, 1, 2047, 2048, 2049, 70000, 300000, (1 << 20) - 512]
    sizes += [int(2 ** rng.uniform(0, 19)) for _ in range(count - len(sizes))]
    rng.shuffle(sizes)
    return {b"key%d" % i: pattern(size, seed * 1000 + i) for i, size in enumerate(sizes)}


def reply(data: dict[bytes, bytes], keys: list[bytes]) -> bytes:
    found = (b"VALUE %s 0 %d\r\n%s\r\n" % (k, len(data[k]), data[k]) for k in keys)
    return b"".join(found) + b"END\r\n"


@pytest.mark.parametrize("budget", [64 << 20, 256 << 10], ids=["copied", "pinned"])
@pytest.mark.parametrize("piece", [997, 65536])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_slow_reader_gets_every_byte_of_mixed_multigets(
    make_rig: MakeRig, budget: int, piece: int, kind: str
) -> None:
    rig = make_rig(max_output=Budget(budget))
    writer = rig.connect()
    reader = rig.connect(rcvbuf=4096, sndbuf=8192) if kind == "tcp" else rig.connect_unix()
    data = values(piece, 30)
    for key, value in data.items():
        rig.store(writer, key, value)
    rng = random.Random(budget + piece)
    expected = b""
    requests = b""
    for count in (30, 1, 7, 19):
        keys = rng.choices(list(data), k=count)
        requests += b"get " + b" ".join(keys) + b"\r\n"
        expected += reply(data, keys)
    requests += b"version\r\n"
    rig.send(reader, requests)
    got = b""
    while len(got) < len(expected):
        want = min(rng.randrange(1, 400000), len(expected) - len(got))
        part = rig.read(reader, want, piece)
        assert part == expected[len(got) : len(got) + want], f"differs after byte {len(got)}"
        got += part
    version = rig.read(reader, len(b"VERSION "))
    assert version == b"VERSION "
    rig.pump_all()
    counters = rig.reactor.counters()
    assert counters["pending_bytes"] == counters["pinned_bytes"] == counters["carry_bytes"] == 0


@pytest.mark.parametrize("budget", [64 << 20, 256 << 10], ids=["copied", "pinned"])
def test_value_overwritten_while_it_is_on_its_way_arrives_as_it_was(make_rig: MakeRig, budget: int) -> None:
    rig = make_rig(max_output=Budget(budget))
    writer, reader = rig.connect(), rig.connect(rcvbuf=4096, sndbuf=8192)
    old = pattern(900000, 1)
    rig.store(writer, b"k", old)
    rig.send(reader, b"get k\r\n")
    for seed in range(2, 6):
        rig.store(writer, b"k", pattern(900000, seed))
    assert rig.read(reader, len(reply({b"k": old}, [b"k"]))) == reply({b"k": old}, [b"k"])


def test_a_number_that_is_on_its_way_arrives_as_it_was_and_keeps_its_length(rig: Any) -> None:
    client = rig.connect()
    for size in (2, 20, 5000, 60_000):
        values = [number.ljust(size) for number in (b"97", b"98", b"9", b"5")]
        rig.store(client, b"a", values[0])
        ask = b"get a\r\nincr a 1\r\nget a\r\ndecr a 89\r\nget a\r\nma a D4 MD v\r\nget a\r\n"
        parts = [reply({b"a": value}, [b"a"]) for value in values]
        expected = b"98\r\n".join(parts[:2]) + b"9\r\n" + parts[2] + b"VA 1\r\n5\r\n" + parts[3]
        rig.ask(client, ask, expected)


def test_unsent_bytes_are_copied_up_to_a_bound_and_pinned_beyond(rig: Any) -> None:
    writer, reader = rig.connect(), rig.connect(rcvbuf=4096, sndbuf=8192)
    data = {b"k%d" % i: pattern(1000000, i) for i in range(3)}
    for key, value in data.items():
        rig.store(writer, key, value)
    rig.send(reader, b"get k0 k1\r\n")
    counters = rig.reactor.counters()
    assert 0 < counters["pending_bytes"] <= (1 << 20)
    assert counters["pinned_bytes"] >= 900000
    assert counters["pending_bytes"] + counters["pinned_bytes"] > 1900000
    assert rig.reactor.relieve(False) == 0
    assert rig.reactor.relieve(True) == counters["pinned_bytes"]
    after = rig.reactor.counters()
    assert after["pending_bytes"] == after["pinned_bytes"] == 0
    assert after["curr_connections"] == 1
    rig.ask(writer, b"get none\r\n", b"END\r\n")


def test_relieve_closes_the_largest_first_and_stops_at_the_target(make_rig: MakeRig) -> None:
    rig = make_rig(max_output=Budget(64 << 10))
    writer = rig.connect()
    small, large = rig.connect(rcvbuf=4096, sndbuf=8192), rig.connect(rcvbuf=4096, sndbuf=8192)
    for key, size in ((b"small", 200000), (b"large", 800000)):
        rig.store(writer, key, pattern(size, size))
    rig.send(small, b"get small\r\n")
    rig.send(large, b"get large\r\n")
    released = rig.reactor.relieve(True, 1)
    assert 600000 < released <= 800000
    assert rig.reactor.counters()["pressure_kicks"] == 1
    whole = reply({b"small": pattern(200000, 200000)}, [b"small"])
    assert rig.read(small, len(whole)) == whole


def test_client_that_does_not_read_is_not_read_from(rig: Any) -> None:
    writer, deaf = rig.connect(), rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.store(writer, b"k", pattern(100000, 1))
    request = b"get k\r\n" * 10000
    sent = 0
    for _ in range(50):
        try:
            sent += deaf.send(request[sent % 7 :])
        except BlockingIOError:
            break
        rig.pump_all()
    counters = rig.reactor.counters()
    assert counters["pending_bytes"] <= (1 << 20) + (1 << 16)
    assert counters["carry_bytes"] <= 1 << 19
    before = counters["bytes_read"]
    rig.pump_all()
    assert rig.reactor.counters()["bytes_read"] == before
    rig.ask(writer, b"get none\r\n", b"END\r\n")


def test_long_reply_is_sent_in_parts_and_completely(rig: Any) -> None:
    client = rig.connect()
    value = pattern(1500, 5)
    rig.store(client, b"k", value)
    one = reply({b"k": value}, [b"k"])
    rig.send(client, b"get k\r\n" * 5000)
    got = rig.read(client, len(one) * 5000)
    assert got == one * 5000
    assert rig.reactor.counters()["conn_yields"] > 0
    rig.ask(client, b"get none\r\n", b"END\r\n")


def test_output_budget_closes_the_largest_holder_and_nobody_else(make_rig: MakeRig) -> None:
    rig = make_rig(max_output=Budget(600 << 10))
    client, other = rig.connect(), rig.connect()
    rig.store(client, b"k", b"v" * 1500)
    modest = rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.send(modest, b"get k\r\n" * 60)
    greedy = [rig.connect(rcvbuf=4096, sndbuf=8192) for _ in range(3)]
    for deaf in greedy:
        rig.send(deaf, b"get k\r\n" * 500)
        assert rig.reactor.counters()["pending_bytes"] <= 600 << 10
    assert rig.reactor.counters()["budget_kicks"] >= 1
    rig.ask(other, b"get none\r\n", b"END\r\n")
    one = reply({b"k": b"v" * 1500}, [b"k"])
    assert rig.read(modest, len(one) * 60) == one * 60


def test_pinned_budget_closes_the_largest_holder_and_follows_its_limit(make_rig: MakeRig) -> None:
    pinned = Budget(4 << 20)
    rig = make_rig(max_output=Budget(64 << 10), max_pinned=pinned)
    writer = rig.connect()
    rig.store(writer, b"k", pattern(900000, 1))
    rig.store(writer, b"m", pattern(300000, 2))
    modest = rig.connect(rcvbuf=4096, sndbuf=8192)
    rig.send(modest, b"get m\r\n")
    for _ in range(8):
        rig.send(rig.connect(rcvbuf=4096, sndbuf=8192), b"get k\r\n")
        assert rig.reactor.counters()["pinned_bytes"] == pinned.used <= 4 << 20
    assert rig.reactor.counters()["budget_kicks"] > 0
    pinned.limit = 1 << 20
    rig.reactor.sweep(0.0)
    assert 0 < pinned.used <= pinned.limit == 1 << 20
    whole = reply({b"m": pattern(300000, 2)}, [b"m"])
    assert rig.read(modest, len(whole)) == whole
    with pytest.raises(ValueError, match="positive"):
        pinned.limit = 0


def test_reader_that_vanishes_gives_everything_back(rig: Any) -> None:
    writer, reader = rig.connect(), rig.connect(rcvbuf=4096, sndbuf=8192)
    for key in (b"a", b"b"):
        rig.store(writer, key, pattern(1000000, 3))
    rig.send(reader, b"get a b\r\n")
    assert rig.reactor.counters()["pinned_bytes"] > 0
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reader.close()
    rig.pump(lambda: rig.reactor.connections == 1)
    counters = rig.reactor.counters()
    assert counters["pinned_bytes"] == counters["pending_bytes"] == 0
