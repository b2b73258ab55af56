"""What a run gave, with what was seen beside it: figures by name, and its form as a file.

Knows: results, samples, notes. Must not know: how they came about, how they are shown. Times are seconds
since the start of the load, warm-up included; what was seen before it has negative ones. Values, never
changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from loadtest import results
from loadtest.neighbour import Note
from loadtest.results import Histogram, Result, number
from loadtest.slo import Verdict
from loadtest.timeline import Sample, growth, rises, sample_of

VERSION = 1  # of the file


class OutcomeError(Exception):
    """What is wrong with a file of results, in one line."""


class Outcome(NamedTuple):
    """One run. `label` names it beside others."""

    label: str
    scenario: str
    result: Result
    samples: tuple[Sample, ...] = ()
    notes: tuple[Note, ...] = ()
    facts: Mapping[str, str] = {}  # what a reader should know of how it was taken

    @property
    def kills(self) -> int | None:
        """By the kernel, in the server's cgroup; None where there was none to look at."""
        return rises(self.samples, "kills")

    def figure(self, name: str) -> float | None:
        """A figure by the name that conditions use (see slo); None where it was not measured."""
        result, total = self.result, self.result.total
        kind, _, share = name.partition(".")
        if kind in ("service", "get", "set"):
            of = {"service": result.service, "get": result.gets, "set": result.sets}[kind]
            return _latency(of, share)
        if name == "hit":
            return total.hits / total.gets if total.gets else None
        if name == "rate":
            return total.requests / result.elapsed if result.elapsed else None
        if name == "kills":
            return self.kills
        if name == "growth":
            return growth(self.samples)
        if name == "wrong" and not result.workload.verify:
            return None  # nobody looked
        if name in total._fields:
            return float(getattr(total, name)) if total.requests or total.errors else None
        return _latency(result.latency, name)

    @property
    def open_loop(self) -> bool:
        return self.result.load.rate > 0

    @property
    def first_measured(self) -> float:
        """Seconds of warm-up."""
        return self.result.load.warmup


def _latency(histogram: Histogram, name: str) -> float | None:
    """Microseconds; `name` is max, mean or a percentile such as p99.9."""
    if not histogram.total():
        return None
    if name == "max":
        return float(histogram.max())
    return histogram.mean() if name == "mean" else float(histogram.percentile(float(name[1:])))


def kill_notes(samples: tuple[Sample, ...]) -> list[Note]:
    """A note for each kill, each end and each new start of the server that the samples show."""
    notes = []
    kills = next((sample.kills for sample in samples if sample.kills is not None), 0)
    for place, (before, after) in enumerate(pairwise(samples)):
        died = 0 if after.kills is None else after.kills - kills
        if died > 0:
            who = _gone(samples[place : place + 3])
            times = f" ({died} processes)" if died > 1 else ""
            notes.append(Note(after.at, "kill", f"the kernel killed {who}{times}"))
        kills += died
        if before.rss is not None and after.rss is None:
            notes.append(Note(after.at, "server", "the server's process is gone"))
        if before.rss is None and after.rss is not None and before is not samples[0]:
            notes.append(Note(after.at, "server", "the server's process is there"))
    return notes


def _gone(samples: Sequence[Sample]) -> str:
    """Who is there in one of these samples and not in the next; a kill may be counted before that."""
    gone = [
        name
        for name, field in (("the server", "rss"), ("the hog", "hog"))
        if any(getattr(one, field) and not getattr(two, field) for one, two in pairwise(samples))
    ]
    return " and ".join(gone) or "a process of the cgroup"


# -- as a file --


def to_json(outcome: Outcome, verdicts: list[Verdict] | None = None) -> dict[str, Any]:
    """What results.to_json() gives, and beside it the timeline, the events, the kills and the conditions."""
    return {
        **results.to_json(outcome.result),
        "loadtest": VERSION,
        "label": outcome.label,
        "scenario": outcome.scenario,
        "facts": dict(outcome.facts),
        "kills": outcome.kills,
        "timeline": [sample.told() for sample in outcome.samples],
        "events": [note._asdict() for note in outcome.notes],
        "slo": [
            {
                "condition": each.clause.text,
                "value": each.value,
                "verdict": ("met", "not met", "not measured")[each.status],
            }
            for each in verdicts or []
        ],
    }


def from_json(found: Mapping[str, Any], label: str = "") -> Outcome:
    """Take an outcome from what to_json() gave. ValueError, in one line, where it is something else."""
    result = results.from_json(found)
    try:
        return Outcome(
            str(label or found.get("label") or "run"),
            str(found.get("scenario", "")),
            result,
            tuple(map(_sample, found.get("timeline", ()))),
            tuple(
                Note(number(each["at"]), str(each["kind"]), str(each["text"]))
                for each in found.get("events", ())
            ),
            {str(name): str(value) for name, value in found.get("facts", {}).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"this is not a result of a load test: {error!r}") from None


def _sample(told: Mapping[str, Any]) -> Sample:
    sample = sample_of(told)
    for name, value in (*sample.told().items(), ("at", sample.at)):
        if name != "level":
            number(value)
    return sample._replace(level=None if sample.level is None else str(sample.level))


def text_of(outcome: Outcome, verdicts: list[Verdict] | None = None) -> str:
    """The file's content."""
    told = to_json(outcome, verdicts)
    try:
        return json.dumps(told, separators=(",", ":"), allow_nan=False) + "\n"
    except ValueError:  # rare, and a look at each of millions of numbers takes longer than all else
        return json.dumps(_finite(told), separators=(",", ":")) + "\n"


def load(path: Path | str, label: str = "") -> Outcome:
    """An outcome from a file. OutcomeError."""
    try:
        found = json.loads(Path(path).read_text())
        if not isinstance(found, dict):
            raise ValueError("this is not a result of a load test")
        return from_json(found, label)
    except OSError as error:
        raise OutcomeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise OutcomeError(f"{path}: {error}") from None


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value
