"""However the network cuts a stream, the parser finds the same requests in it."""

from typing import Any

import pytest

from protocol.text import parse_request
from tests.fuzz.guard import GuardedBuffer

STREAM = b"".join(
    [
        b"get a\r\n",
        b"get " + b" ".join(b"key:%d" % i for i in range(300)) + b"\r\n",
        b"set " + b"k" * 250 + b" 1 0 5\r\nv\nl\r\n\r\n",
        b"set a x 0 4 noreply\r\nget \r\n",
        b"cas c 0 -1 0 18446744073709551615 noreply\r\n\r\n",
        b"\r\n",
        b"incr n 1\n",
        b" get a\r\n",
        b"delete k 0 noreply\r\n",
        b"gat 10 a b\r\n",
        b"stats settings\r\n",
        b"touch k x\r\n",
        b"append k 0 0 3\r\n\r\n\r\r\n",
        b"flush_all noreply\r\n",
        b"version\r\n",
        b"mg key v t T30 k Oabc q\r\n",
        b"ms Zm9v 7 b T0 F5 MA N30\r\nmn\r\nmn\n\r\n",
        b"ms a 4 q q\r\nmn\r\n\r\n",
        b"ma n D5 N0 !\n",
        b"mn\r\n",
    ]
)
OUTCOMES = 20
Outcome = tuple[str, dict[str, Any]]


def drop(fields: dict[str, Any]) -> int:
    """Bytes that belong to the request just parsed: its line and its data block."""
    block = fields["nbytes"] + 2 if "nbytes" in fields else fields.get("swallow", 0)
    return int(fields["length"]) + block


def outcomes(stream: bytes, size: int, guard: GuardedBuffer) -> list[Outcome]:
    """What a receiver sees that gets `size` bytes at a time and parses whatever it has."""
    found: list[Outcome] = []
    start = 0
    for have in [*range(size, len(stream), size), len(stream)]:
        while start < have:
            name, fields = parse_request(guard.place(stream[start:have]))
            if name == "NEED_DATA":
                assert b"\n" not in stream[start:have]
                break
            assert name in ("GOT_REQUEST", "BAD_REQUEST")
            found.append((name, fields))
            start += drop(fields)
    return found


@pytest.mark.parametrize("size", [1000, 100, 10, 5, 2, 1])
def test_every_fragment_size_finds_the_same_requests(size: int) -> None:
    guard = GuardedBuffer(len(STREAM))
    whole = outcomes(STREAM, len(STREAM), guard)
    assert len(whole) == OUTCOMES
    assert outcomes(STREAM, size, guard) == whole
