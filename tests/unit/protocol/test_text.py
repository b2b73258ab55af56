"""Which lines the classic grammar accepts, what it reads from them, and which error each mistake earns."""

import pytest

from protocol.text import parse_request

FORMAT = b"CLIENT_ERROR bad command line format\r\n"
EXPTIME = b"CLIENT_ERROR invalid exptime argument\r\n"
DELTA = b"CLIENT_ERROR invalid numeric delta argument\r\n"
USAGE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
ERROR = b"ERROR\r\n"
LONG = b"k" * 250
TOO_LONG = b"k" * 251


def store(op: str, key: bytes, flags: int, exptime: int, nbytes: int, **more: object) -> dict[str, object]:
    return {"op": op, "key": key, "flags": flags, "exptime": exptime, "nbytes": nbytes, **more}


ACCEPTED = [
    (b"get a", {"op": "get", "key": b"a", "keys": b"a"}),
    (b"get  a   bb c ", {"op": "get", "key": b"a", "keys": b"a   bb c "}),
    (b"gets a b", {"op": "gets", "key": b"a", "keys": b"a b"}),
    (b"get noreply", {"op": "get", "key": b"noreply", "keys": b"noreply"}),
    (b"get a\tb\x00c\xff", {"op": "get", "key": b"a\tb\x00c\xff", "keys": b"a\tb\x00c\xff"}),
    (b"get a\rb", {"op": "get", "key": b"a\rb", "keys": b"a\rb"}),
    (b"get a HTTP/1.1", {"op": "get", "key": b"a", "keys": b"a HTTP/1.1"}),
    (b"get " + TOO_LONG, {"op": "get", "key": TOO_LONG, "keys": TOO_LONG}),
    (b"gat 10 a b", {"op": "gat", "exptime": 10, "key": b"a", "keys": b"a b"}),
    (b"gats -1 a", {"op": "gats", "exptime": -1, "key": b"a", "keys": b"a"}),
    (b"set a 1 2 3", store("set", b"a", 1, 2, 3)),
    (b"add a 0 -1 0", store("add", b"a", 0, -1, 0)),
    (b"replace a 4294967295 2147483647 1", store("replace", b"a", 2**32 - 1, 2**31 - 1, 1)),
    (b"append a 0 -2147483648 2147483645", store("append", b"a", 0, -(2**31), 2**31 - 3)),
    (b"prepend " + LONG + b" 0 0 1", store("prepend", LONG, 0, 0, 1)),
    (b"set a 4294967296 0 1", store("set", b"a", 0, 0, 1)),
    (b"set a 0 0 1 noreply", store("set", b"a", 0, 0, 1, noreply=True)),
    (b"set a 0 0 1 noreply ", store("set", b"a", 0, 0, 1, noreply=True)),
    (b"set a 0 0 1 x noreply", store("set", b"a", 0, 0, 1, noreply=True)),
    (b"set a 0 0 1 noreply x", store("set", b"a", 0, 0, 1)),
    (b"set a 0 0 1 xnoreply", store("set", b"a", 0, 0, 1)),
    (b"set a 0 0 1 NOREPLY", store("set", b"a", 0, 0, 1)),
    (b"set noreply 0 0 1", store("set", b"noreply", 0, 0, 1)),
    (b"cas a 1 2 3 18446744073709551615", store("cas", b"a", 1, 2, 3, number=2**64 - 1)),
    (b"cas a 0 0 1 0 noreply", store("cas", b"a", 0, 0, 1, number=0, noreply=True)),
    (b"delete a", {"op": "delete", "key": b"a"}),
    (b"delete a 0", {"op": "delete", "key": b"a"}),
    (b"delete a 5", {"op": "delete", "key": b"a"}),
    (b"delete a noreply", {"op": "delete", "key": b"a", "noreply": True}),
    (b"delete a 0 noreply", {"op": "delete", "key": b"a", "noreply": True}),
    (b"delete noreply", {"op": "delete", "key": b"noreply"}),
    (b"delete noreply noreply", {"op": "delete", "key": b"noreply", "noreply": True}),
    (b"incr n 1", {"op": "incr", "key": b"n", "number": 1}),
    (b"decr n 5 noreply", {"op": "decr", "key": b"n", "number": 5, "noreply": True}),
    (b"incr n 18446744073709551615", {"op": "incr", "key": b"n", "number": 2**64 - 1}),
    (b"incr n 00000000000000000007", {"op": "incr", "key": b"n", "number": 7}),
    (b"incr n 1 2 3", {"op": "incr", "key": b"n", "number": 1}),
    (b"touch k 0", {"op": "touch", "key": b"k", "exptime": 0}),
    (b"touch k -1 noreply", {"op": "touch", "key": b"k", "exptime": -1, "noreply": True}),
    (b"flush_all", {"op": "flush_all", "has_exptime": False, "exptime": 0, "error": None}),
    (
        b"flush_all noreply",
        {"op": "flush_all", "has_exptime": False, "exptime": 0, "noreply": True, "error": None},
    ),
    (b"flush_all -5", {"op": "flush_all", "has_exptime": True, "exptime": -5, "error": None}),
    (
        b"flush_all 0 noreply",
        {"op": "flush_all", "has_exptime": True, "exptime": 0, "noreply": True, "error": None},
    ),
    (b"flush_all x", {"op": "flush_all", "has_exptime": True, "exptime": 0, "error": EXPTIME}),
    (b"flush_all noreply 1", {"op": "flush_all", "has_exptime": True, "exptime": 0, "error": EXPTIME}),
    (
        b"flush_all x noreply",
        {"op": "flush_all", "has_exptime": True, "exptime": 0, "noreply": True, "error": EXPTIME},
    ),
    (b"version", {"op": "version"}),
    (b"quit", {"op": "quit"}),
    (b"version x", {"op": "version"}),
    (b"quit x", {"op": "quit"}),
    (b"stats", {"op": "command", "line": b"stats"}),
    (b"cache_memlimit 64 noreply ", {"op": "command", "line": b"cache_memlimit 64 noreply"}),
    (b"GET a", {"op": "command", "line": b"GET a"}),
    (b"getx a", {"op": "command", "line": b"getx a"}),
    (b"versions", {"op": "command", "line": b"versions"}),
    (b"HTTP/1.1", {"op": "command", "line": b"HTTP/1.1"}),
]


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize(("line", "expected"), ACCEPTED, ids=repr)
def test_an_accepted_line_yields_exactly_these_fields(line: bytes, expected: dict, ending: bytes) -> None:
    whole = {"noreply": False, **expected, "length": len(line + ending)}
    assert parse_request(line + ending) == ("GOT_REQUEST", whole)
    # What follows the line is not looked at.
    assert parse_request(line + ending + b"noreply\r\nget z\r\n") == ("GOT_REQUEST", whole)


