"""Meta conversations for the differential test that are wrong, or need what memcached learned after 1.6.18.

Knows: how the meta commands can be broken, and the newer flags. The test asks for a reply it knows after each
exchange, so these also show what is swallowed.
"""

from __future__ import annotations

from tests.integration.exchanges import GET_A, GETS_A, A, Exchange, ends, put, talk
from tests.integration.exchanges_meta import FOO, LOOK, MG_A, SPACED, ma, md, mg, ms

K251 = b"k" * 251
O32 = b"O" + b"x" * 32
COMMANDS = ("mg", "md", "ma")
FLAGS_19 = b"s v f t l h c k O1 u P1 L1 T0 N0 R0 F1 q"  # with command and key


def framing() -> list[Exchange]:
    found = [
        talk(f"{word} without a key", word.encode() + b"\r\n") for word in ("mg", "ms", "md", "ma", "me")
    ]
    found += [
        talk(f"{word} with a key of 251 bytes", b"%b %b\r\n" % (word.encode(), K251), b"mn\r\n")
        for word in COMMANDS
    ]
    found += [
        talk("ms with a key of 251 bytes", ms(K251, b"mn"), MG_A),
        talk("me with a key of 251 bytes", b"me " + K251 + b"\r\n"),
        talk("unknown meta commands", b"mx a\r\n", b"mG a\r\n", b"m\r\n", b"mgg a\r\n", b"ms\r\n"),
        talk("mg with a tab for a space", b"mg\ta\r\n"),
        ends("mg line of 3000 bytes without an end", b"mg " + b"z" * 3000),
        ends("ms line of 3000 bytes without an end", b"ms " + b"z" * 3000),
    ]
    return found


def flags() -> list[Exchange]:
    found = []
    for word in COMMANDS:
        line = word.encode() + b" a "
        found += [
            talk(f"{word} with a flag twice", put(b"a", b"5"), line + b"q q\r\n", MG_A),
            talk(f"{word} with a token twice", put(b"a", b"5"), line + b"T30 T60\r\n", MG_A),
            talk(f"{word} with an unknown flag", put(b"a", b"5"), line + b"!\r\n", line + b"v S\r\n", MG_A),
            talk(f"{word} with a flag above 127", put(b"a", b"5"), line + b"\xff\r\n", MG_A),
            talk(f"{word} with too many flags", put(b"a", b"5"), line + FLAGS_19 + b" C0 E1\r\n", MG_A),
            talk(f"{word} with a long opaque", put(b"a", b"5"), line + O32 + b"\r\n", MG_A),
            talk(f"{word} with a long opaque and q", put(b"a", b"5"), line + b"q " + O32 + b"\r\n", MG_A),
            talk(f"{word} with a bad base64 key", line + b"b\r\n", word.encode() + b" Zm9vY b q\r\n"),
            talk(f"{word} with padding only", word.encode() + b" ==== b\r\n"),
        ]
        found += [
            talk(f"{word} with a bad token {token}", put(b"a", b"5"), line + token.encode() + b"\r\n", MG_A)
            for token in ("Tx", "T", "Nx", "Rx", "Cx", "C-1", "C", "T1x", "Fx", "Dx", "Jx", "D-1", "q Tx")
        ]
    found += [
        talk("mg with 20 tokens", A, mg(b"a", FLAGS_19 + b" C0")),
        talk("mg with a long opaque on a miss", mg(b"a", O32)),
        talk("mg with a time beyond 31 bits", A, mg(b"a", b"T2147483648"), MG_A),
        talk("mg with M alone", A, mg(b"a", b"M v")),
        talk("mg with base64 and other letters", put(b"foo", b"x"), mg(b"Zm9*v", b"b")),
        talk("mg with base64 that goes on after its padding", put(b"f", b"x"), mg(b"Zg==Zg==", b"b")),
        talk("me with a bad base64 key", A, b"me a b\r\n", b"me Zm9vY b\r\n"),
    ]
    return found


