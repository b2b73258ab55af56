"""Requests for relief on their way from the monitor's thread to the worker whose connections hold store memory.

Knows: a worker, how requests add up. Must not know: the store, pressure, what a reactor lets go of.
Threads: relieve_soon() may be called from any thread; the reactor is touched on the worker's own.
"""

from __future__ import annotations

import threading

from cacheserver.worker import Worker


class Relief:
    """Passes on at most one request at a time; those that come meanwhile are merged into it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._waiting = False
        self._hard = False
        self._target = 0

    def relieve_soon(self, hard: bool, target: int) -> None:
        """Have the worker call Reactor.relieve() soon: hard if any merged request is, for the largest target.

        Without effect while the worker does not run.
        """
        with self._lock:
            self._hard |= hard
            self._target = max(self._target, target)
            if self._waiting:
                return
            self._waiting = True
        # Not under the lock; the worker may come first.
        if not self._worker.call_soon_threadsafe(self._relieve):
            self._take()

    def _take(self) -> tuple[bool, int]:
        """Return what is wanted, and begin anew."""
        with self._lock:
            wanted = self._hard, self._target
            self._waiting, self._hard, self._target = False, False, 0
        return wanted

    def _relieve(self) -> None:
        self._worker.reactor.relieve(*self._take())
