"""What the meta commands promise beyond single replies: one winner, unique numbers, counters, large values.

Knows: the wire. The replies themselves are compared with memcached's in test_differential.
"""

from __future__ import annotations

import pytest

from tests.servers import Server, serving
from tests.wire import Wire

COUNTERS = {
    *("cmd_meta", "cmd_get", "cmd_set", "cmd_touch", "store_too_large"),
    *("cas_hits", "cas_misses", "cas_badval"),
    *(f"{what}_{how}" for what in ("get", "touch", "delete", "incr", "decr") for how in ("hits", "misses")),
}

# A request and what it counts; each follows those above it. cmd_get counts the reads that are no touches.
COUNTED: list[tuple[bytes, dict[str, int]]] = [
    (b"mg k\r\n", {"cmd_get": 1, "get_misses": 1}),
    (b"mg k T30\r\n", {"cmd_get": 1, "get_misses": 1}),
    (b"ms k 1\r\n1\r\n", {"cmd_set": 1}),
    (b"mg k v\r\n", {"cmd_get": 1, "get_hits": 1}),
    (b"mg k T30\r\n", {"cmd_touch": 1, "touch_hits": 1}),
    (b"mg new N30\r\n", {"cmd_get": 1, "get_hits": 1}),
    (b"ma k\r\n", {"incr_hits": 1}),
    (b"ma k MD\r\n", {"decr_hits": 1}),
    (b"ma none\r\n", {"incr_misses": 1}),
    (b"ma none MD\r\n", {"decr_misses": 1}),
    (b"ma number N0\r\n", {}),
    (b"ma k C999999\r\n", {}),
    (b"ms k 1 C999999\r\n1\r\n", {"cmd_set": 1, "cas_badval": 1}),
    (b"ms none 1 C999999\r\n1\r\n", {"cmd_set": 1, "cas_misses": 1}),
    (b"ms k 1 MA C999999\r\n1\r\n", {"cmd_set": 1}),
    (b"ms k 1 MA\r\n1\r\n", {"cmd_set": 1}),
    (b"ms k 1 ME\r\n1\r\n", {"cmd_set": 1}),
    (b"ms large 2000000\r\n" + b"v" * 2000000 + b"\r\n", {"store_too_large": 1}),
    (b"md k C999999\r\n", {"delete_misses": 1}),
    (b"md k I\r\n", {}),
    (b"md k\r\n", {"delete_hits": 1}),
    (b"md k\r\n", {"delete_misses": 1}),
    (b"me new\r\n", {"cmd_meta": 1}),
    (b"me none\r\n", {"cmd_meta": 1}),
    (b"mg k q q\r\n", {}),
]


def until_mn(wire: Wire) -> bytes:
    wire.send(b"mn\r\n")
    reply, closed = wire.read_until(b"MN\r\n")
    assert not closed
    return reply


@pytest.mark.parametrize("which", ["server", "memcached"])
def test_meta_commands_count_as_what_they_do(which: str, request: pytest.FixtureRequest) -> None:
    with request.getfixturevalue(which).connect() as wire:
        wire.ask(b"flush_all\r\n")
        before = wire.stats()
        for line, expected in COUNTED:
            wire.send(line)
            until_mn(wire)
            after = wire.stats()
            found = {name: int(after[name]) - int(before[name]) for name in COUNTERS}
            assert {name: n for name, n in found.items() if n} == expected, line[:40]
            before = after


def test_of_many_readers_one_wins(server: Server) -> None:
    wires = [server.connect() for _ in range(24)]
    for round_ in range(30):
        for wire in wires:
            wire.send(b"mg lease%d N30 v\r\nmn\r\n" % round_)
        replies = [wire.read_until(b"MN\r\n")[0] for wire in wires]
        assert sorted(replies) == [b"VA 0 W\r\n\r\n"] + [b"VA 0 Z\r\n\r\n"] * 23
    for wire in wires:
        wire.close()


