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


class Announcer:
    """The log lines of one monitor."""

    def __init__(self) -> None:
        self._level = Level.NONE
        self._said: dict[Level, float] = {}
        self._open: Request | None = None  # its effect has not been seen yet
        self._hard, self._soft = Tally(), Tally()  # what is to be said in sum
        self._hard_lines = 0
        self._hard_due = self._soft_due = math.inf

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
        if not request.hard:
            if self._soft_due == math.inf:
                self._soft_due = now + SOFT_SECONDS
            self._soft.add(request.asked, request.freed, request.seconds)
            self._open = request if log.isEnabledFor(logging.DEBUG) else None
            return
        if self._hard_due == math.inf:
            self._hard_due = now + LOG_SECONDS
        if self._hard_lines < HARD_LINES:
            self._hard_lines += 1
            self._open = request
        else:
            self._hard.add(request.asked, request.freed, request.seconds)

    def look(self, headroom: int) -> None:
        """The host was looked at: say what the last request has changed."""
        request, self._open = self._open, None
        if request is None:
            return
        log.log(
            logging.WARNING if request.hard else logging.DEBUG,
            "%s request: asked %s, freed %s in %.1f ms (%s); "
            "level %s, headroom %s before, %s after, reserve %s at %s",
            "hard" if request.hard else "soft", mib(request.asked), mib(request.freed),
            request.seconds * 1e3,
            ", ".join(f"{name} {mib(freed)}" for name, freed in request.gave),
            request.level.name, mib(request.headroom), mib(headroom), mib(request.reserve), request.binding,
        )  # fmt: skip

    def sum_up(self, now: float) -> None:
        """Say in one line what got none of its own, when it is time."""
        if now >= self._hard_due:
            self._sum(logging.WARNING, "%d more hard requests in %.0f s", self._hard, LOG_SECONDS)
            self._hard, self._hard_lines, self._hard_due = Tally(), 0, math.inf
        if now >= self._soft_due:
            self._sum(logging.INFO, "%d soft requests in %.0f s", self._soft, SOFT_SECONDS)
            self._soft, self._soft_due = Tally(), math.inf

    @staticmethod
    def _sum(importance: int, what: str, tally: Tally, seconds: float) -> None:
        if tally.requests:
            log.log(
                importance,
                what + ": asked %s, freed %s, longest %.1f ms",
                tally.requests, seconds, mib(tally.asked), mib(tally.freed), tally.longest * 1e3,
            )  # fmt: skip


def mib(size: int) -> str:
    """Write a number of bytes as people read it: 12.3 MiB."""
    return f"{size / MIB:.1f} MiB"
