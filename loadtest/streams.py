"""Request streams that are made: by a law, or by the distributions that CacheBench publishes.

Knows: popularity, sizes, a seed. Must not know: servers, files of traces. The same words and the same seed
make the same stream. Streams have no end. Memory: a few words for each key that a law ranks, of which there
are at most MOST_KEYS.
"""

from __future__ import annotations

import itertools
import json
import random
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loadtest.traces import BLOCK, Block, TraceError

MOST_KEYS = 20_000_000
LONE = 1 << 62  # keys from here on are asked for once
HASH_BITS = 64
MASK = (1 << HASH_BITS) - 1


def make(words: str) -> Iterator[Block]:
    """Return the stream that `words` describe, such as "zipf:keys=100000,skew=0.9,seed=1"; see LAWS.

    Raises TraceError where they make no sense.
    """
    name, _, rest = words.partition(":")
    if name not in LAWS:
        raise TraceError(f"no stream is called {name!r}: say one of {', '.join(LAWS)}")
    law, defaults = LAWS[name]
    options: dict[str, Any] = dict(defaults)
    for word in filter(None, rest.split(",")):
        option, _, value = word.partition("=")
        if option not in options:
            raise TraceError(f"{name} has no option {option!r}, only {', '.join(options)}")
        try:
            options[option] = type(options[option])(value)
        except ValueError:
            raise TraceError(f"{name}: {option} must be a number, not {value!r}") from None
        if not 0 <= options[option] <= MOST_KEYS or (option in AT_LEAST_ONE and options[option] < 1):
            raise TraceError(f"{name}: {option}={value} is out of range")
    return law(**options)


def zipf(keys: int, skew: float, seed: int) -> Iterator[Block]:
    """The key of rank r is asked for in proportion to r ** -skew."""
    draw = _ranks(keys, skew, random.Random(seed))
    while True:
        yield Block(array("q", draw(BLOCK)))


def loop(keys: int) -> Iterator[Block]:
    """All keys in turn, again and again."""
    turn = itertools.cycle(range(keys))
    while True:
        yield Block(array("q", itertools.islice(turn, BLOCK)))


def scan(keys: int, skew: float, every: int, length: int, seed: int) -> Iterator[Block]:
    """Zipf's law; after each `every` of its requests a run of `length` keys that never come again."""
    draw = _ranks(keys, skew, random.Random(seed))
    fresh = keys
    while True:
        for count in _pieces(every):
            yield Block(array("q", draw(count)))
        for count in _pieces(length):
            yield Block(array("q", range(fresh, fresh + count)))
            fresh += count


def shift(keys: int, skew: float, every: int, share: float, seed: int) -> Iterator[Block]:
    """Zipf's law; after each `every` requests a `share` of the ranks, drawn by lot, go to other keys."""
    dice = random.Random(seed)
    draw = _ranks(keys, skew, dice)
    held = list(range(keys))
    while True:
        for count in _pieces(every):
            yield Block(array("q", [held[rank] for rank in draw(count)]))
        for rank in dice.sample(range(keys), round(min(1.0, share) * keys)):
            other = dice.randrange(keys)
            held[rank], held[other] = held[other], held[rank]


Law = Callable[..., Iterator[Block]]
LAWS: dict[str, tuple[Law, dict[str, int | float]]] = {
    "zipf": (zipf, {"keys": 100_000, "skew": 0.9, "seed": 1}),
    "loop": (loop, {"keys": 1000}),
    "scan": (scan, {"keys": 100_000, "skew": 0.9, "every": 50_000, "length": 20_000, "seed": 1}),
    "shift": (shift, {"keys": 100_000, "skew": 0.9, "every": 50_000, "share": 0.1, "seed": 1}),
}
AT_LEAST_ONE = ("keys", "every")


def _ranks(keys: int, skew: float, dice: random.Random) -> Callable[[int], list[int]]:
    """Return what draws that many ranks, from 0."""
    places = range(keys)
    weights = array("d", itertools.accumulate((rank + 1) ** -skew for rank in places))
    return lambda count: dice.choices(places, cum_weights=weights, k=count)


def _pieces(count: int) -> Iterator[int]:
    """Split `count` requests into blocks."""
    for start in range(0, count, BLOCK):
        yield min(BLOCK, count - start)


class Distributions:
    """The popularity and the value sizes of a workload, as CacheBench's pop.json and sizes.json hold them.

    pop.json: popularityBuckets, keys of like popularity; popularityWeights, the requests to each; oneHits,
    the share of requests to keys that are asked for once. sizes.json: valSizeRange, bytes;
    valSizeRangeProbability, how many values have them (with one number more in the range than here, a value
    lies anywhere between two of them).
    """

    def __init__(self, folder: Path | str) -> None:
        """Read both files in `folder`. Raises TraceError."""
        popularity, sizes = _load(Path(folder) / "pop.json"), _load(Path(folder) / "sizes.json")
        try:
            self._buckets = _sums(popularity["popularityBuckets"])
            self._weights = _sums(popularity["popularityWeights"])
            self._lone = float(popularity.get("oneHits", 0.0))
            self._ends = [int(size) for size in sizes["valSizeRange"]]
            self._sizes = _sums(sizes["valSizeRangeProbability"])
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{folder} does not hold CacheBench's distributions: {error!r}") from None
        if len(self._buckets) != len(self._weights) or len(self._ends) - len(self._sizes) not in (0, 1):
            raise TraceError(f"{folder} does not hold CacheBench's distributions: their lengths differ")

    def size(self, key: int, seed: int = 0) -> int:
        """Bytes of the value of a key, always the same ones."""
        return self.quantile(_mixed(key, seed) / (MASK + 1))

    def quantile(self, share: float) -> int:
        """Bytes that this share of the values, from 0 to below 1, does not exceed."""
        place = share * self._sizes[-1]
        at = bisect_right(self._sizes, place)
        if len(self._ends) == len(self._sizes):
            return self._ends[at]
        below = self._sizes[at - 1] if at else 0.0
        within = (place - below) / (self._sizes[at] - below)
        return int(self._ends[at] + within * (self._ends[at + 1] - self._ends[at]))

    def stream(self, keys: int, seed: int = 1) -> Iterator[Block]:
        """Requests to `keys` keys and to others that are asked for once; each key keeps its size."""
        dice = random.Random(seed)
        lone = itertools.count(LONE)
        buckets = range(len(self._weights))
        scale = keys / self._buckets[-1]
        while True:
            block, sizes = array("q"), array("q")
            for bucket in dice.choices(buckets, cum_weights=self._weights, k=BLOCK):
                if dice.random() < self._lone:
                    key = next(lone)
                else:
                    start = self._buckets[bucket - 1] if bucket else 0.0
                    key = int((start + dice.random() * (self._buckets[bucket] - start)) * scale)
                block.append(key)
                sizes.append(self.size(key, seed))
            yield Block(block, sizes)


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TraceError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise TraceError(f"{path} is not a JSON object")
    return found


def _sums(numbers: list[float]) -> list[float]:
    found = list(itertools.accumulate(float(number) for number in numbers))
    if not found or found[-1] <= 0:
        raise ValueError("nothing to draw from")
    return found


def _mixed(key: int, seed: int) -> int:
    """64 bits for a key that look drawn by lot; SplitMix64's finalizer (Steele and others, 2014)."""
    x = (key + (seed + 1) * 0x9E3779B97F4A7C15) & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31
