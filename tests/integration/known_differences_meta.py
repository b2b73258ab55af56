"""Where the meta commands of this server, which gives the replies of memcached 1.6.45, differ from 1.6.18.

Knows: a table as in `known_differences`, for the exchanges of the meta modules. Replies are normalised:
see `conversation`. Where this server means to differ from both versions, the reason says so.
"""

from __future__ import annotations

from tests.integration.known_differences import BAD_DATA, BAD_FORMAT, NUMBER, SWALLOWS, TOO_FEW

STORED = b"STORED\r\n"
HD = b"HD\r\n"
EX = b"EX\r\n"
NF = b"NF\r\n"
EN = b"EN\r\n"
ONE = b"VA 3\r\none\r\n"
FIVE = b"VA 1\r\n5\r\n"
X = b"VA 1\r\nx\r\n"
CAS = b"HD c#1\r\n"

DUPLICATE = b"CLIENT_ERROR duplicate flag\r\n"
UNKNOWN = b"CLIENT_ERROR invalid flag\r\n"
EITHER = b"CLIENT_ERROR invalid or duplicate flag\r\n"
TOO_MANY = b"CLIENT_ERROR options flags are too long\r\n"
BAD_TOKEN = b"CLIENT_ERROR bad token in command line format\r\n"
BAD_KEY = b"CLIENT_ERROR error decoding key\r\n"
BAD_SET_MODE = b"CLIENT_ERROR invalid mode for ms M token\r\n"
BAD_ARITHMETIC_MODE = b"CLIENT_ERROR invalid mode for ma M token\r\n"

NAMED = "1.6.45 says what is wrong with the flags of md; 1.6.18 says the same of every mistake"
ALIKE = "1.6.45 says the same of every mistake in a line of ma, be it a long key or too many flags"
MANY = "1.6.45 allows 20 tokens, 1.6.18 one less, and there the words of the error depend on the command"
FIRST_LETTER = "1.6.45 looks at the first letter of a mode only; 1.6.18 wants exactly one"
STRICT = "base64 is read strictly here; both versions skip other letters, and what stands behind the padding"
NOTHING_DONE = (
    "a refused line changes nothing here; both versions count first and look at the opaque token then"
)
SIZES = "1.6.45 knows s with ms: the size of the value after the command"
CREATES = "1.6.45 lets append and prepend create an item, which N asks for"
UNCHANGED = "1.6.45 sends no value that the client has by its cas; 1.6.18 ignores C with mg"
NUMBERED = "1.6.45 lets the client choose the cas with E; 1.6.18 does not know the flag"
EMPTIED = (
    "1.6.45 knows x with md: the value and the client flags go, the item stays. That its time to live stays "
    "where the line has no T is this server's own: in 1.6.45 it would never expire"
)
QUIET = "1.6.45 hides HD, and VA, of a quiet ma that has created its item, too"
NONE_LEFT = "an item that its line has expired has 0 seconds left; the difference wraps around in 1.6.18"
MOVED = (
    "T is for the number as it is now; 1.6.18 gives the time to the item that the longer number has replaced"
)
TIME_LEFT = "1.6.45 shows the seconds an item has left; 1.6.18 the negative of them"
LONGER_KEYS = "1.6.45 limits a key to 250 bytes after decoding; 1.6.18 limits its base64 to 250 characters"
STAYS_BINARY = (
    "a binary key stays one here, whatever creates or rewrites its item: as it is it could not be sent"
)


def md_token(token: str, reply: bytes) -> tuple[str, tuple[list[bytes], str]]:
    return f"md with a bad token {token}", ([STORED, reply, FIVE], NAMED)


_FRAMING = {
    **{f"{word} without a key": ([BAD_FORMAT], TOO_FEW) for word in ("mg", "ms", "md", "ma")},
    "unknown meta commands": ([b"ERROR\r\n", b"ERROR\r\n", BAD_FORMAT, b"ERROR\r\n", BAD_FORMAT], TOO_FEW),
    "ma with a key of 251 bytes": ([EITHER, b"MN\r\n"], ALIKE),
    "ms with a key of 251 bytes": ([BAD_FORMAT, EN], SWALLOWS),
    "ms with a bad end of data": ([STORED, BAD_DATA, ONE], TOO_FEW),
    "ms q with a bad end of data": ([STORED, BAD_DATA, ONE], TOO_FEW),
    "ms with a bad end of a large value": ([STORED, BAD_DATA, ONE], TOO_FEW),
}

