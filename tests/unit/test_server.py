"""What the server decides by itself: sizes by the limit, who lets go of memory, when debts are paid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from cacheserver.buffers import Buffers, share
from cacheserver.housekeeping import (
    PAY_US,
    REST_SECONDS,
    UPKEEP_SECONDS,
    UPKEEP_US,
    Housekeeping,
)
from cacheserver.server import shard_count, size_text
from cacheserver.shrinkers import StoreShrinker

MIB = 1 << 20


@pytest.mark.parametrize(
    ("workers", "limit", "shards"),
    [
        (1, 64 << 30, 1),
        (2, 64 << 30, 4),
        (3, 64 << 30, 8),
        (4, 64 << 30, 8),
        (4, 256 * MIB, 2),
        (4, 200 * MIB, 1),
        (4, 32 * MIB, 1),
        (256, 1 << 40, 64),
    ],
)
def test_shards_follow_the_workers_but_none_is_too_small(workers: int, limit: int, shards: int) -> None:
    assert shard_count(workers, limit) == shards


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(16 * MIB, 2 * MIB), (64 * MIB, 4 * MIB), (512 * MIB, 32 * MIB), (1 << 40, 64 * MIB)],
)
def test_what_connections_may_hold_follows_the_limit(limit: int, expected: int) -> None:
    assert share(limit, 64 * MIB) == expected


def test_what_connections_may_hold_follows_a_limit_that_changes() -> None:
    buffers = Buffers(1 << 30, 1 * MIB)
    budgets = (buffers.received, buffers.unsent, buffers.pinned)
    assert [budget.limit for budget in budgets] == [64 * MIB] * 3
    buffers.follow(80 * MIB)
    assert [budget.limit for budget in budgets] == [5 * MIB] * 3
    buffers.follow(1 << 30)
    assert [budget.limit for budget in budgets] == [64 * MIB] * 3


def test_a_large_item_may_be_read_but_not_pin_most_of_the_memory() -> None:
    assert Buffers(1 << 30, 50 * MIB).pinned.limit == 200 * MIB
    assert Buffers(256 * MIB, 50 * MIB).pinned.limit == 64 * MIB


@pytest.mark.parametrize(("size", "text"), [(0, "0.0 MiB"), (256 * MIB, "256.0 MiB"), (3 << 29, "1.5 GiB")])
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert size_text(size) == text


class FakeStore:
    """A store that gives `gives` bytes whatever it is asked, and could give `more` later."""

    def __init__(self, gives: int, revoked: bool = False, more: int = 0) -> None:
        self.gives = gives
        self.more = more
        self.revoked = revoked
        self.asked: list[tuple[int, bool]] = []

    def shrink(self, target: int, hard: bool) -> int:
        self.asked.append((target, hard))
        return self.gives

    def freeable(self) -> int:
        return self.more

    def take_revoked(self) -> bool:
        revoked, self.revoked = self.revoked, False
        return revoked


class FakeHolder:
    def __init__(self) -> None:
        self.asked: list[tuple[bool, int]] = []

    def relieve_soon(self, hard: bool, target: int) -> None:
        self.asked.append((hard, target))


def shrinker(store: Any, holders: list[FakeHolder], paid: list[bool]) -> StoreShrinker:
    return StoreShrinker(store, holders, lambda: 14, lambda: paid.append(True))


def test_a_soft_request_leaves_its_debt_to_the_loop() -> None:
    store, holders, paid = FakeStore(gives=10, more=90), [FakeHolder()], []
    assert shrinker(store, holders, paid).request_memory(100, False) == 10
    assert store.asked == [(100, False)]
    assert paid == [True]
    assert holders[0].asked == []


def test_a_soft_request_beyond_what_the_store_has_asks_the_workers_for_the_rest() -> None:
    store, holders = FakeStore(gives=10, more=60), [FakeHolder(), FakeHolder()]
    assert shrinker(store, holders, []).request_memory(100, False) == 10
    assert [holder.asked for holder in holders] == [[(True, 15)], [(True, 15)]]


def test_output_beside_the_store_counts_as_what_could_be_freed() -> None:
    assert shrinker(FakeStore(gives=0, more=60), [FakeHolder(), FakeHolder()], []).freeable() == 74


def test_a_hard_request_that_falls_short_asks_the_workers_for_the_rest() -> None:
    store, holders, paid = FakeStore(gives=1), [FakeHolder(), FakeHolder()], []
    assert shrinker(store, holders, paid).request_memory(100, True) == 1
    assert [holder.asked for holder in holders] == [[(True, 50)], [(True, 50)]]
    assert paid == []


def test_a_hard_request_that_is_met_leaves_connections_alone() -> None:
    store, holders = FakeStore(gives=100), [FakeHolder()]
    assert shrinker(store, holders, []).request_memory(100, True) == 100
    assert holders[0].asked == []


def test_revoked_reservations_are_told_to_the_workers_once() -> None:
    store, holders = FakeStore(gives=100, revoked=True), [FakeHolder()]
    subject = shrinker(store, holders, [])
    subject.request_memory(100, True)
    subject.request_memory(100, True)
    assert holders[0].asked == [(False, 0)]


def test_upkeep_tells_the_workers_what_writes_have_revoked() -> None:
    holders = [FakeHolder(), FakeHolder()]
    subject = shrinker(FakeStore(gives=0, revoked=True), holders, [])
    subject.tell_revoked()
    subject.tell_revoked()
    assert [holder.asked for holder in holders] == [[(False, 0)], [(False, 0)]]


class FakeLoop:
    """An event loop that notes what it is told; run_next() runs the oldest of it."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], object]]] = []

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        self.due.append((0.0, callback))

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle | None:
        self.due.append((delay, callback))
        return None

    def run_next(self) -> float:
        delay, callback = self.due.pop(0)
        callback()
        return delay