def storing() -> list[Exchange]:
    found = [
        talk(f"ms with {what}", A, b"ms a 5 %b\r\nget a\r\n" % tail, MG_A)
        for what, tail in (
            ("a flag twice", b"q q"),
            ("an unknown flag", b"!"),
            ("a small mode", b"Ms"),
            ("an unknown mode", b"MX"),
            ("a long opaque", O32),
            ("a long opaque and q", b"q " + O32),
            ("bad client flags", b"Fx"),
            ("negative client flags", b"F-1"),
            ("client flags of 2^64", b"F18446744073709551616"),
            ("no client flags", b"F"),
            ("a bad time", b"Tx"),
            ("a bad cas", b"Cx"),
            ("a negative cas", b"C-1"),
            ("a bad cas and q", b"q Cx"),
            ("a bad time for N", b"N"),
            ("a bad delta", b"Dx"),
            ("a bad base64 key", b"b"),
        )
    ]
    found += [
        talk("ms with too many flags", A, ms(b"a", b"get a", FLAGS_19 + b" C0 E1"), MG_A),
        talk("ms without a length", A, b"ms a\r\n", MG_A),
        talk("ms with a bad length", A, b"ms a x\r\n", MG_A),
        talk("ms with a flag for a length", A, b"ms a S5\r\n", MG_A),
        talk("ms with a negative length", A, b"ms a -1\r\n", MG_A),
        talk("ms with a length and text", A, b"ms a 3x\r\n", MG_A),
        talk("ms with a length of 2^31-1", A, b"ms a 2147483647\r\n", MG_A),
        talk("ms with a bad end of data", A, b"ms a 3\r\nabcde\r\n", MG_A),
        talk("ms q with a bad end of data", A, b"ms a 3 q\r\nabcde\r\n", MG_A),
        talk("ms with a bad end of a large value", A, b"ms a 5000 q\r\n" + b"v" * 5002 + b"\r\n", MG_A),
        talk("ms of a large value with an unknown flag", A, ms(b"a", b"v" * 20000, b"!"), MG_A),
        talk("ms with data that looks like commands", A, ms(b"a", b"mn\r\nmn\r\n", b"q q"), MG_A),
    ]
    return found


def modes() -> list[Exchange]:
    return [
        talk("ms with M alone", A, ms(b"a", b"x", b"M"), MG_A),
        talk("ms with a mode spelled out", A, ms(b"a", b"x", b"Mset"), MG_A),
        talk("ms with letters behind the mode", A, ms(b"a", b"x", b"MSx"), MG_A),
        talk("ma with M alone", put(b"a", b"5"), ma(b"a", b"M v"), MG_A),
        talk("ma with an unknown mode", put(b"a", b"5"), ma(b"a", b"MX v"), ma(b"a", b"Mi v"), MG_A),
        talk(
            "ma with letters behind the mode",
            put(b"a", b"5"),
            ma(b"a", b"Mdecr v"),
            ma(b"a", b"MDecr v"),
            MG_A,
        ),
    ]


