"""Whose turn it is to tick, and how a turn ends whose thread does not come back from a callback.

Knows: threads, and which callees each of them is inside. Must not know: what a tick does, what a callee is.

A thread holds the turn from the start of a tick to its end, callbacks included, so that there is one tick at
a time and callbacks come one after the other. A callback that stays away ends the turn early: `look` deposes
the holder, every callee it is inside counts as hanging, and the next thread may tick at once, leaving those
alone. When the late callback returns, `call` raises Deposed in place of its answer, and only the tick that
has lost its turn catches that: not a line of the old tick runs beside the new one, so no request is counted
twice and no state has two writers. What the late callback has freed is in no counter; it shows in the next
readings.

Who comes first has the turn first: one that asks again and again must not keep the monitor from watching.

Lock order: the lock here is the innermost one. Nothing is called and nothing logged while it is held; it is
never held during a callback.
Threads: everything may be called from any thread, but not from a signal's handler or a finalizer, which can
come while their own thread holds the lock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

log = logging.getLogger("cacheserver.pressure")

# A call that is met so often in a row hangs. Looks are counted, not seconds: a process that was stopped for a
# minute (a frozen container, a debugger) has had one look when it goes on.
LOOKS = 4

T = TypeVar("T")


class Callee(Protocol):
    """Whose callback is called."""

    name: str
    hanging: bool  # inside a call that has lost its turn; set by Turns only


class Deposed(BaseException):
    """The turn of this thread is over. Not an error: a broad `except Exception` must not stop it."""


class Hang(NamedTuple):
    """A callback that was given up."""

    thread: threading.Thread  # the one that is inside it
    name: str  # of the callee


class _Turn:
    """One thread's turn."""

    __slots__ = ("calling", "inside", "looks", "over", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.inside: list[Callee] = []  # innermost last: a callback may ask for a tick
        self.calling = False  # inside a callback, not in a tick that a callback has asked for
        self.looks = 0  # that have met the call it is in
        self.over = False


class Turns:
    """The turn of one monitor."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._turn: _Turn | None = None
        self._waiting: list[object] = []  # one for each thread that wants the turn, the first one first
        self._lost: list[_Turn] = []  # those over whose threads have not come back
        self.breaks = 0  # calls given up, and returns of such: ledgers have jumped unseen meanwhile

    @contextlib.contextmanager
    def take(self, seconds: float | None = None) -> Iterator[bool]:
        """Hold the turn, which its holder may take again, from a callback. False: it did not come within
        `seconds`, None: as long as it takes; or a callback within a tick that a callback has asked for asks
        for one more: two that do so at each call would never come to an end.
        """
        turn, again = self._take(seconds)
        try:
            yield turn is not None and not (again and len(turn.inside) > 1)
        finally:
            with self._changed:
                if turn is not None and again:
                    turn.calling, turn.looks = True, 0
                elif turn is not None and self._turn is turn:
                    self._turn = None
                    self._changed.notify_all()

    def _take(self, seconds: float | None) -> tuple[_Turn | None, bool]:
        """(the turn of this thread, whether it had it before); None: not within `seconds`."""
        with self._changed:
            turn = self._turn
            if turn is not None and turn.thread is threading.current_thread():
                turn.calling = False
                return turn, True
            if turn is None and not self._waiting:
                self._turn = _Turn()
                return self._turn, False
            place = object()
            self._waiting.append(place)
            try:
                if not self._changed.wait_for(
                    lambda: self._turn is None and self._waiting[0] is place, seconds
                ):
                    return None, False
                self._turn = _Turn()
                return self._turn, False
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()

    def inside(self) -> bool:
        """Whether the calling thread is in a tick or in a callback, a late one included."""
        # Without the lock, since every line for the log asks, also one from a finalizer. `_turn` before
        # `_lost`: that is how `look` moves a turn.
        me = threading.current_thread()
        return any(turn.thread is me for turn in (self._turn, *self._lost) if turn is not None)

    def call(self, callee: Callee, function: Callable[..., T], *args: object) -> T:
        """`function(*args)`, a callback of `callee`. Deposed: it came back too late."""
        with self._changed:
            turn = self._turn
            if turn is not None and turn.thread is threading.current_thread():
                turn.inside.append(callee)
                turn.calling, turn.looks = True, 0
            else:
                turn = None  # outside a tick: nobody waits for it
        if turn is None:
            return function(*args)
        started = time.monotonic()
        try:
            return function(*args)
        finally:
            if self._leave(turn, callee):
                log.warning(
                    "%s: the call has returned after %.1f s; it is called again from now on",
                    callee.name, time.monotonic() - started,
                )  # fmt: skip
                raise Deposed

    def _leave(self, turn: _Turn, callee: Callee) -> bool:
        """The innermost call of `turn` has returned; True when the turn is over."""
        with self._changed:
            turn.inside.pop()
            turn.calling = False
            if turn.over:
                if not turn.inside:
                    self._lost.remove(turn)
                callee.hanging = any(callee in other.inside for other in self._lost)
                self.breaks += 1
                self._changed.notify_all()
            return turn.over

    def look(self) -> Hang | None:
        """Whether a callback hangs: met in the same call LOOKS times in a row, its thread loses the turn.

        Tells each hang once. To be called by one thread at an even pace.
        """
        with self._changed:
            turn = self._turn
            if turn is None or not turn.calling:
                return None
            turn.looks += 1
            if turn.looks < LOOKS:
                return None
            turn.over = True
            self._lost.append(turn)
            self._turn = None
            for callee in turn.inside:
                callee.hanging = True
            self.breaks += 1
            self._changed.notify_all()
            return Hang(turn.thread, turn.inside[-1].name)

    def settle(self, callee: Callee) -> None:
        """Wait until the tick that runs now is over, and every call of `callee` that hangs has returned.

        From inside a callback nothing is waited for: that may be what the others wait for.
        """
        with self._changed:
            if self.inside():
                return
            turn = self._turn
            while turn is not None and self._turn is turn:
                self._changed.wait()
            while any(callee in lost.inside for lost in self._lost):
                self._changed.wait()

    def after_fork(self) -> None:
        """In a forked child: no thread but this one is there, and the lock may be one of theirs."""
        me = threading.current_thread()
        self._changed = threading.Condition(threading.Lock())
        self._waiting = []
        if self._turn is not None and self._turn.thread is not me:
            self._turn = None
        gone = [turn for turn in self._lost if turn.thread is not me]
        self._lost = [turn for turn in self._lost if turn.thread is me]
        for callee in (one for turn in gone for one in turn.inside):
            callee.hanging = any(callee in turn.inside for turn in self._lost)
        self.breaks += 1
