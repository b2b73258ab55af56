"""One face for the forms of shrinkers: a request in bytes, put to a function, to OSv's or to Linux's class.

Knows: how each form is called, how bytes become objects. Must not know: other shrinkers, whether an answer
can be believed. Memory: none of its own. Threads: the one that asks.

Objects are scanned as do_shrink_slab of mm/shrinker.c (6.7) does: in batches, no more than twice what is
there, never a part of a batch unless it is all there is. Where this departs, it says so.
"""

from __future__ import annotations

import inspect
import operator
import threading
from collections.abc import Callable
from typing import NamedTuple

from cacheserver.pressure.announce import shown
from cacheserver.pressure.context import Context
from cacheserver.pressure.shrinker import (
    DEFAULT_COST,
    SHRINK_BATCH,
    SHRINK_EMPTY,
    SHRINK_STOP,
    ObjectShrinker,
    RequestMemory,
    Shrinker,
)

SCAN_MAX = 2  # times what is there: a second look at objects that the first one found in use
# The kernel's first pass takes half of the objects that cost no seeks, and (1 >> 12) * 4 / DEFAULT_COST of
# the others: 1/2048.
FREE_COST = DEFAULT_COST / 1024
# objects looked at and kept in a row until a hard request gives up: what a false count could make endless
FRUITLESS_MAX = 1 << 15
BYTES_MAX = 1 << 62  # more than any machine has: what is above is no number of bytes


class Given(NamedTuple):
    """What came of one request to one shrinker. In bytes."""

    freed: int
    left: int  # of what was due: may be negative
    waits: bool = False  # nothing was scanned: a batch of it has not come together
    fault: str = ""  # why the shrinker cannot be trusted with more


class ByteForm:
    """A function `func(target, hard)`, or a class with `request_memory`; `count`: bytes it could free."""

    cost: float = DEFAULT_COST
    node_aware = group_aware = False

    def __init__(self, func: RequestMemory | Shrinker, count: Callable[..., int] | None) -> None:
        self._call: Callable[..., int]
        self._count = count
        self._context = self._count_context = False
        if isinstance(func, Shrinker):
            self._call = func.request_memory
            # Not of plain functions: there a parameter with a default is a way to bind a variable.
            self._context = _takes_context(self._call)
            self._count_context = self._context and count is not None and _takes_context(count)
            self.node_aware, self.group_aware = _awareness(func)
            if (self.node_aware or self.group_aware) and not self._context:
                raise TypeError("declares node_aware or group_aware, but its request_memory takes no context")
        else:
            self._call = func
        named = {"context": Context()}
        check("the shrinker", self._call, 1, False, **(named if self._context else {}))
        if count is not None:
            check("count", count, **(named if self._count_context else {}))

    @property
    def counts(self) -> bool:
        """Whether it says what it could free."""
        return self._count is not None

    @property
    def takes_context(self) -> bool:
        """Whether it learns what it must not do."""
        return self._context

    def freeable(self, context: Context) -> int | None:
        """Bytes it says it could free; None where it does not say."""
        if self._count is None:
            return None
        if self._count_context:
            return max(0, int(self._count(context=context)))
        return max(0, int(self._count())) if context.may_block else None

    def request(self, share: int, due: int, can: int, context: Context) -> Given:
        """Ask for `share` bytes. What it was not asked for is not owed, whatever is `due`."""
        try:
            if self._context:
                answer = self._call(share, context.hard, context=context)
            else:
                answer = self._call(share, context.hard)
            freed = _whole(answer)
        except BaseException as error:
            return Given(0, share, fault=f"raised {contained(error)}")
        if freed is None or freed < 0:
            return Given(0, share, fault=f"answered {shown(answer)} when asked for {share} bytes")
        return Given(freed, share - freed)


