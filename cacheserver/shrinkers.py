"""The store as a shrinker: the monitor asks, the store gives, the workers let go of what holds it back.

Knows: the store's and the monitor's faces; the only module that knows both. Must not know: sockets, requests.
Threads: the monitor's thread calls; what belongs to a worker is handed to it, never done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cacheserver.pressure import (
    Monitor,
    Registration,
    default_monitor,
    register_shrinker,
    unregister_shrinker,
)
from cacheserver.store.store import Store


class Holder(Protocol):
    """A worker, as far as this module is concerned: its connections may hold store memory."""

    def relieve_soon(self, hard: bool, target: int) -> None:
        """Let go of what connections hold, soon and on the holder's thread; hard: up to `target` bytes."""


class StoreShrinker:
    """One store behind the Shrinker protocol.

    holders: asked after a request that connections stood in the way of. held: the bytes of output that wait
    outside the store for clients to take. pay_soon: called when a soft request has left a debt for the event
    loop to pay. Both are called from the monitor's thread.
    """

    def __init__(
        self,
        store: Store,
        holders: Sequence[Holder],
        held: Callable[[], int],
        pay_soon: Callable[[], object],
    ) -> None:
        self._store = store
        self._holders = holders
        self._held = held
        self._pay_soon = pay_soon

    def register(self, monitor: Monitor | None) -> Registration:
        """Put the store under `monitor`, or under the process's own, which grants its growth from now on."""
        store = self._store
        handle = register_shrinker(
            "store",
            self.request_memory,
            count=self.freeable,
            grant=store.grant,
            ledger=store.ledger,
            monitor=monitor,
        )
        store.wake_fd = (monitor or default_monitor()).wake_fd
        return handle

    def unregister(self, monitor: Monitor | None, handle: Registration) -> None:
        """Undo register(); when this returns the monitor touches the store no more."""
        self._store.wake_fd = -1
        unregister_shrinker(handle, monitor)

    def freeable(self) -> int:
        """Return the bytes that could be freed: all of the store, and what connections hold beside it."""
        return self._store.freeable() + self._held()

    def request_memory(self, target: int, hard: bool) -> int:
        """Free `target` bytes, soft or hard; returns the bytes the host got back within the call.

        Connections are closed for what the store has not freed (hard), or cannot free later either (soft).
        """
        freed = self._store.shrink(target, hard)
        missing = target - freed if hard else target - freed - self._store.freeable()
        if missing > 0:
            # It may be held by output that clients do not take. The shares add up to it.
            share = -(-missing // len(self._holders))
            for holder in self._holders:
                holder.relieve_soon(True, share)
        self.tell_revoked()
        if not hard:
            self._pay_soon()
        return freed

    def tell_revoked(self) -> None:
        """Have the workers give back the half-received values whose memory was revoked, if there are any."""
        if self._store.take_revoked():
            for holder in self._holders:
                holder.relieve_soon(False, 0)
