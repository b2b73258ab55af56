"""Samples: what is read where, what is left out, what they tell together."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtest import groups, whose
from loadtest.groups import Group, NoGroup
from loadtest.timeline import Sample, Stats, Timeline, growth, interpret, rises, sample_of, since
from loadtest.units import MIB
from loadtest.whose import Target
from tests.requirements import missing


def tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def v1(limit: int, usage: int, kills: int = 0) -> dict[str, str]:
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{usage}\n",
        "memory.oom_control": f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    }


def v2(limit: str, usage: int, kills: int = 0) -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{usage}\n",
        "memory.events": f"low 0\nmax 7\noom 1\noom_kill {kills}\n",
        "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=4711\nfull avg10=0.00 total=11\n",
    }


# -- cgroups --


def test_the_limit_is_that_of_the_ancestor_with_the_least_room(tmp_path: Path) -> None:
    tree(tmp_path, v1(1 << 63, 900))
    tree(tmp_path / "pod", v1(1000, 800))
    group = Group(tree(tmp_path / "pod/one", v1(500, 100, kills=2)), 1, tmp_path)
    assert (group.binding(), group.usage(), group.kills()) == ((1000, 800), 100, 2)


def test_version_2_is_read_too_and_tells_its_own_stalls(tmp_path: Path) -> None:
    group = Group(tree(tmp_path, v2("4096", 1024, kills=3)), 2)
    assert (group.binding(), group.kills(), group.stalled()) == ((4096, 1024), 3, 4711)
    free = Group(tree(tmp_path / "free", v2("max", 5)), 2)
    assert (free.binding(), free.own_limit(), free.usage()) == (None, None, 5)


def test_a_group_that_is_gone_is_none_everywhere(tmp_path: Path) -> None:
    group = Group(tmp_path / "gone", 2)
    assert (group.binding(), group.usage(), group.kills(), group.processes()) == (None, None, None, [])
    assert group.stalled(host=tmp_path / "none") is None


def test_the_group_of_a_process_is_found_below_where_the_hierarchy_is_mounted(tmp_path: Path) -> None:
    mounted = tree(tmp_path / "sys/memory", {"docker/abc/memory.limit_in_bytes": "1"})
    proc = tree(
        tmp_path / "proc",
        {
            "self/mountinfo": f"30 25 0:26 / {mounted} rw - cgroup cgroup rw,memory\n"
            f"31 25 0:27 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n",
            "7/cgroup": "4:memory:/docker/abc\n0::/other\n",
        },
    )
    group = groups.of_process(7, proc)
    assert group is not None
    assert (group.path, group.version, group.top) == (mounted / "docker/abc", 1, mounted)
    assert groups.of_process(8, proc) is None


def test_a_limit_is_never_raised_above_what_is_left_for_memory_and_swap_together(tmp_path: Path) -> None:
    group = Group(tree(tmp_path, {**v1(100, 1), "memory.memsw.limit_in_bytes": "200\n"}), 1)
    group.set_limit(150)
    assert (tmp_path / "memory.memsw.limit_in_bytes").read_text() == "200\n"
    group.set_limit(300)
    assert (tmp_path / "memory.memsw.limit_in_bytes").read_text() == "300"
    assert (tmp_path / "memory.limit_in_bytes").read_text() == "300"


# -- whose --


def test_a_container_is_found_by_its_name_and_by_its_id(tmp_path: Path) -> None:
    identity = "0123456789ab" + "c" * 52
    docker = tree(
        tmp_path / "docker",
        {f"containers/{identity}/config.v2.json": f'{{"ID": "{identity}", "Name": "/cache"}}'},
    )
    top = tmp_path / "cgroup"
    (top / f"system.slice/docker-{identity}.scope/inner").mkdir(parents=True)
    for name in ("cache", identity, identity[:12]):
        found = whose.of_container(name, [tmp_path / "none", docker], [top])
        assert found.path.name == f"docker-{identity}.scope"
    with pytest.raises(NoGroup, match="--container other: Docker has no container of that name"):
        whose.of_container("other", [docker], [top])
    with pytest.raises(NoGroup, match="is it running"):
        whose.of_container("f" * 12, [docker], [top])


def test_dockers_data_is_looked_for_where_it_was_told_to_be(tmp_path: Path) -> None:
    settings = tmp_path / "daemon.json"
    settings.write_text('{"data-root": "/big/docker"}')
    for number, words in enumerate(
        (
            ["/usr/bin/dockerd", "--data-root", "/own"],
            ["dockerd", "--data-root=/too"],
            ["grep", "--data-root=/x"],
        )
    ):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_text("\0".join(words) + "\0")
    found = {str(path) for path in whose.docker_folders(settings, tmp_path)}
    assert found == {"/var/lib/docker", "/big/docker", "/own", "/too"}
    assert whose.docker_folders(tmp_path / "none", tmp_path / "none") == [Path("/var/lib/docker")]


def test_the_server_of_a_group_is_its_largest_process_and_never_the_hog(tmp_path: Path) -> None:
    for pid, (parent, size) in {10: (1, 100), 11: (10, 5000), 12: (os.getpid(), 90_000)}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "status").write_text(f"Name:\tx\nPPid:\t{parent}\nVmRSS:\t {size} kB\nSigQ:\n")
    (tmp_path / "cgroup.procs").write_text("10\n11\n12\n13\n")
    assert whose.largest(Group(tmp_path, 2), tmp_path) == 11
    (tmp_path / "cgroup.procs").write_text("12\n")
    assert whose.largest(Group(tmp_path, 2), tmp_path) is None


def test_who_listens_on_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert whose.listener(f"127.0.0.1:{port}") == os.getpid()
        assert whose.find(f"127.0.0.1:{port}").pid == os.getpid()
    assert whose.listener(f"127.0.0.1:{port}") is None
    assert whose.listener("192.0.2.1:80") is None  # not an address of this machine


@pytest.mark.parametrize(
    ("other", "own", "address"),
    [
        ("127.0.0.2", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "", "127.0.0.1"),
        ("127.0.0.1", "::1", "[::1]"),
        ("127.0.0.2", "::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_who_listens_on_the_port_at_another_address_is_somebody_else(
    other: str, own: str, address: str
) -> None:
    def listening(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            made.bind((host, port))
        except OSError:
            made.close()
            missing(f"there is no address {host} here")
        made.listen()
        return made

    with listening(other, 0) as first:
        port = first.getsockname()[1]
        assert whose.listener(f"{other}:{port}") == os.getpid()
        assert whose.listener(f"{address}:{port}") is None
        with listening(own, port):
            assert whose.listener(f"{address}:{port}") == os.getpid()


def test_a_process_that_is_not_there_is_said() -> None:
    with pytest.raises(NoGroup, match="--pid 4194305: no such process"):
        whose.find("127.0.0.1:1", pid=4194305)


# -- stats --


def test_this_servers_stats_tell_level_headroom_and_what_is_cache() -> None:
    told = {
        "bytes": "10", "curr_items": "2", "evictions": "3", "limit_maxbytes": "99", "pressure_level": "low",
        "pressure_headroom": "-5", "pressure_reserve": "7", "pressure_shrinks_soft": "4",
        "pressure_shrinks_hard": "1", "store_committed": "50", "store_untouched": "8",
    }  # fmt: skip
    assert interpret(told) == {
        "headroom": -5, "reserve": 7, "ceiling": 99, "items": 2, "item_bytes": 10, "evictions": 3,
        "level": "low", "shrinks": 5, "cache": 42,
    }  # fmt: skip


def test_memcached_and_redis_tell_what_they_have() -> None:
    assert interpret({"bytes": "10", "evictions": "3", "limit_maxbytes": "64"}) == {
        "ceiling": 64, "item_bytes": 10, "evictions": 3,
    }  # fmt: skip
    redis = {"used_memory": "100", "used_memory_dataset": "60", "maxmemory": "0", "evicted_keys": "9"}
    assert interpret(redis) == {"ceiling": 0, "item_bytes": 60, "evictions": 9}
    assert interpret({"bytes": "many"}) == {}


@pytest.fixture
def serving() -> Iterator[Callable[[list[bytes]], str]]:
    """Start a server that answers every request with the pieces given; its address."""
    opened: list[socket.socket] = []

    def start(pieces: list[bytes]) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def serve() -> None:
            try:
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        while connection.recv(100):
                            for piece in pieces:
                                connection.sendall(piece)
                            if not pieces:
                                break
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for each in opened:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def test_stats_and_info_are_read_to_their_end(serving: Callable[[list[bytes]], str]) -> None:
    stats = Stats(serving([b"STAT pid 1\r\nSTAT version ", b"1.6 x\r\nEN", b"D\r\n"]))
    assert stats.read() == {"pid": "1", "version": "1.6 x"} == stats.read()
    stats.close()
    info = Stats(serving([b"$28\r\n# Memory\r\nused_", b"memory:4711\r\n\r\n"]), "resp")
    assert info.read() == {"used_memory": "4711"}
    info.close()


def test_a_server_that_ends_the_connection_is_asked_anew(serving: Callable[[list[bytes]], str]) -> None:
    stats = Stats(serving([]))
    assert stats.read() == {} == stats.read()
    assert Stats("127.0.0.1:1").read() == {}


def test_stats_that_trickle_are_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes soon enough; a timeline that waits for the last one would outlive its run."""
    monkeypatch.setattr("loadtest.timeline.PATIENCE", 0.2)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(2000):
                    connection.sendall(b"S")
                    if over.wait(0.01):
                        return

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        stats = Stats(f"127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(stats, "close", lambda: None)  # the server would end with it
        assert stats.read() == {}
        assert thread.is_alive()
        over.set()
        thread.join()
        monkeypatch.undo()
        stats.close()


# -- the timeline --


def test_what_cannot_be_had_is_left_out_and_a_server_that_is_back_is_found(tmp_path: Path) -> None:
    now = iter([10.0, 10.5, 12.0])
    group = Group(tree(tmp_path, v2("4096", 1024, kills=1)), 2)
    found = [Target(4194305, group), Target(None, None), Target(os.getpid(), None)]
    asked: list[int] = []

    def find() -> Target:
        asked.append(1)
        return found.pop(0)

    timeline = Timeline(find, lambda: {"bytes": "5"}, clock=lambda: next(now))
    first = timeline.look()
    assert (first.at, first.rss, first.level, first.item_bytes) == (10.0, None, None, 5)
    assert (first.limit, first.usage, first.kills) == (4096, 1024, 1)  # a kill is counted in the group
    assert timeline.look().rss is None  # looked for once a second
    third = timeline.look()
    assert third.rss is not None
    assert (third.limit, third.usage, third.kills) == (4096, 1024, 1)
    assert len(asked) == 3
    assert [round(sample.at, 3) for sample in since(timeline.samples, 10.5)] == [-0.5, 0.0, 1.5]


def test_a_server_elsewhere_is_not_looked_for_again() -> None:
    asked: list[int] = []

    def find() -> Target:
        asked.append(1)
        return Target()

    timeline = Timeline(find, dict, clock=iter(range(0, 100, 10)).__next__)
    assert [timeline.look().told(), timeline.look().told()] == [{"at": 0}, {"at": 10}]
    assert len(asked) == 1


def test_a_sample_survives_its_way_through_json_and_from_a_newer_version() -> None:
    sample = Sample(1.5, limit=3, level="low")
    assert sample.told() == {"at": 1.5, "limit": 3, "level": "low"}
    assert sample_of({**sample.told(), "moonphase": 3}) == sample


def test_a_counter_that_begins_anew_has_risen_by_what_it_shows() -> None:
    samples = [Sample(0.0, evictions=value) for value in (None, 5, 9, None, 2, 3)]
    assert rises(samples, "evictions") == 4 + 2 + 1
    assert rises(samples, "kills") is None


def test_growth_is_the_slope_of_what_is_not_cache() -> None:
    def line(at: float) -> Sample:
        start = 50 * MIB if at < 200 else 0  # buffers that fill at the start do not count
        skew = 35 * MIB if at % 45 == 1 else 0  # the store gave back between the two readings
        return Sample(at, rss=int(200 * MIB - start + skew + at * 100), cache=100 * MIB)

    samples = [line(float(at)) for at in range(-5, 601)]
    assert growth(samples) == pytest.approx(100 * 3600, rel=0.01)
    assert growth(samples[:200]) is None  # of minutes there is no growth by the hour
    assert growth([sample._replace(cache=None) for sample in samples]) is None
    assert growth([]) is None
