"""Sources against small /proc and /sys trees, written by hand after real ones, and against broken files."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheserver.pressure.cgroup import CgroupSource
from cacheserver.pressure.host import MeminfoSource, PsutilSource
from cacheserver.pressure.mounts import groups
from cacheserver.pressure.source import Probe, Reading, detect

Tree = Callable[[str], Path]
MIB = 1 << 20


def bounds(source: CgroupSource, now: float = 1.0) -> dict[str, tuple[int, int]]:
    return {reading.name: (reading.limit, reading.usage) for reading in source.read(now)}


def test_v1_reads_every_limited_ancestor_beside_an_empty_v2(tree: Tree) -> None:
    source = CgroupSource(str(tree("hybrid-v1")))
    assert bounds(source) == {
        "cgroup /service/web": (256 * MIB, 120_000_000),
        "cgroup /service": (512 * MIB, 220_000_000),
    }
    own = source.read(2.0)[0]
    assert own.reclaimable == 8 * MIB + 2 * MIB - 1 * MIB - 1 * MIB  # inactive + active / 2 - mapped - dirty


def test_a_docker_container_on_v1_finds_its_files_at_the_mount_point(tree: Tree) -> None:
    assert bounds(CgroupSource(str(tree("docker-v1")))) == {"cgroup /docker/3f1c": (128 * MIB, 40_000_000)}


def test_a_limit_above_the_container_on_v1_counts_though_only_its_number_is_visible(tree: Tree) -> None:
    source = CgroupSource(str(tree("kubernetes-v1")))
    assert bounds(source) == {"cgroup above /kubepods/burstable/pod7/c1": (200 * MIB, 50_000_000)}
    assert source.quick(source.read(2.0)[0]) is None


def test_the_limit_above_is_looked_for_also_behind_a_cgroup_namespace(tree: Tree) -> None:
    root = tree("kubernetes-v1")
    (root / "proc/self/mountinfo").write_text("1 0 0:33 / /sys/fs/cgroup/memory ro - cgroup c rw,memory\n")
    (root / "proc/self/cgroup").write_text("5:memory:/\n")
    stat = root / "sys/fs/cgroup/memory/memory.stat"
    text = stat.read_text()
    stat.write_text(text.replace("209715200", "9223372036854771712"))
    source = CgroupSource(str(root))
    assert bounds(source) == {}
    stat.write_text(text)  # the parent is given a limit later
    assert bounds(source, 2.0) == {"cgroup above /": (200 * MIB, 50_000_000)}


@pytest.mark.parametrize("name", ["memory.stat", "memory.usage_in_bytes", "memory.limit_in_bytes"])
def test_the_limit_above_is_kept_while_it_cannot_be_read(tree: Tree, name: str) -> None:
    root = tree("kubernetes-v1")
    source = CgroupSource(str(root))
    assert [reading.stale for reading in source.read(1.0)] == [False]
    file = root / "sys/fs/cgroup/memory" / name
    text = file.read_text()
    file.write_text("")
    for now in (1.1, 3600.0):
        (above,) = source.read(now)
        assert (above.limit, above.stale) == (200 * MIB, True)
    file.write_text(text)
    assert [reading.stale for reading in source.read(3600.1)] == [False]


def test_a_docker_container_on_v2_in_its_namespace(tree: Tree) -> None:
    (reading,) = CgroupSource(str(tree("docker-v2"))).read(1.0)
    assert (reading.name, reading.limit, reading.usage) == ("cgroup /", 256 * MIB, 160_000_000)
    assert reading.reclaimable == 20 * MIB + 4 * MIB - 2 * MIB - 1 * MIB
    assert (reading.stall, reading.throttles, reading.ooms) == (2.5, 10, 1)


def test_what_happens_at_the_limits_of_groups_below_is_not_this_bounds_trouble(tree: Tree) -> None:
    root = tree("docker-v2")
    local = "low 0\nhigh 0\nmax 2\noom 0\noom_kill 0\n"
    (root / "sys/fs/cgroup/memory.events.local").write_text(local)
    (reading,) = CgroupSource(str(root)).read(1.0)
    assert (reading.throttles, reading.ooms) == (2, 0)


def test_counters_that_cannot_be_read_for_a_moment_do_not_seem_to_rise(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("docker-v2")
    events = root / "sys/fs/cgroup/memory.events"
    text = events.read_text()
    source = CgroupSource(str(root))
    seen = []
    for broken in (text, "", "wat\n", text):
        events.write_text(broken)
        (reading,) = source.read(1.0)
        seen.append((reading.throttles, reading.ooms))
    assert seen == [(10, 1)] * 4
    assert len(caplog.records) == 1


def test_v1_counts_the_oom_killers_work_and_not_the_turnover_of_page_cache(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    (memory / "memory.failcnt").write_text("17\n")
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (reading,) = CgroupSource(str(root)).read(1.0)
    assert (reading.throttles, reading.ooms) == (0, 2)


def test_memory_and_swap_together_bound_a_v1_group_once_swap_is_in_use(tree: Tree) -> None:
    root = tree("docker-v1")
    memory = root / "sys/fs/cgroup/memory"
    (memory / "memory.memsw.limit_in_bytes").write_text(str(160 * MIB))
    source = CgroupSource(str(root))
    assert list(bounds(source)) == ["cgroup /docker/3f1c"]  # free swap is not memory
    with (memory / "memory.stat").open("a") as stat:
        stat.write(f"total_swap {50 * MIB}\n")
    assert bounds(source) == {
        "cgroup /docker/3f1c": (128 * MIB, 40_000_000),
        "cgroup /docker/3f1c with swap": (160 * MIB, 40_000_000 + 50 * MIB),
    }
    (memory / "memory.memsw.limit_in_bytes").write_text("9223372036854771712")
    assert list(bounds(source)) == ["cgroup /docker/3f1c"]


def test_a_v2_group_that_gets_its_memory_controller_later_is_a_bound_from_then_on(tree: Tree) -> None:
    root = tree("docker-v2")
    limit = root / "sys/fs/cgroup/memory.max"
    limit.unlink()
    source = CgroupSource(str(root))
    assert bounds(source) == {}
    limit.write_text(str(256 * MIB))
    assert bounds(source, 2.0) == {"cgroup /": (256 * MIB, 160_000_000)}


def test_a_memory_high_once_seen_is_not_forgotten_when_it_is_garbled(tree: Tree) -> None:
    root = tree("docker-v2")
    (root / "sys/fs/cgroup/memory.high").write_text(str(200 * MIB))
    source = CgroupSource(str(root))
    source.read(1.0)
    (root / "sys/fs/cgroup/memory.high").write_text("wat")
    (reading,) = source.read(9.0)
    assert (reading.limit, reading.stale) == (200 * MIB, True)


def test_an_event_of_a_bound_closed_meanwhile_is_nothing(tree: Tree) -> None:
    source = CgroupSource(str(tree("docker-v2")))
    source.read(1.0)
    (watch,) = source.watches()
    source.close()
    assert watch.acknowledge(0) is False


def test_v2_takes_the_lower_of_high_and_max_at_every_level(tree: Tree) -> None:
    assert bounds(CgroupSource(str(tree("kubernetes-v2")))) == {
        r"cgroup /kubepods.slice/pod\x2d7.slice/cri c.scope": (300_000_000, 100_000_000),
        r"cgroup /kubepods.slice/pod\x2d7.slice": (512 * MIB, 500_000_000),
    }


@pytest.mark.parametrize(
    ("mountinfo", "cgroup", "expected"),
    [
        # A container whose v2 mount was made outside its namespace: the mount point is all there is to know.
        ("1 0 0:1 /../.. /cg rw - cgroup2 c rw", "0::/", ["/"]),
        ("1 0 0:1 / /cg rw - cgroup2 c rw", "0::/../other", ["/"]),
        ("1 0 0:1 /a /cg rw - cgroup2 c rw", "0::/ab/c", ["/a"]),
        ("1 0 0:1 /a /cg rw - cgroup2 c rw", "0::/a/b", ["/a/b", "/a"]),
        ("1 0 0:1 / /with\\040blank rw shared:1 - cgroup c rw,cpu,memory", "3:cpu,memory:/", ["/"]),
        ("1 0 0:1 / /cg rw - cgroup c rw,cpu", "3:cpu:/x", []),
        ("garbage\n - \n1 0 - cgroup2", "nonsense\n0:\n::", []),
    ],
)
def test_own_groups_from_mountinfo(tmp_path: Path, mountinfo: str, cgroup: str, expected: list[str]) -> None:
    for directory in ("cg/b", "cg/x", "with blank"):
        (tmp_path / directory).mkdir(parents=True)
    assert [group.path for group in groups(mountinfo, cgroup, str(tmp_path))] == expected


def test_limits_are_followed_live_also_from_unlimited_and_back(tree: Tree) -> None:
    root = tree("hybrid-v1")
    source = CgroupSource(str(root))
    before = source.read(1.0)[0]
    memory = root / "sys/fs/cgroup/memory"
    (memory / "service/web/memory.limit_in_bytes").write_text(str(200 * MIB))
    quick = source.quick(before)
    assert quick is not None
    assert quick.limit == 200 * MIB
    (memory / "memory.limit_in_bytes").write_text(str(900 * MIB))
    assert bounds(source, 1.1)["cgroup /"] == (900 * MIB, 600_000_000)
    (memory / "memory.limit_in_bytes").write_text(str((1 << 63) - 4096))
    assert "cgroup /" not in bounds(source, 1.2)


def test_a_process_moved_to_another_group_is_followed(tree: Tree) -> None:
    root = tree("hybrid-v1")
    source = CgroupSource(str(root))
    source.read(1.0)
    (root / "proc/self/cgroup").write_text("4:memory:/service\n")
    assert bounds(source, 3.0) == {"cgroup /service": (512 * MIB, 220_000_000)}


def test_a_garbled_file_costs_one_line_and_that_bound_only(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cacheserver.pressure")
    root = tree("hybrid-v1")
    source = CgroupSource(str(root))
    source.read(1.0)
    usage = root / "sys/fs/cgroup/memory/service/web/memory.usage_in_bytes"
    usage.write_text("wat\n")
    for now in (1.1, 1.2, 1.3):
        web, service = source.read(now)
        assert (web.stale, web.usage, service.stale) == (True, 120_000_000, False)
    assert source.quick(web) is None
    assert len(caplog.records) == 1
    assert "memory.usage_in_bytes" in caplog.text
    web, _ = source.read(3600.0)  # it kills as before, readable or not
    assert (web.stale, web.limit) == (True, 256 * MIB)

    usage.write_text("130000000\n")
    assert source.read(3600.1)[0].usage == 130_000_000
    assert len(caplog.records) == 2
    assert "works again" in caplog.records[-1].message


def test_a_group_that_vanishes_and_comes_back_is_a_bound_again(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("hybrid-v1")
    source = CgroupSource(str(root))
    assert "cgroup /service/web" in bounds(source)
    web = root / "sys/fs/cgroup/memory/service/web"
    away = web.rename(root / "away")
    assert list(bounds(source, 3.0)) == ["cgroup /service"]
    away.rename(web)
    (root / "proc/self/cgroup").write_text("4:memory:/service/web\n")
    assert "cgroup /service/web" in bounds(source, 5.0)
    assert caplog.records == []


@pytest.mark.parametrize("name", ["memory.max", "memory.current", "memory.stat", "memory.events"])
@pytest.mark.parametrize("text", ["", "wat", "memory\0max", "-", "9" * 40 + "x"])
def test_no_text_in_any_file_is_an_exception_or_more_than_a_line(
    tree: Tree, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    root = tree("kubernetes-v2")
    source = CgroupSource(str(root))
    before = bounds(source)
    (root / r"sys/fs/cgroup/kubepods.slice/pod\x2d7.slice" / name).write_text(text)
    for now in (1.1, 2.5, 9.0):
        assert bounds(source, now) == before
    assert len(caplog.records) <= 1


def test_an_unreadable_file_costs_a_line_also_where_its_absence_would_not(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("docker-v2")
    assert Probe(str(root / "none"), optional=True).read() is None
    assert caplog.records == []
    probe = Probe(str(root / "proc"), optional=True)
    assert [probe.read() for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1


@pytest.mark.parametrize("text", ["wat", "some avg10=", "some avg10=x y", "full avg10=1.0 avg60=0\n"])
def test_garbled_stalls_are_none_and_cost_one_line(
    tree: Tree, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    root = tree("docker-v2")
    (root / "proc/pressure/memory").write_text(text)
    source = MeminfoSource(str(root))
    assert [reading.stall for now in (1.0, 2.0) for reading in source.read(now)] == [0.0, 0.0]
    assert len(caplog.records) == 1


def test_a_group_none_of_whose_files_can_be_read_costs_one_line(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree("docker-v2")
    source = CgroupSource(str(root))
    before = bounds(source)
    for file in (root / "sys/fs/cgroup").iterdir():
        file.write_text("")
    for now in (1.1, 2.5, 9.0):
        assert bounds(source, now) == before
    assert len(caplog.records) == 1


def test_missing_stat_means_no_page_cache_is_counted_as_free(tree: Tree) -> None:
    root = tree("docker-v2")
    (root / "sys/fs/cgroup/memory.stat").unlink()
    (reading,) = CgroupSource(str(root)).read(1.0)
    assert (reading.reclaimable, reading.stale) == (0, False)


def test_the_host_is_bounded_by_what_is_available(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    root = tree("hybrid-v1")
    source = MeminfoSource(str(root))
    (reading,) = source.read(1.0)
    assert reading.limit - reading.usage == 23428144 << 10
    (root / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemFree: 100 kB\nCached: 200 kB\n")
    quick = source.quick(reading)
    assert quick is not None
    assert quick.limit - quick.usage == 200 << 10
    (last,) = source.read(1.5)
    (root / "proc/meminfo").write_text("")
    assert list(source.read(2.0)) == list(source.read(3.0)) == [last._replace(stale=True)]
    assert source.quick(last) is None
    assert len(caplog.records) == 1


def test_without_proc_psutil_is_asked_and_may_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert [source.name for source in detect(str(tmp_path))] == ["psutil"]
    memory = types.SimpleNamespace(total=1000, available=400)
    broken = False

    def virtual_memory() -> types.SimpleNamespace:
        if broken:
            raise OSError("sysctl")
        return memory

    source = PsutilSource(types.SimpleNamespace(virtual_memory=virtual_memory))
    assert [(reading.limit, reading.usage) for reading in source.read(1.0)] == [(1000, 600)]
    broken = True
    assert list(source.read(2.0)) == list(source.read(3.0)) == [Reading("host", 1000, 600, stale=True)]
    assert len(caplog.records) == 1


def test_every_source_of_this_machine_reads_and_closes() -> None:
    for source in detect():
        for _ in range(2):
            for reading in source.read(1.0):
                assert reading.usage >= 0
                assert reading.limit > 0
            source.watches()
            source.close()