def keeper(loop: Any, owed: list[int], tended: list[int]) -> Housekeeping:
    def pay(budget_us: int) -> int:
        assert budget_us == PAY_US
        owed[0] = max(0, owed[0] - 10)
        return owed[0]

    return Housekeeping(loop, pay, tended.append)


def test_a_debt_is_paid_in_slices_with_rests_until_nothing_is_owed() -> None:
    loop, owed = FakeLoop(), [25]
    subject = keeper(loop, owed, [])
    subject.pay_soon()
    assert [loop.run_next(), loop.run_next(), loop.run_next()] == [0.0, REST_SECONDS, REST_SECONDS]
    assert owed == [0]
    assert loop.due == []


def test_asking_again_while_a_debt_is_paid_starts_no_second_round() -> None:
    loop, owed = FakeLoop(), [25]
    subject = keeper(loop, owed, [])
    for _ in range(3):
        subject.pay_soon()
    assert len(loop.due) == 1
    loop.run_next()
    subject.pay_soon()
    assert len(loop.due) == 1


def test_upkeep_goes_on() -> None:
    loop, tended = FakeLoop(), []
    keeper(loop, [0], tended).start()
    assert [loop.run_next(), loop.run_next()] == [UPKEEP_SECONDS, UPKEEP_SECONDS]
    assert tended == [UPKEEP_US, UPKEEP_US]


def test_upkeep_comes_back_sooner_while_more_is_waiting() -> None:
    loop, waiting = FakeLoop(), [True, True, False]
    Housekeeping(cast(Any, loop), lambda _: 0, lambda _: waiting.pop(0)).start()
    assert [loop.run_next(), loop.run_next(), loop.run_next()] == [UPKEEP_SECONDS, REST_SECONDS, REST_SECONDS]
    assert [delay for delay, _ in loop.due] == [UPKEEP_SECONDS]
    assert UPKEEP_US / 1e6 <= 0.2 * (UPKEEP_US / 1e6 + REST_SECONDS)
