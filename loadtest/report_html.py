"""Runs as one page of HTML that needs nothing else: pictures as SVG in it, no script, no network.

Knows: tables, charts, what a reader wants to know of them. Must not know: files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from loadtest import report_plot, stairs
from loadtest.outcome import Outcome
from loadtest.report_text import load_text, table
from loadtest.slo import Verdict

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto;
  padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: 0 } h2 { font-size: 1.15em; margin: 1.8em 0 .4em }
table { border-collapse: collapse } td, th { padding: .15em .8em; border-bottom: 1px solid #ddd;
  text-align: right }
td:first-child, th:first-child { text-align: left; padding-left: 0 }
details td, details th { text-align: left }
figure { margin: 1.2em 0 } figure svg { width: 100%; height: auto } figcaption { font-weight: 600 }
.about { color: #555; margin-top: .2em } .bad { color: #b00000; font-weight: 600 } .good { color: #19703a }
p.hint { color: #555; font-size: .9em; margin: .2em 0 0 } details { margin: .4em 0 }
"""

HINTS = {
    "memory": "What is used in the cgroup stays below the limit (black). Where the hog (grey) grows, the"
    " server must shrink. RSS also counts pages of programs and libraries that others may have paid for.",
    "hit-ratio": "What the cache is worth: every miss costs its owner a trip to the back end.",
    "rate": "Requests that were answered. In an open loop this is the rate that was asked for, or less.",
    "latency": "Each second's percentiles. In an open loop from when a request was due: waiting counts."
    " Dotted: the service time, from when it was sent.",
    "backlog": "Above 0 for long: the server does not carry the rate, or the generator does not.",
    "level": "none, low, medium, critical: how near the limit the server sees itself.",
    "evictions": "Items that had to go before their time.",
    "shrinks": "Times at which the server was asked to give memory back.",
    "stall": "Share of time in which some task of the cgroup (version 1: of the host) waited for memory.",
    "tail": "Read at 99.9 %: one request of a thousand took longer.",
}


def page(
    outcomes: Sequence[Outcome],
    verdicts: Sequence[Verdict] = (),
    title: str = "",
    preface: Iterable[str] = (),
) -> str:
    """The page. `preface` are sentences that stand before the figures. MissingExtra where matplotlib is."""
    title = title or "Load test: " + ", ".join(outcome.label for outcome in outcomes)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="about">{escape(_about(outcome))}</p>' for outcome in outcomes),
        *(f"<p>{escape(sentence)}</p>" for sentence in preface),
        *(_problem(outcome) for outcome in outcomes if outcome.result.problem),
        _verdicts(verdicts),
        "<h2>Figures</h2>",
        _table(*table(outcomes)),
        *(_stairs(outcome) for outcome in outcomes),
        "<h2>Over time</h2>",
    ]
    for name, (caption, svg) in report_plot.svgs(outcomes).items():
        parts.append(
            f'<figure id="chart-{name}"><figcaption>{escape(caption)}</figcaption>{svg}'
            f'<p class="hint">{escape(HINTS.get(name, ""))}</p></figure>'
        )
    parts += [_events(outcomes), *(_settings(outcome) for outcome in outcomes), "</body></html>"]
    return "\n".join(part for part in parts if part) + "\n"


def _about(outcome: Outcome) -> str:
    return (
        f"{outcome.label} at {outcome.result.address}: {outcome.scenario or 'options'}, {load_text(outcome)}"
    )


def _problem(outcome: Outcome) -> str:
    word = "" if outcome.result.complete else " is not complete"
    return f'<p class="bad">{escape(outcome.label)}{word}: {escape(outcome.result.problem)}</p>'


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _stairs(outcome: Outcome) -> str:
    heads, lines = stairs.table(outcome)
    return f"<h3>{escape(outcome.label)}, step by step</h3>{_table(heads, lines)}" if lines else ""


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return ""
    items = "".join(
        f'<li class="{"good" if verdict.status == 0 else "bad"}">{escape(str(verdict))}</li>'
        for verdict in verdicts
    )
    return f'<h2>Conditions</h2><ul id="conditions">{items}</ul>'


def _events(outcomes: Sequence[Outcome]) -> str:
    lines = [[f"{note.at:.1f} s", outcome.label, note.text] for outcome in outcomes for note in outcome.notes]
    if not lines:
        return ""
    return f'<h2>Events</h2><details open id="events">{_table(("at", "run", "event"), lines)}</details>'


def _settings(outcome: Outcome) -> str:
    def lines(fields: Mapping[str, object]) -> list[list[str]]:
        return [[name, str(value)] for name, value in fields.items()]

    result = outcome.result
    told = lines(outcome.facts) + lines(result.workload._asdict()) + lines(result.load._asdict())
    return (
        f"<details><summary>What {escape(outcome.label)} was asked</summary>"
        f"{_table(('field', 'value'), told)}</details>"
    )
