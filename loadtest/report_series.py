"""Series of numbers for charts, from outcomes. Pure.

Each is (places, values); places are seconds since the start of the load unless told otherwise. What was not
measured has no place.
"""

from __future__ import annotations

import math
from typing import Any

from loadtest.outcome import Outcome
from loadtest.results import Histogram, value_at, width_at
from loadtest.units import MIB

Series = tuple[list[float], list[float]]
SHORTEST = 0.2  # seconds between the two samples of a rate; less is noise
MS = 1000.0  # microseconds
LEAST_TAIL = 1e-7  # share of the requests; a chart ends there


def rate(outcome: Outcome) -> Series:
    """Requests a second."""
    times, values, last = [], [], 0.0
    for second in outcome.result.seconds:
        if second.at > last:
            times.append(second.at)
            values.append(second.counters.requests / (second.at - last))
        last = second.at
    return times, values


def hit_ratio(outcome: Outcome) -> Series:
    """Hits of gets; 0 in a second in which nothing was answered although there was a load."""
    found = [
        (second.at, second.counters.hits / second.counters.gets if second.counters.gets else 0.0)
        for second in outcome.result.seconds
        if second.counters.gets or not second.counters.sets
    ]
    if not outcome.result.total.gets:
        return [], []
    return [at for at, _ in found], [ratio for _, ratio in found]


def percentile(outcome: Outcome, share: float, service: bool = False) -> Series:
    """Milliseconds that `share` percent of the requests of a second did not exceed."""
    found = [(second.at, second.service if service else second.latency) for second in outcome.result.seconds]
    there = [(at, histogram) for at, histogram in found if histogram.total()]
    return [at for at, _ in there], [histogram.percentile(share) / MS for _, histogram in there]


def backlog(outcome: Outcome) -> Series:
    """Requests that were due and not yet sent."""
    seconds = outcome.result.seconds
    return [second.at for second in seconds], [float(second.backlog) for second in seconds]


def seen(
    outcome: Outcome, field: str, unit: float | None = None, gaps: bool = False
) -> tuple[list[float], list[Any]]:
    """A field of the samples, in units of `unit`; with `gaps`, NaN where it was not to be had for a while."""
    pairs = [(sample.at, getattr(sample, field)) for sample in outcome.samples if sample.at >= 0]
    there = [(at, value) for at, value in pairs if value is not None]
    if gaps and there:
        there = [(at, math.nan if value is None else value) for at, value in pairs]
    return [at for at, _ in there], [value / unit if unit else value for _, value in there]


def hog(outcome: Outcome) -> Series:
    """MiB of the process beside the server; 0 where it is not there, as after a kill."""
    pairs = [(sample.at, (sample.hog or 0) / MIB) for sample in outcome.samples if sample.at >= 0]
    return [at for at, _ in pairs], [size for _, size in pairs]


def rates_of(outcome: Outcome, field: str) -> Series:
    """By how much a counter of the samples rises a second; one that begins anew is left out there."""
    times, values = seen(outcome, field)
    places: list[float] = []
    found: list[float] = []
    last = 0
    for number in range(1, len(times)):
        passed = times[number] - times[last]
        if passed < SHORTEST:
            continue
        if values[number] >= values[last]:
            places.append(times[number])
            found.append((values[number] - values[last]) / passed)
        last = number
    return places, found


def tail(histogram: Histogram) -> Series:
    """Milliseconds by 1 / (1 - share): 10 is 90 %, 100 is 99 %, and so on."""
    total = histogram.total()
    places: list[float] = []
    values: list[float] = []
    passed = 0
    for index, count in histogram.pairs():
        passed += count
        left = max(1.0 - passed / total, LEAST_TAIL)
        if places and left == LEAST_TAIL:
            left = 1.0 / (total + 1)
        places.append(1.0 / left)
        values.append((value_at(index) + width_at(index) - 1) / MS)
    return places, values
