"""Histograms and results: percentiles against sorted samples, and the way through JSON."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest

from loadtest.engine.histogram import Recorder
from loadtest.results import (
    COUNTS,
    HIGHEST,
    Counters,
    Histogram,
    Result,
    Second,
    from_json,
    index_of,
    to_json,
    value_at,
    width_at,
)
from loadtest.workload import Load, Workload


def recorded(samples: list[int]) -> Histogram:
    """Durations in microseconds, as the generator counts them."""
    recorder = Recorder()
    for sample in samples:
        recorder.record(sample * 1000)
    return Histogram.packed(*recorder.take())


def test_every_value_lies_where_it_is_counted_to_three_digits() -> None:
    values = [0, 1, 999, 1023, 1024, 2047, 2048, 2049, 4095, 4096, 123_456, HIGHEST - 1, HIGHEST]
    for value in values:
        index = index_of(value)
        assert value_at(index) <= value < value_at(index) + width_at(index)
        assert width_at(index) <= max(1, value / 1000)
    assert index_of(HIGHEST + 1) == index_of(HIGHEST) < COUNTS
    starts = [value_at(index) for index in range(COUNTS)]
    assert all(low + width_at(at) == high for at, (low, high) in enumerate(pairwise(starts)))


def test_the_generator_counts_in_the_same_layout() -> None:
    samples = [0, 1, 2047, 2048, 5000, 70_000, 1_000_000, HIGHEST, 10 * HIGHEST]
    expected = Histogram((index_of(sample), 1) for sample in samples)
    assert recorded(samples) == expected
    recorder = Recorder()
    recorder.record(-5)
    assert list(Histogram.packed(*recorder.take()).pairs()) == [(0, 1)]
    assert Histogram.packed(*recorder.take()).total() == 0


def test_percentiles_are_those_of_the_sorted_samples() -> None:
    dice = random.Random(4)
    samples = sorted(int(dice.lognormvariate(6, 2)) for _ in range(20_000))
    found = recorded(samples)
    assert found.total() == len(samples)
    for share in (0.01, 10, 50, 90, 99, 99.9, 99.99, 100):
        exact = samples[max(0, -int(-share * len(samples) // 100) - 1)]
        assert found.percentile(share) == pytest.approx(exact, rel=0.001, abs=1)
    assert found.mean() == pytest.approx(sum(samples) / len(samples), rel=0.001)
    assert found.max() == pytest.approx(samples[-1], rel=0.001)


def test_histograms_add_up() -> None:
    first, second = recorded([1, 5, 5000]), recorded([5, 7])
    first.add(second)
    assert first == recorded([1, 5, 5000, 5, 7])
    assert sum(first.counts) == 5
    assert first.counts[index_of(5)] == 2
    assert Histogram().percentile(99) == Histogram().max() == Histogram().mean() == 0


def test_a_result_goes_through_json_and_back() -> None:
    counters = Counters(requests=10, gets=9, hits=6, misses=3, sets=1, stored=1, bytes_in=5000)
    latency = recorded([100, 200, 300])
    sets = recorded([300])
    second = Second(3.0, counters, latency, latency, 3, False)  # after a second of warm-up
    load = Load(rate=5.0, steps=((1.0, 7.0),))
    result = Result(
        Workload(verify=True), load, "h:1", 1e9, (second,), counters, latency, latency, sets, 2.0, False, "x"
    )
    text = json.loads(json.dumps(to_json(result)))
    assert from_json(text) == result
    totals = text["ALL STATS"]["Totals"]
    assert totals["Ops/sec"] == 5.0
    assert totals["KB/sec RX"] == 2500 / 1024  # memtier's are of 1024 bytes
    runtime = text["ALL STATS"]["Runtime"]
    assert (runtime["Start time"], runtime["Total duration"]) == (1_000_000_001_000, 2000)
    assert (totals["Hits/sec"], totals["Misses/sec"]) == (3.0, 1.5)
    assert totals["Percentile Latencies"]["p50.00"] == pytest.approx(0.2)
    gets, sets_ = text["ALL STATS"]["Gets"], text["ALL STATS"]["Sets"]
    assert (gets["Count"], sets_["Count"]) == (9, 1)
    assert (gets["Max Latency"], sets_["Min Latency"]) == (pytest.approx(0.2), pytest.approx(0.3))
    text["sets"] = [[99999, 1]]
    with pytest.raises(ValueError, match="not a result"):
        from_json(text)
    text["sets"] = [[400, 1]]  # not in the latency
    with pytest.raises(ValueError, match="not a result"):
        from_json(text)


@pytest.mark.parametrize("text", ["{}", '{"workload": 5}', "[]"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a result"):
        from_json(json.loads(text))
