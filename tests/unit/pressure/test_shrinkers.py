"""The split among shrinkers and the containment of bad ones."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable

import pytest

from cacheserver.pressure import Shrinker
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import ShrinkerSet
from tests.unit.pressure.conftest import HARD, SOFT

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
    assert shrinkers.ask(120 * MIB, SOFT) == (120 * MIB, 120 * MIB)
    assert [cache.asked[0] // MIB for cache in (big, small, dear)] == [80, 20, 20]


def test_a_hard_target_that_one_cannot_meet_goes_to_the_others() -> None:
    shrinkers, liar, rich = ShrinkerSet(), Cache(0), Cache(500 * MIB)
    register(shrinkers, liar.shrink, 500 * MIB)
    register(shrinkers, rich.shrink, 500 * MIB)
    assert shrinkers.ask(100 * MIB, HARD).freed == 100 * MIB
    assert rich.asked == [50 * MIB, 50 * MIB]


def test_a_deferred_soft_target_is_not_passed_on_but_moves_the_next_split() -> None:
    shrinkers, busy, other = ShrinkerSet(), Cache(0), Cache(500 * MIB)
    register(shrinkers, busy.shrink, 500 * MIB)
    register(shrinkers, other.shrink, 500 * MIB)
    assert shrinkers.ask(100 * MIB, SOFT).freed == 50 * MIB
    shrinkers.ask(100 * MIB, SOFT)
    assert busy.asked[1] + other.asked[1] == 100 * MIB  # the debt is not added to the target
    assert busy.asked[1] > other.asked[1]


def test_one_shrinker_gets_the_whole_target_exactly() -> None:
    shrinkers, cache = ShrinkerSet(), Cache(500 * MIB)
    register(shrinkers, cache.shrink, 500 * MIB)
    shrinkers.ask(12_345_677, SOFT)
    shrinkers.ask(7, HARD)
    assert cache.asked == [12_345_677, 7]


def test_nobody_who_could_give_is_nobody_asked() -> None:
    shrinkers, empty = ShrinkerSet(), Cache(0)
    register(shrinkers, empty.shrink, 0)
    assert shrinkers.ask(MIB, HARD) == (0, 0)
    assert empty.asked == []


def test_only_what_was_asked_of_a_shrinker_counts_as_asked() -> None:
    shrinkers, small = ShrinkerSet(), Cache(3 * MIB)
    register(shrinkers, small.shrink, 3 * MIB)
    assert shrinkers.ask(10 * MIB, SOFT) == (3 * MIB, 3 * MIB)


def test_an_empty_cache_is_not_asked_softly_again_and_again_until_it_holds_something() -> None:
    shrinkers, empty, kept = ShrinkerSet(), Cache(0), [MIB]  # its index is counted and never given
    shrinkers.add(Registration("x", empty.shrink, count=lambda: kept[0]))
    for _ in range(200):  # 10 s
        shrinkers.ask(MIB, SOFT)
    assert len(empty.asked) <= 15
    shrinkers.ask(MIB, HARD)
    assert len(empty.asked) <= 16
    kept[0] += MIB
    before = len(empty.asked)
    assert shrinkers.ask(MIB, SOFT).asked == MIB
    assert len(empty.asked) == before + 1


def raises(target: int, hard: bool) -> int:
    raise SystemExit("not your business")


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "bad",
    [
        raises,
        lambda target, hard: -5,
        lambda target, hard: None,
        lambda target, hard: "many",
        lambda target, hard: 1.5,
        lambda target, hard: True,
        lambda target, hard: 1 << 60,
        lambda target, hard: 1 << 20_000,  # more digits than a repr may have
        lambda target, hard: Unspeakable(),
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
        shrinkers.ask(10 * MIB, HARD)
    assert not one.enabled
    assert len(caplog.records) == 2
    assert shrinkers.ask(10 * MIB, HARD).freed == 10 * MIB
    assert good.asked[-1] == 10 * MIB


def test_who_can_only_empty_all_it_has_is_no_liar_and_spares_nobody() -> None:
    shrinkers, good, held = ShrinkerSet(), Cache(1000 * MIB), 4000 * MIB
    one = register(shrinkers, lambda target, hard: held, held)  # it is full again each time
    register(shrinkers, good.shrink, 1000 * MIB)
    for _ in range(5):
        shrinkers.ask(10 * MIB, HARD)
    assert (one.strikes, one.enabled) == (0, True)
    assert good.asked == [2 * MIB] * 5


class Eight:
    """A number of another library, as numpy's are."""

    def __index__(self) -> int:
        return 8 * MIB


def test_a_whole_number_need_not_be_pythons_own() -> None:
    shrinkers = ShrinkerSet()
    one = register(shrinkers, lambda target, hard: Eight(), 1000 * MIB)  # type: ignore[arg-type, return-value]
    assert shrinkers.ask(8 * MIB, HARD).freed == 8 * MIB
    assert one.strikes == 0


