"""The sample programs in a real memory group, the kernel as the judge: asked, freed, and nobody is killed.

Each runs until its output shows what is waited for, so a slow machine makes these tests slower, not false.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.limits import joining, memory_group

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
MIB = 1 << 20
HOG_LIMIT = 160 * MIB
HOG_RATE = "60"  # MiB/s: half of the reserve is 5 MiB, so the monitor may be late by 80 ms
PRESSURE_LIMIT = 256 * MIB
PRESSURE_RATE = "80"  # 8 MiB and 100 ms
SECONDS = "90"  # at most
FREED = re.compile(r"(soft|hard) pressure: freed ([\d,]+) bytes")
REPORT = re.compile(r"allocated +(\d+)  asked +(\d+)  freed +(\d+)")


class Run:
    """A sample at work, and the lines it has printed."""

    def __init__(self, group: Path | None, name: str, *flags: str) -> None:
        command = [sys.executable, str(EXAMPLES / name), "--seconds", SECONDS, *flags]
        self.process = subprocess.Popen(
            joining(group, command),
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.lines: list[str] = []

    def output(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            yield line

    def read_until(self, enough: Callable[[str], bool]) -> None:
        assert any(map(enough, self.output())), f"it ended too soon: {''.join(self.lines)}"

    def finish(self) -> int:
        """Tell it to end; read the rest; its exit status."""
        self.process.terminate()
        for _ in self.output():
            pass
        return self.process.wait(30)


@contextmanager
def running(group: Path | None, name: str, *flags: str) -> Iterator[Run]:
    run = Run(group, name, *flags)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        assert run.process.stdout is not None
        run.process.stdout.close()


def freed(lines: list[str], kind: str) -> list[int]:
    """The bytes of each request of one kind that was met."""
    found = [match for line in lines if (match := FREED.search(line))]
    return [int(match[2].replace(",", "")) for match in found if match[1] == kind]


def test_a_hog_that_leaves_soft_requests_for_later_lives_by_the_hard_ones() -> None:
    with (
        memory_group(HOG_LIMIT) as group,
        running(group.path, "memory_hog.py", "--limit", "0", "--rate", HOG_RATE, "--soft", "ignore") as hog,
    ):
        hog.read_until(lambda _: sum(freed(hog.lines, "hard")) > 2 * HOG_LIMIT)
        assert hog.finish() == 0
        assert any("soft pressure: asked" in line and "All done" in line for line in hog.lines)
        assert freed(hog.lines, "soft") == []
        assert group.kills() == 0


def test_a_hog_that_honours_soft_requests_frees_on_them() -> None:
    with (
        memory_group(HOG_LIMIT) as group,
        running(group.path, "memory_hog.py", "--limit", "0", "--rate", HOG_RATE, "--soft", "honour") as hog,
    ):
        hog.read_until(lambda _: sum(freed(hog.lines, "soft")) > HOG_LIMIT // 2)
        assert hog.finish() == 0
        assert group.kills() == 0


def test_two_threads_one_takes_more_than_there_is_and_one_frees_what_is_asked() -> None:
    with (
        memory_group(PRESSURE_LIMIT) as group,
        running(group.path, "mempressure.py", "--limit", "0", "--rate", PRESSURE_RATE) as program,
    ):

        def enough(line: str) -> bool:
            report = REPORT.search(line)
            return report is not None and int(report[1]) * MIB > 2 * PRESSURE_LIMIT

        program.read_until(enough)
        report = REPORT.search(program.lines[-1])
        assert report is not None
        allocated, asked, gone = map(int, report.groups())
        assert asked > 0
        assert (allocated - gone) * MIB < PRESSURE_LIMIT
        assert program.finish() == 0
        assert program.lines[-1].startswith("alive: ")
        assert group.kills() == 0


def test_a_sample_makes_a_group_of_its_own_and_removes_it() -> None:
    with memory_group(PRESSURE_LIMIT):
        pass  # skips where no group can be made
    with running(None, "mempressure.py", "--limit", "128M", "--rate", "40") as program:
        program.read_until(lambda line: bool(re.search(r"freed +[1-9]", line)))
        name = f"memory-sample-{program.process.pid}"
        assert groups_named(name)
        assert program.finish() == 0
        assert program.lines[-1] == "in a cgroup of 128 MiB: exit status 0, OOM kills 0\n"
        assert not groups_named(name)


def groups_named(name: str) -> list[str]:
    return [path for path, folders, _ in os.walk("/sys/fs/cgroup") if name in folders]


def test_where_no_group_can_be_made_one_line_says_what_to_do() -> None:
    without = "import limited; limited._parents = lambda: (); limited.inside(256 << 20)"
    run = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, cwd=EXAMPLES, env=ENVIRONMENT
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert re.search(
        r"cannot make a memory cgroup \(.+\): .*systemd-run .*256M.*docker run -m 256m", run.stderr
    )


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_sample_knows_what_any_program_may_know(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cacheserver"):
            assert node.module in ("cacheserver.pressure", "cacheserver.pressure.mounts")
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("cacheserver") for alias in node.names)
