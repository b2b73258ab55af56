"""The control law in the laboratory: what it promises, on hosts that are made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cacheserver.pressure.policy import reserve
from cacheserver.pressure.simulate import replay
from cacheserver.pressure.simulate.__main__ import main
from cacheserver.pressure.simulate.bench import Job, run, run_all, seeds, size, tally
from cacheserver.pressure.simulate.laws import LAWS
from cacheserver.pressure.simulate.plant import MIB, CacheKind, Plant, bound
from cacheserver.pressure.simulate.plant import Path as Line
from cacheserver.pressure.simulate.run import OURS, simulate
from cacheserver.pressure.simulate.scenarios import NAMED, Scenario, drawn

SEEDS = range(30)


# -- the host --


def test_the_made_host_charges_what_is_touched_and_gets_back_what_is_released_after_the_delay() -> None:
    plant = Plant([bound(100 * MIB, 10 * MIB, page_cache=1 << 40)], [CacheKind(fill=10 * MIB, delay=0.5)])
    cache = plant.caches[0]
    cache.grant(20 * MIB)
    plant.advance(1.0)
    assert (cache.own, cache.leave) == (10 * MIB, 10 * MIB)
    plant.advance(9.0)
    assert cache.own == 20 * MIB  # no further than granted
    (reading,) = plant.readings()
    assert (reading.usage, reading.reclaimable) == (100 * MIB, 70 * MIB)
    assert cache.shrink(5 * MIB - 1, True) == 5 * MIB
    assert (cache.own, cache.returning, plant.headroom()) == (15 * MIB, 5 * MIB, 70 * MIB)
    plant.advance(plant.now + 0.6)
    assert plant.headroom() == 75 * MIB
    assert plant.below == 0


def test_a_soft_debt_is_paid_in_time_and_never_summed() -> None:
    plant = Plant([bound(100 * MIB, 0)], [CacheKind(start=50 * MIB, defer=10 * MIB, fill=0)])
    cache = plant.caches[0]
    for target in (3 * MIB, 5 * MIB, 4 * MIB):
        assert cache.shrink(target, False) == 0
    plant.advance(10.0)
    assert cache.own == 45 * MIB


def test_going_below_zero_is_noticed_whenever_it_happens() -> None:
    path = Line([(1, 0), (2, 120 * MIB), (3, 0)])
    plant = Plant([bound(100 * MIB, path)], [])
    plant.advance(10.0)
    assert plant.least == -20 * MIB
    assert plant.below > 0
    stepped = Plant([bound(100 * MIB, Line([(1, 0), (1, 120 * MIB), (1.001, 120 * MIB), (1.001, 0)]))], [])
    stepped.advance(10.0)
    assert stepped.least == -20 * MIB


@pytest.mark.parametrize(("speed", "jump"), [(0.0, 40), (20.0, 31), (80.0, 4)])
def test_the_jump_is_what_a_release_cannot_make_up(speed: float, jump: int) -> None:
    """40 MiB within 0.5 s, all of it too late for what happens in the first 50 ms."""
    path = Line([(1, 0), (1.5, 40 * MIB)])
    kind = CacheKind(release=speed * MIB or 1e-9, delay=0.045)
    scenario = Scenario("x", 5, (bound(256 * MIB, path),), ((kind,),), late=0.0)
    assert scenario.jump() == pytest.approx(jump * MIB, abs=0.1 * MIB)


# -- the law on it --


@pytest.mark.parametrize("limit", [64, 1024])
@pytest.mark.parametrize("name", ["bursts", "step", "resize", "flood", "lies", "raises", "missing", "broken"])
def test_nobody_is_killed(name: str, limit: int) -> None:
    result = simulate(NAMED[name](limit * MIB))
    assert result.survived
    assert result.feasible


@pytest.mark.parametrize("name", ["slow", "stale"])
def test_a_slow_cache_beside_the_store_and_a_stale_source_kill_nobody_either(name: str) -> None:
    assert simulate(NAMED[name](256 * MIB)).survived


def test_page_cache_does_not_drive_the_cache_out() -> None:
    result = simulate(NAMED["flood"](256 * MIB))
    assert result.utilisation >= 0.8


def test_a_made_host_does_kill_when_more_is_taken_at_once_than_any_reserve() -> None:
    for law in (OURS, *LAWS):
        assert not simulate(NAMED["infeasible"](256 * MIB), law).survived


def test_random_scenarios_kill_nobody_and_memory_is_used_as_well_as_by_the_best() -> None:
    """No worse than any other law on survival; where all can be survived, as good a use as the best."""
    scenarios = {str(seed): drawn(seed) for seed in SEEDS}
    assert {one.bounds[0].limit.at(0.0) for one in scenarios.values()} >= {64 * MIB, 128 * MIB, 256 * MIB}
    results = run_all(
        [Job(seed, law, 0) for seed in scenarios for law in (OURS, *LAWS)], lambda done, of: None
    )
    rows = {row.law: row for row in tally(results)}
    ours = rows[OURS]
    assert ours.feasible >= 25
    assert ours.killed_feasible == 0
    assert ours.killed <= min(row.killed for row in rows.values())
    assert ours.utilisation >= 0.87
    prompt = {name for name, one in scenarios.items() if not one.processes[0][0].delay}
    rows = {row.law: row for row in tally(one for one in results if one.scenario.split()[-1] in prompt)}
    able = [row.utilisation for row in rows.values() if not row.killed]
    assert len(able) >= 2
    assert rows[OURS].killed == 0
    assert rows[OURS].utilisation >= max(able) - 0.005


def test_a_ramp_that_outruns_soft_requests_and_steps_of_the_limit_on_top_kill_nobody() -> None:
    drawn_so = drawn(961)  # 64 GiB
    kind = replace(drawn_so.processes[0][0], release=5.7 * 1024 * MIB)
    result = simulate(replace(drawn_so, processes=((kind,),)))
    assert result.feasible
    assert result.survived


@pytest.mark.parametrize("limit", [1024, 16384])
def test_a_fast_neighbour_beside_a_cache_of_small_items_takes_no_more_than_a_part_of_the_reserve(
    limit: int,
) -> None:
    result = simulate(NAMED["small-items"](limit * MIB))
    assert result.least > 0.7 * result.reserve


def test_a_cache_that_counts_what_is_on_its_way_keeps_more_free_from_the_beginning() -> None:
    prompt, late = simulate(NAMED["ramp"](256 * MIB)), simulate(NAMED["return-0.5s"](256 * MIB))
    assert late.reserve > prompt.reserve + 0.03 * 256 * MIB


def test_ten_quiet_minutes_pass_without_a_request() -> None:
    result = simulate(NAMED["quiet"](4096 * MIB))
    assert result.shrinks == 0
    assert result.turns == 0
    assert result.utilisation >= 0.90


@pytest.mark.parametrize("limit", [128, 4096])
def test_a_cache_grows_back_within_a_minute(limit: int) -> None:
    result = simulate(NAMED["ramp"](limit * MIB))
    assert result.back <= 60
    assert result.own[0] >= 0.97 * (0.9 * limit * MIB - 0.15 * limit * MIB)


@pytest.mark.parametrize(("name", "limit"), [("two", 256), ("latecomer", 256), ("latecomer", 16384)])
def test_two_servers_under_one_limit_settle_at_about_half_each(name: str, limit: int) -> None:
    result = simulate(NAMED[name](limit * MIB))
    assert result.survived
    assert 0.4 <= result.own[0] / sum(result.own) <= 0.6
    assert result.turns <= 6  # the first fill, in which the larger one gives way twice, and the neighbour


def test_stalls_alone_take_a_little_and_no_more() -> None:
    result = simulate(NAMED["stalls"](256 * MIB))
    assert 1 <= result.shrinks <= 8
    assert result.utilisation >= 0.85


@pytest.mark.parametrize("delay", ["0.05", "0.5"])
def test_what_returns_late_is_not_asked_for_twice(delay: str) -> None:
    name = f"return-{delay}s"
    late, osv = (simulate(NAMED[name](256 * MIB), law) for law in (OURS, "osv"))
    assert late.survived
    assert late.utilisation >= 0.85
    assert late.utilisation > osv.utilisation


def test_the_same_words_give_the_same_numbers_in_any_number_of_processes() -> None:
    jobs = [Job(str(seed), OURS, 128 * MIB) for seed in (3, 4)]
    alone = run_all(jobs, lambda done, of: None, 1)
    assert alone == run_all(jobs, lambda done, of: None, 2)
    assert alone == [run(job) for job in jobs]


# -- recordings --


def recording(scenario: Scenario) -> list[str]:
    """What a recorder would write while `scenario` happens."""
    lines = []
    for sample in simulate(scenario, sample=0.05).samples:
        usage = int(sample.limit - sample.headroom)
        reading = {"name": "cgroup /x", "limit": int(sample.limit), "usage": usage, "reclaimable": 0}
        reading |= {"stall": 0.0, "throttles": 0, "ooms": 0, "stale": False}
        lines.append(
            json.dumps(
                {"t": 5000 + sample.at, "readings": [reading], "ledger": [sample.own[0], 0], "decision": {}}
            )
        )
    return lines


def test_a_recording_shows_the_law_the_same_neighbours_again() -> None:
    original = NAMED["ramp"](256 * MIB)
    again = replay.build("incident", [*recording(original), '{"t": 9'])
    assert again.seconds == pytest.approx(original.seconds, abs=0.1)
    for at in (0.0, 10.1, 10.2, 15.0, 30.0):
        wanted = original.bounds[0].demand.at(at)
        assert again.bounds[0].demand.at(at) == pytest.approx(wanted, abs=15 * MIB)
    result, first = simulate(again), simulate(original)
    assert result.survived
    assert result.utilisation == pytest.approx(first.utilisation, abs=0.01)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no readings"),
        ("nonsense\n{}\n", "line 1 is no tick"),
        ('{"t": 1, "readings": [{"name": "x"}], "ledger": [0, 0]}\n', "line 1 .* 'usage'"),
    ],
)
def test_a_recording_that_is_none_is_refused_in_one_line(
    tmp_path: Path, text: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(text)
    with pytest.raises(replay.ReplayError, match=complaint):
        replay.load(file)
    assert main(["--replay", str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- the command --


def test_the_command_shows_a_table_and_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bakeoff", "--seeds", "2,4", "--law", "ours,osv", "--limit", "128M", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith(("ours ", "osv "))] == [
        ["ours", "2"],
        ["osv", "2"],
    ]
    assert out.count("seed 2 ") == 2


def test_words_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["nonsense"],
        ["random", "--seeds", "9-1"],
        ["ramp", "--law", "x"],
        ["ramp", "--limit", "0"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    assert "no scenario is called 'nonsense'" in capsys.readouterr().err


def test_seeds_and_sizes_are_read_as_written() -> None:
    assert seeds("3,7-9") == [3, 7, 8, 9]
    assert (size("256M"), size("1GiB"), size("512k"), size("77")) == (256 * MIB, 1024 * MIB, MIB // 2, 77)


def test_a_seed_is_one_scenario_for_ever() -> None:
    one, two = drawn(7), drawn(7)
    assert one.bounds[0].demand.values == two.bounds[0].demand.values
    assert drawn(8).bounds[0].demand.values != one.bounds[0].demand.values
    assert reserve(int(one.bounds[0].limit.at(0)), 0, 0) > 0


def test_a_run_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["step", "--png", str(tmp_path), "--workers", "1"]) == 0
    (picture,) = tmp_path.glob("*.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size < 200_000
