"""The rows of a staircase."""

from __future__ import annotations

import pytest

from loadtest import stairs
from loadtest.outcome import Outcome
from loadtest.results import Counters
from loadtest.workload import Load
from tests.unit.loadtest import made

CLIMB = ((4.4, 2000.0), (8.6, 3000.0), (15.0, 2000.0))  # seconds from the start, requests a second


def climbing(load: Load) -> Outcome:
    outcome = made.outcome(rate=load.rate)
    return outcome._replace(result=outcome.result._replace(load=load))


def test_a_second_is_of_the_step_in_which_the_most_of_it_lies() -> None:
    outcome = climbing(Load(rate=1000.0, steps=CLIMB))
    found = stairs.steps(outcome)
    assert [(step.value, step.seconds) for step in found] == [
        (1000.0, 4.0), (2000.0, 5.0), (3000.0, 6.0), (2000.0, 5.0)
    ]  # fmt: skip
    middle = outcome.result.seconds[4:9]
    assert found[1].counters.hits == sum(each.counters.hits for each in middle)
    assert found[1].latency.total() == sum(each.latency.total() for each in middle)
    assert found[1].latency.max() > found[0].latency.max()  # made so: it rises by the second
    whole = Counters()
    for step in found:
        whole = whole.plus(step.counters)
    assert whole == outcome.result.total


def test_the_warm_up_is_in_no_step() -> None:
    outcome = climbing(Load(connections=10, steps=((5.0, 20.0),), warmup=3.0))
    seconds = tuple(each._replace(warmup=each.at <= 3.0) for each in outcome.result.seconds)
    outcome = outcome._replace(result=outcome.result._replace(seconds=seconds))
    assert [(step.value, step.seconds) for step in stairs.steps(outcome)] == [(10, 2.0), (20.0, 15.0)]


@pytest.mark.parametrize(
    ("load", "heads", "first"),
    [
        (Load(rate=1000.0, steps=CLIMB), ["asked for/s", "backlog"], ["1000", "5"]),
        (Load(connections=10, steps=((5.0, 20.0),)), ["connections", "p99.9"], ["10", "750 us"]),
    ],
)
def test_a_row_tells_what_was_asked_for_and_what_came(load: Load, heads: list[str], first: list[str]) -> None:
    named, rows = stairs.table(climbing(load))
    assert [named[0], named[-1]] == heads
    assert rows[0][1] == "1000"
    assert [rows[0][0], rows[0][-1]] == first
    assert stairs.table(climbing(load._replace(steps=())))[1] == []
