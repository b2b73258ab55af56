"""What cgroup v1 is asked to tell: levels of pressure, and usage that passes marks."""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheserver.pressure.cgroup import CgroupSource
from cacheserver.pressure.vmpressure import MARKS, GroupNotices
from tests.descriptors import open_files
from tests.unit.pressure.conftest import ready

Tree = Callable[[str], Path]
MIB = 1 << 20


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")


def test_v1_is_asked_for_three_levels_and_for_marks_below_the_limit(tmp_path: Path) -> None:
    written = []
    for name in ("memory.pressure_level", "memory.usage_in_bytes"):
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "cgroup.event_control")
    reader = os.open(tmp_path / "cgroup.event_control", os.O_RDWR | os.O_NONBLOCK)
    notices = GroupNotices(str(tmp_path))

    def asked() -> list[str]:
        text = os.read(reader, 4096).decode()
        written.append(text)
        return text.split()

    assert not notices.marked(100 * MIB)
    watches = notices.watches(100 * MIB)
    assert notices.marked(100 * MIB)
    assert not notices.marked(50 * MIB)
    words = asked()
    assert "low,local" in words[2]
    assert all(str(watch.fd) in written[0] for watch in watches)
    assert str(100 * MIB - int(100 * MIB * MARKS[0])) in written[0]
    low, medium, critical, *marks = watches
    assert [watch.stall for watch in watches] == [False, True, True, False, False]
    assert {watch.events for watch in watches} == {select.POLLIN}
    for watch, offered in ((low, False), (medium, True), (critical, True), (marks[0], True)):
        os.eventfd_write(watch.fd, 3)
        assert watch.acknowledge(ready(watch)) is offered
        assert ready(watch) == 0
    assert notices.criticals == 1

    assert [watch.fd for watch in notices.watches(100 * MIB)] == [watch.fd for watch in watches]
    notices.watches(50 * MIB)  # the limit was lowered: the marks move with it
    assert f" {50 * MIB - int(50 * MIB * MARKS[1])}" in os.read(reader, 4096).decode()
    assert not marks[0].acknowledge(select.POLLIN)
    notices.close()
    assert not critical.acknowledge(select.POLLIN)
    os.close(reader)


def test_v1_groups_without_leave_to_register_cost_one_line_together(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("hybrid-v1")
    memory = root / "sys/fs/cgroup/memory"
    groups = (memory, memory / "service", memory / "service/web")
    for group in groups:
        (group / "memory.pressure_level").write_text("")
        (group / "cgroup.event_control").mkdir()  # cannot be written to, not even by root
    source = CgroupSource(str(root))
    before = open_files()
    for now in range(1, 5):
        assert len(source.read(float(now))) == 2
        assert source.watches() == []
    assert len(caplog.records) == 1
    assert "cgroup.event_control: Is a directory" in caplog.records[0].getMessage()
    source.close()
    assert open_files() <= before


def test_a_critical_notice_shows_in_the_next_reading_as_trouble_at_the_bound(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    (memory / "memory.pressure_level").write_text("")
    (memory / "cgroup.event_control").write_text("")
    source = CgroupSource(str(root))
    (before,) = source.read(1.0)
    critical = source.watches()[2]
    os.eventfd_write(critical.fd, 1)
    assert critical.acknowledge(select.POLLIN)
    assert source.read(1.1)[0].throttles == before.throttles + 1
    source.close()


def test_a_v1_bound_is_marked_while_the_kernel_calls_at_its_marks(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    (memory / "memory.pressure_level").write_text("")
    (memory / "cgroup.event_control").write_text("")
    source = CgroupSource(str(root))
    (reading,) = source.read(1.0)
    assert (gauge := source.gauge(reading))
    assert not gauge.marked
    source.watches()
    assert source.gauge(reading) == gauge._replace(marked=True)
    source.close()


def test_marks_of_a_limit_that_has_changed_are_not_relied_on_before_they_are_moved(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    for name in ("memory.pressure_level", "cgroup.event_control"):
        (memory / name).write_text("")
    source = CgroupSource(str(root))
    source.read(1.0)
    source.watches()
    (memory / "memory.limit_in_bytes").write_text(str(64 * MIB))
    (reading,) = source.read(1.1)
    assert (gauge := source.gauge(reading))
    assert not gauge.marked
    source.watches()
    assert source.gauge(reading) == gauge._replace(marked=True)
    source.close()
