"""Linux's form of a shrinker: counting and scanning objects, asked for in bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from cacheserver.pressure import SHRINK_EMPTY, SHRINK_STOP, Context
from cacheserver.pressure.forms import FRUITLESS_MAX
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import ShrinkerSet
from tests.unit.pressure.conftest import HARD, SOFT

SIZE = 1000  # bytes an object


class Pile:
    """Counts `there` objects and frees what it is asked to scan; remembers each scan.

    `answer(n)`: what a scan of n objects does instead.
    """

    def __init__(self, there: int, answer: Callable[[int], object] | None = None, **more: object) -> None:
        self.there: int = there
        self.answer = answer
        self.scans: list[int] = []
        self.object_size: object = SIZE
        vars(self).update(more)

    def count_objects(self, context: Context) -> int:
        return self.there

    def scan_objects(self, context: Context, n: int) -> int:
        self.scans.append(n)
        if self.answer is not None:
            return self.answer(n)  # type: ignore[return-value]
        freed = min(n, self.there)
        self.there -= freed
        return freed


def register(shrinkers: ShrinkerSet, pile: object, **more: object) -> Registration:
    handle = Registration("pile", pile, **more)  # type: ignore[arg-type]
    shrinkers.add(handle)
    return handle


@pytest.fixture
def shrinkers() -> ShrinkerSet:
    return ShrinkerSet()


def test_soft_scans_whole_batches_and_leaves_the_rest_until_one_has_come_together(
    shrinkers: ShrinkerSet,
) -> None:
    pile = Pile(10_000)
    register(shrinkers, pile)
    assert shrinkers.ask(300 * SIZE, SOFT) == (300 * SIZE, 256 * SIZE)
    assert shrinkers.ask(60 * SIZE, SOFT).freed == 0  # 44 + 60
    assert shrinkers.ask(60 * SIZE, SOFT).freed == 128 * SIZE
    assert pile.scans == [128, 128, 128]


def test_hard_frees_all_of_it_now(shrinkers: ShrinkerSet) -> None:
    pile = Pile(10_000)
    register(shrinkers, pile)
    assert shrinkers.ask(SIZE + 1, HARD).freed == 2 * SIZE
    assert shrinkers.ask(200 * SIZE, HARD) == (200 * SIZE, 200 * SIZE)
    assert pile.scans == [2, 128, 72]


def test_less_than_a_batch_is_scanned_where_no_more_is_there(shrinkers: ShrinkerSet) -> None:
    pile = Pile(50)
    register(shrinkers, pile)
    assert shrinkers.ask(60 * SIZE, SOFT) == (50 * SIZE, 50 * SIZE)
    assert pile.scans == [50]


def test_the_batch_is_the_shrinkers_own(shrinkers: ShrinkerSet) -> None:
    pile = Pile(10_000, batch=7)
    register(shrinkers, pile)
    shrinkers.ask(16 * SIZE, SOFT)
    assert pile.scans == [7, 7]


def test_an_object_larger_than_each_request_goes_when_they_add_up_to_it(shrinkers: ShrinkerSet) -> None:
    pile = Pile(10, batch=1)
    register(shrinkers, pile)
    freed = [shrinkers.ask(SIZE // 4, SOFT).freed for _ in range(8)]
    assert freed == [0, 0, 0, SIZE, 0, 0, 0, SIZE]


def test_stop_ends_its_part_of_a_request_and_the_others_do_it(shrinkers: ShrinkerSet) -> None:
    answers = iter([128, SHRINK_STOP])
    busy, idle = Pile(10_000, lambda n: next(answers)), Pile(10_000)
    handle = register(shrinkers, busy)
    register(shrinkers, idle)
    assert shrinkers.ask(800 * SIZE, HARD).freed == 800 * SIZE
    assert busy.scans == [128, 128]
    assert sum(idle.scans) == 672
    assert handle.strikes == 0


def test_what_a_soft_stop_left_moves_the_next_split_but_not_the_whole(shrinkers: ShrinkerSet) -> None:
    busy, idle = Pile(10_000, lambda n: SHRINK_STOP), Pile(10_000)
    handle = register(shrinkers, busy)
    register(shrinkers, idle)
    assert shrinkers.ask(1024 * SIZE, SOFT) == (1024 * SIZE, 512 * SIZE)
    assert handle.owes(10**9, SOFT) == 512 * SIZE
    busy.answer, idle.scans = None, []
    busy.scans.clear()
    asked, freed = shrinkers.ask(1024 * SIZE, SOFT)
    assert asked == 1024 * SIZE >= freed - 128 * SIZE
    assert sum(busy.scans) > sum(idle.scans) > 0


@pytest.mark.parametrize("nothing", [0, SHRINK_EMPTY])
def test_a_count_of_nothing_is_not_scanned(shrinkers: ShrinkerSet, nothing: int) -> None:
    pile = Pile(nothing)
    handle = register(shrinkers, pile)
    assert shrinkers.ask(SIZE, SOFT) == shrinkers.ask(SIZE, HARD) == (0, 0)
    assert pile.scans == []
    assert handle.strikes == 0


def test_a_hard_request_looks_again_at_objects_that_the_first_look_found_in_use(
    shrinkers: ShrinkerSet,
) -> None:
    used = 500

    def second_chance(n: int) -> int:
        nonlocal used
        kept = min(n, used)
        used -= kept
        return n - kept

    pile = Pile(500, second_chance)
    register(shrinkers, pile)
    assert 100 * SIZE <= shrinkers.ask(100 * SIZE, HARD).freed <= 228 * SIZE
    assert sum(pile.scans) <= 2 * 500


@pytest.mark.parametrize(("there", "most"), [(300, 600), (10**12, FRUITLESS_MAX)])
def test_one_that_never_frees_ends_a_hard_request_all_the_same(
    shrinkers: ShrinkerSet, there: int, most: int
) -> None:
    kept = Pile(there, lambda n: 0)
    register(shrinkers, kept)
    assert shrinkers.ask(10**9, HARD).freed == 0
    assert most - 128 < sum(kept.scans) <= most
    assert max(kept.scans) == 128


def test_one_that_never_frees_is_not_asked_softly_again_and_again(shrinkers: ShrinkerSet) -> None:
    kept = Pile(300, lambda n: 0, batch=1)
    register(shrinkers, kept)
    for _ in range(200):
        shrinkers.ask(SIZE, SOFT)
    assert len(kept.scans) <= 15


def test_one_that_frees_more_than_it_scans_is_believed_within_reason(shrinkers: ShrinkerSet) -> None:
    pile = Pile(10_000, lambda n: 10 * n)
    handle = register(shrinkers, pile)
    assert shrinkers.ask(200 * SIZE, HARD) == (200 * SIZE, 1280 * SIZE)
    assert pile.scans == [128]
    assert handle.enabled
    pile.answer = lambda n: 1 << 60
    for _ in range(3):
        assert shrinkers.ask(200 * SIZE, HARD).freed <= 200 * SIZE
    assert not handle.enabled


def fails(n: int) -> int:
    raise SystemExit("not your business")


@pytest.mark.parametrize(
    "bad", [fails, lambda n: -3, lambda n: None, lambda n: "many", lambda n: 1.5, lambda n: 1 << 20_000]
)
def test_a_bad_scan_keeps_what_was_freed_before_it_and_the_third_is_the_last(
    shrinkers: ShrinkerSet, bad: Callable[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    pile = Pile(10_000, object_size=float(SIZE))
    pile.answer = lambda n: bad(n) if len(pile.scans) % 2 == 0 else n
    handle = register(shrinkers, pile)
    assert shrinkers.ask(200 * SIZE, HARD).freed == 128 * SIZE
    for _ in range(4):
        shrinkers.ask(200 * SIZE, HARD)
    assert not handle.enabled
    assert len(pile.scans) == 6
    assert len(caplog.records) == 2


def test_seeks_divide_its_share(shrinkers: ShrinkerSet) -> None:
    cheap, dear = Pile(10_000), Pile(10_000, seeks=8)
    register(shrinkers, cheap)
    register(shrinkers, dear)
    shrinkers.ask(1000 * SIZE, HARD)
    assert (sum(cheap.scans), sum(dear.scans)) == (800, 200)


def test_objects_without_seeks_go_first(shrinkers: ShrinkerSet) -> None:
    dear, free = Pile(10_000), Pile(10_000, seeks=0)
    register(shrinkers, dear)
    register(shrinkers, free)
    shrinkers.ask(5120 * SIZE, HARD)
    assert sum(dear.scans) <= 6
    assert sum(free.scans) >= 5114


def test_the_object_size_is_read_anew_and_may_fail(shrinkers: ShrinkerSet) -> None:
    class Growing(Pile):
        size = SIZE
        object_size = property(lambda self: self.size)  # type: ignore[assignment]

        def __init__(self, there: int) -> None:
            self.there, self.answer, self.scans = there, None, []

    pile = Growing(1000)
    handle = register(shrinkers, pile)
    shrinkers.ask(10 * SIZE, HARD)
    pile.size = 10 * SIZE
    shrinkers.ask(10 * SIZE, HARD)
    assert pile.scans == [10, 1]
    for absurd in (0, 1 << 3000, float("nan")):
        pile.size = absurd  # type: ignore[assignment]
        assert shrinkers.ask(10 * SIZE, HARD) == (0, 0)
    assert not handle.enabled


@pytest.mark.parametrize(
    ("bad", "more", "error", "words"),
    [
        (Pile, {}, TypeError, "is a class"),
        (Pile(1), {"count": lambda: 5}, TypeError, "counts its objects itself"),
        (Pile(1, batch=-1), {}, ValueError, "batch must be"),
        (Pile(1, batch=1.5), {}, ValueError, "batch must be"),
        (Pile(1, seeks=-1), {}, ValueError, "cost must be above 0"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    bad: object, more: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"shrinker 'pile'.*{words}"):
        register(ShrinkerSet(), bad, **more)


def test_bytes_cannot_become_objects_without_their_size() -> None:
    pile = Pile(1)
    del pile.object_size
    with pytest.raises(TypeError, match="no object_size"):
        register(ShrinkerSet(), pile)
