"""Sizes and durations as people write them."""

from __future__ import annotations

import pytest

from loadtest.units import latency_text, seconds_of, size_of, size_text


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("512M", 512 << 20), ("1.5GiB", 3 << 29), ("64k", 65536), ("100", 100), (4096, 4096), ("2 gb", 2 << 30)],
)
def test_sizes_are_in_powers_of_1024(text: object, nbytes: int) -> None:
    assert size_of(text) == nbytes


@pytest.mark.parametrize("text", ["", "M", "1X", "-5M", "1M/s", True, "1e9"])
def test_what_is_no_size_is_refused_with_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="such as 512M"):
        size_of(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("5m", 300), ("30s", 30), (7, 7), ("1h", 3600)]
)
def test_durations_are_in_seconds(text: object, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 days", "-1s", True])
def test_what_is_no_duration_is_refused_with_what_is_allowed(text: object) -> None:
    with pytest.raises(ValueError, match="such as 250ms"):
        seconds_of(text)


def test_numbers_for_people_have_the_unit_that_fits() -> None:
    assert [size_text(n) for n in (None, 5, 1536, 3 << 20, -(5 << 30))] == [
        "-", "5 B", "1.5 KiB", "3.0 MiB", "-5.0 GiB",
    ]  # fmt: skip
    assert [latency_text(us) for us in (None, 80, 1500, 2_500_000)] == ["-", "80 us", "1.50 ms", "2.50 s"]
