"""Files of /proc and /sys that say what no kernel says, or go and come.

No exception, one line, no other bound lost, and nothing known forgotten.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cacheserver.pressure import Monitor, Reading
from cacheserver.pressure.cgroup import CgroupSource
from cacheserver.pressure.host import MeminfoSource
from cacheserver.pressure.mounts import groups
from cacheserver.pressure.numa import NodeSource, parse_list
from cacheserver.pressure.policy import Ledger, State, decide
from cacheserver.pressure.rlimit import RlimitSource
from cacheserver.pressure.source import Source, detect

Tree = Callable[[str], Path]
MIB = 1 << 20
WEB = "sys/fs/cgroup/memory/service/web"
GARBAGE = [
    b"",
    b"\0\0\0\0",
    b"\xff\xfe garbage\n",
    b"-5\n",
    b"1_000\n",
    b"9" * 400 + b"\n",  # a number, but too large for a float
    b"9" * 20_000,
    b"-9223372036854775808\n",
]


def v1_sources(root: Path) -> list[Source]:
    unlimited = lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)  # noqa: E731
    return [
        CgroupSource(str(root)),
        MeminfoSource(str(root)),
        NodeSource(str(root), lambda: None),
        RlimitSource(str(root), unlimited),
    ]


@contextlib.contextmanager
def watching(sources: list[Source]) -> Iterator[Monitor]:
    monitor = Monitor(sources, clock=lambda: 1.0)
    yield monitor
    monitor.withdraw()


@pytest.mark.parametrize("name", ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control"])
@pytest.mark.parametrize("text", GARBAGE)
def test_a_number_that_no_kernel_writes_is_no_number(
    tree: Tree, caplog: pytest.LogCaptureFixture, name: str, text: bytes
) -> None:
    root = tree("hybrid-v1")
    (root / WEB / "memory.oom_control").write_text("under_oom 0\noom_kill 0\n")
    with watching(v1_sources(root)) as monitor:
        before = monitor.tick(1.0)
        (root / WEB / name).write_bytes(text)
        for now in (1.5, 2.0, 3.5):
            monitor.look_again()
            decision = monitor.tick(now)
            assert (decision.limit, decision.headroom) == (before.limit, before.headroom)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("text", GARBAGE)
def test_a_field_that_no_kernel_writes_is_no_field(
    tree: Tree, caplog: pytest.LogCaptureFixture, text: bytes
) -> None:
    root = tree("docker-v1")
    with watching(v1_sources(root)) as monitor:
        (root / "sys/fs/cgroup/memory/memory.stat").write_bytes(b"total_inactive_file " + text)
        (root / "proc/meminfo").write_bytes(b"MemTotal: " + text)
        assert monitor.tick(1.0).binding == "cgroup /docker/3f1c"
        monitor.look_again()
        assert monitor.tick(2.5).binding == "cgroup /docker/3f1c"
    assert len(caplog.records) == 2  # a line for each of the two files


def test_a_deficit_seen_last_is_asked_for_once_while_the_bound_cannot_be_read() -> None:
    limit, own, state, now, asked = 256 * MIB, 200 * MIB, State(), 1.0, []
    reading = Reading("group", limit, limit - 14 * MIB)  # the reserve is 16.6 MiB
    for stale in [False] + [True] * 500:
        decision, state = decide([reading._replace(stale=stale)], Ledger(own), now, state)
        assert decision.allowance == 0
        asked.append(decision.target)
        own -= decision.target
        now += 0.01
    assert asked[0] > 0
    assert not any(asked[1:])


def test_where_nothing_can_be_read_from_the_beginning_nothing_may_grow(tmp_path: Path) -> None:
    granted: list[int] = []
    with watching([MeminfoSource(str(tmp_path)), CgroupSource(str(tmp_path))]) as monitor:
        monitor.register_shrinker("cache", lambda target, hard: 0, grant=granted.append)
        assert monitor.tick(1.0).binding == "none"
        assert granted == [0]


@pytest.mark.parametrize("value", ["nan", "inf", "-1.0", "1e9"])
def test_a_stall_that_is_no_percentage_is_none(
    tree: Tree, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    root = tree("docker-v2")
    (root / "proc/pressure/memory").write_text(f"some avg10={value} avg60=0.00 avg300=0.00 total=0\n")
    (reading,) = MeminfoSource(str(root)).read(1.0)
    assert reading.stall == 0.0
    assert len(caplog.records) == 1


@pytest.mark.parametrize("text", ["9" * 400, "-1", "1_0"])
def test_a_statm_that_no_kernel_writes_is_unreadable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/statm").write_text(f"{text} 1 1 1 0 1 0\n")
    source = RlimitSource(str(tmp_path), lambda _: (MIB, MIB))
    assert source.read(1.0) == source.read(2.0) == ()
    assert len(caplog.records) == 1


def test_a_limit_too_large_for_a_signed_number_is_none(tmp_path: Path) -> None:
    assert RlimitSource(str(tmp_path), lambda _: (-(1 << 63), -1)).read(1.0) == ()


def test_a_list_of_more_nodes_than_there_can_be_is_none() -> None:
    with pytest.raises(ValueError, match="no node"):
        parse_list("0-99999999999")


@pytest.mark.parametrize("text", ["", "wat", "0-99999999999\n"])
def test_the_nodes_stay_a_bound_while_those_with_memory_are_not_known(
    tree: Tree, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    root = tree("numa")
    source = NodeSource(str(root), lambda: None)
    before = source.read(1.0)
    file = root / "sys/devices/system/node/has_memory"
    file.write_text(text)
    assert source.read(2.0) == source.read(3.0) == before
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["proc/self/cgroup", "proc/self/mountinfo"])
@pytest.mark.parametrize("text", ["", "\0\0\0", "wat\n", "0:\n::\n"])
def test_the_groups_stay_known_while_the_files_that_lead_to_them_make_no_sense(
    tree: Tree, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    root = tree("docker-v2")
    source = CgroupSource(str(root))
    before = source.read(1.0)
    (root / name).write_text(text)
    if name.endswith("mountinfo"):
        (root / "proc/self/cgroup").write_text("0::/\n\n")  # read again only when something has changed
    assert source.read(2.0) == source.read(3.0) == before
    assert len(caplog.records) == 1


def test_swap_in_use_stays_a_bound_while_its_files_cannot_be_read(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    stat = (memory / "memory.stat").read_text() + f"total_swap {50 * MIB}\n"
    for name, text in (("memory.stat", stat), ("memory.memsw.limit_in_bytes", str(160 * MIB))):
        (memory / name).write_text(text)
    source = CgroupSource(str(root))
    _, before = source.read(1.0)
    for name, text in (("memory.stat", stat), ("memory.memsw.limit_in_bytes", str(160 * MIB))):
        (memory / name).write_text("wat")
        assert source.read(1.1)[1] == before._replace(stale=True)
        (memory / name).write_text(text)
        assert source.read(1.2)[1] == before
    (memory / "memory.stat").write_text(stat.replace(str(50 * MIB), "0"))
    assert len(source.read(1.3)) == 1


def test_a_hierarchy_that_goes_altogether_and_comes_back_is_found_again(tree: Tree) -> None:
    root = tree("docker-v2")
    source = CgroupSource(str(root))
    before = source.read(1.0)
    cgroup = root / "sys/fs/cgroup"
    shutil.move(cgroup, root / "away")
    assert source.read(2.0) == []
    shutil.move(root / "away", cgroup)
    (root / "proc/self/cgroup").write_text("0::/\n\n")  # no kernel tells of these mounts
    assert source.read(3.0) == before


def test_a_group_removed_and_made_anew_is_read_at_once_and_watched_anew(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    for name in ("memory.pressure_level", "cgroup.event_control"):
        (memory / name).write_text("")
    source = CgroupSource(str(root))
    (before,) = source.read(1.0)
    old = source.watches()
    shutil.copytree(memory, root / "copy")
    memory.rename(root / "old")  # so that its number is not given away again
    (root / "copy").rename(memory)
    assert source.read(2.0) == [before]
    assert all(not watch.acknowledge(0) for watch in old)
    assert len(source.watches()) == len(old)
    assert caplog.records == []
    source.close()


def test_a_group_that_no_mount_shows_is_told_of_once(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    root = tree("hybrid-v1")
    (root / "proc/self/mountinfo").write_text("1 0 0:1 / / rw - ext4 d rw\n")
    source = CgroupSource(str(root))
    assert source.read(1.0) == source.read(2.0) == []
    assert len(caplog.records) == 1
    assert "no mount shows /service/web" in caplog.text


def test_a_proc_with_processes_only_still_leads_to_the_groups(tree: Tree) -> None:
    root = tree("docker-v2")
    (root / "proc/meminfo").unlink()  # as with subset=pid
    names = [source.name for source in detect(str(root), {})]
    assert names[0] == "cgroup"
    assert "psutil" not in names


@pytest.mark.parametrize(
    ("mount", "own", "group"),
    [
        ("/../..", "/", "/a/b"),
        ("/../..", "/c", "/a/b/c"),
        ("/../..", "/../b", "/a/b"),  # moved out of the namespace's root
        ("/../other", "/", "/"),  # a mount that shows a neighbour
        ("/..", "/", "/"),  # the process is in no group of that level
    ],
)
def test_the_own_group_is_found_below_a_mount_from_outside_the_cgroup_namespace(
    tmp_path: Path, mount: str, own: str, group: str
) -> None:
    for name in ("a/b/c", "a/x", "y/z"):
        (tmp_path / "cg" / name).mkdir(parents=True)
        (tmp_path / "cg" / name / "cgroup.procs").write_text("1\n12\n")
    if group != "/":
        (tmp_path / "cg" / group[1:] / "cgroup.procs").write_text("7\n123\n")
    found = groups(f"1 0 0:1 {mount} /cg rw - cgroup2 c rw", f"0::{own}", str(tmp_path), 123)
    assert found[0].path == group
    assert found[-1].path == "/"
    assert [one.topmost for one in found] == [False] * (len(found) - 1) + [True]
    assert all(os.path.isdir(one.directory) for one in found)


def test_a_group_of_any_name_can_be_told_of(tree: Tree) -> None:
    root = tree("hybrid-v1")
    name = os.fsdecode(b"a\xff\x1b[2J b")
    group = root / "sys/fs/cgroup/memory" / name
    shutil.copytree(root / WEB, group)
    (root / "proc/self/cgroup").write_bytes(b"4:memory:/" + os.fsencode(name) + b"\n")
    (reading,) = CgroupSource(str(root)).read(1.0)
    assert (reading.name.isprintable(), reading.limit) == (True, 256 * MIB)
    assert reading.name.encode() == b"cgroup /a\\udcff\\x1b[2J b"
