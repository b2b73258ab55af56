"""Bounds beside the cgroups: NUMA nodes and the process's own limits, on small trees."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheserver.pressure.numa import NodeSource, bound_nodes, parse_list
from cacheserver.pressure.rlimit import PAGE, RlimitSource

Tree = Callable[[str], Path]
MIB = 1 << 20
KIB = 1 << 10


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")


# -- NUMA --


def nodes(root: Path, policy: set[int] | None = None) -> NodeSource:
    return NodeSource(str(root), lambda: policy)


def allow(root: Path, text: str) -> None:
    (root / "proc/self/status").write_text(f"Name:\tx\nMems_allowed:\t3\nMems_allowed_list:\t{text}\n")


# of node 0 in the tree: free - high watermarks, and page cache that can go at once
FREE_0 = 200_000 * KIB - (100 + 900) * PAGE
CACHE_0 = (30_000 + 20_000 // 2 - 5_000 - 1_000) * KIB


def test_a_process_bound_to_one_node_is_bounded_by_it(tree: Tree) -> None:
    (reading,) = nodes(tree("numa")).read(1.0)
    assert (reading.name, reading.nodes, reading.limit) == ("node 0", (0,), 1_000_000 * KIB)
    assert reading.limit - reading.usage == FREE_0
    assert (reading.reclaimable, reading.stall) == (CACHE_0, 1.25)


def test_several_allowed_nodes_bound_together_and_none_of_them_alone(tree: Tree) -> None:
    root = tree("numa")
    allow(root, "0,2")
    (reading,) = nodes(root).read(1.0)
    assert (reading.name, reading.nodes, reading.limit) == ("nodes 0,2", (0, 2), 3_000_000 * KIB)
    assert reading.limit - reading.usage == FREE_0 + 1_500_000 * KIB - 2_000 * PAGE


def test_a_process_that_may_use_every_node_with_memory_is_bounded_by_none(tree: Tree) -> None:
    root = tree("numa")
    allow(root, "0,2-3")  # node 1 is there and has no memory
    assert nodes(root).read(1.0) == ()
    (root / "sys/devices/system/node/has_memory").write_text("0\n")
    allow(root, "0")
    assert nodes(root).read(1.0) == ()
    assert nodes(root / "none").read(1.0) == ()


def test_a_memory_policy_binds_too_and_changes_are_followed(tree: Tree) -> None:
    root = tree("numa")
    allow(root, "0-3")
    policy: set[int] | None = {2}
    source = NodeSource(str(root), lambda: policy)
    assert [reading.name for reading in source.read(1.0)] == ["node 2"]
    policy = None
    assert source.read(2.0) == ()
    allow(root, "3")
    (reading,) = source.read(3.0)
    assert (reading.name, reading.nodes) == ("node 3", (3,))
    source.close()


def test_a_node_that_vanishes_or_is_garbled_keeps_its_last_figures_at_one_line(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("numa")
    source = nodes(root)
    (before,) = source.read(1.0)
    file = root / "sys/devices/system/node/node0/meminfo"
    text = file.read_text()
    for broken in ("", "wat", text[:40], "Node 1" + text[6:]):
        file.write_text(broken)
        assert source.read(1.5) == [before._replace(stale=True)]
        assert source.quick(before) is None
    assert len(caplog.records) == 1
    file.write_text(text.replace("200000 kB", "150000 kB"))
    quick = source.quick(before)
    assert quick is not None
    assert quick.usage == before.usage + 50_000 * KIB
    assert len(caplog.records) == 2


def test_a_status_that_cannot_be_read_leaves_the_answer_as_it_was(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("numa")
    source = nodes(root)
    for now, text in enumerate(("", "Mems_allowed_list:\t-x\n", "Mems_allowed_list:\n"), 2):
        (name,) = (reading.name for reading in source.read(1.0))
        (root / "proc/self/status").write_text(text)
        assert [reading.name for reading in source.read(float(now))] == [name] == ["node 0"]
    assert len(caplog.records) == 1
    fresh = nodes(root)
    assert fresh.read(1.0) == ()  # never known: no bound


def test_kernel_lists_and_this_kernels_own_policy() -> None:
    assert parse_list("0-2,5\n") == {0, 1, 2, 5}
    assert parse_list("\n") == set()
    with pytest.raises(ValueError, match="invalid literal"):
        parse_list("a")
    policy = bound_nodes()
    assert policy is None or 0 < len(policy) < 1024


# -- rlimits --

INFINITY = resource.RLIM_INFINITY


class Limits:
    """The limits of a process, set by hand, in bytes."""

    def __init__(self, space: int = INFINITY, data: int = INFINITY) -> None:
        self.values = {resource.RLIMIT_AS: space, resource.RLIMIT_DATA: data}

    def __call__(self, which: int) -> tuple[int, int]:
        return self.values[which], INFINITY


def lay_out_statm(root: Path, size: int, resident: int, shared: int, data: int) -> None:
    """Write a statm of these bytes."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    words = [size // PAGE, resident // PAGE, shared // PAGE, 1, 0, data // PAGE, 0]
    (root / "proc/self/statm").write_text(" ".join(map(str, words)) + "\n")


def test_without_a_limit_of_the_process_there_is_no_bound(tmp_path: Path) -> None:
    assert RlimitSource(str(tmp_path), Limits()).read(1.0) == ()


def test_space_that_is_reserved_but_not_touched_is_no_usage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(2048 * MIB, 1024 * MIB)
    source = RlimitSource(str(tmp_path), limits)
    # 100 MiB of code and mapped files; 700 MiB private, of which 60 MiB are touched
    lay_out_statm(tmp_path, 800 * MIB, 80 * MIB, 20 * MIB, 700 * MIB)
    space, data = source.read(1.0)
    assert (space.name, space.limit, space.usage) == ("RLIMIT_AS", 2048 * MIB, 160 * MIB)
    assert (data.name, data.limit, data.usage) == ("RLIMIT_DATA", 1024 * MIB, 60 * MIB)
    lay_out_statm(tmp_path, 800 * MIB, 180 * MIB, 20 * MIB, 700 * MIB)
    quick = source.quick(space)
    assert quick is not None
    assert quick.usage == 260 * MIB
    limits.values[resource.RLIMIT_AS] = 1024 * MIB  # prlimit, live
    assert source.read(1.0)[0].limit == 1024 * MIB

    for broken in ("", "1 2", "a b c d e f"):
        (tmp_path / "proc/self/statm").write_text(broken)
        assert [(one.usage, one.stale) for one in source.read(2.0)] == [(260 * MIB, True), (160 * MIB, True)]
        assert source.quick(space) is None
    assert len(caplog.records) == 1


def test_no_usage_that_was_ever_read_is_no_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = RlimitSource(str(tmp_path), Limits(MIB))
    assert [source.read(float(now)) for now in range(3)] == [()] * 3
    assert len(caplog.records) == 1


@pytest.mark.resident
def test_this_processs_own_figures_add_up() -> None:
    space, data = RlimitSource(getrlimit=Limits(1 << 40, 1 << 40)).read(1.0)
    assert 0 < data.usage < space.usage < 1 << 40
