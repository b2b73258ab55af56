"""Progress while a load runs: a table that is painted anew on a terminal, a line a second elsewhere.

Knows: seconds and samples. Must not know: how they are taken. Writes to stderr, so that stdout has the
results. Where nobody reads what it writes, it is quiet: that must not end the load.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TextIO

from loadtest.results import Second
from loadtest.timeline import Sample
from loadtest.units import count_text, latency_text, size_text

ROWS = 12  # seconds that the table shows
HEADS = ("at", "rate", "hits", "p50", "p99", "p99.9", "memory", "limit", "hog", "level", "errors")
FIRST = ("at", "rate", "hits", "p99", "errors", "memory", "level")  # to a terminal too narrow for all


def cells(second: Second, sample: Sample | None, lasted: float) -> tuple[str, ...]:
    """One second as text, in the order of HEADS; `lasted` is how long it was."""
    counters, latency = second.counters, second.latency
    there = latency.total() > 0
    share = [latency_text(latency.percentile(each)) if there else "-" for each in (50, 99, 99.9)]
    now = sample or Sample(0.0)
    usage = now.usage if now.usage is not None else now.rss
    return (
        f"{second.at:.0f} s" + (" (warm-up)" if second.warmup else ""),
        count_text(counters.requests / lasted if lasted > 0 else 0.0),
        f"{counters.hits / counters.gets:.4f}" if counters.gets else "-",
        *share,
        size_text(usage),
        size_text(now.limit),
        size_text(now.hog) if now.hog else "-",
        now.level or "-",
        str(counters.errors + counters.wrong),
    )


class Live:
    """Shows each second as it comes; a context manager, so that the terminal is left as it was."""

    def __init__(self, title: str, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._rows: list[tuple[str, ...]] = []
        self._last = 0.0
        self._shown: Any = None

    def __enter__(self) -> Live:
        if not self._quiet:
            self._shown = _painted(self._stream) if self._stream.isatty() else None
            if self._shown is not None:
                with contextlib.suppress(OSError):  # the terminal has gone
                    self._shown.start()
            else:
                self._print(self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            with contextlib.suppress(OSError):
                self._shown.stop()

    def __call__(self, second: Second, sample: Sample | None) -> None:
        row = cells(second, sample, second.at - self._last)
        self._last = second.at
        if self._quiet:
            return
        if self._shown is not None:
            self._rows = [*self._rows, row][-ROWS:]
            with contextlib.suppress(OSError):
                self._shown.update(_table(self._title, self._rows, self._shown.console.width))
            return
        text = "  ".join(
            f"{head} {cell}" for head, cell in zip(HEADS[1:], row[1:], strict=True) if cell != "-"
        )
        self._print(f"{row[0]}  {text}")

    def _print(self, line: str) -> None:
        try:
            print(line, file=self._stream, flush=True)
        except OSError:
            self._quiet = True


def _painted(stream: TextIO) -> Any:
    """rich's live display; None where rich is not installed: lines do as well."""
    try:
        from rich.console import Console
        from rich.live import Live as Painted
    except ImportError:
        return None
    return Painted(console=Console(file=stream), refresh_per_second=4, transient=True)


def fitting(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Which columns, in the order of HEADS, a table of `width` signs has room for."""
    widths = [max(len(cell) for cell in column) + 1 for column in zip(HEADS, *rows, strict=True)]
    wanted = [HEADS.index(head) for head in (*FIRST, *(head for head in HEADS if head not in FIRST))]
    room = [sum(widths[each] for each in wanted[: count + 1]) <= width for count in range(len(wanted))]
    return sorted(wanted[: max(1, sum(room))])


def _table(title: str, rows: list[tuple[str, ...]], width: int) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    shown = fitting(rows, width)
    for place in shown:
        table.add_column(HEADS[place], justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    return table
