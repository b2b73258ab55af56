"""What a run must keep, such as "p99<2ms,hit>0.9,errors=0", and whether it did.

Knows: the words of a clause, the figures it is judged by. Must not know: how they were measured. Pure.

Figures: p50, p99, p99.9, ..., max and mean are the latency (us, ms, s), with "get." or "set." before it that
of gets or sets alone, with "service." that from the actual send; hit is hits of gets, 0 to 1; rate is
requests a second; requests, errors, wrong, refused and reconnects are counts, kills those of processes in the
server's cgroup, by the kernel; growth is that of the server's memory that is not cache, bytes an hour (K, M,
G).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from loadtest.units import latency_text, seconds_of, size_of, size_text

COUNTS = ("requests", "errors", "wrong", "refused", "reconnects", "kills")
SHARES = ("hit",)
RATES = ("rate",)
BYTES = ("growth",)
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_CLAUSE = re.compile(r"\s*([a-z0-9.]+)\s*(<=|>=|<|>|=)\s*(\S+)\s*")
_LATENCY = re.compile(r"(?:(?:service|get|set)\.)?(?:p(\d{1,2}(?:\.\d+)?|100)|max|mean)")

MET, NOT_MET, NOT_MEASURED = 0, 1, 2


class Clause(NamedTuple):
    """One condition; `bound` in microseconds, a share, a count or bytes, as its figure is."""

    figure: str
    sign: str
    bound: float
    text: str


class Verdict(NamedTuple):
    """What became of a clause; `value` is None where it was not measured."""

    clause: Clause
    value: float | None

    @property
    def status(self) -> int:
        if self.value is None:
            return NOT_MEASURED
        return MET if SIGNS[self.clause.sign](self.value, self.clause.bound) else NOT_MET

    def __str__(self) -> str:
        word = ("met", "NOT MET", "not measured")[self.status]
        return f"{self.clause.text}: {word}" + ("" if self.value is None else f" ({self.shown})")

    @property
    def shown(self) -> str:
        """The value for people."""
        figure, value = self.clause.figure, self.value
        if value is None:
            return "-"
        if _LATENCY.fullmatch(figure):
            return latency_text(value)
        if figure in BYTES:
            return f"{size_text(value)} an hour"
        return f"{value:.4f}" if figure in SHARES else f"{value:.0f}"


def parse(text: str) -> tuple[Clause, ...]:
    """The clauses of `text`, separated by commas. ValueError with what is allowed, in one line."""
    clauses = []
    for piece in filter(None, (part.strip() for part in text.split(","))):
        found = _CLAUSE.fullmatch(piece)
        if found is None:
            raise ValueError(f"{piece!r} is no condition: say such as p99<2ms, hit>0.9 or errors=0")
        clauses.append(Clause(found[1], found[2], _bound(found[1], found[3]), piece))
    if not clauses:
        raise ValueError("there is no condition in it: say such as p99<2ms,hit>0.9,errors=0")
    return tuple(clauses)


def _bound(figure: str, text: str) -> float:
    if _LATENCY.fullmatch(figure):
        if text[-1:].isdigit():  # some would mean milliseconds, and seconds are always met
            raise ValueError(f"{figure} is compared with a duration: say {text}us, {text}ms or {text}s")
        return seconds_of(text) * 1e6
    if figure in BYTES:
        return float(size_of(text))
    if figure not in COUNTS + SHARES + RATES:
        latency = "p99 (any percentile; get.p99, set.p99, service.p99)"
        known = ", ".join((latency, "max", "mean", *SHARES, *RATES, *COUNTS, *BYTES))
        raise ValueError(f"{figure!r} is no figure: known are {known}")
    share = text.endswith("%") and figure in SHARES
    try:
        return float(text.rstrip("%")) / 100.0 if share else float(text)
    except ValueError:
        raise ValueError(f"{figure} is compared with a number, not {text!r}") from None


def judge(clauses: tuple[Clause, ...], figure: Callable[[str], float | None]) -> list[Verdict]:
    """A verdict for each clause; `figure` gives a figure by name, None where it was not measured."""
    return [Verdict(clause, figure(clause.figure)) for clause in clauses]


def status(verdicts: list[Verdict]) -> int:
    """The exit status: 1 where one is not met, else 2 where one was not measured, else 0."""
    found = {verdict.status for verdict in verdicts}
    return NOT_MET if NOT_MET in found else NOT_MEASURED if NOT_MEASURED in found else MET
