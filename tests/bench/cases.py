"""What the table of hit ratios is about: streams, caches of a share of their keys, and plain LRU.

Knows: traces, arithmetic. Must not know: the store, servers. Memory: a stream as a whole, 8 bytes a request.
"""

from __future__ import annotations

import itertools
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.replay import KEY_BYTES, LARGEST, key_name, stream
from loadtest.traces import BLOCK, Block, first

SHARES = (1, 10)  # caches, in percent of the distinct keys
Known = dict[int, tuple[float, ...]]  # hit ratios of known policies, by the cache's percent
FEWEST = 32  # items; in a smaller cache the order within a window of the replay decides


@dataclass(frozen=True)
class Trace:
    """A published trace; `known`: what the policies that KNOWN names reach, as taken elsewhere."""

    name: str
    file: str
    form: str = ""
    known: Known = field(default_factory=dict)


KNOWN = ("S3-FIFO", "SIEVE", "W-TinyLFU", "optimum")
TRACES = (
    Trace("web07", "web07.trace.xz", "int32", {1: (43.8, 42.3, 39.6, 53.4), 10: (58.1, 57.9, 57.2, 68.1)}),
    Trace(
        "orm-busy", "orm-busy.trace.xz", "int32", {1: (74.7, 68.8, 58.8, 82.4), 10: (88.1, 86.9, 86.3, 92.6)}
    ),
    Trace(
        "scarab", "scarab-recs.trace.xz", "int64", {1: (42.8, 40.8, 41.1, 53.4), 10: (62.8, 60.9, 60.7, 75.0)}
    ),
    Trace("OLTP", "OLTP.lis.zst", "arc", {1: (46.5, 40.3, 41.5, 59.8), 10: (67.8, 66.7, 64.5, 76.2)}),
    Trace(
        "adapt_size",
        "adapt_size.trace.xz",
        "sized",
        {1: (26.4, 26.1, 24.2, 35.2), 10: (37.4, 37.5, 35.8, 45.0)},
    ),
    Trace("multi3", "multi3.trace.gz", "lines"),
    Trace("loop", "loop.trace.gz", "lines"),
)


@dataclass(slots=True)
class Stream:
    """A request stream in memory. `sizes`: bytes of value, where they are told and are to count."""

    name: str
    keys: array[int]
    sizes: array[int] | None
    distinct: dict[int, int]  # key: bytes of its value, in the order in which they come first
    known: Known = field(default_factory=dict)

    def blocks(self, count: int) -> Iterator[Block]:
        """Yield the first `count` requests."""
        for start in range(0, count, BLOCK):
            part = slice(start, min(count, start + BLOCK))
            yield Block(self.keys[part], None if self.sizes is None else self.sizes[part])

    def items(self, share: float) -> int:
        """Of how many items a cache of `share` percent of the distinct keys is."""
        return round(len(self.distinct) * share / 100)

    def filling(self, share: float, nbytes: int) -> Stream:
        """This stream; one with sizes as so many copies that `share` percent of all their keys fill `nbytes`.

        The copies run side by side, and the sizes stay what they are. A copy has keys of its own, and each
        begins at another place.
        """
        if self.sizes is None:
            return self
        total = sum(self.distinct.values()) + KEY_BYTES * len(self.distinct)
        copies = max(1, round(nbytes * 100 / share / total))
        count = len(self.keys)
        number = {key: copies * at for at, key in enumerate(self.distinct)}
        keys, sizes = array("q"), array("q")
        places = [copy * count // copies for copy in range(copies)]
        for at in range(count):
            for copy, place in enumerate(places):
                here = (at + place) % count
                keys.append(number[self.keys[here]] + copy)
                sizes.append(self.sizes[here])
        return Stream(self.name, keys, sizes, _distinct(keys, sizes))

    def names(self) -> list[bytes]:
        """The keys as servers see them, request by request."""
        named = {key: key_name(key) for key in self.distinct}
        return [named[key] for key in self.keys]


def load(name: str, blocks: Iterable[Block], count: int, known: Known) -> list[Stream]:
    """Read the first `count` requests; a trace with sizes gives a stream without them, and one with."""
    keys, sizes = array("q"), array("q")
    for block in first(blocks, count):
        keys.extend(block.keys)
        if block.sizes is not None:
            sizes.extend(block.sizes)
    found = [Stream(name, keys, None, dict.fromkeys(keys, 0), known)]
    if sizes:
        sizes = array("q", (min(LARGEST, size) for size in sizes))
        found.append(Stream(f"{name}, its sizes", keys, sizes, _distinct(keys, sizes)))
    return found


def _distinct(keys: array[int], sizes: array[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for key, size in zip(keys, sizes, strict=True):
        found.setdefault(key, size)
    return found


def streams(
    folder: Path, wanted: Sequence[str], added: Sequence[str], form: str, count: int
) -> Iterator[Stream]:
    """Yield the published traces that are in `folder`, and what was `added`: files, or laws in words."""
    for trace in TRACES:
        path = folder / trace.file
        if trace.name in wanted or (not wanted and path.exists()):
            yield from load(trace.name, stream(str(path), trace.form, 0), count, trace.known)
    for words in added:
        yield from load(Path(words).name, stream(words, form, 1_000_000), count, {})


def lru(
    keys: Iterable[int], costs: Iterable[int] | None, room: int, most_missed: float = float("inf")
) -> tuple[int, int]:
    """Plain LRU, exact: (hits, requests) until the misses have cost `most_missed`.

    costs: bytes of each request's item, None: 1 each; room: their sum that fits.
    """
    held: OrderedDict[int, int] = OrderedDict()
    used = missed = hits = seen = 0
    for key, cost in zip(keys, itertools.repeat(1) if costs is None else costs, strict=False):
        seen += 1
        if key in held:
            held.move_to_end(key)
            hits += 1
            continue
        held[key] = cost
        used += cost
        missed += cost
        while used > room:
            used -= held.popitem(last=False)[1]
        if missed > most_missed:
            break
    return hits, seen