class ObjectForm:
    """A class with `count_objects` and `scan_objects`."""

    counts = takes_context = True

    def __init__(self, shrinker: ObjectShrinker) -> None:
        if not hasattr(shrinker, "object_size"):
            raise TypeError("has no object_size, the bytes that one object gives back on average")
        self._shrinker = shrinker
        check("count_objects", shrinker.count_objects, Context())
        check("scan_objects", shrinker.scan_objects, Context(), 1)
        seeks = getattr(shrinker, "seeks", DEFAULT_COST)
        self.cost: float = FREE_COST if seeks == 0 else seeks
        batch = getattr(shrinker, "batch", 0) or SHRINK_BATCH
        self._batch = _whole(batch) or 0
        if self._batch < 1:
            raise ValueError(f"batch must be a number of objects above 0, not {batch!r}")
        self.node_aware, self.group_aware = _awareness(shrinker)

    def freeable(self, context: Context) -> int:
        """Bytes it says it could free."""
        count = self._shrinker.count_objects(context)
        return 0 if count == SHRINK_EMPTY else max(0, int(count * self._size()))

    def request(self, share: int, due: int, can: int, context: Context) -> Given:
        """Scan for `share` bytes of the `can` that it has.

        Soft: what is `due`, the share and what was left of earlier ones, but only in whole batches; the rest
        is left. Hard: until the share is freed, each object twice at most.
        """
        scan = _Scan(self._shrinker, context)
        size, waits = 1.0, False
        try:
            size = self._size()
            there = max(1, int(can // size))
            if context.hard:
                scan.until_freed(_up(share, size), there, self._batch)
            else:
                # An old debt completes batches and draws shares here; it never asks for more than that, since
                # the target, measured anew each time, already holds all that the host lacks.
                whole = _up(share, size * self._batch) * self._batch
                wanted = min(int(due // size), whole, SCAN_MAX * there)
                waits = wanted < min(self._batch, there)
                scan.in_batches(wanted, there, self._batch)
        except BaseException as error:
            scan.fault = f"raised {contained(error)}"
        freed = int(scan.freed * size)
        left = share - freed if context.hard else due - int(scan.looked * size)
        return Given(freed, left, waits, scan.fault)

    def _size(self) -> float:
        size: float = self._shrinker.object_size
        if not 0 < size <= BYTES_MAX:
            raise ValueError(f"object_size must be bytes above 0, not {shown(size)}")
        return size


class _Scan:
    """One request being scanned for. In objects."""

    def __init__(self, shrinker: ObjectShrinker, context: Context) -> None:
        self._shrinker = shrinker
        self._context = context
        self.looked = self.freed = 0
        self.fault = ""

    def in_batches(self, wanted: int, there: int, batch: int) -> None:
        """Scan `wanted` objects as the kernel does: less than a batch only where no more is `there`."""
        while (open_ := wanted - self.looked) >= min(batch, there):
            if self._scan(min(batch, open_)) is None:
                return

    def until_freed(self, wanted: int, there: int, batch: int) -> None:
        """Scan until `wanted` objects are freed.

        The kernel comes back with a higher priority for what it did not get; here nobody does, so that the
        scan goes on, in growing steps over objects that stay.
        """
        kept = 0
        while self.freed < wanted and self.looked < SCAN_MAX * there and kept < FRUITLESS_MAX:
            n = min(batch, max(wanted - self.freed, kept), SCAN_MAX * there - self.looked)
            got = self._scan(n)
            if got is None:
                return
            kept = 0 if got else kept + n

    def _scan(self, n: int) -> int | None:
        """Have `n` objects scanned; how many were freed, None when the request ends here."""
        answer = self._shrinker.scan_objects(self._context, n)
        got = _whole(answer)
        if got is None or got < SHRINK_STOP:
            self.fault = f"scan_objects answered {shown(answer)} when asked for {n} objects"
            return None
        if got == SHRINK_STOP:
            return None
        self.looked += n
        self.freed += got
        return got


def form_of(
    func: RequestMemory | Shrinker | ObjectShrinker, count: Callable[..., int] | None
) -> ByteForm | ObjectForm:
    """The form `func` has; with both methods of asking it is asked in bytes.

    TypeError when it has none or an incomplete one, ValueError for a bad number in it.
    """
    if isinstance(func, type):
        raise TypeError(f"{func.__name__} is a class: register an object of it")
    if isinstance(func, ObjectShrinker) and not isinstance(func, Shrinker):
        if count is not None:
            raise TypeError("counts its objects itself: count is for functions and for request_memory")
        return ObjectForm(func)
    if not isinstance(func, Shrinker) and not callable(func):
        raise TypeError("neither callable nor with the methods of Shrinker or ObjectShrinker")
    return ByteForm(func, count)


def _awareness(shrinker: object) -> tuple[bool, bool]:
    return bool(getattr(shrinker, "node_aware", False)), bool(getattr(shrinker, "group_aware", False))


def check(what: str, func: Callable[..., object], *arguments: object, **named: object) -> None:
    """TypeError where it is plain that `func` cannot be called like that: better now than under pressure."""
    if not callable(func):
        raise TypeError(f"{what} is {shown(func)}, which cannot be called")
    if inspect.iscoroutinefunction(func):
        raise TypeError(f"{what} is a coroutine function, but is called from a thread without an event loop")
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # some functions written in C do not show theirs
        return
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        raise TypeError(f"{what} has other parameters than it will be called with: {error}") from None


def contained(error: BaseException) -> str:
    """What a callback has raised, for the log; SystemExit included, since it must not end the monitor.

    Only Ctrl-C is raised again: it is meant for the program, in whose main thread somebody may be asking.
    """
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
    return shown(error)


def _takes_context(func: Callable[..., object]) -> bool:
    try:
        return "context" in inspect.signature(func).parameters
    except (TypeError, ValueError):  # some functions written in C do not show theirs
        return False


def _up(number: int, unit: float) -> int:
    """How many units `number` takes."""
    return int(-(-number // unit))


def _whole(answer: object) -> int | None:
    """An answer as a number, numpy's included; None where it is none, or none that can be meant."""
    if isinstance(answer, bool):
        return None
    try:
        number = operator.index(answer)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if abs(number) <= BYTES_MAX else None
