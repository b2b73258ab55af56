"""The hog and the limit that moves: they do what the plan says, and end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.groups import Group
from loadtest.neighbour import Hog, Neighbour, NeighbourError
from loadtest.scenario import Action
from loadtest.timeline import resident
from loadtest.units import MIB


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.01)
    return False


def size(pid: int) -> int:
    return resident(pid) or 0


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_hog_goes_to_the_size_it_is_told_and_never_beyond_its_bound() -> None:
    hog = Hog(32 * MIB, 60.0, None)
    try:
        assert os.getpgid(hog.pid) == hog.pid  # Ctrl-C does not reach it
        least = size(hog.pid)
        hog.go(24 * MIB, 0)
        assert until(lambda: size(hog.pid) >= least + 23 * MIB)
        hog.go(8 * MIB, 0)
        assert until(lambda: size(hog.pid) <= least + 10 * MIB)
        hog.go(1000 * MIB, 0)
        assert until(lambda: size(hog.pid) >= least + 31 * MIB)
        hog.go(0, 0)
        assert until(lambda: size(hog.pid) <= least + 2 * MIB)
        assert size(hog.pid) < 40 * MIB
    finally:
        hog.end()
    assert not alive(hog.pid)


def test_the_hog_grows_no_faster_than_it_is_told() -> None:
    hog = Hog(64 * MIB, 60.0, None)
    try:
        start = time.monotonic()
        least = size(hog.pid)
        hog.go(16 * MIB, 32 * MIB)
        assert until(lambda: size(hog.pid) >= least + 15 * MIB)
        assert time.monotonic() - start >= 14 / 32  # the first steps may have come at once
    finally:
        hog.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_hog_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    program = (
        "import sys, time\nfrom loadtest.neighbour import Hog\n"
        "hog = Hog(8 << 20, 60.0, None)\nhog.go(8 << 20, 0)\nprint(hog.pid, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(how)
        parent.wait()
        assert until(lambda: not alive(pid))


def test_a_group_that_cannot_be_joined_is_said(tmp_path: Path) -> None:
    with pytest.raises(NeighbourError, match=r"cannot join the server's memory cgroup .*root may"):
        Hog(MIB, 60.0, Group(tmp_path / "none", 2))


def made_group(folder: Path, limit: int) -> Group:
    for name, text in (("memory.max", f"{limit}\n"), ("memory.current", "0\n"), ("cgroup.procs", "")):
        (folder / name).write_text(text)
    return Group(folder, 2)


def test_a_hog_larger_than_the_machine_is_said_before_the_load() -> None:
    with pytest.raises(NeighbourError, match=r"does not start: it cannot have \d+ bytes .*say a smaller hog"):
        Hog(1 << 55, 10.0, None)


def test_the_limit_moves_and_is_put_back_in_the_end(tmp_path: Path) -> None:
    group = made_group(tmp_path, 100 * MIB)
    with Neighbour([Action(0.0, "limit", 50 * MIB)], group, 10.0) as neighbour:
        neighbour.begin()
        assert until(lambda: bool(neighbour.notes))
        assert group.own_limit() == 50 * MIB
    assert group.own_limit() == 100 * MIB
    assert [(note.kind, note.text) for note in neighbour.notes] == [("limit", "limit 50.0 MiB")]


def test_a_limit_that_the_kernel_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_group: Group, _nbytes: int | None) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(Group, "set_limit", refuse)
    monkeypatch.setattr("loadtest.neighbour.PATIENCE", 0.1)
    with Neighbour([Action(0.0, "limit", MIB)], made_group(tmp_path, 100 * MIB), 10.0) as neighbour:
        neighbour.begin()
        assert until(lambda: bool(neighbour.notes))
    (note,) = neighbour.notes
    assert (note.kind, note.text) == ("failed", "limit 1.0 MiB refused by the kernel: busy")


def test_a_plan_that_is_overtaken_does_not_write_limits_of_the_past(tmp_path: Path) -> None:
    group = made_group(tmp_path, 100 * MIB)
    steps = [Action(at, "limit", int(at) * MIB, last=at == 9.0) for at in (6.0, 7.0, 8.0, 9.0)]
    with Neighbour(steps, group, 10.0) as neighbour:
        neighbour.begin(elapsed=9.5)
        assert until(lambda: bool(neighbour.notes))
        assert group.own_limit() == 9 * MIB


def test_a_limit_without_a_group_is_refused_before_the_load() -> None:
    with pytest.raises(NeighbourError, match="none is known: name it"):
        Neighbour([Action(0.0, "limit", MIB)], None, 1.0)


def test_a_hog_that_the_kernel_killed_is_replaced_and_told() -> None:
    plan = [Action(0.0, "hog", 2 * MIB), Action(0.5, "hog", MIB)]
    with Neighbour(plan, None, 10.0) as neighbour:
        first = neighbour.hog_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert until(lambda: not alive(first))
        neighbour.begin()
        assert until(lambda: len(neighbour.notes) >= 3)
        assert neighbour.hog_pid != first
        second = neighbour.hog_pid
    assert neighbour.notes[0].text == "the hog had been killed: another one"
    assert second is not None
    assert not alive(second)
