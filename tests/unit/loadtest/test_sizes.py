"""Size laws: their quantiles, and what is said of words that are none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest

from loadtest.sizes import QUANTILES, table


def test_a_fixed_size_is_one_size_and_a_range_is_even() -> None:
    assert set(table("fixed:7", 100)) == {7}
    sizes = table("range:1-8", 100)
    assert [sizes.count(size) for size in range(10)] == [0, *[QUANTILES // 8] * 8, 0]


def test_a_list_and_a_file_follow_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "sizes"
    path.write_text("1000 1\n10 3\n\n")
    for law in ("list:1000:1,10:3", f"file:{path}"):
        sizes = table(law, 1000)
        assert (sizes.count(10), sizes.count(1000)) == (QUANTILES * 3 // 4, QUANTILES // 4)
    assert table("list:5,6", 10).count(5) == QUANTILES // 2


@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_lognormal_has_the_quantiles_of_the_normal_distribution(place: float) -> None:
    expected = 1000 * math.exp(0.7 * NormalDist().inv_cdf(place))
    assert table("lognormal:1000:0.7", 1 << 30)[int(place * QUANTILES)] == pytest.approx(expected, rel=0.01)


def test_the_published_fits_have_the_published_quantiles() -> None:
    values = table("meta:etc-value", 1 << 30)
    # Generalized Pareto: half of the values are up to sigma / k * (2 ** k - 1) bytes
    assert values[QUANTILES // 2] == pytest.approx(214.476 / 0.348238 * (2**0.348238 - 1), abs=1)
    keys = table("meta:etc-key", 250)
    median = 30.7984 + 8.20449 / 0.078688 * (math.log(2) ** -0.078688 - 1)
    assert keys[QUANTILES // 2] == pytest.approx(median, abs=1)


def test_the_sizes_of_a_folder_of_distributions_are_taken(tmp_path: Path) -> None:
    (tmp_path / "pop.json").write_text('{"popularityBuckets": [1], "popularityWeights": [1]}')
    sizes = {"valSizeRange": [64, 1000], "valSizeRangeProbability": [30, 10]}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    found = table(f"meta:{tmp_path}", 1 << 20)
    assert (found.count(64), found.count(1000)) == (QUANTILES * 3 // 4, QUANTILES // 4)


@pytest.mark.parametrize(
    "law",
    [
        *("", "fixed", "fixed:-1", "fixed:101", "range:9-3", "range:1", "list:", "list:1:0", "list:1:2:3"),
        *(
            "lognormal:10",
            "lognormal:0:1",
            "lognormal:nan:1",
            "lognormal:1e300:1",
            "lognormal:9:100",
            "meta:usr",
            "file:/nowhere/at/all",
            "gauss:1",
        ),
    ],
)
def test_words_that_are_no_law_are_refused_in_one_line(law: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        table(law, 100)
