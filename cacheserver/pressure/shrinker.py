"""The two forms a shrinker can have beside a plain function, and their words: what a program implements.

Knows: bytes, objects, Context. Must not know: how a target is shared, readings, the policy.
Threads: everything here is called from the monitor's thread (or from that of `Monitor.request`), by one
thread at a time; the cache behind it is used by others meanwhile and needs a lock of its own.

Soft and hard are OSv's (its `include/osv/shrinker.h`), counting and scanning are Linux's (mm/shrinker.c as of
6.7).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from cacheserver.pressure.context import Context

DEFAULT_COST = 2  # Linux's DEFAULT_SEEKS: what it costs to make one object again
SHRINK_BATCH = 128  # objects scanned at a time; between two batches the cache's lock is free
SHRINK_STOP = -1  # scan_objects: no more of this request
SHRINK_EMPTY = -2  # count_objects: there is no object at all

RequestMemory = Callable[[int, bool], int]


@runtime_checkable
class Shrinker(Protocol):
    """OSv's form: asked in bytes.

    Where the method also has a parameter named `context`, it is given the request's Context. Then the class
    may declare `node_aware = True` or `group_aware = True`: it frees on the context's nodes, or of its group,
    only. A request limited to nodes (the monitor's own where nodes bind) comes to it once for each.
    """

    @abstractmethod
    def request_memory(self, target: int, hard: bool) -> int:
        """Free at least `target` bytes and return how many were given back to the host.

        Soft (`hard` false): may be deferred; return what was freed at once, 0 included. Hard: now, before
        returning.
        """


@runtime_checkable
class ObjectShrinker(Protocol):
    """Linux's form: asked in objects, in batches.

    The object also has `object_size`: the bytes that the host gets back for one object on average, above 0,
    an attribute or a property, read anew at every request; it turns bytes into objects and back. It may have

    - `seeks`: what an object costs to make again, DEFAULT_COST when absent. 0: nothing to speak of, such
      objects go first;
    - `batch`: the objects to scan at a time, SHRINK_BATCH when absent or 0. It bounds how long one call holds
      the cache's lock, how far a request overshoots, and what a soft one leaves undone until a batch of
      it has come together;
    - `node_aware`, `group_aware`: it heeds `context.nodes`, `context.group`. A request limited to nodes, the
      monitor's own where nodes bind among them, comes once for each, with that node alone in the context.
    """

    @abstractmethod
    def count_objects(self, context: Context) -> int:
        """How many objects could be freed now, roughly and cheaply. 0 or SHRINK_EMPTY: it is not scanned."""

    @abstractmethod
    def scan_objects(self, context: Context, n: int) -> int:
        """Look at `n` objects, free those that may go, return how many were freed: 0 is an answer.

        SHRINK_STOP: nothing was freed and nothing will be for the rest of this request (a lock is busy, say).
        """
