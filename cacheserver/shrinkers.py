"""The store as a shrinker: the monitor asks, the store gives, the workers let go of what holds it back.

Knows: the store's and the monitor's faces; the only module that knows both. Must not know: sockets, requests.
Threads: the monitor's thread calls; what belongs to a worker is handed to it, never done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cacheserver.pressure import Monitor, Registration
from cacheserver.store.store import Store


class Holder(Protocol):
    """A worker, as far as this module is concerned: its connections may hold store memory."""

    def relieve_soon(self, hard: bool, target: int) -> None:
        """Let go of what connections hold, soon and on the holder's thread; hard: up to `target` bytes."""


class StoreShrinker:
    """One store behind the Shrinker protocol.

    holders: asked after a request that connections stood in the way of. pay_soon: called, from the monitor's
    thread, when a soft request has left a debt for the event loop to pay.
    """

    def __init__(self, store: Store, holders: Sequence[Holder], pay_soon: Callable[[], object]) -> None:
        self._store = store
        self._holders = holders
        self._pay_soon = pay_soon

    def register(self, monitor: Monitor) -> Registration:
        """Put the store under `monitor`, which grants its growth from now on, and let it wake the monitor."""
        store = self._store
        handle = monitor.register_shrinker(
            "store", self.request_memory, count=store.freeable, grant=store.grant, ledger=store.ledger
        )
        store.wake_fd = monitor.wake_fd
        return handle

    def unregister(self, monitor: Monitor, handle: Registration) -> None:
        """Undo register(); when this returns the monitor touches the store no more."""
        self._store.wake_fd = -1
        monitor.unregister_shrinker(handle)

    def request_memory(self, target: int, hard: bool) -> int:
        """Free `target` bytes, soft or hard; returns the bytes the host got back within the call."""
        freed = self._store.shrink(target, hard)
        revoked = self._store.take_revoked()
        if hard and freed < target:
            # What is missing may be pinned by output that clients do not take. The shares add up to it.
            share = -((freed - target) // len(self._holders))
            for holder in self._holders:
                holder.relieve_soon(True, share)
        elif revoked:
            for holder in self._holders:
                holder.relieve_soon(False, 0)
        if not hard:
            self._pay_soon()
        return freed
