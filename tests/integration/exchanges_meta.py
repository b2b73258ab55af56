"""Meta conversations for the differential test: every command with every flag, what they do to each other and
to the classic commands.

Knows: the meta commands as they are meant to be used; their misuse stands in `exchanges_meta_malformed`.
Times are multiples of ten seconds, because the comparison rounds them up to that.
"""

from __future__ import annotations

from tests.integration.exchanges import GET_A, GETS_A, K250, A, Exchange, put, talk

FOO = b"Zm9v"  # foo in base64
SPACED = b"YSBi"  # "a b": a key that no classic command can name
MG_A = b"mg a v\r\n"
LOOK = b"mg a s v f h t k\r\n"
O31 = b"O" + b"x" * 31


def ms(key: bytes, value: bytes, flags: bytes = b"") -> bytes:
    """A meta set with a correct length."""
    return b"ms %b %d%b\r\n%b\r\n" % (key, len(value), b" " + flags if flags else b"", value)


def mg(key: bytes, flags: bytes = b"") -> bytes:
    return b"mg %b%b\r\n" % (key, b" " + flags if flags else b"")


def md(key: bytes, flags: bytes = b"") -> bytes:
    return b"md %b%b\r\n" % (key, b" " + flags if flags else b"")


def ma(key: bytes, flags: bytes = b"") -> bytes:
    return b"ma %b%b\r\n" % (key, b" " + flags if flags else b"")


def reading() -> list[Exchange]:
    found = [
        talk(f"mg with {flag} on a hit", put(b"a", b"one", flags=b"7"), mg(b"a", flag.encode()), LOOK)
        for flag in ("s", "v", "c", "f", "h", "l", "t", "k", "q", "u", "Oabc", "P", "Px", "L", "Lx", "s v f")
    ]
    found += [
        talk(f"mg with {flag} on a miss", mg(b"a", flag.encode()), b"mn\r\n")
        for flag in (
            "s",
            "v",
            "c",
            "f h l t",
            "k",
            "q",
            "u",
            "Oabc",
            "k Oabc",
            "Oabc k",
            "k q Oabc",
            "T30",
            "R30",
        )
    ]
    found += [
        talk("mg without flags on a hit", A, mg(b"a")),
        talk("mg without flags on a miss", mg(b"a")),
        talk("mg flags in one order", A, mg(b"a", b"s v t f k h Oabc")),
        talk("mg flags in another order", A, mg(b"a", b"Oabc h k f t v s")),
        talk("mg flags with more spaces", A, b"mg   a   s    v  \r\n"),
        talk("mg with LF only", A, b"mg a v\n"),
        talk("mg q v on a hit", A, mg(b"a", b"q v"), mg(b"a", b"q v k")),
        talk("mg q on a hit is answered even without flags", A, mg(b"a", b"q")),
        talk("mg h before and after a read", A, mg(b"a", b"h"), mg(b"a", b"h"), mg(b"a", b"h")),
        talk("mg h after a get", A, GET_A, mg(b"a", b"h")),
        talk("mg h after a set", A, GET_A, A, mg(b"a", b"h")),
        talk("mg h after a touch", A, b"touch a 0\r\n", mg(b"a", b"h")),
        talk("mg h after a gat", A, b"gat 0 a\r\n", mg(b"a", b"h")),
        talk("mg h after an add", A, b"add a 0 0 1\r\nx\r\n", mg(b"a", b"h")),
        talk("mg h after an incr", put(b"a", b"1"), b"incr a 1\r\n", mg(b"a", b"h")),
        talk("mg h after an incr that grows", put(b"a", b"9"), GET_A, b"incr a 1\r\n", mg(b"a", b"h")),
        talk("mg h after an append", A, GET_A, b"append a 0 0 1\r\nx\r\n", mg(b"a", b"h")),
        talk("mg h after a refused cas", A, b"cas a 0 0 1 5\r\nx\r\n", mg(b"a", b"h")),
        talk(
            "mg u does not count as a read",
            A,
            mg(b"a", b"u v h"),
            mg(b"a", b"u h"),
            mg(b"a", b"h"),
            mg(b"a", b"h"),
        ),
        talk("mg f of large flags", put(b"a", b"x", flags=b"4294967295"), mg(b"a", b"f")),
        talk("mg s of an empty value", put(b"a", b""), mg(b"a", b"s v")),
        talk("mg t of an item that never expires", A, mg(b"a", b"t")),
        talk("mg t of an item that expires", put(b"a", b"x", exptime=b"100"), mg(b"a", b"t")),
        talk("mg of an expired item", put(b"a", b"x", exptime=b"-1"), mg(b"a", b"s v k")),
        talk("mg c is the unique of gets", A, GETS_A, mg(b"a", b"c")),
        talk("mg c changes with each write", A, mg(b"a", b"c"), A, mg(b"a", b"c"), GETS_A),
        talk("mg c works for the classic cas", A, mg(b"a", b"c"), b"cas a 0 0 3 {cas}\r\ntwo\r\n", MG_A),
        talk("mg with a key of 250 bytes", put(K250, b"x"), mg(K250, b"v k")),
        talk("mg with the longest opaque", A, mg(b"a", O31), mg(b"b", O31)),
        talk("mg with an empty opaque", A, mg(b"a", b"O"), mg(b"b", b"O")),
        talk("mg of a value of line ends", put(b"a", b"\r\nEN\r\n"), MG_A),
        talk("mg of a value of 2048 bytes", put(b"a", b"v" * 2048), mg(b"a", b"v s")),
        talk("mg of a value of 2049 bytes", put(b"a", b"v" * 2049), mg(b"a", b"v s Oabc k")),
        talk("mg of a value of 100 KiB", put(b"a", b"v" * 102400), mg(b"a", b"s v q") * 3),
        talk("mg of a value of 900 KiB", put(b"a", b"v" * 921600), mg(b"a", b"v"), mg(b"a", b"s")),
        talk("mg ignores flags of other commands", A, mg(b"a", b"F5 D5 J5 I Ma v")),
    ]
    return found


