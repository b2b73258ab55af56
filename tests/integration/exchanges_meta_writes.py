"""Meta conversations for the differential test: ms, md, ma, me, mn with every flag, binary keys, pipelines.

Knows: the meta commands as they are meant to be used. Times are multiples of ten seconds, as in
`exchanges_meta`.
"""

from __future__ import annotations

from tests.integration.exchanges import GET_A, GETS_A, K250, A, Exchange, put, talk
from tests.integration.exchanges_meta import FOO, LOOK, MG_A, O31, SPACED, ma, md, mg, ms


def storing() -> list[Exchange]:
    found = []
    for mode, name in ((b"S", "set"), (b"E", "add"), (b"A", "append"), (b"P", "prepend"), (b"R", "replace")):
        flags = b"M" + mode
        found += [
            talk(f"ms {name} on a miss", ms(b"a", b"new", flags), LOOK),
            talk(
                f"ms {name} on a hit",
                put(b"a", b"one", b"7", b"50"),
                ms(b"a", b"new", flags + b" F9 T90"),
                LOOK,
            ),
            talk(f"ms {name} q on a miss", ms(b"a", b"new", flags + b" q"), MG_A),
            talk(f"ms {name} q on a hit", A, ms(b"a", b"new", flags + b" q k Oabc"), MG_A),
            talk(f"ms {name} returns", A, ms(b"a", b"new", flags + b" k c Oabc"), mg(b"a", b"c")),
            talk(f"ms {name} returns on a miss", ms(b"a", b"new", flags + b" Oabc k c"), mg(b"a", b"c")),
            talk(
                f"ms {name} with the right cas",
                A,
                mg(b"a", b"c"),
                ms(b"a", b"new", flags + b" C{cas} c"),
                MG_A,
            ),
            talk(
                f"ms {name} with a wrong cas",
                A,
                mg(b"a", b"c"),
                ms(b"a", b"new", flags + b" C{cas+1} c k"),
                MG_A,
            ),
            talk(f"ms {name} with a cas on a miss", ms(b"a", b"new", flags + b" C5 c"), MG_A),
            talk(f"ms {name} with cas 0", A, ms(b"a", b"new", flags + b" C0"), MG_A),
            talk(f"ms {name} of a large value", A, ms(b"a", b"v" * 300000, flags + b" k c Oabc"), MG_A),
            talk(f"ms {name} q of a large value", A, ms(b"a", b"v" * 9000, flags + b" q Oabc"), MG_A),
        ]
    found += [
        talk(
            "ms E 0: a cas of 0 is the right one for nobody",
            ms(b"a", b"x", b"E0"),
            ms(b"a", b"y", b"C0"),
            b"cas a 0 0 1 0\r\nz\r\n",
            MG_A,
        ),
        talk("ms without flags", ms(b"a", b"x"), LOOK),
        talk("ms with client flags and time", ms(b"a", b"x", b"F7 T50"), LOOK, GET_A),
        talk("ms with flags 2^32", ms(b"a", b"x", b"F4294967296"), LOOK),
        talk("ms T 0", ms(b"a", b"x", b"T0"), LOOK),
        talk("ms T -1", A, ms(b"a", b"x", b"T-1"), MG_A),
        talk("ms of an empty value", ms(b"a", b""), LOOK),
        talk("ms of line ends", ms(b"a", b"\r\nmn\r\n", b"c"), MG_A),
        talk("ms over a classic item and back", A, ms(b"a", b"two", b"F5"), GET_A, A, LOOK),
        talk("ms of a key of 250 bytes", ms(K250, b"x", b"k"), mg(K250, b"v")),
        talk("ms ignores P and L", ms(b"a", b"x", b"P1 L2 Oabc"), MG_A),
        talk("ms ignores flags of other commands", ms(b"a", b"x", b"v t f h l u R30 D5 J5"), LOOK),
        talk("ms with N and without a mode", ms(b"a", b"x", b"N30"), LOOK),
        talk("ms with the longest opaque", ms(b"a", b"x", O31), MG_A),
        talk(
            "ms b with the longest opaque in a large value",
            ms(FOO, b"v" * 9000, O31 + b" b k c"),
            mg(b"foo", b"s"),
        ),
        talk("ms with LF only", b"ms a 1\nx\r\n", MG_A),
        talk("ms with more spaces", b"ms   a   1   F7   c \r\nx\r\n", LOOK),
        talk(
            "ms in a hundred commands",
            b"".join(ms(b"k%d" % i, b"v", b"q") for i in range(100)) + b"mn\r\n",
            mg(b"k50"),
        ),
        talk("ms too large", A, ms(b"a", b"v" * 1048576, b"Oabc k"), MG_A),
        talk("ms too large with q", A, ms(b"a", b"v" * 1048576, b"q"), MG_A),
    ]
    found += [
        talk(
            f"ms {mode} too large removes the old value",
            A,
            ms(b"a", b"v" * 1048576, b"M" + mode.encode()),
            MG_A,
        )
        for mode in "EAPR"
    ]
    return found


