"""Runs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import compare, report, report_text
from loadtest.outcome import Outcome, OutcomeError
from loadtest.report import Wanted
from tests.unit.loadtest import made


def kept(folder: Path, name: str, outcome: Outcome) -> str:
    path = folder / name
    assert report.write(Wanted(json=str(path)), outcome) == []
    return str(path)


def test_the_second_run_is_compared_with_the_first(tmp_path: Path) -> None:
    slow = made.outcome("b")
    latency = made.histogram(1000)
    slow = slow._replace(result=slow.result._replace(latency=latency, elapsed=40.0))
    outcomes = compare.load_all([kept(tmp_path, "a", made.outcome("a")), kept(tmp_path, "b", slow)])
    heads, lines = report_text.table(outcomes)
    assert heads == ["", "a", "b", "change"]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["requests/s"] == ["1000", "500", "-50.0 %"]
    assert rows["latency max"][1] == "20.02 ms"  # the end of its count
    assert rows["kills"] == ["0", "0", ""]
    assert report_text.Row("x", [10_000.0, 9999.9], str).quotients() == ["+0.0 %"]


def test_runs_with_the_same_label_are_told_apart(tmp_path: Path) -> None:
    paths = [kept(tmp_path, str(n), made.outcome("same")) for n in range(2)]
    assert [each.label for each in compare.load_all(paths)] == ["same #1", "same #2"]


def test_what_differs_in_the_settings_is_said() -> None:
    one, two = made.outcome("a"), made.outcome("b", rate=500.0)
    two = two._replace(result=two.result._replace(workload=two.result.workload._replace(keys=5)))
    two = two._replace(result=two.result._replace(load=two.result.load._replace(seed=9)))
    assert compare.differences([one, two]) == [
        "not the same workload: keys is a: 100000, b: 5",
        "not the same load: rate is a: 0.0, b: 500.0",
    ]
    assert compare.differences([one, one]) == []


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    good = kept(tmp_path, "good", made.outcome())
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(OutcomeError, match=f"^{tmp_path}/bad: "):
        compare.load_all([good, str(tmp_path / "bad")])
