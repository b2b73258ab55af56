"""Popularity: the laws come out of the draws, with fixed seeds."""

from __future__ import annotations

import math
from array import array
from collections import Counter

import pytest

from loadtest.engine.draw import drawn

DRAWS = 200_000


def likeliest_exponent(ranks: array[int], keys: int) -> float:
    """Maximum likelihood: where the law's mean of log(rank) is that of the ranks, found by halving."""
    logs = [math.log(rank) for rank in range(1, keys + 1)]
    wanted = sum(logs[rank] for rank in ranks) / len(ranks)
    low, high = 0.0, 5.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        weights = [math.exp(-middle * log) for log in logs]
        mean = sum(weight * log for weight, log in zip(weights, logs, strict=True)) / sum(weights)
        low, high = (middle, high) if mean > wanted else (low, middle)
    return low


@pytest.mark.parametrize("exponent", [0.3, 0.99, 1.0, 1.4])
def test_the_exponent_of_zipf_is_recovered(exponent: float) -> None:
    ranks = drawn("zipf", exponent, 0, 1000, 7, DRAWS)
    assert likeliest_exponent(ranks, 1000) == pytest.approx(exponent, rel=0.02)


def test_zipf_follows_its_law_rank_by_rank() -> None:
    counts = Counter(drawn("zipf", 1.0, 0, 50, 3, DRAWS))
    scale = DRAWS / sum(1 / rank for rank in range(1, 51))
    square = sum((counts[rank - 1] - scale / rank) ** 2 / (scale / rank) for rank in range(1, 51))
    assert square < 85.4  # chi-square, 49 degrees of freedom, one in a thousand


def test_zipf_over_tens_of_millions_of_keys_keeps_the_weight_of_the_first() -> None:
    keys = 50_000_000
    ranks = drawn("zipf", 1.0, 0, keys, 1, DRAWS)
    assert max(ranks) < keys
    harmonic = math.log(keys) + 0.5772156649
    assert ranks.count(0) == pytest.approx(DRAWS / harmonic, rel=0.05)


def test_uniform_is_even_by_chi_square() -> None:
    counts = Counter(drawn("uniform", 0, 0, 100, 5, DRAWS))
    square = sum((counts[key] - DRAWS / 100) ** 2 / (DRAWS / 100) for key in range(100))
    assert set(counts) == set(range(100))
    assert 56.0 < square < 149.5  # 99 degrees of freedom; less would be too even to be random


def test_a_hot_set_gets_its_share_and_the_others_get_the_rest() -> None:
    keys = drawn("hot", 0.1, 0.8, 1000, 1, DRAWS)
    assert sum(key < 100 for key in keys) == pytest.approx(0.8 * DRAWS, rel=0.02)
    assert set(keys) == set(range(1000))


def test_a_scan_takes_all_in_turn() -> None:
    assert list(drawn("scan", 0, 0, 3, 1, 7)) == [0, 1, 2, 0, 1, 2, 0]


def test_seeds_repeat_and_differ() -> None:
    assert drawn("zipf", 1, 0, 1000, 1, 100) == drawn("zipf", 1, 0, 1000, 1, 100)
    assert drawn("zipf", 1, 0, 1000, 1, 100) != drawn("zipf", 1, 0, 1000, 2, 100)
    assert set(drawn("zipf", 0.5, 0, 1, 1, 100)) == {0}
