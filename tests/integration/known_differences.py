"""Where this server, which gives the replies of memcached 1.6.45, differs from the 1.6.18 that Debian ships.

Knows: one table, name of the exchange -> (the replies of this server, why they differ). An exchange that is
not in the table is answered alike by both.
"""

from __future__ import annotations

BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
BAD_DATA = b"CLIENT_ERROR bad data chunk\r\n" + BAD_FORMAT
NO_NUMBER = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
A_IS_ONE = b"VALUE a 0 3\r\none\r\nEND\r\n"
A_IS_OLD = b"VALUE a 0 3\r\nold\r\nEND\r\n"

TOO_FEW = "1.6.45 calls a line with too few arguments a client error; 1.6.18 says ERROR"
REST = "what is left of the bad data is an empty line, which 1.6.45 calls a client error, 1.6.18 ERROR"
SWALLOWS = "1.6.45 swallows the data block of a refused line; 1.6.18 takes it for the next command"
KEY_BYTE = "a NUL is a key byte in 1.6.45; in 1.6.18 it ends the line"
SURPLUS = "1.6.45 ignores surplus tokens and knows noreply as the last token only; 1.6.18 says ERROR"
LEADING = "1.6.45 takes a leading space for an empty command; 1.6.18 skips it"
OLD_TIME = "1.6.45 ignores any number behind the key of a delete; 1.6.18 accepts 0 only"
SHUTDOWN = "1.6.45 says SERVER_ERROR, so that clients can tell it from an unknown command"
LENGTH = "1.6.45 refuses a length beyond 32 bits; 1.6.18 cuts it down and swallows as many bytes"
BAD_LENGTH = "noreply is not looked at in a line without a length in 1.6.45"
NUMBER = "1.6.45 reads numbers more strictly: digits only, and what fits; 1.6.18 takes what strtol() takes"
SPACES = (
    "a number is 20 digits at most with spaces around them, 64 KiB in all; 1.6.18 takes what strtoull() "
    "takes, and overwrites what stands behind it"
)
EXTSTORE = "Debian builds memcached with its flash tier; a build without it does not know the word"
AUTOMOVE = "the window and the free ratio of the page mover can be set at run time in 1.6.45"
ENDS = "every reply to stats ends with END, as clients wait for it; 1.6.18 leaves it out here"

WORDS = ("set", "add", "replace", "append", "prepend")

_TOO_FEW_ALONE = (
    "empty line",
    "empty line with LF only",
    "line of one letter",
    *(f"{word} {what}" for word in WORDS for what in ("without arguments", "without length")),
    "set with only a key",
    "cas without arguments",
    "cas with a key only",
    *(f"{word} {what}" for word in ("get", "gets") for what in ("without a key", "with spaces for a key")),
    *(f"{word} {what}" for word in ("gat", "gats") for what in ("without arguments", "without a key")),
    *(f"{word} {what}" for word in ("incr", "decr") for what in ("without arguments", "without a delta")),
    "delete without a key",
    "touch without arguments",
    "touch without an exptime",
    "verbosity without a level",
)