def touching() -> list[Exchange]:
    return [
        talk("mg T", A, mg(b"a", b"T50"), mg(b"a", b"t")),
        talk("mg T 0", put(b"a", b"x", exptime=b"100"), mg(b"a", b"T0"), mg(b"a", b"t")),
        talk("mg T before t shows the new time", put(b"a", b"x", exptime=b"100"), mg(b"a", b"T50 t")),
        talk(
            "mg t before T shows the old time",
            put(b"a", b"x", exptime=b"100"),
            mg(b"a", b"t T50"),
            mg(b"a", b"t"),
        ),
        talk("mg T -1 expires", A, mg(b"a", b"T-1 v"), mg(b"a", b"v")),
        talk("mg T beyond a month", A, mg(b"a", b"T2592001 v"), mg(b"a", b"v")),
        talk("mg T v returns the value", A, mg(b"a", b"T50 v"), mg(b"a", b"t v")),
        talk(
            "touch and gat are seen by mg t",
            A,
            b"touch a 50\r\n",
            mg(b"a", b"t"),
            b"gat 0 a\r\n",
            mg(b"a", b"t"),
        ),
    ]


def vivifying() -> list[Exchange]:
    return [
        talk("mg N on a miss", mg(b"a", b"N30 s v f h t k"), LOOK, GET_A),
        talk("mg N on a hit", A, mg(b"a", b"N30 v t"), LOOK),
        talk("mg N 0", mg(b"a", b"N0 t"), mg(b"a", b"t")),
        talk("mg t before N", mg(b"a", b"t N30"), mg(b"a", b"t")),
        talk("mg N before T", mg(b"a", b"N30 T50 t"), mg(b"a", b"t")),
        talk("mg T before N", mg(b"a", b"T50 N30 t"), mg(b"a", b"t")),
        talk("mg N -1", mg(b"a", b"N-1 v"), mg(b"a", b"v")),
        talk("mg N q", mg(b"a", b"N30 q"), mg(b"a", b"N30 q")),
        talk("mg N: one winner, then Z", mg(b"a", b"N30"), mg(b"a", b"N30"), mg(b"a"), mg(b"a", b"v Oabc")),
        talk("mg N: a set ends the lease", mg(b"a", b"N30"), ms(b"a", b"x"), mg(b"a", b"N30 v")),
        talk("mg N: a classic set ends the lease", mg(b"a", b"N30"), A, mg(b"a", b"N30 v")),
        talk(
            "mg N c: set with the right cas", mg(b"a", b"N30 c"), ms(b"a", b"x", b"C{cas}"), mg(b"a", b"v t")
        ),
        talk("mg N c: set with a wrong cas", mg(b"a", b"N30 c"), ms(b"a", b"x", b"C{cas+1}"), mg(b"a", b"v")),
        talk("mg N and an append", mg(b"a", b"N30"), b"append a 0 0 1\r\nx\r\n", mg(b"a", b"v t")),
        talk("mg N and a delete", mg(b"a", b"N30"), b"delete a\r\n", mg(b"a", b"N30")),
        talk("mg N and touch", mg(b"a", b"N30"), b"touch a 0\r\n", mg(b"a", b"t")),
    ]


def recaching() -> list[Exchange]:
    short = put(b"a", b"x", exptime=b"30")
    return [
        talk("mg R above the time left", short, mg(b"a", b"R60 v"), mg(b"a", b"R60 v"), mg(b"a", b"v")),
        talk("mg R below the time left", short, mg(b"a", b"R10 v"), mg(b"a", b"R10 v")),
        talk("mg R of an item that never expires", A, mg(b"a", b"R60 v"), mg(b"a", b"v")),
        talk("mg R 0 and below", short, mg(b"a", b"R0"), mg(b"a", b"R-1")),
        talk("mg R before T", short, mg(b"a", b"R60 T0 t")),
        talk("mg T before R", short, mg(b"a", b"T90 R60 t"), mg(b"a", b"T30 R60 t")),
        talk("mg R after N won", mg(b"a", b"N30"), mg(b"a", b"R60")),
        talk("mg N and R in one line", mg(b"a", b"N30 R60"), mg(b"a", b"N30 R60")),
        talk(
            "mg R is won anew after a set", short, mg(b"a", b"R60"), mg(b"a", b"R60"), short, mg(b"a", b"R60")
        ),
        talk("mg R q", short, mg(b"a", b"R60 q"), mg(b"a", b"R60 q k")),
    ]


