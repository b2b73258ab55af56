"""The split as arithmetic, and what is carried from one request to the next, over random shrinkers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cacheserver.pressure import SHRINK_STOP, Context
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.sharing import ShrinkerSet, split
from tests.unit.pressure.conftest import SOFT

KIB, MIB = 1 << 10, 1 << 20


class Pile:
    """Objects without end: what is freed is made again at once. May stop."""

    object_size = KIB

    def __init__(self, there: int, batch: int = 32) -> None:
        self.there, self.batch = there, batch
        self.stops = False
        self.scanned = 0

    def count_objects(self, context: Context) -> int:
        return self.there

    def scan_objects(self, context: Context, n: int) -> int:
        if self.stops:
            return SHRINK_STOP
        self.scanned += n
        return n


def registered(*piles: Pile) -> tuple[ShrinkerSet, list[Registration]]:
    shrinkers, handles = ShrinkerSet(), [Registration("pile", pile) for pile in piles]
    for handle in handles:
        shrinkers.add(handle)
    return shrinkers, handles


@settings(deadline=None)
@given(
    st.integers(0, 10**12),
    st.lists(st.tuples(st.floats(0, 1e15), st.integers(0, 10**12)), max_size=6),
)
def test_shares_add_up_and_stay_under_their_caps(target: int, members: list[tuple[float, int]]) -> None:
    caps = [cap for _, cap in members]
    shares = split(target, [weight for weight, _ in members], caps)
    assert sum(shares) == min(target, sum(caps))
    assert all(0 <= share <= cap for share, cap in zip(shares, caps, strict=True))


@settings(deadline=None)
@given(st.integers(0, 10**12), st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=6))
def test_shares_that_no_cap_cuts_are_proportional_to_the_weights(target: int, weights: list[float]) -> None:
    shares = split(target, weights, [target] * len(weights))
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - target * weight / sum(weights)) <= len(weights)


def ask_all(members: list[tuple[int, float]], target: int, hard: bool) -> list[int]:
    """What each of `members` (size, cost) is asked for when `target` bytes are wanted of all together."""
    shrinkers, asked = ShrinkerSet(), [0] * len(members)

    def register(i: int, size: int, cost: float) -> None:
        def free(share: int, hard: bool) -> int:
            asked[i] += share
            return share

        shrinkers.add(Registration("x", free, count=lambda: size - asked[i], cost=cost))

    for i, (size, cost) in enumerate(members):
        register(i, size, cost)
    there = sum(size for size, _ in members)
    assert shrinkers.ask(target, Context(hard=hard)) == (min(target, there), min(target, there))
    return asked


@settings(deadline=None)
@given(
    st.integers(0, 10**10),
    st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from([0.5, 1, 2, 8])), min_size=1, max_size=5),
    st.booleans(),
)
def test_all_together_are_asked_for_the_target_and_nobody_for_more_than_it_has(
    target: int, members: list[tuple[int, float]], hard: bool
) -> None:
    asked = ask_all(members, target, hard)
    assert sum(asked) == min(target, sum(size for size, _ in members))
    assert all(share <= size for share, (size, _) in zip(asked, members, strict=True))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.sampled_from([1, 2, 8])), min_size=2, max_size=5), st.data()
)
def test_the_split_is_proportional_to_size_over_cost(
    members: list[tuple[int, float]], data: st.DataObject
) -> None:
    weights = [size / cost for size, cost in members]
    target = data.draw(st.integers(0, int(sum(weights))))  # more would meet the caps of the cheap ones
    for share, weight in zip(ask_all(members, target, False), weights, strict=True):
        assert abs(share - target * weight / sum(weights)) <= len(members)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5), st.sampled_from([0.5, 2, 7]), st.data())
def test_with_equal_seeks_the_split_is_by_size(sizes: list[int], cost: float, data: st.DataObject) -> None:
    target = data.draw(st.integers(0, sum(sizes)))
    for share, size in zip(ask_all([(size, cost) for size in sizes], target, False), sizes, strict=True):
        assert abs(share - target * size / sum(sizes)) <= len(sizes)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40 * MIB), st.booleans(), st.integers(0, 5000)), max_size=40))
def test_what_is_deferred_is_never_above_twice_what_is_there(turns: list[tuple[int, bool, int]]) -> None:
    stopping, other = Pile(5000), Pile(1000)
    shrinkers, (handle, _) = registered(stopping, other)
    for target, stops, there in turns:
        stopping.stops, stopping.there, before = stops, there, stopping.scanned
        shrinkers.ask(target, SOFT)
        assert handle.owes(there * KIB, SOFT) <= 2 * there * KIB
        assert stopping.scanned - before <= min(2 * there, -(-target // KIB) + stopping.batch)


@settings(deadline=None)
@given(st.lists(st.integers(1, 4 * MIB), min_size=1, max_size=60))
def test_small_requests_come_together_to_batches_and_nothing_is_asked_twice(targets: list[int]) -> None:
    pile = Pile(100_000)
    shrinkers, _ = registered(pile)
    for target in targets:
        shrinkers.ask(target, SOFT)
    assert 0 <= sum(targets) - pile.scanned * KIB < pile.batch * KIB


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1000, 100_000), min_size=2, max_size=4),
    st.integers(1, 8),
    st.sampled_from([1, 32, 128]),
)
def test_one_that_is_always_asked_little_gets_its_turn(others: list[int], objects: int, batch: int) -> None:
    little = Pile(500, batch)
    shrinkers, _ = registered(*(Pile(there) for there in others), little)
    whole = sum(others) + little.there
    target = -(-objects * KIB * whole // little.there)  # its part of it is `objects`
    for _ in range(2 * -(-batch // objects) + 10):
        shrinkers.ask(target, SOFT)
    assert little.scanned >= batch


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 1000), st.integers(1, 1000), st.booleans())
def test_one_that_always_gives_too_much_is_not_the_only_one_to_give(
    large: int, small: int, hard: bool
) -> None:
    given = {large: 0, -small: 0}
    shrinkers = ShrinkerSet()

    def register(key: int, unit: int) -> None:
        def free(target: int, hard: bool) -> int:
            given[key] += 1
            return -(-target // unit) * unit

        shrinkers.add(Registration("x", free, count=lambda: abs(key) * MIB))

    register(large, 32 * MIB)  # memory-hog's
    register(-small, 1)
    for _ in range(2 * (large // small) + 4):
        shrinkers.ask(MIB, Context(hard=hard))
    assert given[-small] > 0
