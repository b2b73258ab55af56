"""Conversations about dumps and settings for the differential test: `lru_crawler`, `slabs`, `lru`, `stats`.

Knows: these commands' grammar, as far as the reply does not depend on a server's slab classes. A dump that
succeeds is not here: its lines tell sizes and uniques, and memcached 1.6.18 does not go on with what was sent
behind it before more arrives. Nor are `disable` with an `enable` soon after it and a dump of no class at all:
they can lock that version up.
"""

from __future__ import annotations

from tests.integration.exchanges import GET_A, A, Exchange, put, talk

FAR = b"9999"  # a slab class that no server has


def crawler_lines() -> list[Exchange]:
    one_each = (
        b"",
        b" x",
        b" enable",
        b" enable x",
        b" disable x",
        b" sleep",
        b" sleep x",
        b" sleep -1",
        b" sleep 1000001",
        b" sleep 10 x",
        b" tocrawl",
        b" tocrawl x",
        b" tocrawl -1",
        b" tocrawl 1 2",
        b" tocrawl 99999999999",
        b" sleep 99999999999",
        b" crawl",
        b" crawl x",
        b" crawl 0",
        b" crawl 1,x",
        b" crawl " + FAR,
        b" crawl all x",
        b" crawl hash",
        b" crawl ,",
        b" crawl all noreply",
        b" metadump",
        b" metadump x",
        b" metadump 0",
        b" metadump 1," + FAR,
        b" metadump all x",
        b" mgdump",
        b" mgdump all x",
        b" ENABLE",
    )
    return [talk(f"lru_crawler{what.decode()}", b"lru_crawler" + what + b"\r\n") for what in one_each] + [
        talk("lru_crawler crawl of all", A, b"lru_crawler crawl all\r\n", GET_A),
        talk(
            "lru_crawler sleep and tocrawl",
            b"lru_crawler sleep 200\r\nlru_crawler tocrawl 7\r\n",
            b"lru_crawler sleep 100\r\nlru_crawler tocrawl 0\r\n",
        ),
    ]


def pipelining() -> list[Exchange]:
    dump = b"lru_crawler metadump all\r\n"
    return [
        talk("metadump behind a set", A + dump + GET_A),
        talk("metadump behind a set noreply", b"set a 0 0 1 noreply\r\nx\r\n" + dump + GET_A),
        talk("metadump behind an error", b"nonsense\r\n" + dump + GET_A),
        talk("metadump behind a touch noreply", A, b"touch a 0 noreply\r\n" + dump + GET_A),
        talk("metadump behind get and version", A, GET_A + b"version\r\n" + dump + GET_A),
        talk("metadump behind a rare command", b"verbosity 0\r\n" + dump + GET_A),
        talk("metadump behind settings", b"lru mode segmented\r\nslabs automove 1\r\n" + dump + GET_A),
        talk("metadump of a bad class behind a set", A + b"lru_crawler metadump 0\r\n" + GET_A),
        talk("metadump without a class behind a set", A + b"lru_crawler metadump\r\n" + GET_A),
        talk("two metadumps behind a set", A + dump + dump + GET_A),
        talk("metadump of a bad class behind a get", A, GET_A + b"lru_crawler metadump 0\r\n" + GET_A),
    ]


def slab_lines() -> list[Exchange]:
    one_each = (
        b"",
        b" x",
        b" reassign",
        b" reassign 1",
        b" reassign 1 1",
        b" reassign 0 0",
        b" reassign x 1",
        b" reassign 1 x",
        b" reassign 1 2 3",
        b" reassign -2 1",
        b" reassign 1 -1",
        b" reassign 1 " + FAR,
        b" reassign " + FAR + b" 1",
        b" reassign 1 2",
        b" reassign 1 2 noreply",
        b" reassign 1 noreply",
        b" automove",
        b" automove x",
        b" automove -1",
        b" automove 3",
        b" automove 2",
        b" automove 0",
        b" automove 1 x",
        b" automove 1 noreply",
        b" automove noreply",
        b" automove noreply 1",
        b" automove ratio 0.8",
        b" automove ratio x",
        b" automove ratio",
        b" automove window x",
        b" automove window 30",
        b" automove freeratio 0.01",
    )
    return [talk(f"slabs{what.decode()}", b"slabs" + what + b"\r\n") for what in one_each]


def lru_lines() -> list[Exchange]:
    one_each = (
        b"",
        b" x",
        b" x y",
        b" noreply",
        b" tune",
        b" tune 20 40",
        b" tune 20 40 0.2",
        b" tune 40 40 0.1 3",
        b" tune 40 41 0.1 3",
        b" tune 50 50 1 2",
        b" tune x 40 1 2",
        b" tune 20x 40 1 2",
        b" tune -1 40 1 2",
        b" tune 20 40 x 2",
        b" tune 20 40 0.2x 2",
        b" tune 20 40 0 2",
        b" tune 20 40 1 -2",
        b" tune 20 40 1e-2 2",
        b" tune 20 40 0.2 2.0 9",
        b" tune 20 40 0.2 2.0 noreply",
        b" tune 20 40 0.2 noreply",
        b" mode",
        b" mode x",
        b" mode flat",
        b" mode flatter",
        b" mode segmented",
        b" mode segmented x",
        b" mode segmented noreply",
        b" temp_ttl",
        b" temp_ttl x",
        b" temp_ttl 10x",
        b" temp_ttl 60",
        b" temp_ttl -1",
        b" temp_ttl -1 noreply",
    )
    return [talk(f"lru{what.decode()}", b"lru" + what + b"\r\n") for what in one_each]


def stats_lines() -> list[Exchange]:
    one_each = (
        b"cachedump",
        b"cachedump 1",
        b"cachedump x 0",
        b"cachedump 1 x",
        b"cachedump -1 0",
        b"cachedump 1 -1",
        b"cachedump 0 0",
        b"cachedump 50 0",
        b"cachedump " + FAR + b" 0",
        b"cachedump 50 1 2 3",
        b"sizes",
        b"sizes x",
    )
    return [talk(f"stats {what.decode()}", b"stats " + what + b"\r\n") for what in one_each] + [
        talk(
            "stats sizes on and off",
            b"stats sizes_enable\r\n",
            b"stats sizes_disable\r\n",
        ),
        talk("stats sizes behind other commands", put(b"a", b"1") + GET_A + b"stats sizes\r\n" + GET_A),
        talk("stats cachedump between other commands", A + b"stats cachedump 50 0\r\n" + GET_A),
    ]


def control_lines() -> list[Exchange]:
    """Return every exchange in this module."""
    groups = (crawler_lines, pipelining, slab_lines, lru_lines, stats_lines)
    return [exchange for group in groups for exchange in group()]
