"""Runs as a table: one column for each, and beside the later ones how they compare with the first.

Knows: outcomes, how figures are written for people. Must not know: files. rich paints it where it is
installed and the output is a terminal; plain text elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TextIO

from loadtest import stairs
from loadtest.outcome import Outcome
from loadtest.slo import Verdict
from loadtest.timeline import rises
from loadtest.units import count_text, latency_text, size_text

Show = Callable[[float], str]
LATENCIES = ("mean", "p50", "p90", "p99", "p99.9", "p99.99", "max")


class Row(NamedTuple):
    """One figure of all runs; None where a run has none."""

    name: str
    values: list[float | None]
    show: Show
    compare: bool = True  # whether the quotient with the first run says something

    def cells(self) -> list[str]:
        return ["-" if value is None else self.show(value) for value in self.values]

    def quotients(self) -> list[str]:
        """For each run after the first, the change in percent."""
        first = self.values[0]
        if not self.compare or not first:
            return ["" for _ in self.values[1:]]
        changes = [
            None if value is None else round(100 * (value / first - 1), 1) for value in self.values[1:]
        ]
        return ["" if change is None else f"{change + 0.0:+.1f} %" for change in changes]  # no "-0.0"


def load_text(outcome: Outcome) -> str:
    """How the load was made, in words."""
    load = outcome.result.load
    stairs = [value for _, value in load.steps]
    if outcome.open_loop:
        return f"open loop, {_span([load.rate, *stairs])} requests/s over {load.connections} connections"
    return f"closed loop, {_span([load.connections, *stairs])} connections, {load.depth} in flight on each"


def _span(values: Sequence[float]) -> str:
    """The values of a staircase, or the one of a load without."""
    least, most = min(values), max(values)
    return f"{most:.10g}" if least == most else f"{least:.10g} to {most:.10g}"


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """All figures that at least one of the runs has."""

    def figure(name: str, title: str, show: Show, compare: bool = True) -> Row:
        return Row(title, [outcome.figure(name) for outcome in outcomes], show, compare)

    def over(title: str, show: Show, find: Callable[[Outcome], float | None], compare: bool = True) -> Row:
        return Row(title, [find(outcome) for outcome in outcomes], show, compare)

    found = [
        over("measured", lambda seconds: f"{seconds:.1f} s", lambda one: one.result.elapsed, False),
        figure("requests", "requests", count_text, False),
        figure("rate", "requests/s", count_text),
        over("received/s", lambda number: f"{size_text(number)}", _received),
        figure("hit", "hit ratio", lambda ratio: f"{ratio:.4f}"),
        figure("refused", "sets refused", count_text, False),
        figure("errors", "errors", count_text, False),
        figure("wrong", "wrong values", count_text, False),
        figure("reconnects", "reconnects", count_text, False),
        *(figure(name, f"latency {name}", latency_text) for name in LATENCIES),
    ]
    if any(outcome.result.sets.total() and outcome.result.gets.total() for outcome in outcomes):
        found += [figure(f"{name}.p99", f"latency p99, {name}s", latency_text) for name in ("get", "set")]
    if any(outcome.open_loop for outcome in outcomes):
        found += [
            figure(f"service.{name}", f"service {name}", latency_text) for name in ("p50", "p99", "p99.9")
        ]
        found.append(over("largest backlog", count_text, _backlog, False))
    found += [
        over("limit, least", size_text, lambda one: _least(one, "limit"), False),
        over("used in the cgroup, least", size_text, lambda one: _least(one, "usage")),
        over("used in the cgroup, most", size_text, lambda one: _most(one, "usage")),
        over("server's RSS, most", size_text, lambda one: _most(one, "rss")),
        over("headroom, least", size_text, lambda one: _least(one, "headroom"), False),
        over("evictions", count_text, lambda one: rises(one.samples, "evictions"), False),
        over("shrinks", count_text, lambda one: rises(one.samples, "shrinks"), False),
        figure("kills", "kills", count_text, False),
        figure("growth", "growth beside the cache, an hour", size_text, False),
    ]
    return [row for row in found if any(value is not None for value in row.values)]


def table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) as text."""
    heads = ["", outcomes[0].label]
    for outcome in outcomes[1:]:
        heads += [outcome.label, "change"]
    lines = []
    for row in rows(outcomes):
        first, *others = row.cells()
        line = [row.name, first]
        for cell, quotient in zip(others, row.quotients(), strict=True):
            line += [cell, quotient]
        lines.append(line)
    return heads, lines


def show(outcomes: Sequence[Outcome], verdicts: Sequence[Verdict], stream: TextIO) -> None:
    """Print the table, that of a staircase, what happened beside the load, and the conditions' verdicts."""
    for outcome in outcomes:
        print(f"{outcome.label}: {outcome.scenario or 'options'}, {load_text(outcome)}", file=stream)
    _print(*table(outcomes), stream)
    for outcome in outcomes:
        heads, lines = stairs.table(outcome)
        if lines:
            print(f"{outcome.label}, step by step:", file=stream)
            _print(heads, lines, stream)
    for outcome in outcomes:
        front = f"{outcome.label}: " if len(outcomes) > 1 else ""
        for note in outcome.notes:
            if note.kind in ("kill", "server", "failed"):
                print(f"{front}{note.at:8.1f} s  {note.text}", file=stream)
        if outcome.result.problem:
            word = "" if outcome.result.complete else "not complete: "
            print(f"{front}{word}{outcome.result.problem}", file=stream)
    for verdict in verdicts:
        print(verdict, file=stream)


def _print(heads: Sequence[str], lines: Sequence[Sequence[str]], stream: TextIO) -> None:
    if not (stream.isatty() and _painted(heads, lines, stream)):
        print(plain(heads, lines), file=stream)


def plain(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in plain text: the first column to the left, the others to the right."""
    columns = list(zip(*[heads, *lines], strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    texts = []
    for line in [heads, *lines]:
        first, *others = zip(line, widths, strict=True)
        texts.append(
            "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
        )
    return "\n".join(text for text in texts if text)


def _painted(heads: Sequence[str], lines: Sequence[Sequence[str]], stream: TextIO) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    table = Table()
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    Console(file=stream).print(table)
    return True


def _received(outcome: Outcome) -> float | None:
    elapsed = outcome.result.elapsed
    return outcome.result.total.bytes_in / elapsed if elapsed else None


def _backlog(outcome: Outcome) -> float | None:
    return max((second.backlog for second in outcome.result.seconds), default=None)


def _values(outcome: Outcome, field: str) -> list[float]:
    """What was seen of a field of Sample after the warm-up."""
    seen = (getattr(sample, field) for sample in outcome.samples if sample.at >= outcome.first_measured)
    return [value for value in seen if value is not None]


def _least(outcome: Outcome, field: str) -> float | None:
    return min(_values(outcome, field), default=None)


def _most(outcome: Outcome, field: str) -> float | None:
    return max(_values(outcome, field), default=None)