_FLAGS = {
    "md with a flag twice": ([STORED, DUPLICATE, FIVE], NAMED),
    "md with a token twice": ([STORED, DUPLICATE, FIVE], NAMED),
    "md with a flag above 127": ([STORED, DUPLICATE, FIVE], NAMED),
    "md with an unknown flag": ([STORED, UNKNOWN, UNKNOWN, FIVE], NAMED),
    "md with a bad base64 key": ([BAD_KEY, BAD_KEY], NAMED),
    "md with padding only": ([BAD_KEY], NAMED),
    **dict(md_token(token, BAD_TOKEN) for token in ("Tx", "T", "Nx", "Rx", "Cx", "C-1", "C", "T1x", "q Tx")),
    **dict(md_token(token, b"CLIENT_ERROR invalid numeric delta value\r\n") for token in ("Dx", "D-1")),
    **dict([md_token("Jx", b"CLIENT_ERROR invalid numeric initial value\r\n"), md_token("Fx", BAD_FORMAT)]),
    "md with too many flags": ([STORED, TOO_MANY, FIVE], MANY),
    "ma with too many flags": ([STORED, EITHER, FIVE], ALIKE),
    "ms with too many flags": ([STORED, TOO_MANY, ONE], MANY),
    "mg with 20 tokens": ([STORED, b"VA 3 s3 f0 t-1 l0 h0 c#1 ka O1\r\none\r\n"], MANY),
    "ma with a long opaque": ([STORED, b"CLIENT_ERROR opaque token too long\r\n", FIVE], NOTHING_DONE),
    "ma with a long opaque and q": ([STORED, b"CLIENT_ERROR opaque token too long\r\n", FIVE], NOTHING_DONE),
    "mg with a time beyond 31 bits": ([STORED, BAD_TOKEN, ONE], NUMBER),
    "mg with M alone": ([STORED, ONE], FIRST_LETTER),
    "ms with M alone": ([STORED, BAD_SET_MODE, ONE], FIRST_LETTER),
    "ms with a mode spelled out": ([STORED, BAD_SET_MODE, ONE], FIRST_LETTER),
    "ms with letters behind the mode": ([STORED, HD, X], FIRST_LETTER),
    "ma with M alone": ([STORED, BAD_ARITHMETIC_MODE, FIVE], FIRST_LETTER),
    "ma with letters behind the mode": (
        [STORED, BAD_ARITHMETIC_MODE, b"VA 1\r\n4\r\n", b"VA 1\r\n4\r\n"],
        FIRST_LETTER,
    ),
    "mg with base64 and other letters": ([STORED, BAD_KEY], STRICT),
    "mg with base64 that goes on after its padding": ([STORED, BAD_KEY], STRICT),
}

