"""LruList against a simple model, its rules for callbacks and threads, and LruShrinker."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheserver.pressure import LruList, LruShrinker, LruStatus, lru_list, lru_shrinker
from cacheserver.pressure.context import Context
from cacheserver.pressure.registration import Registration
from cacheserver.pressure.shrinker import Shrinker

REMOVED, ROTATE, RETRY, SKIP, STOP = LruStatus
ITEMS, NODES = st.integers(0, 11), st.integers(0, 1)
GROUPS = st.sampled_from([None, "a", "b"])
ASKED_NODES = st.sampled_from([None, (0,), (1,), (0, 1), ()])
ANSWERS = st.lists(st.tuples(st.sampled_from(LruStatus), st.sampled_from(LruStatus)), min_size=1, max_size=5)
Key = tuple[int, str | None]
Answers = list[tuple[LruStatus, LruStatus]]  # to the first and, after RETRY, the second offer


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


class AgainstAModel(RuleBasedStateMachine):
    """The model: a plain list of (item, serial) for each sublist; the serial tells one stay from the next."""

    def __init__(self) -> None:
        super().__init__()
        self.real: LruList[int] = LruList()
        self.model: dict[Key, list[tuple[int, int]]] = {}
        self.serial = 0

    def where(self, item: int) -> Key | None:
        return next((key for key, stays in self.model.items() if item in (one for one, _ in stays)), None)

    def chosen(self, nodes: tuple[int, ...] | None, group: str | None) -> list[Key]:
        return [key for key in self.model if (nodes is None or key[0] in nodes) and (group in (None, key[1]))]

    def take(self, item: int) -> bool:
        key = self.where(item)
        if key is None:
            return False
        self.model[key] = [stay for stay in self.model[key] if stay[0] != item]
        return True

    @rule(item=ITEMS, node=NODES, group=GROUPS)
    def add(self, item: int, node: int, group: str | None) -> None:
        expected = self.where(item) is None
        assert self.real.add(item, node, group) is expected
        if expected:
            self.serial += 1
            self.model.setdefault((node, group), []).append((item, self.serial))

    @rule(item=ITEMS)
    def remove(self, item: int) -> None:
        assert self.real.remove(item) is self.take(item)

    @rule(group=st.sampled_from(["a", "b"]), to=GROUPS)
    def reparent(self, group: str, to: str | None) -> None:
        if group == to:
            with pytest.raises(ValueError, match="itself"):
                self.real.reparent(group, to)
            return
        moved = 0
        for node in (0, 1):
            stays = self.model.pop((node, group), [])
            moved += len(stays)
            self.model[node, to] = stays + self.model.get((node, to), [])
        assert self.real.reparent(group, to) == moved

    @rule(n=st.integers(0, 14), nodes=ASKED_NODES, group=GROUPS, answers=ANSWERS)
    def walk(self, n: int, nodes: tuple[int, ...] | None, group: str | None, answers: Answers) -> None:
        self.check_walk(n, nodes, group, answers, lambda: False)

    @rule(data=st.data(), answers=ANSWERS, group=GROUPS)
    def walk_that_meddles(self, data: st.DataObject, answers: Answers, group: str | None) -> None:
        def meddle() -> bool:
            what = data.draw(st.sampled_from(["nothing", "add", "remove"]))
            if what == "add":
                self.add(data.draw(ITEMS), data.draw(NODES), data.draw(GROUPS))
            elif what == "remove":
                self.remove(data.draw(ITEMS))
            return what != "nothing"

        self.check_walk(20, None, group, answers, meddle)

    def check_walk(
        self,
        n: int,
        nodes: tuple[int, ...] | None,
        group: str | None,
        answers: Answers,
        meddle: Callable[[], bool],
    ) -> None:
        """Every offer must be the coldest stay not yet offered of a sublist that was chosen."""
        chosen = self.chosen(nodes, group)
        total = sum(len(self.model[key]) for key in chosen)
        turn, pending, done = None, [], set()  # type: Key | None, list[tuple[int, int]], set[Key]
        offered = removed = 0
        stopped = meddled = False
        again: tuple[tuple[int, int], LruStatus] | None = None

        def isolate(item: int) -> LruStatus:
            nonlocal turn, pending, offered, removed, stopped, meddled, again
            assert not stopped
            key = self.where(item)
            assert key is not None
            stay = next(one for one in self.model[key] if one[0] == item)
            if again is not None and again[0] == stay:
                answer, again = again[1], None
            else:
                again = None
                if key != turn:
                    assert key in chosen
                    assert key not in done
                    turn, pending = key, list(self.model[key])
                    done.add(key)
                while pending[0] not in self.model[key]:
                    pending.pop(0)
                assert pending.pop(0) == stay
                answer, follow = answers[offered % len(answers)]
                if answer is RETRY:
                    again = (stay, follow)
                offered += 1
            meddled |= meddle()
            here = stay in self.model[key]
            if answer is REMOVED:
                removed += 1
                if here:
                    self.take(item)
            elif answer is ROTATE and here:
                self.model[key].remove(stay)
                self.model[key].append(stay)
            elif answer is STOP:
                stopped = True
            return answer

        assert self.real.walk(isolate, n, nodes, group) == removed
        if not stopped and not meddled:
            assert offered == min(n, total)

    @invariant()
    def same_items_in_the_same_order(self) -> None:
        met = contents(self.real)
        for key, stays in self.model.items():
            assert [item for item in met if self.where(item) == key] == [item for item, _ in stays]
            assert self.real.count((key[0],)) == sum(
                len(other) for (node, _), other in self.model.items() if node == key[0]
            )
        assert len(met) == self.real.count() == sum(map(len, self.model.values()))


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


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


class Files:
    """A cache of sized items on an LruList."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = dict(sizes)
        self.items: LruList[str] = LruList()
        self.freed: list[str] = []
        self.left_at_first = -1  # on the list, when the first was freed
        for name in sizes:
            self.items.add(name, node=len(name) % 2)
        self.shrinker = LruShrinker(self.items, self.free, self.sizes.__getitem__)

    def free(self, name: str) -> None:
        if name.startswith("bad"):
            raise OSError("cannot")
        assert not self.items.remove(name)  # it is off the list already
        if not self.freed:
            self.left_at_first = self.items.count()
        self.freed.append(name)


