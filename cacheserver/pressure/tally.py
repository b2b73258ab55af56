"""What was asked and given, counted: for a monitor as a whole and for each of its shrinkers.

Knows: numbers. Must not know: who asks, how anything is shown. Threads: one adds at a time; anybody reads,
and may see a request half counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cacheserver.pressure.policy import Level


class Tally:
    """Requests of one kind, soft or hard. Sizes in bytes, times in seconds."""

    __slots__ = ("asked", "freed", "last", "longest", "requests", "seconds")

    def __init__(self) -> None:
        self.requests = self.asked = self.freed = 0
        self.seconds = 0.0  # all together
        self.longest = 0.0
        self.last = 0.0

    def add(self, asked: int, freed: int, seconds: float) -> None:
        """Count one request and how long its answer took."""
        self.requests += 1
        self.asked += asked
        self.freed += freed
        self.seconds += seconds
        self.last = seconds
        self.longest = max(self.longest, seconds)


class Request(NamedTuple):
    """One request of the monitor to its shrinkers, answered. Sizes in bytes, times in seconds."""

    hard: bool
    level: Level
    asked: int
    freed: int  # at once; what a soft request deferred is not in it
    gave: tuple[tuple[str, int], ...]  # each shrinker that was asked, and what it freed
    headroom: int  # before
    reserve: int
    binding: str
    seconds: float  # until the last shrinker had answered


@dataclass(frozen=True, slots=True)
class Status:
    """What the monitor knows and has done. Sizes in bytes, times in seconds, counters since the start."""

    level: Level
    headroom: int
    reserve: int
    ceiling: int
    limit: int
    usage: int
    binding: str
    shrinks_soft: int
    shrinks_hard: int
    bytes_asked_soft: int
    bytes_asked_hard: int
    bytes_released_soft: int  # released within the request; what a soft request deferred is not in it
    bytes_released_hard: int
    ticks: int
    cpu_seconds: float  # that the monitor's thread has used, callbacks included, but not threads of theirs
    seconds_soft: float  # until the shrinkers had answered, all requests together
    seconds_hard: float
    longest_soft: float  # and the longest of them
    longest_hard: float
    shrunk_at: float | None  # when the last request was answered, by the monitor's clock


@dataclass(frozen=True, slots=True)
class ShrinkerStatus:
    """One shrinker at one moment. Sizes in bytes, times in seconds, counters since it was registered."""

    name: str
    enabled: bool  # False: left out because it failed too often
    count: int  # what it last said it could free, at a request or within some ten seconds
    cost: float
    carried: int  # what it stayed short of, which moves the next split
    strikes: int  # failures in a row
    requests_soft: int
    requests_hard: int
    bytes_asked_soft: int
    bytes_asked_hard: int
    bytes_freed_soft: int
    bytes_freed_hard: int
    last_soft: float  # how long its last answer took
    last_hard: float
    longest_soft: float
    longest_hard: float