# line, error, bytes of the data block to drop, whether the client asked for silence
REFUSED = [
    (b"", FORMAT, 0, False),
    (b"a", FORMAT, 0, False),
    (b" ", FORMAT, 0, False),
    (b"  ", ERROR, 0, False),
    (b" get a", ERROR, 0, False),
    (b"get", FORMAT, 0, False),
    (b"get   ", FORMAT, 0, False),
    (b"gets", FORMAT, 0, False),
    (b"gat", FORMAT, 0, False),
    (b"gat 10", FORMAT, 0, False),
    (b"gat k", FORMAT, 0, False),
    (b"gat k k", EXPTIME, 0, False),
    (b"gats 1x k", EXPTIME, 0, False),
    (b"gat 2147483648 k", EXPTIME, 0, False),
    (b"gat - k", EXPTIME, 0, False),
    (b"set", FORMAT, 0, False),
    (b"set a 0 0", FORMAT, 0, False),
    (b"set a 0 0 noreply", FORMAT, 0, False),
    (b"set a 0 0 -1", FORMAT, 0, False),
    (b"set a 0 0 x noreply", FORMAT, 0, False),
    (b"set a 0 0 1x", FORMAT, 0, False),
    (b"set a 0 0 2147483646", FORMAT, 0, False),
    (b"set a 0 0 99999999999999999999999", FORMAT, 0, False),
    (b"set a x 0 10", FORMAT, 12, False),
    (b"set a -1 0 10", FORMAT, 12, False),
    (b"set a 18446744073709551616 0 10", FORMAT, 12, False),
    (b"set a 0 x 10", FORMAT, 12, False),
    (b"set a 0 2147483648 10", FORMAT, 12, False),
    (b"set a 0 -2147483649 10", FORMAT, 12, False),
    (b"set a 0 -x 10 noreply", FORMAT, 12, True),
    (b"set " + TOO_LONG + b" 0 0 10", FORMAT, 12, False),
    (b"set " + TOO_LONG + b" 0 0 10 noreply", FORMAT, 12, True),
    (b"set " + TOO_LONG + b" 0 0 2147483645", FORMAT, 2**31 - 1, False),
    (b"cas a 0 0 1", FORMAT, 3, False),
    (b"cas a 0 0 1 x", FORMAT, 3, False),
    (b"cas a 0 0 1 -1", FORMAT, 3, False),
    (b"cas a 0 0 1 18446744073709551616", FORMAT, 3, False),
    (b"cas a 0 0 1 noreply", FORMAT, 3, True),
    (b"delete", FORMAT, 0, False),
    (b"delete " + TOO_LONG, FORMAT, 0, False),
    (b"delete " + TOO_LONG + b" noreply", FORMAT, 0, True),
    (b"delete a x", USAGE, 0, False),
    (b"delete a 0 0", USAGE, 0, False),
    (b"delete a b c d e", USAGE, 0, False),
    (b"delete a noreply 0", USAGE, 0, False),
    (b"delete a 0 0 noreply", USAGE, 0, True),
    (b"incr n", FORMAT, 0, False),
    (b"incr " + TOO_LONG, FORMAT, 0, False),
    (b"incr " + TOO_LONG + b" 1 noreply", FORMAT, 0, True),
    (b"incr n x", DELTA, 0, False),
    (b"incr n -1", DELTA, 0, False),
    (b"incr n 1x", DELTA, 0, False),
    (b"incr n 18446744073709551616", DELTA, 0, False),
    (b"incr n 20000000000000000000", DELTA, 0, False),
    (b"incr n 99999999999999999999", DELTA, 0, False),
    (b"decr n x noreply", DELTA, 0, True),
    (b"touch k", FORMAT, 0, False),
    (b"touch k x", EXPTIME, 0, False),
    (b"touch k 1x", EXPTIME, 0, False),
    (b"touch k x noreply", EXPTIME, 0, True),
    (b"touch " + TOO_LONG + b" 1", FORMAT, 0, False),
]


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize(("line", "error", "swallow", "noreply"), REFUSED, ids=repr)
def test_a_refused_line_earns_its_error_and_keeps_the_stream_in_step(
    line: bytes, error: bytes, swallow: int, noreply: bool, ending: bytes
) -> None:
    assert parse_request(line + ending + b"0123456789\r\n") == (
        "BAD_REQUEST",
        {
            "error": error,
            "noreply": noreply,
            "swallow": swallow,
            "close": False,
            "length": len(line + ending),
        },
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x80\x00\x00\x03\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST /x HTTP/1.0 \n",
        b"x" * 2049,
        b" get " + b"k" * 2048,
        b"gat 0 " + b"k " * 1024,
        b"get " + b" " * 131072,
    ],
    ids=lambda data: repr(data[:16]),
)
def test_a_stranger_is_hung_up_on_without_a_word(data: bytes) -> None:
    name, fields = parse_request(data)
    assert name == "BAD_REQUEST"
    assert (fields["close"], fields["error"]) == (True, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"g", b"get a", b"get a\r", b"x" * 2048, b"get " + b"k " * 2000, b"gets " + b"k" * (131072 - 5)],
    ids=lambda data: repr(data[:16]),
)
def test_a_line_that_may_still_become_valid_waits(data: bytes) -> None:
    assert parse_request(data) == ("NEED_DATA", {})


@pytest.mark.parametrize("op", ["get", "gets"])
def test_an_endless_multiget_hands_out_the_keys_that_are_here(op: str) -> None:
    keys = b"key " * 40000
    head = op.encode() + b" "
    name, fields = parse_request(head + keys)
    assert name == "GOT_KEYS"
    assert fields == {"op": op, "noreply": False, "length": len(head + keys), "key": b"key", "keys": keys}


def test_a_whole_line_is_read_however_long_it_is() -> None:
    keys = b"key " * 40000
    name, fields = parse_request(b"get " + keys + b"\r\nget z\r\n")
    assert (name, fields["keys"], fields["length"]) == ("GOT_REQUEST", keys, len(keys) + 6)
