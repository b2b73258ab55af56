"""Which class gives a page to which, over all small cases; and a store whose load changes its sizes."""

from __future__ import annotations

import itertools

import pytest

from cacheserver.store import rebalance
from tests.bench.readthrough import MIB, InProcess
from tests.bench.size_switch import Load

RUNS = (0, 0, 0, 0, 0, 0)  # the class of items with pages of their own: last in every snapshot


def view(
    worth: int, pages: int, *, size: int = 1024, used: int = -1, spare: int = 0, sets: int = 0
) -> rebalance.View:
    """A class whose pages are full, if nothing else is said."""
    return worth, pages, spare, size, (pages * (MIB // size) if used < 0 else used), sets


def moved(classes: list[rebalance.View], giver: int, taker: int) -> list[rebalance.View]:
    """The snapshot after a page has gone from one class to another."""
    after = list(classes)
    for cls, more in ((giver, -1), (taker, 1)):
        worth, pages, spare, size, used, sets = after[cls]
        after[cls] = (worth, pages + more, spare, size, used, sets)
    return after


SMALL = [
    [view(a, p), view(b, q), view(c, r), RUNS]
    for a, b, c in itertools.product((0, 3, 10, 40), repeat=3)
    for p, q, r in itertools.product((0, 1, 2, 5), repeat=3)
]


def test_a_giver_has_pages_and_loses_less_than_the_taker_gains() -> None:
    for classes, taker in itertools.product(SMALL, range(3)):
        giver = rebalance.giver(classes, taker)
        gain = classes[taker][0] / (classes[taker][1] + 1)
        others = [cls for cls in range(3) if cls != taker and classes[cls][1]]
        if giver is None:
            assert all(rebalance.cost(classes, cls) >= gain * 0.87 - 0.01 for cls in others)
        else:
            assert giver in others
            assert rebalance.cost(classes, giver) < gain
            assert rebalance.cost(classes, giver) == min(rebalance.cost(classes, cls) for cls in others)


def test_no_page_goes_to_and_fro() -> None:
    for classes, taker in itertools.product(SMALL, range(3)):
        giver = rebalance.giver(classes, taker)
        if giver is not None:
            assert rebalance.giver(moved(classes, giver, taker), giver) != taker


@pytest.mark.parametrize(
    ("worths", "pages"), [((100, 300, 0), (2, 6)), ((500, 500, 0), (4, 4)), ((0, 9, 0), (0, 8))]
)
def test_pages_come_to_be_shared_in_proportion_to_worth(
    worths: tuple[int, ...], pages: tuple[int, ...]
) -> None:
    classes = [view(worths[0], 7), view(worths[1], 1), RUNS]
    for _ in range(20):
        for taker in range(2):
            giver = rebalance.giver(classes, taker)
            if giver is not None:
                classes = moved(classes, giver, taker)
    assert (classes[0][1], classes[1][1]) == pages


def test_idle_chunks_go_first() -> None:
    classes = [view(1, 5), view(1000, 5, spare=2), view(50, 5), RUNS]
    assert rebalance.giver(classes, 2) == 1


def test_items_with_pages_of_their_own_give_them_as_others_do() -> None:
    classes = [view(100, 2), view(100, 2), (10, 5, 0, 0, 5, 0)]
    assert rebalance.giver(classes, 0) == 2
    assert rebalance.giver(classes, 2) is None


def test_the_last_page_of_a_class_that_may_not_open_costs_what_its_items_take_with_their_host() -> None:
    # of four classes a step of 2 opens the second and the last
    few = [view(1000, 1, size=500, used=200), view(1000, 2, size=1000), view(0, 0), view(0, 0), RUNS]
    assert rebalance.cost(few, 0, step=2) == pytest.approx(1000 * 200_000 / MIB, rel=0.01)
    assert rebalance.cost(few, 0, step=1) > 1000, "it would be opened again at once"
    assert rebalance.cost(few, 1, step=2) == 500


def test_a_class_opens_where_its_items_waste_their_hosts_pages() -> None:
    guests = view(0, 0, size=1000, sets=90)
    assert rebalance.opening([guests, view(100, 4, size=4000, sets=10), RUNS]) == 0
    assert rebalance.opening([guests, view(100, 4, size=1040, sets=10), RUNS]) is None, (
        "little would be saved"
    )
    assert rebalance.opening([guests, view(100, 4, size=4000, sets=900), RUNS]) is None, "few of them"
    assert rebalance.opening([view(0, 0, sets=0), view(100, 4, sets=10), RUNS]) is None, "none of them"


def test_only_every_so_many_th_class_opens() -> None:
    for count, step in itertools.product(range(2, 9), (1, 3, 6)):
        for guest in range(count - 1):
            classes = [view(0, 0, size=1000, sets=90 if cls == guest else 0) for cls in range(count - 1)]
            found = rebalance.opening([*classes, view(100, 4, size=9000, sets=1), RUNS], step=step)
            allowed = [cls for cls in range(guest, count - 1) if (count - 1 - cls) % step == 0]
            assert found == (allowed[0] if allowed else None)


def test_the_fewer_the_pages_the_fewer_classes() -> None:
    for seen in range(1, 200):
        steps = [rebalance.step(seen, pages) for pages in range(1, 400)]
        assert steps == sorted(steps, reverse=True)
        assert steps[-1] == 1
        assert all(coarse % fine == 0 for coarse, fine in itertools.pairwise(steps)), (
            "classes that are open stay open"
        )
        assert all(seen / step <= pages for pages, step in enumerate(steps, 1) if step < 24)


def test_impossible_snapshots_are_refused() -> None:
    for classes in ([], [RUNS] * 321):
        with pytest.raises(ValueError, match="1 to 320 classes"):
            rebalance.giver(classes, 0)


CAPACITY = 48 * MIB
SMALL_LOAD, LARGE_LOAD = Load("100 B", CAPACITY, 100), Load("10 KiB", CAPACITY, 10240)
SEVERAL = Load("several", CAPACITY, 200, 800, 3000, 10240, 40960)
OPERATIONS = 150_000


@pytest.mark.parametrize(
    "loads",
    [(SMALL_LOAD, LARGE_LOAD), (LARGE_LOAD, SMALL_LOAD), (SMALL_LOAD, SEVERAL), (SEVERAL, SMALL_LOAD)],
    ids=lambda loads: f"{loads[0].name} to {loads[1].name}".replace(" ", "-"),
)
def test_a_full_store_follows_a_load_of_another_size(loads: tuple[Load, Load]) -> None:
    """And back: then what the first change has left behind is in the way, too."""
    first, second = loads
    used, fresh = InProcess(CAPACITY), InProcess(CAPACITY)
    assert first.fill(used) == 0
    after, refused = second.run(used, OPERATIONS)
    best, _ = second.run(fresh, OPERATIONS)
    assert refused == 0
    assert after[-1] > best[-1] - 0.02
    _, refused = first.run(used, OPERATIONS)
    again, more = second.run(used, OPERATIONS)
    assert refused + more == 0
    assert again[-1] > best[-1] - 0.02
    assert used.store.snapshot()["store_no_memory"] == 0


def test_a_page_moves_in_slices() -> None:
    """No write pays for the whole page that its class gets."""
    cache = InProcess(16 * MIB)
    for n in range(120_000):
        cache.store.put("set", b"small%d" % n, b"v" * 100)
    value, evicted = b"v" * 10_000, []
    for n in range(4000):
        before = cache.store.snapshot()["evictions"]
        assert cache.store.put("set", b"large%d" % n, value) == "STORED"
        cache.store.get(b"large%d" % n)
        evicted.append(cache.store.snapshot()["evictions"] - before)
    assert cache.store.snapshot()["slabs_moved"] >= 10
    assert sum(count > 2000 for count in evicted) <= 1, "the first write, for which there is no other class"
    assert sum(evicted) > 60_000


def test_classes_of_a_small_store_share_pages() -> None:
    """Values of 150 sizes in 24 pages: an item is there when it is asked for at once, and pages are used."""
    cache = InProcess(24 * MIB)
    sizes = [int(20 * 1.058**n) for n in range(150)]
    for n in range(30_000):
        size = sizes[n * 7919 % len(sizes)]
        assert cache.store.put("set", b"k%d" % n, b"v" * size) == "STORED"
        held = cache.store.get(b"k%d" % n)
        assert held is not None
        assert len(held[0]) == size
    snapshot = cache.store.snapshot()
    assert snapshot["bytes"] > 12 * MIB
    assert sum(one["total_pages"] > 0 for one in snapshot["classes"].values()) < 24
