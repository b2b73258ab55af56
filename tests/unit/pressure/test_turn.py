"""Whose turn it is: looks are made by hand, threads wait for each other and never for a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from cacheserver.pressure.turn import LOOKS, Deposed, Turns

WAIT = 10.0  # seconds after which a thread that does not come is lost


class Callee:
    def __init__(self, name: str) -> None:
        self.name, self.hanging = name, False
        self.inside, self.leave = threading.Event(), threading.Event()

    def stay(self) -> int:
        self.inside.set()
        assert self.leave.wait(WAIT)
        return 7


class Thread(threading.Thread):
    """Runs `work` with the turn held and keeps what it answers or raises."""

    def __init__(self, turns: Turns, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._turns, self._work = turns, work
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            with self._turns.take():
                self.answer = self._work()
        except BaseException as error:
            self.answer = error

    def end(self) -> Any:
        self.join(WAIT)
        assert not self.is_alive()
        return self.answer


def look_until_it_hangs(turns: Turns) -> Any:
    found = [turns.look() for _ in range(LOOKS)]
    assert found[:-1] == [None] * (LOOKS - 1)
    return found[-1]


def test_a_second_thread_waits_for_the_turn_and_the_holder_may_take_it_again() -> None:
    turns, one, order = Turns(), Callee("one"), []

    def first() -> None:
        turns.call(one, one.stay)
        with turns.take(), turns.take(0.0) as held:
            assert held
            order.append("first")

    holder = Thread(turns, first)
    assert one.inside.wait(WAIT)
    waiting = Thread(turns, lambda: order.append("second"))
    waiting.join(0.02)
    assert order == []
    with turns.take(0.0) as held:
        assert not held
    one.leave.set()
    holder.end()
    waiting.end()
    assert order == ["first", "second"]
    with turns.take(0.0) as held:
        assert held


def test_a_call_that_is_met_too_often_loses_the_turn_and_comes_back_to_nothing() -> None:
    turns, slow, after = Turns(), Callee("slow"), []

    def tick() -> None:
        turns.call(slow, slow.stay)
        after.append("a line of the old tick")

    old = Thread(turns, tick)
    assert slow.inside.wait(WAIT)
    hang = look_until_it_hangs(turns)
    assert (hang.thread, hang.name) == (old, "slow")
    assert slow.hanging
    assert turns.look() is None, "each hang is told once"
    other = Callee("other")
    other.leave.set()
    assert Thread(turns, lambda: turns.call(other, other.stay)).end() == 7
    assert not other.hanging
    slow.leave.set()
    assert isinstance(old.end(), Deposed)
    assert after == []
    assert not slow.hanging
    assert turns.breaks == 2


def test_many_short_calls_are_not_one_long_one() -> None:
    turns, callee = Turns(), Callee("busy")
    with turns.take():
        for _ in range(3 * LOOKS):
            assert turns.call(callee, turns.look) is None
        assert [turns.look() for _ in range(2 * LOOKS)] == [None] * 2 * LOOKS, "no call, no hang"


def test_what_a_callback_raises_is_lost_with_its_turn() -> None:
    turns, slow = Turns(), Callee("slow")

    def fail() -> int:
        slow.stay()
        raise ValueError("too bad")

    old = Thread(turns, lambda: turns.call(slow, fail))
    assert slow.inside.wait(WAIT)
    look_until_it_hangs(turns)
    slow.leave.set()
    assert isinstance(old.end(), Deposed)
    with pytest.raises(ValueError, match="too bad"), turns.take():
        turns.call(slow, fail)


def test_a_tick_inside_a_callback_makes_both_callees_hang_and_ends_both_ticks() -> None:
    turns, outer, inner, seen = Turns(), Callee("outer"), Callee("inner"), []

    def ask_for_a_tick() -> None:
        try:
            with turns.take():
                assert turns.look() is None, "the tick itself is no call"
                turns.call(inner, inner.stay)
        except Deposed:
            seen.append((outer.hanging, inner.hanging))

    old = Thread(turns, lambda: turns.call(outer, ask_for_a_tick))
    assert inner.inside.wait(WAIT)
    assert look_until_it_hangs(turns).name == "inner"
    assert outer.hanging
    assert inner.hanging
    inner.leave.set()
    assert isinstance(old.end(), Deposed)
    assert seen == [(True, False)]
    assert not outer.hanging


def test_settle_waits_for_the_tick_and_for_a_call_that_hangs_but_not_for_others() -> None:
    turns, slow, other = Turns(), Callee("slow"), Callee("other")
    old = Thread(turns, lambda: turns.call(slow, slow.stay))
    assert slow.inside.wait(WAIT)
    settling = threading.Thread(target=turns.settle, args=(other,), daemon=True)
    settling.start()
    settling.join(0.02)
    assert settling.is_alive(), "the tick might yet call it"
    look_until_it_hangs(turns)
    settling.join(WAIT)
    assert not settling.is_alive(), "no tick is left that might call it"
    settling = threading.Thread(target=turns.settle, args=(slow,), daemon=True)
    settling.start()
    settling.join(0.02)
    assert settling.is_alive()
    slow.leave.set()
    settling.join(WAIT)
    assert not settling.is_alive()
    old.end()


def test_who_settles_inside_the_call_does_not_wait_for_itself() -> None:
    turns, slow = Turns(), Callee("slow")

    def settle_late() -> None:
        slow.stay()
        turns.settle(slow)

    with turns.take():
        turns.call(slow, turns.settle, slow)
    old = Thread(turns, lambda: turns.call(slow, settle_late))
    assert slow.inside.wait(WAIT)
    look_until_it_hangs(turns)
    slow.leave.set()
    assert isinstance(old.end(), Deposed)


def test_who_takes_the_turn_again_and_again_lets_those_who_wait_go_first() -> None:
    turns, had, rounds = Turns(), threading.Event(), 0
    with turns.take():
        waiting = Thread(turns, had.set)
        waiting.join(0.02)
    while not had.is_set() and rounds < 1000:
        rounds += 1
        with turns.take():
            time.sleep(0.001)  # others run meanwhile, and find it taken
    waiting.end()
    assert rounds < 100


def test_a_turn_that_does_not_come_in_time_is_given_up_and_the_next_in_line_has_it() -> None:
    turns, one, order = Turns(), Callee("one"), []
    holder = Thread(turns, lambda: turns.call(one, one.stay))
    assert one.inside.wait(WAIT)
    with turns.take(0.02) as held:
        assert not held
        assert not turns.inside()
    waiting = Thread(turns, lambda: order.append(turns.inside()))
    one.leave.set()
    holder.end()
    waiting.end()
    assert order == [True]


def test_inside_a_callback_nobody_is_waited_for() -> None:
    turns, first, second = Turns(), Callee("first"), Callee("second")

    def stay_and_settle(own: Callee, other: Callee) -> None:
        own.stay()
        turns.settle(other)

    threads = []
    for own, other in ((first, second), (second, first)):
        threads.append(
            Thread(turns, lambda own=own, other=other: turns.call(own, stay_and_settle, own, other))
        )
        assert own.inside.wait(WAIT)
        look_until_it_hangs(turns)
    with turns.take():
        turns.call(Callee("third"), turns.settle, first)
    assert first.hanging
    for own in (first, second):  # each now wants the other one's call to end
        own.leave.set()
    assert all(isinstance(thread.end(), Deposed) for thread in threads)


def test_in_a_forked_child_the_turn_is_free_and_nothing_hangs() -> None:
    turns, late, running = Turns(), Callee("late"), Callee("running")
    threads = [Thread(turns, lambda: turns.call(late, late.stay))]
    assert late.inside.wait(WAIT)
    look_until_it_hangs(turns)
    threads.append(Thread(turns, lambda: turns.call(running, running.stay)))
    assert running.inside.wait(WAIT)
    turns.after_fork()  # as if those two were not here
    assert not late.hanging
    with turns.take(0.0) as held:
        assert held
    turns.settle(late)
    late.leave.set()
    running.leave.set()
    for thread in threads:
        thread.end()
