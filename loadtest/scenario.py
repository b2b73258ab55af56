"""Scenarios: a workload, a load, and what happens beside them, as small TOML files and as options.

Knows: the form of the files, what is allowed in them. Must not know: how a load is made, how an event is
brought about. Events are plans over time in seconds from the start of the load; planning is pure.

A file has the tables [workload] and [load], whose fields are those of Workload and Load, and [[events]]:
    at = "10s", hog = "256M" or "40%", rate = "0.5G", hold = "5s", every = "20s"
        a process beside the server grows to that size, at that many bytes a second (none: as fast as it can),
        holds it (none: to the end) and falls; again after each `every` seconds
    at = "30s", limit = "512M" or "60%", over = "5s", every = ...
        the limit of the server's memory cgroup moves there, evenly within `over` seconds (none: at once)
A percentage is of the limit that the cgroup has when the run begins.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.slo import Clause
from loadtest.slo import parse as parse_slo
from loadtest.units import seconds_of, size_of
from loadtest.workload import Load, Workload

FOLDER = Path(__file__).parent / "scenarios"
TOP = ("about", "workload", "load", "events", "slo")
EVENT_FIELDS = ("at", "hog", "limit", "rate", "hold", "over", "every")
LIMIT_STEP = 0.1  # seconds between two writes of a limit that moves
SMALLEST = 1 << 20  # bytes; a limit below that, or a hog, is a slip of the pen
MOST_EVENTS = 100_000  # planned actions; what repeats faster than that is no plan


class ScenarioError(Exception):
    """Which file and field are wrong, and what is allowed, in one line."""


class Size(NamedTuple):
    """So many bytes, or a share of the limit."""

    nbytes: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: object) -> Size:
        """From "512M" or "40%". ValueError with what is allowed."""
        words = str(text).strip()
        if words.endswith("%"):
            try:
                share = float(words[:-1]) / 100.0
            except ValueError:
                share = 0.0
            if not 0.0 < share <= 10.0:
                raise ValueError(f"{text!r} is no share: say more than 0% and up to 1000%")
            return cls(share=share)
        nbytes = size_of(text)
        if nbytes < SMALLEST:
            raise ValueError(f"{text!r} is too little: say at least 1M, or a share of the limit such as 40%")
        return cls(nbytes)

    def of(self, limit: int | None) -> int:
        """Bytes. ValueError for a share where there is no limit."""
        if not self.share:
            return self.nbytes
        if limit is None:
            raise ValueError(
                f"{self.share:.0%} is of the limit of the server's memory cgroup, and none is known: name the"
                " group (--pid, --cgroup, --container), or say a size such as 256M"
            )
        return int(limit * self.share)


class Event(NamedTuple):
    """Something beside the load; times in seconds, 0 where the field has no meaning or is left out."""

    at: float
    kind: str  # "hog" | "limit"
    size: Size
    rate: int = 0  # bytes a second
    hold: float = 0.0
    over: float = 0.0
    every: float = 0.0


class Action(NamedTuple):
    """One step of a plan: at `at` seconds the hog goes to, or the limit becomes, `nbytes`."""

    at: float
    kind: str
    nbytes: int
    rate: int = 0
    last: bool = True  # of the steps of one event: worth a note in the report


class Scenario(NamedTuple):
    """What to run. `workload` and `load` hold what is said; what is not keeps its default."""

    name: str
    about: str
    workload: Workload
    load: Load
    events: tuple[Event, ...]
    slo: tuple[Clause, ...]


# -- reading --


def names() -> list[str]:
    """The scenarios that come with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> dict[str, Any]:
    """The content of a named scenario, or of the file at a path. ScenarioError."""
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if "/" in name or not path.exists():
            raise ScenarioError(
                f"no scenario is called {name!r}: say one of {', '.join(names())}, or a .toml file"
            )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{path} is no TOML: it is not written in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path} is no TOML: {error}") from None
    for field in content:
        if field not in TOP:
            raise ScenarioError(f"{path}: there is no field {field!r}: allowed are {', '.join(TOP)}")
    return {**content, "name": path.stem, "file": str(path)}


