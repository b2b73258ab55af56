"""LruList against a simple model: every walk, and every callback that meddles, over random histories."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheserver.pressure import LruList, LruStatus
from tests.unit.pressure.test_lru_list import contents

REMOVED, ROTATE, RETRY, SKIP, STOP = LruStatus
ITEMS, NODES = st.integers(0, 11), st.integers(0, 1)
GROUPS = st.sampled_from([None, "a", "b"])
ASKED_NODES = st.sampled_from([None, (0,), (1,), (0, 1), ()])
ANSWERS = st.lists(st.tuples(st.sampled_from(LruStatus), st.sampled_from(LruStatus)), min_size=1, max_size=5)
Key = tuple[int, str | None]
Answers = list[tuple[LruStatus, LruStatus]]  # to the first and, after RETRY, the second offer


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
