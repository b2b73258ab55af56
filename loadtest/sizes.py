"""Size laws: how many bytes keys and values have, as a table of quantiles.

Knows: distributions, the words that name them. Must not know: servers, keys. A law becomes QUANTILES numbers,
one for each step of probability; whoever draws one of them by a key's hash gives every key a size of its own
that never changes. Memory: the table.

  fixed:N                 N bytes
  range:A-B               A to B bytes, all alike often
  list:N:WEIGHT,...       these sizes, in proportion to their weights
  lognormal:MEDIAN:SIGMA  the logarithm is normal around ln(MEDIAN), with SIGMA
  meta:etc-key            Facebook's pool ETC: keys, values; the fits of Atikoglu and others, "Workload
  meta:etc-value            Analysis of a Large-Scale Key-Value Store" (2012), without their table of the
                            smallest values
  meta:FOLDER             values as CacheBench's sizes.json in that folder has them
  file:PATH               a text file, "N" or "N WEIGHT" a line
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist

from loadtest.streams import Distributions
from loadtest.traces import TraceError

QUANTILES = 4096
LARGEST_KEY = 250  # bytes; memcached takes no longer one
SPREADEST = 5.0  # sigma of a lognormal law; one size of a hundred is then 100,000 times the median
LARGEST_VALUE = 1 << 30  # bytes; no memcached can be told to take more

Quantile = Callable[[float], float]


def table(law: str, largest: int) -> array[int]:
    """The sizes at the middles of QUANTILES steps of probability, from 0 to `largest` bytes.

    Raises ValueError, in one line, where the words are no law; sizes beyond `largest` are cut to it where the
    law has no end, and refused where somebody wrote them.
    """
    name, _, rest = law.partition(":")
    if name not in LAWS:
        raise ValueError(f"{law!r} is no size law: say one of {', '.join(LAWS)}")
    try:
        quantile = LAWS[name](rest, largest)
    except (TraceError, OSError) as error:
        raise ValueError(f"{law}: {error}") from None
    places = ((step + 0.5) / QUANTILES for step in range(QUANTILES))
    return array("q", (max(0, min(largest, int(quantile(place)))) for place in places))


def _bytes(text: str, largest: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > largest:
        raise ValueError(f"{text!r} is no size: say 0 to {largest} bytes")
    return int(text)


def positive(text: str) -> float:
    """A finite number above 0. Raises ValueError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{text!r} is not a number above 0")
    return number


def _fixed(text: str, largest: int) -> Quantile:
    size = _bytes(text, largest)
    return lambda place: size


def _range(text: str, largest: int) -> Quantile:
    low, _, high = text.partition("-")
    first, last = _bytes(low, largest), _bytes(high, largest)
    if first > last:
        raise ValueError(f"range:{text} is empty")
    return lambda place: first + place * (last - first + 1)


def _list(text: str, largest: int) -> Quantile:
    return _weighted((word.split(":") for word in text.split(",")), largest)


def _file(text: str, largest: int) -> Quantile:
    with Path(text).open(encoding="utf-8", errors="replace") as file:
        return _weighted((line.split() for line in file if line.strip()), largest)


def _weighted(entries: Iterable[list[str]], largest: int) -> Quantile:
    sizes, weights = [], []
    for words in entries:
        if not 1 <= len(words) <= 2:
            raise ValueError(f"{' '.join(words)!r} is not a size and a weight")
        sizes.append(_bytes(words[0], largest))
        weights.append(positive(words[1]) if len(words) == 2 else 1.0)
    if not sizes:
        raise ValueError("there is no size")
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    sums = list(accumulate(weights[at] for at in order))
    last = len(order) - 1
    return lambda place: sizes[order[min(last, bisect_right(sums, place * sums[-1]))]]


def _lognormal(text: str, largest: int) -> Quantile:
    middle, _, spread = text.partition(":")
    median, sigma = positive(middle), positive(spread)
    if median > largest or sigma > SPREADEST:
        raise ValueError(
            f"lognormal:{text}: say a median of up to {largest} bytes and a sigma of up to {SPREADEST:g}"
        )
    normal = NormalDist()
    return lambda place: min(float(largest), median * math.exp(sigma * normal.inv_cdf(place)))


def _meta(text: str, largest: int) -> Quantile:
    if text in META:
        return META[text]
    if not Path(text).is_dir():
        raise ValueError(f"meta:{text}: say {', '.join(META)}, or a folder with CacheBench's files")
    return Distributions(text).quantile


def _etc_key(place: float) -> float:
    """Generalized extreme value distribution: location 30.7984, scale 8.20449, shape 0.078688."""
    return 30.7984 + 8.20449 / 0.078688 * (math.pow(-math.log(place), -0.078688) - 1)


def _etc_value(place: float) -> float:
    """Generalized Pareto distribution: location 0, scale 214.476, shape 0.348238."""
    return 214.476 / 0.348238 * (math.pow(1 - place, -0.348238) - 1)


META: dict[str, Quantile] = {"etc-key": _etc_key, "etc-value": _etc_value}
LAWS: dict[str, Callable[[str, int], Quantile]] = {
    "fixed": _fixed,
    "range": _range,
    "list": _list,
    "lognormal": _lognormal,
    "meta": _meta,
    "file": _file,
}
