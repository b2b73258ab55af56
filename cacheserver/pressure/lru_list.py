"""LruList: items in order of use, in sublists by NUMA node and owner group, walked from the cold end.

Knows: items as hashable objects, their order, and what to do with the answer of a callback. Must not know:
what an item is, its size, who asks for memory.
Memory: the list owns its links, never what the items hold; an item off the list is forgotten.
Threads: any may call anything at any time, but nothing from a finalizer (`__del__`, a weakref's callback):
those run anywhere, in the middle of another call too. `LruList.walk` says what its callback may do.

The behaviour is that of Linux's list_lru (mm/list_lru.c, include/linux/list_lru.h), for programs in Python.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Collection, Hashable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class LruStatus(enum.Enum):
    """What a walk's callback has decided about the item it was offered."""

    REMOVED = enum.auto()  # it goes: the walk takes it off the list and counts it
    ROTATE = enum.auto()  # in use: to the warm end, for a second chance
    RETRY = enum.auto()  # undecided, a lock is busy: let others in for a moment, then offer it once more
    SKIP = enum.auto()  # it stays where it is
    STOP = enum.auto()  # it stays, and the walk ends: what follows is warmer


class _Link:
    """A place in a sublist: an item's, a walk's bookmark, or the sublist's two ends in one (`root`).

    `home`: the sublist where an item's link is; None: on the list no longer, or not an item's.
    """

    __slots__ = ("home", "item", "next", "prev")
    prev: _Link
    next: _Link

    def __init__(self, item: Any = None, home: _Sublist | None = None) -> None:
        self.item = item
        self.home = home


# The bodies of these two are straight lines without a call or an allocation: nothing of this thread (a
# finalizer, a signal's handler) can come between and see half a link.
def _insert(link: _Link, after: _Link) -> None:
    follower = after.next
    link.prev = after
    link.next = follower
    after.next = link
    follower.prev = link


def _unlink(link: _Link) -> None:
    before, follower = link.prev, link.next
    before.next = follower
    follower.prev = before


class _Sublist:
    """The items of one node and group, coldest first. Its lock guards its links and what is said here."""

    __slots__ = ("count", "lock", "node", "retired", "root")

    def __init__(self, node: int) -> None:
        self.node = node
        self.lock = threading.RLock()  # reentrant: a walk's callback adds and removes
        self.root = _Link()
        self.root.prev = self.root.next = self.root
        self.count = 0
        self.retired = False  # its group is gone: nothing may be added any more