KNOWN_DIFFERENCES: dict[str, tuple[list[bytes], str]] = {
    **{name: ([BAD_FORMAT], TOO_FEW) for name in _TOO_FEW_ALONE},
    **{
        f"{word} by b''": ([b"STORED\r\n", BAD_FORMAT, b"VALUE a 0 1\r\n5\r\nEND\r\n"], TOO_FEW)
        for word in ("incr", "decr")
    },
    **{f"{word} with a key of 251 bytes": ([BAD_FORMAT, b"END\r\n"], SWALLOWS) for word in (*WORDS, "cas")},
    **{
        f"{word} with bad flags": ([b"STORED\r\n", BAD_FORMAT, A_IS_ONE], SWALLOWS)
        for word in (*WORDS, "cas")
    },
    **{
        f"cas with a {what}": ([b"STORED\r\n", BAD_FORMAT, A_IS_ONE], SWALLOWS)
        for what in ("bad unique", "negative unique", "unique of 2^64")
    },
    "set with a key of 251 bytes on its own": ([BAD_FORMAT, b"END\r\n"], SWALLOWS),
    "set with negative flags": ([BAD_FORMAT, b"END\r\n"], SWALLOWS),
    "set with a bad exptime": ([b"STORED\r\n", BAD_FORMAT, A_IS_ONE], SWALLOWS),
    "set with bad flags and noreply": ([b"STORED\r\n", b"", A_IS_ONE], SWALLOWS),
    **{
        f"{word} with a bad end of data": ([b"STORED\r\n", BAD_DATA, A_IS_ONE], REST)
        for word in (*WORDS, "cas")
    },
    **{
        f"set with data that ends in {what}": ([b"STORED\r\n", BAD_DATA, A_IS_OLD], REST)
        for what in ("LF only", "CR CR")
    },
    "a bad end of data in a large value": ([b"STORED\r\n", BAD_DATA, A_IS_ONE], REST),
    "a bad end of data with noreply": ([b"STORED\r\n", BAD_FORMAT, A_IS_ONE], REST),
    "set with a length beyond 32 bits": ([BAD_FORMAT, b"END\r\n"], LENGTH),
    "set with noreply too early": ([BAD_FORMAT, b"END\r\n"], BAD_LENGTH),
    "set with noreply and a token behind it": ([b"STORED\r\n", b"VALUE a 0 3\r\nabc\r\nEND\r\n"], SURPLUS),
    "incr with noreply twice": ([b"STORED\r\n", b"", b"VALUE a 0 1\r\n6\r\nEND\r\n"], SURPLUS),
    "touch with a token behind noreply": ([b"STORED\r\n", b"TOUCHED\r\n"], SURPLUS),
    **{
        f"{word} by b'+1'": (
            [
                b"STORED\r\n",
                b"CLIENT_ERROR invalid numeric delta argument\r\n",
                b"VALUE a 0 1\r\n5\r\nEND\r\n",
            ],
            NUMBER,
        )
        for word in ("incr", "decr")
    },
    **{
        f"incr on {value!r}": (
            [b"STORED\r\n", NO_NUMBER, b"VALUE a 0 %d\r\n%b\r\nEND\r\n" % (len(value), value)],
            SPACES,
        )
        for value in (b"5\tx", b"5\n", b"5 x", b"5\0", b"\t5", b"+5", b"0" * 25 + b"5")
    },
    "incr on a number and 100000 spaces": ([b"STORED\r\n", NO_NUMBER], SPACES),
    "touch to a time beyond 31 bits": (
        [b"STORED\r\n", b"CLIENT_ERROR invalid exptime argument\r\n", A_IS_ONE],
        NUMBER,
    ),
    "slabs automove window 30": ([b"OK\r\n"], AUTOMOVE),
    "slabs automove freeratio 0.01": ([b"OK\r\n"], AUTOMOVE),
    "stats sizes on and off": (
        [b"STAT sizes_status enabled\r\nEND\r\n", b"STAT sizes_status disabled\r\nEND\r\n"],
        ENDS,
    ),
    "verbosity with text": ([BAD_FORMAT, BAD_FORMAT], SURPLUS),
    "key with a NUL": ([b"STORED\r\n", b"VALUE a\x00b 0 1\r\nv\r\nEND\r\n"], KEY_BYTE),
    "leading space": ([b"STORED\r\n", b"ERROR\r\n"], LEADING),
    "delete with the old time 5": ([b"STORED\r\n", b"DELETED\r\n", b"END\r\n"], OLD_TIME),
    "shutdown where it is not enabled": ([b"SERVER_ERROR: shutdown not enabled\r\n"], SHUTDOWN),
    "shutdown graceful where it is not enabled": ([b"SERVER_ERROR: shutdown not enabled\r\n"], SHUTDOWN),
    **{
        f"shutdown {mode!r}": ([b"SERVER_ERROR: shutdown not enabled\r\n", b"END\r\n"], SHUTDOWN)
        for mode in (b"now", b"noreply", b"graceful now")
    },
    "stats of the kind extstore": ([b"ERROR\r\n"], EXTSTORE),
    "verbosity b'1 noreply noreply'": ([b"", b"END\r\n"], SURPLUS),
    "cache_memlimit b'64 x noreply'": ([b"", b"END\r\n"], SURPLUS),
    **{
        f"verbosity {level!r}": ([BAD_FORMAT, b"END\r\n"], NUMBER)
        for level in (b"4294967296", b"99999999999")
    },
    **{f"lru_crawler {word} 99999999999": ([BAD_FORMAT], NUMBER) for word in ("tocrawl", "sleep")},
    "flush_all with two surplus tokens": ([b"STORED\r\n", b"OK\r\n", A_IS_ONE], SURPLUS),
    "cache_memlimit b'4294967296'": ([b"ERROR\r\n", b"END\r\n"], NUMBER),
}