_NEWER = {
    "ms s": ([b"HD s3\r\n", b"HD s6 c#1\r\n", b"NS s0\r\n"], SIZES),
    "ms s of a large value": ([STORED, b"HD s9003\r\n", b"HD s9003\r\n"], SIZES),
    "ms append N on a miss": (
        [HD, b"VA 1 s1 f7 h0 t30 ka\r\nx\r\n", HD, b"VA 2 s2 f7 h0 t30 ka\r\nxy\r\n"],
        CREATES,
    ),
    "ms prepend N on a miss": (
        [HD, b"VA 1 s1 f0 h0 t-1 ka\r\nx\r\n", b"HD s2\r\n", b"VA 2 s2 f0 h0 t-1 ka\r\nyx\r\n"],
        CREATES,
    ),
    "ms append N of a large value": (
        [b"HD ka s9000\r\n", b"HD s9000 t30\r\n", b"HD ka s18000\r\n", b"HD s18000 t30\r\n"],
        CREATES,
    ),
    "ms append N C on a miss": ([HD, X], CREATES),
    "mg C of the cas there is": ([STORED, CAS, b"HD s3\r\n", b"VA 3 s3\r\none\r\n"], UNCHANGED),
    "mg C of a large value": ([STORED, CAS, HD], UNCHANGED),
    "ms E": (
        [
            b"HD c1000000\r\n",
            b"VA 1 c1000000\r\nx\r\n",
            b"HD c1000001\r\n",
            b"VALUE a 0 1 1000001\r\ny\r\nEND\r\n",
        ],
        NUMBERED,
    ),
    "ms E with a wrong cas": ([HD, b"EX c0\r\n", b"VA 1 c1000000\r\nx\r\n"], NUMBERED),
    "ms E of a large value": ([b"HD c1000000\r\n", b"HD c1000000 s9000\r\n"], NUMBERED),
    "ms append E": ([STORED, b"HD c1000000\r\n", b"VA 4 c1000000\r\nonex\r\n"], NUMBERED),
    "ms append E of a large value": ([STORED, b"HD c1000000\r\n", b"HD c1000000 s9003\r\n"], NUMBERED),
    "ms E, then a write without": ([b"HD c1000000\r\n", STORED, b"EXISTS\r\n", ONE], NUMBERED),
    "ms E 0: a cas of 0 is the right one for nobody": ([HD, EX, b"EXISTS\r\n", X], NUMBERED),
    "ms I with a cas below E": ([HD, b"HD c1000001\r\n", b"VA 1 X W\r\ny\r\n"], NUMBERED),
    "md I E": ([STORED, HD, b"VA 3 c1000000 X W\r\none\r\n"], NUMBERED),
    "ma E": ([STORED, b"VA 1 c1000000\r\n6\r\n", b"HD c1000000\r\n"], NUMBERED),
    "ma N E on a miss": ([b"VA 1 c1000000\r\n0\r\n", b"HD c1000000\r\n"], NUMBERED),
    "mg N E on a miss": ([b"HD c1000000 W\r\n", b"HD c1000000 Z\r\n"], NUMBERED),
    "mg N E on a hit": ([HD, b"HD c5000000\r\n"], NUMBERED),
    "a bad E": ([STORED, BAD_TOKEN, BAD_TOKEN, BAD_TOKEN, EITHER, ONE], NUMBERED),
    "md x": (
        [STORED, HD, b"VA 0 s0 f0 h0 t-1 ka\r\n\r\n", b"VALUE a 0 0\r\n\r\nEND\r\n"],
        EMPTIED,
    ),
    "md x of an item that expires": ([STORED, HD, b"VA 0 s0 f0 h0 t50 ka\r\n\r\n"], EMPTIED),
    "md x T without I": ([STORED, HD, b"VA 0 s0 f0 h0 t90 ka\r\n\r\n"], EMPTIED),
    "md x on a miss": ([NF, EN], EMPTIED),
    "md x I T": ([STORED, HD, b"VA 0 s0 f0 h0 t30 ka X W\r\n\r\n", b"VA 0 Z X\r\n\r\n"], EMPTIED),
    "md x q": ([STORED, b"", b"VA 0\r\n\r\n"], EMPTIED),
    "md x with a wrong cas": ([STORED, CAS, EX, ONE], EMPTIED),
    "md x of a large value": (
        [STORED, b"VA 300000\r\n" + b"v" * 300000 + b"\r\n" + HD + b"VA 0\r\n\r\n"],
        EMPTIED,
    ),
    "ma N q on a miss": ([b"", b"", b"VA 1\r\n0\r\n", b"VA 1\r\n0\r\n"], QUIET),
    "mg T -1 before t": ([STORED, b"VA 1 t0\r\nx\r\n", EN], NONE_LEFT),
    "ma T of a number that grows": (
        [STORED, b"VA 2 t50\r\n10\r\n", b"VA 2 s2 f0 h0 t50 ka\r\n10\r\n"],
        MOVED,
    ),
    "me of an item that expires": (
        [STORED, b"ME a exp=50 la=0 cas=#1 fetch=no cls=x size=x\r\n"],
        TIME_LEFT,
    ),
}

_BINARY_KEYS = {
    "b: a key of 250 bytes": ([HD, X], LONGER_KEYS),
    "b: a key of 251 bytes": ([BAD_FORMAT, BAD_FORMAT], LONGER_KEYS),
    "b: append keeps the key binary": ([HD, HD, b"VA 2 kYSBi b\r\nxy\r\n"], STAYS_BINARY),
    "b: incr that grows keeps the key binary": ([HD, b"10\r\n", b"VA 2 kZm9v b\r\n10\r\n"], STAYS_BINARY),
    "b: mg N makes the key binary": ([b"HD kYSBi b W\r\n", b"HD kYSBi b Z\r\n"], STAYS_BINARY),
    "b: ma N makes the key binary": ([b"HD kYSBi b\r\n", b"VA 1 kYSBi b\r\n0\r\n"], STAYS_BINARY),
}

META_DIFFERENCES: dict[str, tuple[list[bytes], str]] = {**_FRAMING, **_FLAGS, **_NEWER, **_BINARY_KEYS}
