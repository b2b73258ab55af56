"""Scenario files: what they mean, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import scenario
from loadtest.scenario import Action, Event, ScenarioError, Size, build, event_of, plan, read, words
from loadtest.units import MIB

NAMED = ["churn", "limit-change", "mixed-sizes", "pressure", "ramp", "read-through", "scan", "soak", "steady"]


def test_all_scenarios_that_are_promised_come_with_the_program_and_are_good() -> None:
    assert scenario.names() == NAMED
    for name in NAMED:
        made = build(read(name))
        assert (made.name, bool(made.about)) == (name, True)
        plan(made.events, 256 * MIB, made.load.warmup + made.load.seconds)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[workload]\nkeyz = 5", "workload has no field 'keyz': allowed are protocol, get_share"),
        ("[load]\nconnections = 'many'", "load.connections: 'many' is not a whole number"),
        ("[workload]\nget_share = 1.5", "workload.get_share: 1.5 is not from 0 to 1"),
        ("speed = 5", "there is no field 'speed': allowed are about, workload, load, events, slo"),
        ("[workload", "is no TOML"),
        ("workload = 3", "workload is a table, [workload]"),
        ("[events]\nat = 3", "events: write each as a table [[events]]"),
        ("[[events]]\nat = 3", "events[0]: an event has at= and one of hog= and limit="),
        ("[[events]]\nat = 3\nhog = '0'", "events[0]: hog: '0' is too little"),
        ("[[events]]\nat = '3 days'\nhog = '40%'", "events[0]: at: '3 days' is no duration"),
        ("[[events]]\nat = 1\nlimit = '5%'\nhold = 3", "events[0]: hold does not go with limit"),
        ("[[events]]\nat = 1\nhog = '5%'\nfade = 3", "events[0]: there is no field 'fade'"),
        ("slo = 'p99'", "slo: 'p99' is no condition"),
    ],
)
def test_a_bad_file_is_one_line_with_the_file_the_field_and_what_is_allowed(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        build(read(path))
    assert str(caught.value).startswith(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_conditions_of_its_own_a_load_must_be_without_errors(tmp_path: Path) -> None:
    def told(text: str, **options: str) -> list[str]:
        return [clause.text for clause in build(read(written(tmp_path, text)), **options).slo]

    assert told("") == ["errors=0"]
    assert told("[workload]\nverify = true") == ["errors=0", "wrong=0"]
    assert told("slo = 'hit>0.5'") == ["hit>0.5"]
    assert told("slo = ''") == told("", slo="") == []


def test_a_file_that_is_not_utf_8_is_said(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"about = '\xff'")
    with pytest.raises(ScenarioError, match="not written in UTF-8"):
        read(str(path))


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(ScenarioError, match="'steddy': say one of churn, limit-change"):
        read("steddy")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read("/nowhere/x.toml")


def test_options_go_over_the_file_and_are_blamed_for_what_they_say(tmp_path: Path) -> None:
    content = read(
        written(tmp_path, "slo = 'errors=0'\n[workload]\nkeys = 5\nfill = true\n[load]\nseconds = 3")
    )
    made = build(content, workload={"keys": 7}, load={"rate": 100.0}, slo="hit>0.5", events=["1s hog=2M"])
    assert (made.workload.keys, made.workload.fill) == (7, True)
    assert (made.load.seconds, made.load.rate) == (3.0, 100.0)
    assert [clause.text for clause in made.slo] == ["hit>0.5"]
    assert made.events == (Event(1.0, "hog", Size(2 * MIB)),)
    with pytest.raises(ScenarioError, match=r"^--get-share: 2 is not from 0 to 1"):
        build(content, workload={"get_share": 2})
    with pytest.raises(ScenarioError, match=r"^--at '1s hug=2M': there is no field 'hug'"):
        build(content, events=["1s hug=2M"])


# -- plans --


def planned(text: str, limit: int | None = None, seconds: float = 100.0) -> list[Action]:
    return plan([event_of(words(text), "test")], limit, seconds)


def test_a_hog_grows_holds_and_falls() -> None:
    up, down = planned("10s hog=256M rate=0.5G hold=5s")
    assert up == Action(10.0, "hog", 256 * MIB, 512 * MIB)
    assert (down.at, down.nbytes) == (15.5, 0)  # half a second to grow in, five to hold


def test_a_hog_without_a_time_to_hold_stays() -> None:
    assert planned("10s hog=25%", limit=400 * MIB) == [Action(10.0, "hog", 100 * MIB)]


def test_what_repeats_does_so_until_the_load_ends() -> None:
    times = [(each.at, each.nbytes) for each in planned("5s hog=10M hold=2s every=10s", seconds=30)]
    assert times == [(5, 10 * MIB), (7, 0), (15, 10 * MIB), (17, 0), (25, 10 * MIB), (27, 0)]


def test_a_limit_moves_evenly_and_only_its_last_step_is_worth_a_note() -> None:
    steps = planned("10s limit=50% over=1s", limit=200 * MIB)
    assert [step.at for step in steps] == pytest.approx([10 + 0.1 * n for n in range(1, 11)])
    assert [step.nbytes // MIB for step in steps] == [190, 180, 170, 160, 150, 140, 130, 120, 110, 100]
    assert [step.last for step in steps] == [False] * 9 + [True]


def test_a_share_needs_a_limit_and_says_how_to_name_the_group() -> None:
    with pytest.raises(ValueError, match=r"40% is of the limit .*--pid, --cgroup, --container"):
        planned("10s hog=40%")


def test_what_would_repeat_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="too many events"):
        planned("0s hog=1M every=1us")
