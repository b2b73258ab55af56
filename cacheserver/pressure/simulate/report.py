"""Results as tables: rich's where it is installed, plain text elsewhere.

Knows: results and columns. Must not know: how they came about.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cacheserver.pressure.simulate.bench import Tally
from cacheserver.pressure.simulate.plant import MIB, NEVER
from cacheserver.pressure.simulate.run import Result


def runs_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows): one row for each run."""
    heads = [
        "scenario",
        "law",
        "limit MiB",
        "below 0",
        "least MiB",
        "used",
        "jump/reserve",
        "shrinks",
        "back",
    ]
    rows = []
    for one in results:
        ratio = f"{one.jump / one.reserve:.2f}" if one.reserve else "-"
        back = f"{one.back:.1f} s" if one.reserve and one.back < NEVER else "-"
        rows.append(
            [
                one.scenario, one.law, f"{one.limit / MIB:.0f}", _below(one.below), f"{one.least / MIB:.1f}",
                f"{100 * one.utilisation:.1f} %", ratio, str(one.shrinks), back,
            ]
        )  # fmt: skip
        if len(one.own) > 1:
            total = sum(one.own) or 1
            rows[-1][0] += " (" + " : ".join(f"{100 * own / total:.0f}" for own in one.own) + ")"
    return heads, rows


def tally_table(tallies: Sequence[Tally]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows): one row for each law."""
    heads = [
        "law",
        "runs",
        "killed",
        "killed, jump in reserve",
        "below 0",
        "used, mean",
        "used, worst",
        "shrinks",
    ]
    rows = [
        [
            one.law, str(one.runs), str(one.killed), f"{one.killed_feasible} of {one.feasible}",
            _below(one.below), f"{100 * one.utilisation:.1f} %", f"{100 * one.worst:.1f} %", str(one.shrinks),
        ]
        for one in tallies
    ]  # fmt: skip
    return heads, rows


def _below(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard output."""
    if sys.stdout.isatty() and _show_rich(title, heads, rows):
        return
    print(plain(title, heads, rows))


def plain(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as text: the first two columns to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]
    lines = [title, ""]
    for line in (heads, ["-" * width for width in widths], *rows):
        cells = [
            cell.ljust(width) if i == 0 or (i == 1 and heads[1] == "law") else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _show_rich(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    table = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    return True