def test_an_lru_shrinker_frees_the_coldest_until_the_target_is_met_and_no_more() -> None:
    files = Files({"a0": 30, "a1": 30, "a2": 30, "a3": 30})
    assert isinstance(files.shrinker, Shrinker)
    assert files.shrinker.request_memory(50, False) == 60
    assert files.freed == ["a0", "a1"]
    assert files.shrinker.request_memory(500, True) == 60
    assert files.shrinker.request_memory(500, True) == 0


def test_an_lru_shrinker_goes_on_over_many_batches_and_keeps_to_its_node() -> None:
    files = Files({f"{number:04}{'x' * (number % 2)}": 10 for number in range(2000)})
    assert files.shrinker.request_memory(9000, True, Context(nodes=frozenset({1}))) == 9000
    assert all(len(name) % 2 == 1 for name in files.freed)
    assert (files.items.count((0,)), files.items.count((1,))) == (1000, 100)
    assert files.left_at_first == 2000 - lru_shrinker.BATCH


def test_an_lru_shrinker_contains_what_cannot_be_freed() -> None:
    files = Files({"bad1": 30, "good": 30, "bad2": 30, "fine": 30})
    assert files.shrinker.request_memory(60, True) == 60
    assert files.freed == ["good", "fine"]


def test_an_item_whose_size_fails_keeps_nothing_that_left_the_list_from_going() -> None:
    files = Files({"a0": 30, "a1": 30})
    del files.sizes["a1"]
    registration = Registration("files", files.shrinker.request_memory)
    assert registration.call(60, 60, 60, Context(hard=True)) == 0
    assert files.freed == ["a0"]
    assert files.items.count() == 1
