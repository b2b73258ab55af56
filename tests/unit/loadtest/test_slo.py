"""Conditions: what they say and the verdicts on them."""

from __future__ import annotations

import pytest

from loadtest import slo


@pytest.mark.parametrize(
    ("text", "figure", "bound"),
    [
        ("p99<2ms", "p99", 2000.0),
        ("p99.9 <= 500us", "p99.9", 500.0),
        ("service.p50<1s", "service.p50", 1e6),
        ("set.max<1s", "set.max", 1e6),
        ("hit>0.9", "hit", 0.9),
        ("hit>=90%", "hit", 0.9),
        ("errors=0", "errors", 0.0),
        ("growth<=1M", "growth", float(1 << 20)),
    ],
)
def test_a_condition_is_a_figure_a_sign_and_a_bound(text: str, figure: str, bound: float) -> None:
    (clause,) = slo.parse(text)
    assert (clause.figure, clause.bound) == (figure, pytest.approx(bound))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99", "is no condition: say such as p99<2ms"),
        ("speed>5", "'speed' is no figure: known are p99"),
        ("p99<fast", "is no duration"),
        ("p99<2", "say 2us, 2ms or 2s"),
        ("errors=none", "errors is compared with a number"),
        ("", "no condition in it"),
        ("p101<1s", "'p101' is no figure"),
    ],
)
def test_what_is_no_condition_is_refused_with_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        slo.parse(text)
    assert "\n" not in str(caught.value)


def judged(text: str, **figures: float) -> tuple[int, list[str]]:
    verdicts = slo.judge(slo.parse(text), figures.get)
    return slo.status(verdicts), [str(each) for each in verdicts]


def test_each_condition_has_its_verdict_and_the_worst_is_the_status() -> None:
    assert judged("p99<2ms,hit>0.9,errors=0", p99=1500.0, hit=0.95, errors=0.0) == (
        0,
        ["p99<2ms: met (1.50 ms)", "hit>0.9: met (0.9500)", "errors=0: met (0)"],
    )
    assert judged("p99<2ms,hit>0.9", p99=2000.0, hit=0.95)[0] == 1
    assert judged("p99<2ms,kills=0", p99=1.0) == (2, ["p99<2ms: met (1 us)", "kills=0: not measured"])
    assert judged("p99<2ms,kills=0", p99=9e6)[0] == 1
