"""What each step of a staircase gave: a row for each rate, or for each number of connections.

Knows: outcomes. Must not know: where the rows are shown. Pure. The warm-up is in no step; a second in which a
step begins is the step's in which the most of it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from loadtest.outcome import Outcome
from loadtest.results import Counters, Histogram, Second
from loadtest.units import count_text, latency_text

SHARES = (50.0, 99.0, 99.9)  # percent of the requests


class Step(NamedTuple):
    """One step; `value` requests a second, or connections, were asked for."""

    value: float
    seconds: float  # that were measured
    counters: Counters
    latency: Histogram
    backlog: int  # requests due and not sent in its end


def steps(outcome: Outcome) -> list[Step]:
    """The steps in their order; none of a load without a staircase."""
    load = outcome.result.load
    if not load.steps:
        return []
    timed: list[tuple[float, float, Second]] = []  # what was asked for, seconds, what came
    last = 0.0
    for second in outcome.result.seconds:
        if not second.warmup:
            timed.append((load.value_at((last + second.at) / 2), second.at - last, second))
        last = second.at
    return [_step(value, list(part)) for value, part in groupby(timed, lambda each: each[0])]


def _step(value: float, part: Sequence[tuple[float, float, Second]]) -> Step:
    counters, latency = Counters(), Histogram()
    for _, _, second in part:
        counters = counters.plus(second.counters)
        latency.add(second.latency)
    return Step(value, sum(seconds for _, seconds, _ in part), counters, latency, part[-1][2].backlog)


def table(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) as text; no rows of a load without a staircase."""
    load = outcome.result.load
    heads = ["asked for/s" if load.rate else "connections", "requests/s", "hit ratio"]
    heads += [f"p{share:g}" for share in SHARES] + ["backlog"] * bool(load.rate)
    return heads, [_row(step, bool(load.rate)) for step in steps(outcome)]


def _row(step: Step, open_loop: bool) -> list[str]:
    answered = step.latency.total() > 0
    return [
        f"{step.value:.10g}",
        count_text(step.counters.requests / (step.seconds or 1.0)),
        f"{step.counters.hit_ratio:.4f}" if step.counters.gets else "-",
        *(latency_text(step.latency.percentile(share)) if answered else "-" for share in SHARES),
        *([count_text(step.backlog)] if open_loop else []),
    ]