def build(
    content: Mapping[str, Any],
    *,
    workload: Mapping[str, Any] | None = None,
    load: Mapping[str, Any] | None = None,
    events: Iterable[str] = (),
    slo: str | None = None,
) -> Scenario:
    """A scenario from what read() gives, with options over it; the events of options are added.

    ScenarioError with the file (or "options"), the field and what is allowed.
    """
    file = str(content.get("file", "options"))
    told = content.get("slo") if slo is None else slo
    where = file if slo is None else "--slo"
    made = _made(Workload, "workload", content, workload or {}, file)
    if told is None:  # a load that failed is not all well, even where nobody has said what he expects
        told = "errors=0,wrong=0" if made.verify else "errors=0"
    try:
        clauses = parse_slo(str(told)) if told else ()
    except ValueError as error:
        raise ScenarioError(f"{where}: {'slo: ' if slo is None else ''}{error}") from None
    tables = content.get("events", [])
    if not isinstance(tables, list):
        raise ScenarioError(f"{file}: events: write each as a table [[events]]")
    found = [event_of(table, f"{file}: events[{number}]") for number, table in enumerate(tables)]
    found += [event_of(words(text), f"--at {text!r}") for text in events]
    return Scenario(
        str(content.get("name", "options")),
        str(content.get("about", "")),
        made,
        _made(Load, "load", content, load or {}, file),
        tuple(found),
        clauses,
    )


def _made(kind: Any, table: str, content: Mapping[str, Any], options: Mapping[str, Any], file: str) -> Any:
    """A Workload or a Load of a file's table and of options; who set a bad field is who is blamed."""
    told = content.get(table, {})
    if not isinstance(told, dict):
        raise ScenarioError(f"{file}: {table} is a table, [{table}]")
    for field in told:
        if field not in kind._fields:
            allowed = ", ".join(kind._fields)
            raise ScenarioError(f"{file}: {table} has no field {field!r}: allowed are {allowed}")
    try:
        kind.parse(told)
    except ValueError as error:
        raise ScenarioError(f"{file}: {table}.{error}") from None
    try:
        return kind.parse({**told, **options})
    except ValueError as error:
        field, _, problem = str(error).partition(": ")
        raise ScenarioError(f"--{field.replace('_', '-')}: {problem}") from None


def words(text: str) -> dict[str, str]:
    """The fields of an event as an option says them: "30s limit=512M over=5s"."""
    at, *rest = text.split() or [""]
    fields = {"at": at}
    for word in rest:
        field, _, value = word.partition("=")
        fields[field] = value
    return fields


def event_of(fields: object, where: str) -> Event:
    """An event from its fields. ScenarioError."""
    if not isinstance(fields, Mapping):
        raise ScenarioError(f"{where}: an event is a table with {', '.join(EVENT_FIELDS)}")
    for field in fields:
        if field not in EVENT_FIELDS:
            raise ScenarioError(
                f"{where}: there is no field {field!r}: allowed are {', '.join(EVENT_FIELDS)}"
            )
    kinds = [kind for kind in ("hog", "limit") if kind in fields]
    if len(kinds) != 1 or "at" not in fields:
        raise ScenarioError(f"{where}: an event has at= and one of hog= and limit=")
    kind = kinds[0]
    for field in ("rate", "hold") if kind == "limit" else ("over",):
        if field in fields:
            raise ScenarioError(f"{where}: {field} does not go with {kind}")
    values: dict[str, Any] = {"kind": kind}
    for field, value in fields.items():
        try:
            if field == kind:
                values["size"] = Size.parse(value)
            else:
                values[field] = size_of(value) if field == "rate" else seconds_of(value)
        except ValueError as error:
            raise ScenarioError(f"{where}: {field}: {error}") from None
    return Event(**values)


# -- planning --


def plan(events: Iterable[Event], limit: int | None, seconds: float) -> list[Action]:
    """The actions of `events` in order of time, within `seconds` of load; `limit` is the cgroup's, in bytes.

    ValueError, in one line, where a share has no limit to be of.
    """
    actions: list[Action] = []
    for event in events:
        size = event.size.of(limit)
        at = event.at
        while at < seconds:
            if event.kind == "hog":
                actions += _hog_actions(event, at, size)
            else:
                actions += _limit_actions(event, at, size, limit)
            if not event.every:
                break
            at += event.every
            if len(actions) > MOST_EVENTS:
                raise ValueError(f"every={event.every:g}s plans too many events: say a longer time")
    return sorted((each for each in actions if each.at < seconds), key=lambda each: each.at)


def most_of_hog(actions: Iterable[Action]) -> int:
    """Bytes that the hog may ever hold; 0: there is none."""
    return max((each.nbytes for each in actions if each.kind == "hog"), default=0)


def _hog_actions(event: Event, at: float, size: int) -> list[Action]:
    up = Action(at, "hog", size, event.rate)
    if not event.hold:
        return [up]
    growing = size / event.rate if event.rate else 0.0
    return [up, Action(at + growing + event.hold, "hog", 0)]


def _limit_actions(event: Event, at: float, size: int, limit: int | None) -> list[Action]:
    count = max(1, round(event.over / LIMIT_STEP)) if limit is not None else 1
    first = limit if limit is not None else size
    return [
        Action(
            at + event.over * number / count,
            "limit",
            first + (size - first) * number // count,
            last=number == count,
        )
        for number in range(1, count + 1)
    ]
