"""LruShrinker: a cache that keeps its items on an LruList, as a shrinker.

Knows: the list, and two functions of the cache. Must not know: the monitor, the policy.
Memory: the cache's own; this only says what goes. Threads: the caller's, usually the monitor's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic

from cacheserver.pressure.context import Context
from cacheserver.pressure.lru_list import Item, LruList, LruStatus

log = logging.getLogger("cacheserver.pressure")

BATCH = 128  # items a walk, as Linux's SHRINK_BATCH: others get at the list, and memory is freed, in between
SAMPLE = 16  # items whose size is looked at to tell how much there is
ANYWHERE = Context()


class LruShrinker(Generic[Item]):
    """Frees the coldest items of `items` until the target is met, soft and hard alike.

        shrinker = LruShrinker(items, free=cache.drop, size=cache.size_of)
        register_shrinker("my cache", shrinker, count=shrinker.count)

    `size(item)`: the bytes that freeing it gives back, >= 0. Called under the lock of the item's sublist, see
    `LruList.walk`. `free(item)`: frees it. Called without any lock, after the item has left the list, once.
    What it raises is logged once; then the item counts as not freed and stays off the list. Both may take the
    cache's locks, so a request by one who cannot wait (`may_block` false) gets nothing.
    """

    node_aware = group_aware = True

    def __init__(
        self, items: LruList[Item], free: Callable[[Item], object], size: Callable[[Item], int]
    ) -> None:
        self._items = items
        self._free = free
        self._size = size
        self._complained = False

    def count(self, context: Context = ANYWHERE) -> int:
        """Bytes there are on the nodes and for the group of `context`, judged by the coldest items."""
        if not context.may_block:
            return 0
        sizes: list[int] = []

        def look(item: Item) -> LruStatus:
            sizes.append(self._size(item))
            return LruStatus.SKIP

        self._items.walk(look, SAMPLE, context.nodes, context.group)
        return self._items.count(context.nodes, context.group) * sum(sizes) // len(sizes) if sizes else 0

    def request_memory(self, target: int, hard: bool, context: Context = ANYWHERE) -> int:
        """Free at least `target` bytes, as far as there are any, on the nodes and for the group of `context`;
        the bytes freed.
        """
        if not context.may_block:
            return 0
        nodes, group = context.nodes, context.group
        freed = 0
        left = self._items.count(nodes, group)  # items added meanwhile are not worth chasing
        while freed < target and left > 0:
            taken: list[tuple[Item, int]] = []
            try:
                removed = self._items.walk(
                    self._isolate(taken, target - freed), min(BATCH, left), nodes, group
                )
            finally:  # even when `size` has raised: what is off the list already must go
                freed += sum(nbytes for item, nbytes in taken if self._let_go(item))
            left -= removed
            if not removed:
                break
        return freed

    def _isolate(self, taken: list[tuple[Item, int]], target: int) -> Callable[[Item], LruStatus]:
        planned = 0

        def isolate(item: Item) -> LruStatus:
            nonlocal planned
            if planned >= target:
                return LruStatus.STOP
            nbytes = self._size(item)
            planned += nbytes
            taken.append((item, nbytes))
            return LruStatus.REMOVED

        return isolate

    def _let_go(self, item: Item) -> bool:
        try:
            self._free(item)
        except Exception as error:  # one bad item must not keep the others
            if not self._complained:
                self._complained = True
                log.error("an LruShrinker could not free %r: %r; counted as not freed", item, error)
            return False
        return True
