"""The check of instructions a request: it repeats, and a budget that is exceeded makes it fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import instructions
from tests.bench.instructions import Budgets, verdict
from tests.bench.instructions_stream import Case, run
from tests.requirements import require_tool


def test_only_more_than_five_percent_above_the_budget_fails() -> None:
    assert verdict("get", 1050, 1000) == (True, "")
    good, text = verdict("get", 1051, 1000)
    assert not good
    assert "1051 instructions a request, 5.1% above its budget of 1000" in text


def test_a_budget_that_has_become_too_large_is_told() -> None:
    assert verdict("get", 950, 1000) == (True, "")
    good, text = verdict("get", 949, 1000)
    assert good
    assert "5.1% below its budget of 1000; --update" in text


def test_a_case_without_a_budget_fails() -> None:
    assert verdict("get", 1, None)[0] is False


def test_another_compilers_budgets_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Budgets("gcc 1, vax", {"get": 1}).write(tmp_path / "budgets")
    monkeypatch.setattr(instructions, "count", lambda names: {"get": 2})
    assert instructions.main(["get"], tmp_path / "budgets") == 1
    error = capsys.readouterr().err
    assert error.startswith("instructions: the budgets are of gcc 1, vax, this is ")
    assert error.count("\n") == 1


@pytest.mark.timeout(400)  # valgrind is slow, the more so where the processor is shared
def test_what_is_counted_repeats_and_fails_above_a_lowered_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_tool("valgrind")
    path = tmp_path / "budgets"
    assert instructions.main(["--update", "mn"], path) == 0
    first = Budgets.read(path)
    Budgets(first.built, {"mn": round(first.of["mn"] / 1.06)}).write(path)
    capsys.readouterr()
    assert instructions.main(["mn"], path) == 1
    out, error = capsys.readouterr()
    assert int(out.split()[1]) == pytest.approx(first.of["mn"], rel=0.005)
    assert error.startswith("instructions: mn: ")
    assert "above its budget" in error
    assert error.count("\n") == 1


def test_a_wrong_answer_is_told_instead_of_counted() -> None:
    with pytest.raises(SystemExit, match="was answered b'MN"):
        run(Case(lambda number: b"mn\r\n", lambda number: b"EN\r\n"), 1)
