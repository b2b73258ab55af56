"""LruList: its rules for callbacks and threads."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from cacheserver.pressure import LruList, LruStatus, lru_list

REMOVED, ROTATE, RETRY, SKIP, STOP = LruStatus


def contents(
    items: LruList[int], nodes: tuple[int, ...] | None = None, group: str | None = None
) -> list[int]:
    """All items, as a walk that changes nothing meets them."""
    met: list[int] = []

    def look(item: int) -> LruStatus:
        met.append(item)
        return SKIP

    assert items.walk(look, sys.maxsize, nodes, group) == 0
    return met


def filled(n: int) -> LruList[int]:
    items: LruList[int] = LruList()
    for item in range(n):
        items.add(item)
    return items


def answering(answers: list[LruStatus], met: list[int]) -> Callable[[int], LruStatus]:
    """A callback that notes what it is offered and answers one by one."""
    rest: Iterator[LruStatus] = iter(answers)

    def isolate(item: int) -> LruStatus:
        met.append(item)
        return next(rest)

    return isolate


def test_a_second_retry_of_the_same_item_skips_it() -> None:
    items, met = filled(3), []  # type: LruList[int], list[int]
    assert items.walk(answering([RETRY, REMOVED, RETRY, RETRY, REMOVED], met), 3) == 2
    assert met == [0, 0, 1, 1, 2]
    assert contents(items) == [1]


def test_stop_keeps_the_warm_part_in_its_order_and_ends_the_other_sublists() -> None:
    items, met = filled(3), []  # type: LruList[int], list[int]
    items.add(7, node=1)
    assert items.walk(answering([ROTATE, STOP], met), 4) == 0
    assert met == [0, 1]
    assert contents(items, (0,)) == [1, 2, 0]


def test_sublists_share_a_walk_in_proportion_to_their_counts() -> None:
    items: LruList[tuple[str, int]] = LruList()
    for number in range(60):
        items.add(("big", number), group="big")
    for number in range(20):
        items.add(("small", number), node=1, group="small")
    gone: list[tuple[str, int]] = []
    assert items.walk(lambda item: gone.append(item) or REMOVED, 8) == 8  # type: ignore[func-returns-value]
    assert gone == [("big", number) for number in range(6)] + [("small", 0), ("small", 1)]


def test_pressure_on_one_node_or_group_walks_only_there() -> None:
    items: LruList[str] = LruList()
    for node in (0, 1):
        for group in ("a", "b"):
            items.add(f"{node}{group}", node, group)
    assert contents(items, (1,)) == ["1a", "1b"]
    assert contents(items, None, "a") == ["0a", "1a"]
    assert contents(items, (0,), "b") == ["0b"]
    assert items.count((0,), "b") == 1


def test_a_dead_groups_items_come_first_in_its_parent_and_its_name_is_free() -> None:
    items: LruList[str] = LruList()
    for item, group in (("p", "parent"), ("c1", "child"), ("c2", "child")):
        items.add(item, 0, group)
    assert items.reparent("child", "parent") == 2
    assert contents(items, None, "parent") == ["c1", "c2", "p"]
    assert items.remove("c1")
    assert items.add("c3", 0, "child")
    assert (items.count(group="child"), items.count(group="parent")) == (1, 2)


def test_an_item_that_another_thread_removes_during_retry_is_not_offered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items, met = filled(3), []  # type: LruList[int], list[int]
    got: list[bool] = []

    def meanwhile(seconds: float) -> None:
        other = threading.Thread(target=lambda: got.append(items.remove(0)))
        other.start()
        other.join(30)  # ends, because the walk has let go of the sublist

    monkeypatch.setattr(lru_list.time, "sleep", meanwhile)
    assert items.walk(answering([RETRY, REMOVED, SKIP], met), 3) == 1
    assert got == [True]
    assert met == [0, 1, 2]


def test_nobody_else_gets_an_item_while_it_is_judged() -> None:
    items = filled(1)
    got: list[bool] = []
    other = threading.Thread(target=lambda: got.append(items.remove(0)))

    def isolate(item: int) -> LruStatus:
        other.start()
        other.join(0.05)
        assert other.is_alive()  # it waits
        return REMOVED

    assert items.walk(isolate, 1) == 1
    other.join(30)
    assert got == [False]


def test_an_error_of_the_callback_ends_the_walk_and_loses_nothing() -> None:
    items = filled(4)
    with pytest.raises(ZeroDivisionError):
        items.walk(lambda item: REMOVED if item == 0 else 1 // 0, 4)  # type: ignore[return-value]
    with pytest.raises(TypeError, match="LruStatus"):
        items.walk(lambda item: None, 4)  # type: ignore[arg-type, return-value]
    with pytest.raises(RuntimeError, match="must not walk the same list"):
        items.walk(lambda item: items.walk(lambda inner: SKIP, 1), 4)  # type: ignore[arg-type, return-value]
    with pytest.raises(RuntimeError, match="must not reparent the same list"):
        items.walk(lambda item: items.reparent("a"), 4)  # type: ignore[arg-type, return-value]
    assert contents(items) == [1, 2, 3]
    assert items.remove(2)
    assert contents(items) == [1, 3]


def test_a_removed_item_is_gone_without_the_garbage_collector() -> None:
    class Page:
        pass

    items: LruList[Page] = LruList()
    pages = [Page() for _ in range(4)]
    for page in pages:
        items.add(page)
    gone = weakref.ref(pages[1])
    items.remove(pages[1])
    del page
    gc.disable()
    try:
        pages.clear()
        assert gone() is None
    finally:
        gc.enable()


def test_an_item_added_while_its_group_goes_is_not_lost() -> None:
    class Hasty(LruList[int]):
        """The group goes between the look for its sublist and the add."""

        def _sublist(self, node: int, group: object) -> lru_list._Sublist:
            found = super()._sublist(node, group)
            if group == "child" and not self.count():
                assert super().add(0, 0, "parent")
                assert self.reparent("child", "parent") == 0
            return found

    items = Hasty()
    assert items.add(1, 0, "child")
    assert contents(items) == [0, 1]
    assert (items.count(group="child"), items.count(group="parent")) == (1, 1)


def test_threads_lose_no_item_and_get_none_twice() -> None:
    items: LruList[int] = LruList()
    per_thread, owners = 4000, 3
    got: list[list[int]] = [[] for _ in range(owners + 2)]
    failures: list[BaseException] = []
    adding = threading.Semaphore(0)

    def owner(me: int) -> None:
        first = me * per_thread
        for i in range(per_thread):
            assert items.add(first + i, i % 2, "abc"[i % 3])
            earlier = first + i * 7919 % (i + 1)
            if i % 3 == 0 and items.remove(earlier):
                got[me].append(earlier)
        adding.release()

    def walker(me: int) -> None:
        step = 0

        def isolate(item: int) -> LruStatus:
            nonlocal step
            step += 1
            status = (REMOVED, ROTATE, SKIP, RETRY, REMOVED, RETRY, STOP)[step % 7]
            if status is REMOVED:
                got[me].append(item)
            return status

        while items.count() or not all_added.is_set():
            items.walk(isolate, 50)

    def mover() -> None:
        while not all_added.is_set():
            for group, to in (("a", "b"), ("b", "c"), ("c", None)):
                items.reparent(group, to)

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)
                adding.release()
                all_added.set()

        return run

    all_added = threading.Event()
    work: list[Callable[[], None]] = [lambda me=me: owner(me) for me in range(owners)]  # type: ignore[misc]
    work += [lambda me=owners + i: walker(me) for i in range(2)]  # type: ignore[misc]
    threads = [threading.Thread(target=guarded(one), daemon=True) for one in [*work, mover]]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for _ in range(owners):
            assert adding.acquire(timeout=60)
        all_added.set()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
        all_added.set()
    assert not failures
    assert items.count() == 0
    assert sorted(item for one in got for item in one) == list(range(owners * per_thread))