def staleness() -> list[Exchange]:
    return [
        talk(
            "md I: X and W, then Z and X",
            A,
            md(b"a", b"I"),
            mg(b"a", b"v"),
            mg(b"a", b"v"),
            mg(b"a", b"k Oabc"),
        ),
        talk("md I keeps value, flags and time", put(b"a", b"x", b"7", b"50"), md(b"a", b"I"), LOOK),
        talk("md I T", A, md(b"a", b"I T30"), mg(b"a", b"t v")),
        talk("md T I", put(b"a", b"x", exptime=b"90"), md(b"a", b"T30 I"), mg(b"a", b"t v")),
        talk("md I changes the cas", A, GETS_A, md(b"a", b"I"), GETS_A, b"cas a 0 0 1 {cas}\r\nx\r\n", MG_A),
        talk("md I: the old cas is refused", A, GETS_A, md(b"a", b"I"), ms(b"a", b"x", b"C{cas}"), MG_A),
        talk("md I again gives another winner", A, md(b"a", b"I"), MG_A, MG_A, md(b"a", b"I"), MG_A, MG_A),
        talk("md I with the right cas", A, GETS_A, md(b"a", b"I C{cas}"), MG_A),
        talk("md I with a wrong cas", A, GETS_A, md(b"a", b"I C{cas+1}"), MG_A),
        talk("md I on a miss", md(b"a", b"I T30"), MG_A),
        talk("md I q", A, md(b"a", b"I q"), MG_A),
        talk("md I is hidden from get", A, md(b"a", b"I"), GET_A, b"gat 0 a\r\n", MG_A),
        talk("set freshens", A, md(b"a", b"I"), A, MG_A),
        talk("ms freshens", A, md(b"a", b"I"), ms(b"a", b"x"), MG_A),
        talk(
            "replace and add on a stale item",
            A,
            md(b"a", b"I"),
            ms(b"a", b"x", b"ME"),
            ms(b"a", b"y", b"MR"),
            MG_A,
        ),
        talk("append freshens", A, md(b"a", b"I"), ms(b"a", b"x", b"MA"), MG_A),
        talk("incr in place keeps the mark", put(b"a", b"10"), md(b"a", b"I"), b"incr a 1\r\n", MG_A),
        talk("incr that grows drops the mark", put(b"a", b"9"), md(b"a", b"I"), b"incr a 1\r\n", MG_A),
        talk("touch keeps the mark", A, md(b"a", b"I"), b"touch a 50\r\n", mg(b"a", b"t v")),
        talk(
            "a whole life",
            mg(b"a", b"N30 c"),
            ms(b"a", b"x", b"C{cas} T90"),
            mg(b"a", b"v R10"),
            md(b"a", b"I T30"),
            mg(b"a", b"v c"),
            mg(b"a", b"v"),
            ms(b"a", b"y", b"C{cas}"),
            mg(b"a", b"v t"),
        ),
        talk("ms I with the right cas", A, mg(b"a", b"c"), ms(b"a", b"x", b"I C{cas}"), MG_A),
        talk("ms I with a lower cas", A, mg(b"a", b"c"), ms(b"a", b"x", b"I C{cas-1} T50 F7 c"), LOOK, MG_A),
        talk("ms I with a higher cas", A, mg(b"a", b"c"), ms(b"a", b"x", b"I C{cas+1}"), MG_A),
        talk("ms I with cas 0", A, ms(b"a", b"x", b"I C0"), MG_A),
        talk("ms I with a cas on a miss", ms(b"a", b"x", b"I C5"), MG_A),
        talk("ms I without a cas", A, ms(b"a", b"x", b"I"), MG_A),
        talk(
            "ms I with a lower cas keeps the winner",
            A,
            md(b"a", b"I"),
            mg(b"a", b"c v"),
            ms(b"a", b"x", b"I C{cas-1}"),
            MG_A,
        ),
        talk(
            "ms I with a lower cas of another size",
            put(b"a", b"x", exptime=b"50"),
            mg(b"a", b"c"),
            ms(b"a", b"v" * 3000, b"I C{cas-1} T90"),
            mg(b"a", b"v t"),
        ),
        talk(
            "a large ms I with a lower cas",
            put(b"a", b"x", exptime=b"50"),
            mg(b"a", b"c"),
            ms(b"a", b"v" * 300000, b"I C{cas-1} T90 q"),
            mg(b"a", b"v t"),
        ),
        talk(
            "a stale large value", put(b"a", b"v" * 5000), md(b"a", b"I"), mg(b"a", b"v s"), mg(b"a", b"v s")
        ),
    ]


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


def meta() -> list[Exchange]:
    """Return every exchange in this module."""
    groups = (
        reading,
        touching,
        vivifying,
        recaching,
        staleness,
        storing,
        deleting,
        computing,
        binary_keys,
        debugging,
        pipelines,
    )
    return [exchange for group in groups for exchange in group()]