def unique(wire: Wire, key: bytes) -> int:
    return int(wire.ask(b"mg %b c\r\n" % key).split()[1].removeprefix(b"c"))


def test_numbers_of_the_server_never_meet_those_of_a_client(server: Server) -> None:
    with server.connect() as wire:
        wire.set(b"k", b"0")
        chosen = unique(wire, b"k") + 400
        assert wire.ask(b"ms k 1 E%d\r\nx\r\n" % chosen) == b"HD"
        assert unique(wire, b"k") == chosen
        later = set()
        for _ in range(500):
            wire.set(b"k", b"1")
            later.add(unique(wire, b"k"))
        assert len(later) == 500
        assert chosen not in later, "a client that holds the chosen number could overwrite another's value"


@pytest.mark.parametrize("chosen", [0, 1, 2**63, 2**64 - 1])
def test_any_number_may_be_chosen(chosen: int, server: Server) -> None:
    with server.connect() as wire:
        assert wire.ask(b"ms k 1 c E%d\r\nx\r\n" % chosen) == b"HD c%d" % chosen
        assert wire.ask(b"md k I E%d\r\n" % chosen) == b"HD"
        assert unique(wire, b"k") == chosen
        numbers = set()
        for _ in range(100):
            wire.set(b"k", b"1")
            numbers.add(unique(wire, b"k"))
        assert len(numbers - {chosen}) == 100


def test_no_client_drives_the_numbers_of_the_server_around() -> None:
    with serving("-t", "1") as server, server.connect() as wire:

        def next_number() -> int:
            wire.set(b"k", b"0")
            return unique(wire, b"k")

        before = [next_number() for _ in range(20)]
        step = 2**48 - 4096  # the server lets larger steps be
        for begin in range(before[-1], 2**64, 1000 * step):
            steps = range(begin, min(begin + 1000 * step, 2**64), step)
            wire.send(b"".join(b"ms k 1 q E%d\r\nx\r\n" % chosen for chosen in steps))
            assert until_mn(wire) == b""
        assert wire.ask(b"ms k 1 E%d\r\nx\r\n" % (2**64 - 1)) == b"HD"
        numbers = before + [next_number() for _ in range(20)]
        assert numbers == sorted(set(numbers)), (
            "a number that comes twice lets a client overwrite another's value"
        )


@pytest.mark.parametrize("size", [3000, 5000, 70_000, 600_000])
@pytest.mark.parametrize("mode", [b"MS", b"MA N30"])
def test_the_reply_to_a_value_in_pieces_has_every_flag(size: int, mode: bytes, server: Server) -> None:
    value = b"v" * size
    request = b"ms Zm9v %d b Oopaque s k %b c\r\n%b\r\n" % (size, mode, value)
    with server.connect() as wire:
        for at in range(0, len(request), 1 + len(request) // 7):
            wire.send(request[at : at + 1 + len(request) // 7])
        assert wire.read_line().rpartition(b" ")[0] == b"HD Oopaque s%d kZm9v b" % size
        assert wire.get(b"foo") == value


def test_a_quiet_pipeline_says_nothing_but_what_is_there(server: Server) -> None:
    with server.connect() as wire:
        wire.send(b"".join(b"ms k%d 1 q\r\nv\r\n" % i for i in range(0, 1000, 10)))
        wire.send(b"".join(b"mg k%d k q\r\n" % i for i in range(1000)))
        hits = until_mn(wire).split(b"\r\n")
        assert hits == [*(b"HD kk%d" % i for i in range(0, 1000, 10)), b""]


def test_a_refused_block_is_swallowed_whatever_its_size(server: Server) -> None:
    with server.connect() as wire:
        wire.set(b"k", b"old")
        for size in (0, 5, 5000, 300_000, 3_000_000):
            wire.send(b"ms k %d q !\r\n%b\r\n" % (size, b"mn\r\n" * (size // 4) + b"x" * (size % 4)))
            assert until_mn(wire) == b"CLIENT_ERROR invalid flag\r\n"
        assert wire.get(b"k") == b"old"
