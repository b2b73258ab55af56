"""What the monitor says in the log: changes of the level, and every request to give memory back.

Knows: words, and how many of them a person reads. Must not know: what a request does.
Threads: the one that ticks.

A hard request is worth a line, but while a neighbour grows there are hundreds a second: HARD_LINES of them in
LOG_SECONDS get a line each, the rest one together. Soft requests are a full cache's upkeep: a line each at
DEBUG, and one for all of SOFT_SECONDS at INFO. The exact sums are in the tallies.
"""

from __future__ import annotations

import logging
import math

from cacheserver.pressure.policy import MIB, Decision, Level
from cacheserver.pressure.tally import Request, Tally

log = logging.getLogger("cacheserver.pressure")

LOG_SECONDS = 10.0  # a line about the same level at most this often; a full cache touches its reserve all day
HARD_LINES = 5  # hard requests that get a line of their own in LOG_SECONDS
SOFT_SECONDS = 60.0
SHOWN_MAX = 200  # characters of what others call themselves


class Announcer:
    """The log lines of one monitor."""

    def __init__(self) -> None:
        self._level = Level.NONE
        self._said: dict[Level, float] = {}
        self._open: Request | None = None  # its effect has not been seen yet
        self._hard, self._soft = Tally(), Tally()  # what is to be said in sum
        self._hard_lines = 0
        self._hard_since = self._soft_since = math.inf

    def level(self, level: Level, decision: Decision, now: float) -> None:
        """One line when the level changes, unless the same level was announced a moment ago."""
        if level is self._level or now - self._said.get(level, -1e9) < LOG_SECONDS:
            return
        self._said[level] = now
        log.log(
            logging.WARNING if level is Level.CRITICAL else logging.INFO,
            "memory pressure %s (was %s): headroom %s, reserve %s, limit %s at %s",
            level.name, self._level.name,
            mib(decision.headroom), mib(decision.reserve), mib(decision.limit), decision.binding,
        )  # fmt: skip
        self._level = level

    def request(self, request: Request, now: float) -> None:
        """Say or sum up a request. Its line comes with the next look, which shows the headroom after it."""
        if request.hard:
            self._hard_since = min(self._hard_since, now)
            if self._hard_lines == HARD_LINES:
                self._hard.add(request.asked, request.freed, request.seconds)
                return
            self._hard_lines += 1
        else:
            self._soft_since = min(self._soft_since, now)
            self._soft.add(request.asked, request.freed, request.seconds)
            if not log.isEnabledFor(logging.DEBUG):
                return
        self.look(None)  # the request before, after which nobody has looked
        self._open = request

    def look(self, headroom: int | None) -> None:
        """The host was looked at, None: it was not. Say what the last request has changed."""
        request, self._open = self._open, None
        if request is None:
            return
        log.log(
            logging.WARNING if request.hard else logging.DEBUG,
            "%s request: asked %s, freed %s in %.1f ms (%s); "
            "level %s, headroom %s before, %s, reserve %s at %s",
            "hard" if request.hard else "soft", mib(request.asked), mib(request.freed),
            request.seconds * 1e3,
            ", ".join(f"{name} {mib(freed)}" for name, freed in request.gave),
            request.level.name, mib(request.headroom),
            "not measured after" if headroom is None else f"{mib(headroom)} after",
            mib(request.reserve), request.binding,
        )  # fmt: skip

    def sum_up(self, now: float) -> None:
        """Say in one line what got none of its own, when it is time."""
        if now - self._hard_since >= LOG_SECONDS:
            self._say_hard(now)
        if now - self._soft_since >= SOFT_SECONDS:
            self._say_soft(now)

    def close(self, now: float) -> None:
        """Say at once what has not been said yet."""
        self.look(None)
        self._say_hard(now)
        self._say_soft(now)

    def _say_hard(self, now: float) -> None:
        self._sum(logging.WARNING, "%d more hard requests in %.0f s", self._hard, now - self._hard_since)
        self._hard, self._hard_lines, self._hard_since = Tally(), 0, math.inf

    def _say_soft(self, now: float) -> None:
        self._sum(logging.INFO, "%d soft requests in %.0f s", self._soft, now - self._soft_since)
        self._soft, self._soft_since = Tally(), math.inf

    @staticmethod
    def _sum(importance: int, what: str, tally: Tally, seconds: float) -> None:
        if tally.requests:
            log.log(
                importance,
                what + ": asked %s, freed %s, longest %.1f ms",
                tally.requests, max(1.0, seconds), mib(tally.asked), mib(tally.freed), tally.longest * 1e3,
            )  # fmt: skip


def mib(size: int) -> str:
    """Write a number of bytes as people read it: 12.3 MiB."""
    return f"{size / MIB:.1f} MiB"


def shown(what: object) -> str:
    """`repr(what)`, cut short, also where that raises: it is not the monitor's."""
    try:
        text = repr(what)
    except BaseException:
        return f"<{type(what).__name__} that cannot be shown>"
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."
