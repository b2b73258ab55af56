"""Conversations about stats and control for the differential test: what does not depend on a server's state.

Knows: the commands' grammar. Numbers and field names are compared by test_stats. cache_memlimit is given only
sizes that leave the reference room for the other exchanges.
"""

from __future__ import annotations

from tests.integration.exchanges import GET_A, A, Exchange, talk

LEVELS = (b"1", b"0 noreply", b"2 1", b"4294967295", b"1 noreply noreply", b" 1 ")
BAD_LEVELS = (b"4294967296", b"99999999999", b"1x", b"x noreply", b"99999999999999999999")
SIZES = (
    b"64",
    b"64 noreply",
    b"1024",
    b" 64 ",
    b"7",
    b"0",
    b"7 noreply",
    b"1000000001",
    b"1000000001 noreply",
)
BAD_SIZES = (
    b"",
    b"x",
    b"-1",
    b"noreply",
    b"x noreply",
    b"64m",
    b"1.5",
    b"4294967296",
    b"64 64",
    b"64 x noreply",
)


def stats() -> list[Exchange]:
    kinds = (b"nonsense", b"noreply", b"SETTINGS", b"setting", b"1", b"proxy", b"proxyfuncs", b"extstore")
    return [
        *(talk(f"stats of the kind {kind.decode()}", b"stats " + kind + b"\r\n") for kind in kinds),
        talk("stats of an unknown kind with arguments", b"stats nonsense 1 2 3\r\n"),
        talk("stats reset", b"stats reset\r\n"),
        talk("stats reset with a surplus token", b"stats reset now\r\n"),
        talk("stats reset keeps the items", A, b"stats reset\r\n", GET_A),
        talk("stats sizes where nobody counts them", b"stats sizes\r\n"),
        talk("stats in upper case", b"STATS\r\n"),
        talk("stats with a tab", b"stats\treset\r\n"),
        talk("stats reset between sets", A + b"stats reset\r\n" + A + GET_A),
    ]


def control() -> list[Exchange]:
    def each(word: str, arguments: tuple[bytes, ...]) -> list[Exchange]:
        return [talk(f"{word} {a!r}", word.encode() + b" " + a + b"\r\n", GET_A) for a in arguments]

    return [
        *each("verbosity", LEVELS),
        *each("verbosity", BAD_LEVELS),
        *each("cache_memlimit", SIZES),
        *each("cache_memlimit", BAD_SIZES),
        *each("shutdown", (b"now", b"noreply", b"graceful now")),
        talk("cache_memlimit keeps the items", A, b"cache_memlimit 64\r\n", GET_A),
        talk("cache_memlimit in one packet", A + b"cache_memlimit 1024\r\n" + GET_A),
        talk("verbosity back to nothing", b"verbosity 0\r\n"),
    ]


def about_the_server() -> list[Exchange]:
    return stats() + control()
