"""What an event loop does for the store beside serving: paying its debts in slices, and its regular upkeep.

Knows: an event loop and two callables. Must not know: the store, pressure, sockets.
Threads: pay_soon() may be called from any thread; everything else belongs to the loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Microseconds of one turn, which others may have to wait for: when debts are paid in turns of 1000 the 99th
# percentile of gets beside a large one is three times what it is without.
PAY_US = 100
UPKEEP_US = 250
REST_SECONDS = 0.001  # between two turns where more is waiting: a fifth of one CPU at most goes into them
UPKEEP_SECONDS = 0.1  # between two turns of the upkeep where nothing is


class Housekeeping:
    """Runs `pay` and `upkeep` on `loop`; both take their microseconds.

    pay: returns what is still owed. upkeep: returns something true where there was more to do than time.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, pay: Callable[[int], int], upkeep: Callable[[int], object]
    ) -> None:
        self._loop = loop
        self._pay = pay
        self._upkeep = upkeep
        self._paying = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin the regular upkeep."""
        self._timer = self._loop.call_later(UPKEEP_SECONDS, self._tend)

    def stop(self) -> None:
        """End it; a debt that is being paid is left where it stands."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pay_soon(self) -> None:
        """Pay what is owed, from the loop's next turn on. Harmless after the loop's end, and repeated."""
        if self._paying:
            return
        self._paying = True
        try:
            self._loop.call_soon_threadsafe(self._pay_slice)
        except RuntimeError:  # the loop was closed
            self._paying = False

    def _pay_slice(self) -> None:
        # A debt recorded from here on starts a new round by pay_soon().
        self._paying = False
        if self._pay(PAY_US) > 0 and not self._paying:
            self._paying = True
            self._loop.call_later(REST_SECONDS, self._pay_slice)

    def _tend(self) -> None:
        more = False
        try:
            more = bool(self._upkeep(UPKEEP_US))
        finally:
            self._timer = self._loop.call_later(REST_SECONDS if more else UPKEEP_SECONDS, self._tend)
