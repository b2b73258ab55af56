"""The codec: requests byte by byte, and replies that come in pieces cut anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.engine.content import Names
from loadtest.engine.hearing import Hearing
from loadtest.sizes import table

TEXT, META, RESP = range(3)
KEYS, VALUES = table("fixed:6", 250), table("range:0-60", 1000)
NAMES = Names(b"k", KEYS, VALUES)


def hearing(protocol: int, **options: Any) -> Hearing:
    return Hearing(protocol, b"k", KEYS, VALUES, **options)


def value(protocol: int, number: int) -> bytes:
    """A right reply to a get of a key that is there."""
    data = NAMES.value(number, NAMES.size(number))
    head = {TEXT: b"VALUE %b 0 " % NAMES.key(number), META: b"VA ", RESP: b"$"}[protocol]
    return b"%b%d\r\n%b\r\n" % (head, len(data), data)


MISS = {TEXT: b"", META: b"EN\r\n", RESP: b"$-1\r\n"}
END = {TEXT: b"END\r\n", META: b"", RESP: b""}
TAKEN = {TEXT: b"STORED\r\n", META: b"HD\r\n", RESP: b"+OK\r\n"}
MEMORY = b"SERVER_ERROR out of memory storing object\r\n"
FULL = {TEXT: MEMORY, META: MEMORY, RESP: b"-OOM command not allowed\r\n"}
BROKEN = {TEXT: b"ERROR\r\n", META: b"CLIENT_ERROR bad\r\n", RESP: b"-ERR no\r\n"}


def test_requests_are_what_the_protocols_say() -> None:
    data = NAMES.value(4, 3)
    asked = hearing(TEXT, ttl=9)
    assert asked.get(1, 0xABC) == b"get k00001 k00abc\r\n"
    assert asked.set(4, 3) == b"set k00004 0 9 3\r\n" + data + b"\r\n"
    asked = hearing(META, ttl=9)
    assert asked.get(1, 2) == b"mg k00001 v\r\nmg k00002 v\r\n"
    assert asked.set(4, 3) == b"ms k00004 3 T9\r\n" + data + b"\r\n"
    assert hearing(META).set(4, 0) == b"ms k00004 0\r\n\r\n"
    asked = hearing(RESP, ttl=10)
    assert asked.get(1) == b"*2\r\n$3\r\nGET\r\n$6\r\nk00001\r\n"
    assert asked.get(1, 2) == b"*3\r\n$4\r\nMGET\r\n$6\r\nk00001\r\n$6\r\nk00002\r\n"
    ends = b"\r\n$2\r\nEX\r\n$2\r\n10\r\n"
    assert asked.set(4, 3) == b"*5\r\n$3\r\nSET\r\n$6\r\nk00004\r\n$3\r\n" + data + ends
    assert hearing(RESP).set(4, 3) == b"*3\r\n$3\r\nSET\r\n$6\r\nk00004\r\n$3\r\n" + data + b"\r\n"


@pytest.mark.parametrize("protocol", [TEXT, META, RESP])
@pytest.mark.parametrize("apart", [False, True])
def test_replies_mean_the_same_wherever_they_are_cut(protocol: int, apart: bool) -> None:
    several = b"*4\r\n" if protocol == RESP else b""
    stream = (
        (several + MISS[protocol] + value(protocol, 2) + value(protocol, 3) + MISS[protocol] + END[protocol])
        + (value(protocol, 5) + END[protocol] + MISS[protocol] + END[protocol])
        + (TAKEN[protocol] + FULL[protocol] + BROKEN[protocol] + BROKEN[protocol])
    )
    expected = {"requests": 7, "hits": 3, "misses": 3, "sets": 3, "stored": 1, "refused": 1, "errors": 2}
    for cut in range(len(stream)):
        heard = hearing(protocol, verify=apart, fill=apart)
        heard.get(1, 2, 3, 4)
        heard.get(5)
        heard.get(6)
        for number in (7, 8, 9):
            heard.set(number)
        heard.get(7)
        assert heard.hear(stream[:cut]) == heard.hear(stream[cut:]) == ""
        tally = heard.tally()
        assert {name: tally[name] for name in expected} == expected
        assert (tally["open"], tally["wrong"]) == (0, 0)
        assert heard.missed() == ([1, 4, 6] if apart else [])


def test_replies_mean_the_same_byte_by_byte() -> None:
    heard = hearing(TEXT, verify=True)
    heard.get(1, 2)
    for byte in value(TEXT, 1) + value(TEXT, 2) + END[TEXT]:
        assert heard.hear(bytes([byte])) == ""
    assert (heard.tally()["hits"], heard.tally()["wrong"], heard.tally()["open"]) == (2, 0, 0)


@pytest.mark.parametrize("protocol", [TEXT, META, RESP])
def test_one_flipped_byte_anywhere_in_a_value_is_noticed(protocol: int) -> None:
    number = next(number for number in range(100) if NAMES.size(number) > 20)
    reply = value(protocol, number)
    start = reply.index(b"\n") + 1
    for at in range(start, len(reply) - 2):
        heard = hearing(protocol, verify=True)
        heard.get(number)
        spoiled = bytearray(reply)
        spoiled[at] ^= 1
        assert heard.hear(bytes(spoiled) + END[protocol]) == ""
        assert (heard.tally()["wrong"], heard.tally()["hits"]) == (1, 1)


def test_a_value_of_another_key_or_of_another_length_is_wrong() -> None:
    heard = hearing(META, verify=True)
    heard.get(1)
    heard.get(2)
    data = NAMES.value(2, NAMES.size(2) + 1)
    assert heard.hear(value(META, 5) + b"VA %d\r\n%b\r\n" % (len(data), data)) == ""
    assert heard.tally()["wrong"] == 2
    heard = hearing(TEXT, verify=True)
    heard.get(1)
    assert "VALUE k00005" in heard.hear(value(TEXT, 5))


def test_a_key_asked_for_twice_in_a_multiget_comes_twice() -> None:
    heard = hearing(TEXT, verify=True)
    heard.get(1, 1, 2)
    assert heard.hear(value(TEXT, 1) * 2 + END[TEXT]) == ""
    assert (heard.tally()["hits"], heard.tally()["misses"]) == (2, 1)


@pytest.mark.parametrize(
    ("protocol", "reply"),
    [
        (TEXT, b"STORED\r\n"),
        (TEXT, b"VALUE k00001 0 x\r\n"),
        (TEXT, b"VALUE k00001 0 -1\r\n"),
        (TEXT, b"HTTP/1.1 400 Bad Request\r\n"),
        (TEXT, b"VALUE k00001 0 1\r\nabc"),
        (TEXT, b"x" * 2000),
        (META, b"END\r\n"),
        (META, b"VA \r\n"),
        (RESP, b"+OK\r\n"),
        (RESP, b"$\r\n"),
        (RESP, b"*1\r\n"),
        (RESP, b"\r\n"),
    ],
)
def test_a_reply_that_the_request_cannot_have_is_trouble(protocol: int, reply: bytes) -> None:
    heard = hearing(protocol)
    heard.get(1)
    assert heard.hear(reply).startswith("strange: ")


def test_a_reply_to_nothing_is_trouble() -> None:
    assert hearing(TEXT).hear(b"ERROR Too many open connections\r\n") == (
        "unasked: ERROR Too many open connections"
    )


def test_more_values_than_keys_are_trouble() -> None:
    heard = hearing(TEXT)
    heard.get(1)
    assert heard.hear(value(TEXT, 1) * 2).startswith("strange: VALUE")


def test_no_two_keys_have_one_name_and_each_keeps_its_value() -> None:
    names = Names(b"key", table("range:4-30", 250), table("lognormal:100:1", 1000))
    found = {names.key(number) for number in range(20_000)}
    assert len(found) == 20_000
    assert {len(name) for name in found} >= set(range(8, 31))
    assert names.key((1 << 64) - 1) == b"key".ljust(len(names.key((1 << 64) - 1)) - 16, b"0") + b"f" * 16
    assert len({names.value(number, 100) for number in range(20_000)}) == 20_000


@pytest.mark.parametrize("prefix", [b"", b"k", b"prefix:", b"p" * 200])
@pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 31, 32, 33, 48, 250])
def test_a_name_is_prefix_zeros_and_hexadecimal_digits(prefix: bytes, size: int) -> None:
    names = Names(prefix, table(f"fixed:{size}", 250), VALUES)
    for number in (0, 9, 0xA, 0xFEDC, 0xFFFFFFFF, 0x100000000, 0x123456789ABCDEF, (1 << 64) - 1):
        assert names.key(number) == prefix + (b"%x" % number).rjust(size - len(prefix), b"0")


def test_a_large_value_is_told_piece_by_piece() -> None:
    data = NAMES.value(9, 3_000_000)
    for at in (0, 3, 8, 1_048_575, 1_048_576, 2_999_999):
        assert NAMES.holds(9, at, data[at : at + 1_500_000])
        assert not NAMES.holds(8, at, data[at : at + 1_500_000])
    assert not NAMES.holds(9, 0, data[:-1] + bytes([data[-1] ^ 1]))