@pytest.mark.parametrize("absurd", [1 << 3000, -(1 << 3000), float("inf"), float("nan"), None, "many"])
def test_a_count_and_a_ledger_beyond_all_measure_harm_nobody_else(absurd: int) -> None:
    shrinkers, good = ShrinkerSet(), Cache(1000 * MIB)
    shrinkers.add(Registration("x", lambda t, h: 0, count=lambda: absurd, ledger=lambda: (absurd, absurd)))
    register(shrinkers, good.shrink, 1000 * MIB)
    for _ in range(4):
        assert not any(shrinkers.ledger())
        assert shrinkers.ask(10 * MIB, HARD).freed == 10 * MIB


def test_ctrl_c_is_for_the_program_that_asks_and_harms_no_shrinker() -> None:
    shrinkers, good = ShrinkerSet(), Cache(1000 * MIB)
    keys = [KeyboardInterrupt]

    def interrupted(target: int, hard: bool) -> int:
        raise keys[0]

    one = register(shrinkers, interrupted, 2000 * MIB)
    register(shrinkers, good.shrink, 1000 * MIB)
    with pytest.raises(KeyboardInterrupt):
        shrinkers.ask(10 * MIB, HARD)
    assert one.strikes == 0
    other = threading.Thread(target=lambda: shrinkers.ask(10 * MIB, HARD))  # no Ctrl-C ever comes here
    other.start()
    other.join(30)
    assert one.strikes == 1
    assert good.asked[-1] > 0


def test_a_good_answer_forgives_what_was_before() -> None:
    shrinkers, answers = ShrinkerSet(), iter([-1, -1, MIB, -1, -1])
    one = register(shrinkers, lambda target, hard: next(answers), 1000 * MIB)
    for _ in range(5):
        shrinkers.ask(MIB, SOFT)
    assert one.enabled


def test_who_claims_more_than_its_ledger_shows_is_asked_for_less() -> None:
    shrinkers, honest = ShrinkerSet(), Cache(1000 * MIB)
    liar = register(shrinkers, lambda target, hard: target, 1000 * MIB, ledger=lambda: (1000 * MIB, 0))
    register(shrinkers, honest.shrink, 1000 * MIB)
    for _ in range(3):
        shrinkers.ask(64 * MIB, HARD)
    assert liar.weight == 1 / 8
    assert honest.asked[-1] > 48 * MIB


def test_count_ledger_and_grant_that_raise_are_contained() -> None:
    shrinkers = ShrinkerSet()

    def broken(*_: object) -> int:
        raise ValueError

    shrinkers.add(Registration("x", lambda t, h: t, count=broken, grant=broken, ledger=broken))
    assert not any(shrinkers.ledger())
    shrinkers.grant(5)
    assert shrinkers.ask(5, HARD) == (0, 0)


def test_leave_is_shared_in_whole_pages_and_the_odd_one_goes_round() -> None:
    shrinkers, given = ShrinkerSet(), [0, 0, 0]
    for i in range(3):
        grant = functools.partial(given.__setitem__, i)
        shrinkers.add(Registration("x", lambda t, h: t, grant=grant))
    shrinkers.grant(7 * MIB + 5)
    assert given == [3 * MIB + 5, 2 * MIB, 2 * MIB]
    rounds = []
    for _ in range(3):
        shrinkers.grant(MIB)
        rounds.append(list(given))
    assert rounds == [[0, MIB, 0], [0, 0, MIB], [MIB, 0, 0]]
    shrinkers.grant(0)
    assert given == [0, 0, 0]


@pytest.mark.parametrize("cost", [0, -1, float("nan"), float("inf"), 1e-320])
def test_a_cost_that_leaves_no_share_is_refused_in_words(cost: float) -> None:
    with pytest.raises(ValueError, match="'x': cost must be above 0"):
        Registration("x", lambda t, h: t, cost=cost)


async def later(target: int, hard: bool) -> int:
    return target


class Empty(Shrinker):
    pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Registration("x", lambda target: target), "other parameters .* too many"),  # type: ignore[arg-type, misc]
        (lambda: Registration("x", lambda a, b, c: a), "other parameters .* missing .*'c'"),  # type: ignore[arg-type, misc]
        (lambda: Registration("x", later), "coroutine function"),  # type: ignore[arg-type]
        (lambda: Registration("x", raises, count=lambda n: n), "count has other parameters"),
        (lambda: Registration("x", raises, count=5), "count is 5, which cannot be called"),  # type: ignore[arg-type]
        (lambda: Registration("x", raises, grant=lambda: None), "grant has other parameters"),  # type: ignore[arg-type, misc]
        (lambda: Registration("x", raises, ledger=lambda n: (n, 0)), "ledger has other parameters"),
        (lambda: Empty(), "abstract method"),  # type: ignore[abstract]
    ],
)
def test_what_could_never_be_called_is_refused_at_once_and_not_under_pressure(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        make()
