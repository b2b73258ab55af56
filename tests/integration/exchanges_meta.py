"""Meta conversations for the differential test: mg with every flag, leases, stale items.

Knows: the meta commands as they are meant to be used; those that write stand in `exchanges_meta_writes`,
misuse in `exchanges_meta_malformed`. Times are multiples of ten seconds, because the comparison rounds up.
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
        talk("mg T -1 before t", put(b"a", b"x", exptime=b"50"), mg(b"a", b"T-1 t v"), MG_A),
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


def meta_reads() -> list[Exchange]:
    """Return every exchange in this module."""
    groups = (reading, touching, vivifying, recaching, staleness)
    return [exchange for group in groups for exchange in group()]
