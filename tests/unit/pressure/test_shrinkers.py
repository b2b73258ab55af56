"""The split among shrinkers and the containment of bad ones."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import ShrinkerSet

MIB = 1 << 20


class Cache:
    """Frees whole units; remembers what it was asked."""

    def __init__(self, size: int, unit: int = 1) -> None:
        self.size, self.unit, self.asked = size, unit, []  # type: int, int, list[int]

    def shrink(self, target: int, hard: bool) -> int:
        self.asked.append(target)
        freed = min(-(-target // self.unit) * self.unit, self.size)
        self.size -= freed
        return freed


def register(
    shrinkers: ShrinkerSet, func: Callable[[int, bool], int], size: int, **more: object
) -> Registration:
    registration = Registration("x", func, count=lambda: size, **more)  # type: ignore[arg-type]
    shrinkers.add(registration)
    return registration


def test_the_split_is_by_size_over_cost() -> None:
    shrinkers, big, small, dear = ShrinkerSet(), Cache(800 * MIB), Cache(200 * MIB), Cache(800 * MIB)
    register(shrinkers, big.shrink, 800 * MIB)
    register(shrinkers, small.shrink, 200 * MIB)
    register(shrinkers, dear.shrink, 800 * MIB, cost=8)
    assert shrinkers.ask(120 * MIB, False) == (120 * MIB, 120 * MIB)
    assert [cache.asked[0] // MIB for cache in (big, small, dear)] == [80, 20, 20]


def test_a_hard_target_that_one_cannot_meet_goes_to_the_others() -> None:
    shrinkers, liar, rich = ShrinkerSet(), Cache(0), Cache(500 * MIB)
    register(shrinkers, liar.shrink, 500 * MIB)
    register(shrinkers, rich.shrink, 500 * MIB)
    assert shrinkers.ask(100 * MIB, True).freed == 100 * MIB
    assert rich.asked == [50 * MIB, 50 * MIB]


def test_a_deferred_soft_target_is_not_passed_on_but_moves_the_next_split() -> None:
    shrinkers, busy, other = ShrinkerSet(), Cache(0), Cache(500 * MIB)
    register(shrinkers, busy.shrink, 500 * MIB)
    register(shrinkers, other.shrink, 500 * MIB)
    assert shrinkers.ask(100 * MIB, False).freed == 50 * MIB
    shrinkers.ask(100 * MIB, False)
    assert busy.asked[1] + other.asked[1] == 100 * MIB  # the debt is not added to the target
    assert busy.asked[1] > other.asked[1]


def test_one_shrinker_gets_the_whole_target_exactly() -> None:
    shrinkers, cache = ShrinkerSet(), Cache(500 * MIB)
    register(shrinkers, cache.shrink, 500 * MIB)
    shrinkers.ask(12_345_677, False)
    shrinkers.ask(7, True)
    assert cache.asked == [12_345_677, 7]


def test_nobody_who_could_give_is_nobody_asked() -> None:
    shrinkers, empty = ShrinkerSet(), Cache(0)
    register(shrinkers, empty.shrink, 0)
    assert shrinkers.ask(MIB, True) == (0, 0)
    assert empty.asked == []


def test_only_what_was_asked_of_a_shrinker_counts_as_asked() -> None:
    shrinkers, small = ShrinkerSet(), Cache(3 * MIB)
    register(shrinkers, small.shrink, 3 * MIB)
    assert shrinkers.ask(10 * MIB, False) == (3 * MIB, 3 * MIB)


def test_an_empty_cache_is_not_asked_softly_again_and_again_until_it_holds_something() -> None:
    shrinkers, empty, kept = ShrinkerSet(), Cache(0), [MIB]  # its index is counted and never given
    shrinkers.add(Registration("x", empty.shrink, count=lambda: kept[0]))
    for _ in range(200):  # 10 s
        shrinkers.ask(MIB, False)
    assert len(empty.asked) <= 15
    shrinkers.ask(MIB, True)
    assert len(empty.asked) <= 16
    kept[0] += MIB
    before = len(empty.asked)
    assert shrinkers.ask(MIB, False).asked == MIB
    assert len(empty.asked) == before + 1


def raises(target: int, hard: bool) -> int:
    raise SystemExit("not your business")


@pytest.mark.parametrize(
    "bad",
    [
        raises,
        lambda target, hard: -5,
        lambda target, hard: None,
        lambda target, hard: "many",
        lambda target, hard: 1.5,
        lambda target, hard: 1 << 60,
    ],
)
def test_a_bad_shrinker_is_told_once_left_out_after_three_and_the_others_do_its_share(
    bad: Callable[[int, bool], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    shrinkers, good = ShrinkerSet(), Cache(1000 * MIB)
    one = register(shrinkers, bad, 1000 * MIB)
    register(shrinkers, good.shrink, 1000 * MIB)
    for _ in range(5):
        shrinkers.ask(10 * MIB, True)
    assert not one.enabled
    assert len(caplog.records) == 2
    assert shrinkers.ask(10 * MIB, True).freed == 10 * MIB
    assert good.asked[-1] == 10 * MIB


def test_a_good_answer_forgives_what_was_before() -> None:
    shrinkers, answers = ShrinkerSet(), iter([-1, -1, MIB, -1, -1])
    one = register(shrinkers, lambda target, hard: next(answers), 1000 * MIB)
    for _ in range(5):
        shrinkers.ask(MIB, False)
    assert one.enabled


def test_who_claims_more_than_its_ledger_shows_is_asked_for_less() -> None:
    shrinkers, honest = ShrinkerSet(), Cache(1000 * MIB)
    liar = register(shrinkers, lambda target, hard: target, 1000 * MIB, ledger=lambda: (1000 * MIB, 0))
    register(shrinkers, honest.shrink, 1000 * MIB)
    for _ in range(3):
        shrinkers.ask(64 * MIB, True)
    assert liar.weight == 1 / 8
    assert honest.asked[-1] > 48 * MIB


def test_count_ledger_and_grant_that_raise_are_contained() -> None:
    shrinkers = ShrinkerSet()

    def broken(*_: object) -> int:
        raise ValueError

    shrinkers.add(Registration("x", lambda t, h: t, count=broken, grant=broken, ledger=broken))
    assert shrinkers.ledger() == (0, 0)
    shrinkers.grant(5)
    assert shrinkers.ask(5, True) == (0, 0)


def test_a_cost_of_nothing_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="cost must be above 0"):
        Registration("x", lambda t, h: t, cost=0)
