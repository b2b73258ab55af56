"""The invariant: whatever the bytes, parse() reads none beyond its buffer, makes no span outside the line,
and a request found in a buffer is the one found in every longer buffer that begins with the same bytes.

Run it for longer than the test does:  python -m tests.fuzz.parser --seconds 60 --seed 7
"""

import argparse
import random
import time
from collections.abc import Iterator
from typing import Any

from protocol.text import parse_request
from tests.fuzz.guard import GuardedBuffer

CORPUS = [
    b"get key\r\n",
    b"gets a bb  ccc \n",
    b"gat 100 a b\r\n",
    b"gats -1 k\r\n",
    b"set key 4294967295 2592001 10 noreply\r\n0123456789\r\n",
    b"cas key 0 -1 0 18446744073709551615\r\n\r\n",
    b"append key 0 0 2147483645\r\n",
    b"delete key 0 noreply\r\n",
    b"incr key 18446744073709551615 noreply\r\n",
    b"touch key 2147483647\r\n",
    b"flush_all 10 noreply\r\n",
    b"version\r\nquit\r\n",
    b"stats settings\r\n",
    b"POST / HTTP/1.1\r\n",
    b"\x80\x01\x00\x03\r\n",
    b" get a\r\n\r\nx\r\n",
    b"get " + b"k" * 251 + b"\r\n",
    b"get " + b"many keys " * 300,
    b"set " + b"k" * 250 + b" 0 0 1\r\nv\r\n",
    b"mg key s v f t T30 N30 R10 l h c k Oabc q u C5 E6\r\n",
    b"mg Zm9v b k v\r\n",
    b"ms key 10 T0 F5 I C9 E10 MA N30 c k s Oxyz\r\n0123456789\r\n",
    b"ms " + b"Zm9v" * 83 + b"Zg== 1 b\r\nv\r\n",
    b"md key I T30 x q C18446744073709551615\r\n",
    b"ma key N0 J5 D18446744073709551615 MD T-1 v t c\r\n",
    b"me Zm8= b\r\nmn\r\n",
]
WORDS = [
    b"noreply",
    b" noreply",
    b"HTTP/",
    b"9" * 21,
    b" b",
    b" O" + b"o" * 31,
    b" v v",
    b" T-1",
    b"mg ",
    b"ms ",
]
SPICE = [b" ", b"\r", b"\n", b"\r\n", b"\0", b"\t", b"-", b"0", b"\xff", *WORDS]
SIZE_MAX = 8192

ERRORS = {
    None,
    b"ERROR\r\n",
    b"CLIENT_ERROR bad command line format\r\n",
    b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
    b"CLIENT_ERROR invalid exptime argument\r\n",
    b"CLIENT_ERROR invalid numeric delta argument\r\n",
    b"CLIENT_ERROR duplicate flag\r\n",
    b"CLIENT_ERROR invalid flag\r\n",
    b"CLIENT_ERROR invalid or duplicate flag\r\n",
    b"CLIENT_ERROR options flags are too long\r\n",
    b"CLIENT_ERROR bad token in command line format\r\n",
    b"CLIENT_ERROR opaque token too long\r\n",
    b"CLIENT_ERROR error decoding key\r\n",
    b"CLIENT_ERROR invalid numeric initial value\r\n",
    b"CLIENT_ERROR invalid numeric delta value\r\n",
    b"CLIENT_ERROR invalid mode for ms M token\r\n",
    b"CLIENT_ERROR invalid mode for ma M token\r\n",
}


def mutations(rng: random.Random) -> Iterator[bytes]:
    """Corpus entries, bent at a few places; endless."""
    while True:
        data = bytearray(rng.choice(CORPUS))
        for _ in range(rng.randrange(5)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0 if at < len(data):
                    data[at] = rng.randrange(256)
                case 1:
                    data[at:at] = rng.choice(SPICE)
                case 2:
                    del data[at : at + rng.randrange(1, 8)]
                case 3:
                    data[at:] = rng.choice(CORPUS)[rng.randrange(4) :]
                case _:
                    data[at:at] = data[at : at + rng.randrange(1, 64)] * rng.randrange(1, 4)
        yield bytes(data[:SIZE_MAX])


def check_outcome(data: bytes, name: str, fields: dict[str, Any]) -> None:
    """What must hold for the outcome of parsing `data`, whichever it is."""
    end = data.find(b"\n")
    if name == "NEED_DATA":
        assert end < 0
        return
    length = fields["length"]
    assert 0 < length <= len(data)
    if name == "BAD_REQUEST":
        assert fields["error"] in ERRORS
        assert fields["error"] is not None or fields["close"]
        assert 0 <= fields["swallow"] <= 2**31 - 1
        if not fields["close"]:
            assert length == end + 1
        return
    assert name == "GOT_REQUEST"
    assert length == end + 1
    line = data[:length].removesuffix(b"\n").removesuffix(b"\r")
    decoded = fields.get("encoded", False)
    for span in ("key", "keys", "line", "opaque"):
        if span in fields:
            assert fields[span], f"{span} is empty"
            if span != "key" or not decoded:
                assert fields[span] in line
                assert b"\n" not in fields[span]
    if "key" in fields:
        assert decoded or b" " not in fields["key"]
        assert len(fields["key"]) <= 250 or "keys" in fields
    if "returns" in fields:
        assert set(fields["returns"]) == set(fields["flags"]) & set("OkstcfhlTNR")
        assert len(fields["returns"]) == len(set(fields["returns"]))
        assert 1 <= len(fields.get("opaque", b"O")) <= 32
    if "nbytes" in fields:
        assert 0 <= fields["nbytes"] <= 2**31 - 3


def check(data: bytes, cut: int, guard: GuardedBuffer) -> None:
    """Parse `data` and its first `cut` bytes, each against the end of memory, and compare."""
    name, fields = parse_request(guard.place(data))
    check_outcome(data, name, fields)
    early, early_fields = parse_request(guard.place(data[:cut]))
    check_outcome(data[:cut], early, early_fields)
    hung_up = early == "BAD_REQUEST" and early_fields["close"]
    if early != "NEED_DATA" and not hung_up:
        assert (early, early_fields) == (name, fields)


def run(seconds: float, seed: int) -> int:
    """Check mutations for about `seconds`; returns how many. An AssertionError names the bytes."""
    rng = random.Random(seed)
    guard = GuardedBuffer(SIZE_MAX)
    stop = time.monotonic() + seconds
    done = 0
    for data in mutations(rng):
        cut = rng.randrange(len(data) + 1)
        try:
            check(data, cut, guard)
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}, input {done}: {data!r} cut at {cut}: {failure}") from failure
        done += 1
        if done % 64 == 0 and time.monotonic() >= stop:
            return done
    return done


def main() -> None:
    options = argparse.ArgumentParser(
        description="Feed mutated requests to the parser, check its invariants."
    )
    options.add_argument("--seconds", type=float, default=5.0, help="how long to run (default 5)")
    options.add_argument("--seed", type=int, default=0, help="same seed, same inputs (default 0)")
    args = options.parse_args()
    print(f"{run(args.seconds, args.seed)} inputs, no violation")


if __name__ == "__main__":
    main()
