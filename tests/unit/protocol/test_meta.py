"""Which lines the meta grammar accepts, what it reads from them, and which error each mistake earns."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text import parse_request
from tests.fuzz.guard import GuardedBuffer
from tests.fuzz.parser import SIZE_MAX

FORMAT = b"CLIENT_ERROR bad command line format\r\n"
TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
DUPLICATE = b"CLIENT_ERROR duplicate flag\r\n"
UNKNOWN = b"CLIENT_ERROR invalid flag\r\n"
EITHER = b"CLIENT_ERROR invalid or duplicate flag\r\n"
MANY = b"CLIENT_ERROR options flags are too long\r\n"
OPAQUE = b"CLIENT_ERROR opaque token too long\r\n"
KEY = b"CLIENT_ERROR error decoding key\r\n"
LONG = b"k" * 250
LONG_ENCODED = base64.b64encode(LONG)
FLAGS_18 = b"s v f t l h c k O1 u P1 L1 T0 N0 R0 F1 q"
GUARD = GuardedBuffer(SIZE_MAX)


def fields(op: str, key: bytes = b"a", flags: str = "", returns: str = "", **more: object) -> dict[str, Any]:
    found: dict[str, Any] = {"op": op, "noreply": "q" in flags, "key": key, "encoded": "b" in flags, **more}
    return {**found, "flags": flags, "returns": returns}


ACCEPTED = [
    (b"mg a", fields("mg")),
    (b"mg   a   v  ", fields("mg", flags="v")),
    (b"mg " + LONG, fields("mg", LONG)),
    (b"mg s s v t f", fields("mg", b"s", "fstv", "stf")),
    (b"mg a f t v s", fields("mg", flags="fstv", returns="fts")),
    (b"mg a t T30 k", fields("mg", flags="Tkt", returns="tTk", T=30)),
    (b"mg a T-1 N0 R2147483647", fields("mg", flags="NRT", returns="TNR", T=-1, N=0, R=2**31 - 1)),
    (b"mg a q u v", fields("mg", flags="quv")),
    (b"mg a Oabc k", fields("mg", flags="Ok", returns="Ok", opaque=b"Oabc")),
    (b"mg a O", fields("mg", flags="O", returns="O", opaque=b"O")),
    (b"mg a O" + b"x" * 31, fields("mg", flags="O", returns="O", opaque=b"O" + b"x" * 31)),
    (b"mg a C1 E18446744073709551615", fields("mg", flags="CE", C=1, E=2**64 - 1)),
    (b"mg a P Lxyz", fields("mg", flags="LP")),
    (b"mg a M Ixyz", fields("mg", flags="IM", M=" ")),
    (b"mg Zm9v b", fields("mg", b"foo", "b")),
    (b"mg Zm9v v b k", fields("mg", b"foo", "bkv", "k")),
    (b"mg AAEg b", fields("mg", b"\0\1 ", "b")),
    (b"mg " + LONG_ENCODED + b" b", fields("mg", LONG, "b")),
    (
        b"mg a " + FLAGS_18 + b" C0",
        fields(
            "mg", flags="CFLNOPRTcfhklqstuv", returns="sftlhckOTNR", opaque=b"O1", C=0, F=1, N=0, R=0, T=0
        ),
    ),
    (b"ms a 5", fields("ms", nbytes=5)),
    (b"ms a 0 T0 F4294967295 c", fields("ms", flags="FTc", returns="Tc", nbytes=0, T=0, F=2**32 - 1)),
    (b"ms a 2147483645 F4294967296", fields("ms", flags="F", nbytes=2**31 - 3, F=0)),
    (b"ms a 5 MA N30 I C9", fields("ms", flags="CIMN", returns="N", nbytes=5, M="A", N=30, C=9)),
    (b"ms a 5 MSet", fields("ms", flags="M", nbytes=5, M="S")),
    (b"md a I T30 x q", fields("md", flags="ITqx", returns="T", T=30)),
    (b"ma a D5 J7 N30 M- v", fields("ma", flags="DJMNv", returns="N", D=5, J=7, N=30, M="-")),
    (b"ma a MIncr", fields("ma", flags="M", M="I")),
    (b"me a x", {"op": "me", "noreply": False, "key": b"a", "encoded": False}),
    (b"me Zm9v b", {"op": "me", "noreply": False, "key": b"foo", "encoded": True}),
    (b"mn", {"op": "mn", "noreply": False}),
    (b"mn a b q", {"op": "mn", "noreply": False}),
    (b"mx a", {"op": "command", "noreply": False, "line": b"mx a"}),
    (b"mgs a", {"op": "command", "noreply": False, "line": b"mgs a"}),
]


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize(("line", "expected"), ACCEPTED, ids=repr)
def test_an_accepted_line_yields_exactly_these_fields(
    line: bytes, expected: dict[str, Any], ending: bytes
) -> None:
    whole = {**expected, "length": len(line + ending)}
    assert parse_request(GUARD.place(line + ending)) == ("GOT_REQUEST", whole)
    # What follows the line is not looked at.
    assert parse_request(line + ending + b" v q Oabc\r\nmn\r\n") == ("GOT_REQUEST", whole)


# line, error, bytes of the data block to drop
REFUSED = [
    *((word, FORMAT, 0) for word in (b"mg", b"ms", b"md", b"ma", b"me", b"mg  ")),
    (b"ms a", FORMAT, 0),
    (b"ms a x", FORMAT, 0),
    (b"ms a -1", FORMAT, 0),
    (b"ms a 3x", FORMAT, 0),
    (b"ms a 2147483646", FORMAT, 0),
    (b"ms a q 5", FORMAT, 0),
    (b"mg " + LONG + b"k", FORMAT, 0),
    (b"ms " + LONG + b"k 5", FORMAT, 7),
    (b"ma " + LONG + b"k", EITHER, 0),
    (b"me " + LONG + b"k", FORMAT, 0),
    (b"mg " + base64.b64encode(LONG + b"k") + b" b", FORMAT, 0),
    (b"mg " + base64.b64encode(LONG + b"kkk") + b" b", FORMAT, 0),
    (b"mg " + LONG_ENCODED, FORMAT, 0),
    (b"mg a q v q", DUPLICATE, 0),
    (b"mg a T1 T2", DUPLICATE, 0),
    (b"mg a \xff", DUPLICATE, 0),
    (b"mg a !", UNKNOWN, 0),
    (b"mg a 5", UNKNOWN, 0),
    (b"mg a {", UNKNOWN, 0),
    (b"mg a S", UNKNOWN, 0),
    (b"mg a Tx q q", DUPLICATE, 0),
    *(
        (b"mg a " + token, TOKEN, 0)
        for token in (b"T", b"Tx", b"T1x", b"T2147483648", b"N", b"R-", b"C", b"C-1")
    ),
    *((b"mg a " + token, TOKEN, 0) for token in (b"C18446744073709551616", b"E", b"E1x", b"q T+1")),
    (b"mg a Fx", FORMAT, 0),
    (b"mg a F-1", FORMAT, 0),
    (b"mg a Dx", b"CLIENT_ERROR invalid numeric delta value\r\n", 0),
    (b"mg a J-1", b"CLIENT_ERROR invalid numeric initial value\r\n", 0),
    (b"mg a Dx Tx", TOKEN, 0),
    (b"mg a O" + b"x" * 32, OPAQUE, 0),
    (b"mg a q O" + b"x" * 300, OPAQUE, 0),
    (b"mg a b", KEY, 0),
    (b"mg Zm9vY b", KEY, 0),
    (b"md ==== q b", KEY, 0),
    (b"mg a " + FLAGS_18 + b" C0 E0", MANY, 0),
    (b"mg a" + b" q" * 30, MANY, 0),
    (b"ms a 5 " + FLAGS_18 + b" C0", MANY, 7),
    (b"ms a 5 q q", DUPLICATE, 7),
    (b"ms a 2147483645 !", UNKNOWN, 2**31 - 1),
    (b"ms a 5 Tx", TOKEN, 7),
    (b"ms a 5 b", KEY, 7),
    (b"ms a 5 O" + b"x" * 32, OPAQUE, 7),
    *(
        (b"ms a 5 " + mode, b"CLIENT_ERROR invalid mode for ms M token\r\n", 7)
        for mode in (b"M", b"Ms", b"MX")
    ),
    *((b"ma a " + mode, b"CLIENT_ERROR invalid mode for ma M token\r\n", 0) for mode in (b"M", b"Mi", b"MS")),
    *((b"ma a " + flag, EITHER, 0) for flag in (b"q q", b"!", b"Tx", b"Dx", b"b", b"q " * 20)),
    (b"ma a O" + b"x" * 32, OPAQUE, 0),
    (b"md a q q", DUPLICATE, 0),
    (b"me a b", FORMAT, 0),
]


@pytest.mark.parametrize(("line", "error", "swallow"), REFUSED, ids=repr)
def test_a_refused_line_earns_its_error_even_if_quiet(line: bytes, error: bytes, swallow: int) -> None:
    assert parse_request(GUARD.place(line + b"\r\n")) == (
        "BAD_REQUEST",
        {"error": error, "noreply": False, "swallow": swallow, "close": False, "length": len(line) + 2},
    )


@pytest.mark.parametrize("word", [b"mg ", b"ms ", b"mn "])
def test_a_long_line_without_an_end_is_hung_up_on(word: bytes) -> None:
    assert parse_request(word + b"k" * (2048 - len(word))) == ("NEED_DATA", {})
    name, found = parse_request(word + b"k" * (2049 - len(word)))
    assert (name, found["close"], found["error"]) == ("BAD_REQUEST", True, None)


NUMBERS = {
    **dict.fromkeys("TNR", st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys("CEDJ", st.integers(0, 2**64 - 1)),
    "F": st.integers(0, 2**32 - 1),
}
plain_key = st.binary(min_size=1, max_size=250).filter(lambda k: not set(k) & {0x0A, 0x0D, 0x20})


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A meta line with any flags in any order, and what must be read from it."""
    op = draw(st.sampled_from(["mg", "ms", "md", "ma"]))
    order = draw(st.lists(st.sampled_from("sftlhckvuqxIbOTNRCEDJF"), unique=True, max_size=17))
    found = fields(op, flags="".join(sorted(order)), returns="".join(f for f in order if f in "OkstcfhlTNR"))
    tokens = []
    for flag in order:
        token = flag.encode()
        if flag in NUMBERS:
            found[flag] = draw(NUMBERS[flag])
            token += b"%d" % found[flag]
        elif flag == "O":
            token = found["opaque"] = b"O" + draw(plain_key)[:31]
        tokens.append(token)
    found["key"] = draw(st.binary(min_size=1, max_size=250) if "b" in order else plain_key)
    head = [op.encode(), base64.b64encode(found["key"]) if "b" in order else found["key"]]
    if op == "ms":
        found["nbytes"] = draw(st.integers(0, 2**31 - 3))
        head.append(b"%d" % found["nbytes"])
    return b" ".join(head + tokens), found


@given(written(), st.sampled_from([b"\r\n", b"\n"]), st.binary(max_size=20))
def test_a_written_line_reads_back(line_and_fields: tuple[bytes, Any], ending: bytes, rest: bytes) -> None:
    line, expected = line_and_fields
    whole = {**expected, "length": len(line + ending)}
    assert parse_request(GUARD.place(line + ending + rest)) == ("GOT_REQUEST", whole)