def deleting() -> list[Exchange]:
    return [
        talk("md on a hit", A, md(b"a"), MG_A),
        talk("md on a miss", md(b"a")),
        talk("md k O on a hit", A, md(b"a", b"k Oabc"), MG_A),
        talk("md O k on a miss", md(b"a", b"Oabc k")),
        talk("md q on a hit", A, md(b"a", b"q k"), MG_A),
        talk("md q on a miss", md(b"a", b"q"), md(b"a", b"k q Oabc")),
        talk("md with the right cas", A, mg(b"a", b"c"), md(b"a", b"C{cas}"), MG_A),
        talk("md with a wrong cas", A, mg(b"a", b"c"), md(b"a", b"C{cas+1} k"), MG_A),
        talk("md q with a wrong cas", A, mg(b"a", b"c"), md(b"a", b"C{cas+1} q"), MG_A),
        talk("md with cas 0", A, md(b"a", b"C0"), MG_A),
        talk("md with a cas on a miss", md(b"a", b"C5")),
        talk("md T without I deletes", A, md(b"a", b"T30"), MG_A),
        talk("md ignores other flags", A, md(b"a", b"P1 L1 v s t c f h l u"), MG_A),
        talk("md of a key of 250 bytes", put(K250, b"x"), md(K250, b"k"), mg(K250)),
        talk("md of a large value that was just read", put(b"a", b"v" * 300000), MG_A + md(b"a") + MG_A),
        talk("md, then add", A, md(b"a"), b"add a 0 0 1\r\nx\r\n", MG_A),
    ]


def computing() -> list[Exchange]:
    five = put(b"a", b"5", b"7", b"50")
    found = [
        talk(f"ma {flags}".strip(), five, ma(b"a", flags.encode()), LOOK)
        for flags in (
            "",
            "v",
            "v k Oabc",
            "D3 v",
            "D0 v",
            "MI v",
            "M+ v",
            "MD v",
            "M- v",
            "MD D9 v",
            "t",
            "v t",
            "q",
            "q v",
            "P1 L1 v",
            "N30 v",
            "N30 J9 v",
            "k",
            "Oabc",
            "D18446744073709551615 v",
            "s f h l u F9",
        )
    ]
    found += [
        talk("ma c", five, ma(b"a", b"c"), mg(b"a", b"c"), ma(b"a", b"c v t k")),
        talk("ma T before t", five, ma(b"a", b"T90 t"), LOOK),
        talk("ma t before T", five, ma(b"a", b"t T90"), LOOK),
        talk("ma T 0", five, ma(b"a", b"T0 t v"), LOOK),
        talk("ma q T", five, ma(b"a", b"q T90"), LOOK),
        talk("ma on a miss", ma(b"a"), ma(b"a", b"k Oabc v"), ma(b"a", b"MD q")),
        talk("ma N on a miss", ma(b"a", b"N30 v t"), LOOK, ma(b"a", b"v")),
        talk("ma N J on a miss", ma(b"a", b"N30 J100 D5 v"), LOOK, ma(b"a", b"J100 D5 v")),
        talk("ma N 0 on a miss", ma(b"a", b"N0 t"), LOOK),
        talk("ma t before N on a miss", ma(b"a", b"t N30"), LOOK),
        talk("ma N T on a miss", ma(b"a", b"N30 T50 t"), ma(b"b", b"T50 N30 t")),
        talk("ma N k c O on a miss", ma(b"a", b"N30 k Oabc c"), mg(b"a", b"c")),
        talk("ma N MD J on a miss", ma(b"a", b"N30 MD J18446744073709551615 v"), ma(b"a", b"MD v")),
        talk("ma with the right cas", five, mg(b"a", b"c"), ma(b"a", b"C{cas} v"), MG_A),
        talk("ma with a wrong cas", five, mg(b"a", b"c"), ma(b"a", b"C{cas+1} v k"), MG_A),
        talk("ma with cas 0", five, ma(b"a", b"C0 v"), MG_A),
        talk("ma with a cas on a miss", ma(b"a", b"C5")),
        talk("ma wraps", put(b"a", b"18446744073709551615"), ma(b"a", b"v"), MG_A),
        talk("ma stops at 0", five, ma(b"a", b"MD D100 v"), MG_A),
        talk("ma pads what gets shorter", put(b"a", b"100"), ma(b"a", b"MD v"), MG_A, ma(b"a", b"v"), MG_A),
        talk("ma grows", put(b"a", b"99"), ma(b"a", b"v"), LOOK),
        talk("ma of text", put(b"a", b"text"), ma(b"a", b"v"), MG_A),
        talk("ma q of text", put(b"a", b"text"), ma(b"a", b"q"), MG_A),
        talk("ma C of an empty value", put(b"a", b""), ma(b"a", b"C5 k"), MG_A),
        talk("ma T of a number that grows", put(b"a", b"9", exptime=b"90"), ma(b"a", b"T50 t v"), LOOK),
        talk("ma of an empty value", put(b"a", b""), ma(b"a", b"v")),
        talk("ma and incr", five, ma(b"a", b"v"), b"incr a 1\r\n", b"decr a 2\r\n", ma(b"a", b"v")),
        talk("ma of a lease", mg(b"a", b"N30"), ma(b"a", b"v")),
    ]
    return found


