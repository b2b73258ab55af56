"""Properties of the classic grammar over generated requests and over noise."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.text import parse_request
from tests.fuzz.guard import GuardedBuffer
from tests.fuzz.parser import SIZE_MAX, check

GUARD = GuardedBuffer(SIZE_MAX)

key = st.binary(min_size=1, max_size=250).filter(lambda k: not set(k) & {0x0A, 0x0D, 0x20})
exptime = st.integers(-(2**31), 2**31 - 1)
u64 = st.integers(0, 2**64 - 1)
spaces = st.integers(1, 3).map(lambda n: b" " * n)


@st.composite
def storage(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    op = draw(st.sampled_from(["set", "add", "replace", "append", "prepend", "cas"]))
    fields: dict[str, Any] = {
        "op": op,
        "key": draw(key),
        "flags": draw(st.integers(0, 2**32 - 1)),
        "exptime": draw(exptime),
        "nbytes": draw(st.integers(0, 2**31 - 3)),
    }
    tokens = [op.encode(), fields["key"], *(b"%d" % fields[n] for n in ("flags", "exptime", "nbytes"))]
    if op == "cas":
        fields["number"] = draw(u64)
        tokens.append(b"%d" % fields["number"])
    fields["noreply"] = draw(st.booleans())
    if fields["noreply"]:
        tokens.append(b"noreply")
    return draw(spaces).join(tokens), fields


@st.composite
def arithmetic(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    op = draw(st.sampled_from(["incr", "decr"]))
    fields = {"op": op, "key": draw(key), "number": draw(u64), "noreply": draw(st.booleans())}
    tokens = [op.encode(), fields["key"], b"%d" % fields["number"], *[b"noreply"] * fields["noreply"]]
    return draw(spaces).join(tokens), fields


@given(st.one_of(storage(), arithmetic()), st.sampled_from([b"\r\n", b"\n"]), st.binary(max_size=20))
def test_a_written_request_reads_back(
    written: tuple[bytes, dict[str, Any]], ending: bytes, rest: bytes
) -> None:
    line, fields = written
    expected = ("GOT_REQUEST", {**fields, "length": len(line + ending)})
    assert parse_request(GUARD.place(line + ending + rest)) == expected


@given(st.lists(key, min_size=1, max_size=20), spaces)
def test_the_keys_of_a_get_are_all_there(keys: list[bytes], gap: bytes) -> None:
    name, fields = parse_request(GUARD.place(gap.join([b"get", *keys]) + b"\r\n"))
    assert name == "GOT_REQUEST"
    assert fields["key"] == keys[0]
    assert [k for k in fields["keys"].split(b" ") if k] == keys


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_noise_neither_crashes_nor_reads_beyond_the_end(data: bytes, cut: int) -> None:
    check(data, min(cut, len(data)), GUARD)