def newer() -> list[Exchange]:
    """What 1.6.18 does not know."""
    return [
        talk("ms s", ms(b"a", b"one", b"s"), ms(b"a", b"two", b"MA s c"), ms(b"a", b"", b"ME s")),
        talk("ms s of a large value", A, ms(b"a", b"v" * 9000, b"s MP"), mg(b"a", b"s")),
        talk("ms append N on a miss", ms(b"a", b"x", b"MA N30 F7"), LOOK, ms(b"a", b"y", b"MA N90 F9"), LOOK),
        talk("ms prepend N on a miss", ms(b"a", b"x", b"MP N0"), LOOK, ms(b"a", b"y", b"MP N90 s"), LOOK),
        talk(
            "ms append N of a large value",
            ms(b"a", b"v" * 9000, b"MA N30 k s"),
            mg(b"a", b"s t"),
            ms(b"a", b"v" * 9000, b"MA N90 k s"),
            mg(b"a", b"s t"),
        ),
        talk("ms append N C on a miss", ms(b"a", b"x", b"MA N30 C5"), MG_A),
        talk(
            "mg C of the cas there is", A, mg(b"a", b"c"), mg(b"a", b"v s C{cas}"), mg(b"a", b"v s C{cas+1}")
        ),
        talk("mg C on a miss", mg(b"a", b"v C5")),
        talk("mg C without v", A, mg(b"a", b"c"), mg(b"a", b"s C{cas}")),
        talk("mg C of a large value", put(b"a", b"v" * 9000), mg(b"a", b"c"), mg(b"a", b"v C{cas}")),
        talk(
            "ms E",
            ms(b"a", b"x", b"E1000000 c"),
            mg(b"a", b"c v"),
            ms(b"a", b"y", b"C1000000 E1000001 c"),
            GETS_A,
        ),
        talk(
            "ms E with a wrong cas", ms(b"a", b"x", b"E1000000"), ms(b"a", b"y", b"C5 E6 c"), mg(b"a", b"c v")
        ),
        talk("ms E of a large value", ms(b"a", b"v" * 9000, b"E1000000 c"), mg(b"a", b"c s")),
        talk("ms append E", A, ms(b"a", b"x", b"MA E1000000 c"), mg(b"a", b"c v")),
        talk("ms append E of a large value", A, ms(b"a", b"v" * 9000, b"MA E1000000 c"), mg(b"a", b"c s")),
        talk(
            "ms E, then a write without",
            ms(b"a", b"x", b"E1000000 c"),
            A,
            b"cas a 0 0 1 1000000\r\nx\r\n",
            MG_A,
        ),
        talk(
            "ms I with a cas below E",
            ms(b"a", b"x", b"E1000000"),
            ms(b"a", b"y", b"C999999 I E1000001 c"),
            MG_A,
        ),
        talk("md I E", A, md(b"a", b"I E1000000"), mg(b"a", b"c v")),
        talk("ma E", put(b"a", b"5"), ma(b"a", b"E1000000 v c"), mg(b"a", b"c")),
        talk("ma N E on a miss", ma(b"a", b"N30 E1000000 v c"), mg(b"a", b"c")),
        talk("mg N E on a miss", mg(b"a", b"N30 E1000000 c"), mg(b"a", b"c")),
        talk("mg N E on a hit", ms(b"a", b"x", b"E5000000"), mg(b"a", b"N30 E1000000 c")),
        talk("a bad E", A, mg(b"a", b"Ex"), ms(b"a", b"x", b"E"), md(b"a", b"E-1"), ma(b"a", b"Ex"), MG_A),
        talk("md x", put(b"a", b"one", b"7"), md(b"a", b"x"), LOOK, GET_A),
        talk("md x of an item that expires", put(b"a", b"one", b"7", b"50"), md(b"a", b"x"), LOOK),
        talk("md x T without I", put(b"a", b"one", b"7", b"50"), md(b"a", b"x T90"), LOOK),
        talk("md x on a miss", md(b"a", b"x"), MG_A),
        talk("md x I T", put(b"a", b"one", b"7"), md(b"a", b"x I T30"), LOOK, MG_A),
        talk("md x q", put(b"a", b"one"), md(b"a", b"q x"), MG_A),
        talk("md x with a wrong cas", A, mg(b"a", b"c"), md(b"a", b"x C{cas+1}"), MG_A),
        talk("md x of a large value", put(b"a", b"v" * 300000), MG_A + md(b"a", b"x") + MG_A),
        talk("ma N q on a miss", ma(b"a", b"N30 q"), ma(b"b", b"N30 q v"), mg(b"a", b"v"), mg(b"b", b"v")),
        talk("me of an item that expires", put(b"a", b"x", exptime=b"50"), b"me a\r\n"),
        talk("b: a key of 250 bytes", ms(b"YWFh" * 83 + b"YQ==", b"x", b"b"), mg(b"a" * 250, b"v")),
        talk(
            "b: a key of 251 bytes", ms(b"YWFh" * 83 + b"YWE=", b"x", b"b"), mg(b"YWFh" * 83 + b"YWE=", b"b")
        ),
        talk(
            "b: append keeps the key binary",
            ms(SPACED, b"x", b"b"),
            ms(SPACED, b"y", b"b MA"),
            mg(SPACED, b"b v k"),
        ),
        talk(
            "b: incr that grows keeps the key binary",
            ms(FOO, b"9", b"b"),
            b"incr foo 1\r\n",
            mg(b"foo", b"v k"),
        ),
        talk("b: mg N makes the key binary", mg(SPACED, b"b N30 k"), mg(SPACED, b"b k")),
        talk("b: ma N makes the key binary", ma(SPACED, b"b N30 k"), mg(SPACED, b"b k v")),
    ]


def meta_malformed() -> list[Exchange]:
    """Return every exchange in this module."""
    return [exchange for group in (framing, flags, storing, modes, newer) for exchange in group()]