class LruList(Generic[Item]):
    """Items in order of use, in one sublist for each (node, group) pair, each with its own lock.

    An item is any hashable object; equal ones are one item, and an item is on the list at most once, whatever
    its node and group. `node`: the NUMA node where its memory is. `group`: the owner it is charged to, any
    hashable name; None: nobody's.
    """

    def __init__(self) -> None:
        self._sublists: dict[tuple[int, Hashable], _Sublist] = {}
        self._registry = threading.RLock()  # guards the dict of sublists
        # Held by whoever may hold two sublists' locks at once, so that no two can wait for each other: a
        # walk, whose callback may add elsewhere, and reparent. Reentrant only to tell a callback that it must
        # not do that.
        self._exclusive = threading.RLock()
        self._walking = False  # guarded by `_exclusive`
        # Changed by single dict operations under the lock of the sublist concerned.
        self._links: dict[Item, _Link] = {}

    def add(self, item: Item, node: int = 0, group: Hashable = None) -> bool:
        """Put `item` at the warm end of its sublist; False, and nothing done, when it is on the list."""
        while True:
            sublist = self._sublist(node, group)
            link = _Link(item, sublist)
            with sublist.lock:
                if sublist.retired:
                    continue
                if self._links.setdefault(item, link) is not link:
                    return False
                _insert(link, sublist.root.prev)
                sublist.count += 1
                return True

    def remove(self, item: Item) -> bool:
        """Take `item` off the list, wherever it is; False when it is not on it.

        Among several threads, and a walk, that want the same item exactly one gets it.
        """
        while (link := self._links.get(item)) is not None:
            sublist = link.home
            if sublist is None:  # somebody else has just got it
                continue
            with sublist.lock:
                if link.home is sublist:
                    self._drop(link, sublist)
                    return True
        return False

    def count(self, nodes: Collection[int] | None = None, group: Hashable = None) -> int:
        """How many items are on `nodes` (None: all) for `group` (None: all, nobody's included). Takes no
        sublist's lock.
        """
        return sum(sublist.count for sublist in self._chosen(nodes, group))

    def walk(
        self,
        isolate: Callable[[Item], LruStatus],
        n: int,
        nodes: Collection[int] | None = None,
        group: Hashable = None,
    ) -> int:
        """Offer up to `n` items to `isolate(item)`, coldest first, and do with each what it answers. Returns
        how many were removed.

        `nodes`, `group`: as for `count`; several sublists share `n` in proportion to their counts. A
        sublist's walk offers what was in it when it began, each item once (after RETRY twice, the second
        RETRY being a SKIP); what is added or rotated meanwhile waits for the next walk. So every walk ends.

        `isolate` runs under the lock of the item's sublist: nobody else removes the item while it is judged,
        and whoever adds to or removes from that sublist waits. RETRY lets them in before the second offer; an
        item that is gone by then is not offered again. It may add, remove and count on this list, the item it
        judges included (then REMOVED counts it, other answers do nothing). It may not walk it or reparent
        (RuntimeError). It should be quick: note what is to be freed and free it after the walk. Any lock that
        others hold while they call `add` or `remove` it must only try to take, and answer RETRY or SKIP when
        it is busy: waiting would be a deadlock.

        One walk goes on at a time, a second waits. What `isolate` raises ends the walk and is passed on, the
        item stays; TypeError for an answer that is no LruStatus.
        """
        with self._exclusive:
            self._refuse_callbacks("walk")
            self._walking = True
            try:
                return self._walk(isolate, n, self._chosen(nodes, group))
            finally:
                self._walking = False

    def reparent(self, group: Hashable, to: Hashable = None) -> int:
        """Move what `group` has to the cold end of `to` (None: nobody's), node by node, in its order; returns
        how many items. `group` is forgotten, and its name may be used anew.

        Linux does this when a memory cgroup goes (list_splice at the head). ValueError when both are the
        same, RuntimeError within a walk's callback.
        """
        if group == to:
            raise ValueError(f"group {group!r} cannot be moved to itself")
        moved = 0
        with self._exclusive:
            self._refuse_callbacks("reparent")
            with self._registry:
                gone = [sublist for key, sublist in self._sublists.items() if key[1] == group]
            for source in gone:
                target = self._sublist(source.node, to)
                with source.lock, target.lock:
                    moved += self._splice(source, target)
                    source.retired = True
                    with self._registry:
                        del self._sublists[source.node, group]
        return moved

    # -- inside --

    def _refuse_callbacks(self, what: str) -> None:
        if self._walking:  # `_exclusive` is held, so it is this thread's own walk
            raise RuntimeError(f"a callback of LruList.walk must not {what} the same list")

    def _sublist(self, node: int, group: Hashable) -> _Sublist:
        found = self._sublists.get((node, group))
        if found is None:
            with self._registry:
                found = self._sublists.setdefault((node, group), _Sublist(node))
        return found

    def _chosen(self, nodes: Collection[int] | None, group: Hashable) -> list[_Sublist]:
        with self._registry:
            return [
                sublist
                for (node, owner), sublist in self._sublists.items()
                if (nodes is None or node in nodes) and (group is None or owner == group)
            ]

    def _drop(self, link: _Link, sublist: _Sublist) -> None:
        """Forget an item; `sublist`, where it is, is locked."""
        del self._links[link.item]  # first: who finds a link there may rely on its home
        _unlink(link)
        link.home = None
        sublist.count -= 1

    def _walk(self, isolate: Callable[[Item], LruStatus], n: int, chosen: list[_Sublist]) -> int:
        counts = [sublist.count for sublist in chosen]
        total = sum(counts)
        n = min(n, total)
        removed = before = 0
        for sublist, count in zip(chosen, counts, strict=True):
            share = n * (before + count) // total - n * before // total if total else 0
            before += count
            if share > 0:
                gone, go_on = self._walk_one(isolate, share, sublist)
                removed += gone
                if not go_on:
                    break
        return removed

    def _walk_one(self, isolate: Callable[[Item], LruStatus], n: int, sublist: _Sublist) -> tuple[int, bool]:
        """Walk one sublist: (items removed, whether to go on with the next)."""
        removed = 0
        here, end = _Link(), _Link()  # bookmarks: they stay in their place whatever happens to the items
        with sublist.lock:
            _insert(here, sublist.root)
            _insert(end, sublist.root.prev)
            try:
                while n > 0 and (link := here.next) is not end:
                    n -= 1
                    status = isolate(link.item)
                    if status is LruStatus.RETRY:
                        self._let_others_in(sublist)
                        if here.next is not link:
                            continue
                        status = isolate(link.item)
                    if status is LruStatus.STOP:
                        return removed, False
                    removed += self._settle(status, link, here, sublist)
            finally:
                _unlink(here)
                _unlink(end)
        return removed, True

    def _settle(self, status: LruStatus, link: _Link, here: _Link, sublist: _Sublist) -> int:
        """Do with the item at `here` what was decided; 1 when it was removed."""
        mine = link.home is sublist  # else the callback itself has taken it off
        if status is LruStatus.REMOVED:
            if mine:
                self._drop(link, sublist)
            return 1
        if status is LruStatus.ROTATE:
            if mine:
                _unlink(link)
                _insert(link, sublist.root.prev)
        elif status is LruStatus.SKIP or status is LruStatus.RETRY:
            if mine:
                _unlink(here)
                _insert(here, link)
        else:
            raise TypeError(f"a callback of LruList.walk must answer an LruStatus, not {status!r}")
        return 0

    @staticmethod
    def _let_others_in(sublist: _Sublist) -> None:
        """Give up the sublist's lock, held once by this thread, for a moment."""
        sublist.lock.release()
        try:
            time.sleep(0)  # whoever holds what the callback could not get may run now
        finally:
            sublist.lock.acquire()

    @staticmethod
    def _splice(source: _Sublist, target: _Sublist) -> int:
        """Move all items to the head of `target`, in their order. Both are locked. Returns how many."""
        link, place, moved = source.root.next, target.root, 0
        while link is not source.root:
            follower = link.next
            if link.home is source:  # a bookmark stays
                _unlink(link)
                _insert(link, place)
                link.home = target
                place = link
                moved += 1
            link = follower
        source.count -= moved
        target.count += moved
        return moved
