"""Two or more runs side by side: a table with the change against the first, and the charts of one report.

Knows: outcomes and their labels. Must not know: how they came about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loadtest.outcome import Outcome, load

ASIDE = ("seed", "processes", "patience")  # fields that may differ and the runs still be alike


def load_all(paths: Sequence[str]) -> list[Outcome]:
    """Outcomes from files; two with the same label are told apart by number. OutcomeError."""
    outcomes = [load(path) for path in paths]
    often = Counter(outcome.label for outcome in outcomes)
    seen: Counter[str] = Counter()
    named = []
    for outcome in outcomes:
        seen[outcome.label] += 1
        label = outcome.label if often[outcome.label] == 1 else f"{outcome.label} #{seen[outcome.label]}"
        named.append(outcome._replace(label=label))
    return named


def differences(outcomes: Sequence[Outcome]) -> list[str]:
    """Which settings of the runs differ, a line each: what a reader must know before comparing them."""
    lines = []
    for part in ("workload", "load"):
        for field in getattr(outcomes[0].result, part)._fields:
            values = [getattr(getattr(outcome.result, part), field) for outcome in outcomes]
            if field not in ASIDE and len({repr(value) for value in values}) > 1:
                told = ", ".join(f"{one.label}: {value}" for one, value in zip(outcomes, values, strict=True))
                lines.append(f"not the same {part}: {field} is {told}")
    return lines