def binary_keys() -> list[Exchange]:
    return [
        talk("b on a miss", mg(FOO, b"b"), mg(FOO, b"b k Oabc"), md(FOO, b"k b"), ma(FOO, b"b k")),
        talk("b names the decoded key", put(b"foo", b"x"), mg(FOO, b"b v"), mg(b"foo", b"v")),
        talk("b: mg k of a classic item", put(b"foo", b"x"), mg(FOO, b"b k v")),
        talk("b: ms", ms(FOO, b"x", b"b"), mg(b"foo", b"v"), b"get foo\r\n"),
        talk("b: ms k", ms(FOO, b"x", b"b k"), ms(FOO, b"x", b"k b"), ms(FOO, b"x", b"b k ME")),
        talk("b: k of a binary item without b", ms(FOO, b"x", b"b"), mg(b"foo", b"k v"), mg(FOO, b"k b")),
        talk(
            "b: a key with a space",
            ms(SPACED, b"x", b"b"),
            mg(SPACED, b"b v k"),
            md(SPACED, b"b k"),
            mg(SPACED, b"b"),
        ),
        talk(
            "b: a key of every byte",
            *[
                ms(code, b"x", b"b") + mg(code, b"k v b")
                for code in (b"AAECAwQFBgcICQoLDA0ODw==", b"gIGC/P3+/w==")
            ],
        ),
        talk(
            "b: keys of 1, 2 and 3 bytes",
            *[
                ms(code, b"x", b"b k") + b"get " + key + b"\r\n"
                for code, key in ((b"Zg==", b"f"), (b"Zm8=", b"fo"), (FOO, b"foo"))
            ],
        ),
        talk(
            "b: a classic set makes the key plain", ms(FOO, b"x", b"b"), put(b"foo", b"y"), mg(b"foo", b"k v")
        ),
        talk(
            "b: ms without b makes the key plain", ms(FOO, b"x", b"b"), ms(b"foo", b"y"), mg(b"foo", b"k v")
        ),
        talk("b: ma", ms(FOO, b"5", b"b"), ma(FOO, b"b v k"), ma(b"foo", b"v k"), mg(b"foo", b"k v")),
        talk("b: md I", ms(FOO, b"5", b"b"), md(FOO, b"b I k"), mg(b"foo", b"k v")),
        talk("b: a large value", ms(FOO, b"v" * 9000, b"b k c"), mg(b"foo", b"s k"), mg(FOO, b"b v")),
        talk("b: a base64 key of 248 characters", ms(b"Zm9v" * 62, b"x", b"b"), mg(b"foo" * 62, b"v")),
        talk("b: me", ms(FOO, b"x", b"b"), b"me Zm9v b\r\n", b"me foo\r\n", b"me YmFy b\r\n"),
    ]


def debugging() -> list[Exchange]:
    return [
        talk("mn", b"mn\r\n", b"mn\n", b"mn a b c\r\n", b"mn" + b" x" * 30 + b"\r\n"),
        talk("mn as a barrier", A + mg(b"b", b"q") + mg(b"a", b"q v") + md(b"c", b"q") + b"mn\r\n"),
        talk("me on a miss", b"me a\r\n"),
        talk("me on a hit", A, b"me a\r\n", mg(b"a"), b"me a\r\n"),
        talk("me is no read", A, b"me a\r\n", mg(b"a", b"h")),
        talk("me ignores other tokens", A, b"me a x\r\n", b"me a x b\r\n"),
        talk("me c is the unique of gets", A, GETS_A, b"me a\r\n"),
    ]


def pipelines() -> list[Exchange]:
    return [
        talk(
            "quiet gets with opaques",
            ms(b"a", b"1") + ms(b"c", b"3"),
            b"".join(mg(key, b"k v q O%d" % i) for i, key in enumerate((b"a", b"b", b"c", b"d"))) + b"mn\r\n",
        ),
        talk(
            "meta and classic commands in one packet",
            A
            + MG_A
            + GET_A
            + md(b"a", b"I")
            + MG_A
            + GETS_A
            + ms(b"b", b"1")
            + ma(b"b", b"v")
            + b"incr b 1\r\n"
            + b"delete b\r\n"
            + mg(b"b")
            + b"mn\r\n",
        ),
        talk(
            "large values among small ones",
            put(b"a", b"v" * 60000) + ms(b"b", b"x"),
            (mg(b"a", b"v Oa") + mg(b"b", b"v Ob") + mg(b"c", b"v Oc")) * 5,
        ),
        talk("five hundred quiet misses", mg(b"a", b"q v k") * 500 + b"mn\r\n"),
        talk(
            "a large value is overwritten while it is sent",
            put(b"a", b"v" * 300000),
            MG_A + ms(b"a", b"new") + MG_A + ms(b"a", b"w" * 300000) + MG_A,
        ),
    ]


def meta_writes() -> list[Exchange]:
    """Return every exchange in this module."""
    groups = (storing, deleting, computing, binary_keys, debugging, pipelines)
    return [exchange for group in groups for exchange in group()]
