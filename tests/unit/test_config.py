"""The knobs: how values are read and shown, and that the README tells the truth about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cacheserver.config import Config, default_text, knobs
from cacheserver.cpus import usable_cpus
from cacheserver.values import Address, addresses, cluster, item_size, number, octal_mask

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("1k", 1024), ("512K", 512 << 10), ("4m", 4 << 20), ("1024m", 1 << 30)],
)
def test_item_sizes(text: str, size: int) -> None:
    assert item_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "1023", "1025m", "2g", "-1m", "1.5m", "0x400", "1 m", "٣k"])
def test_bad_item_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        item_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", [("127.0.0.1", None)]),
        ("localhost:11212", [("localhost", 11212)]),
        ("::1", [("::1", None)]),
        ("::", [("::", None)]),
        ("[::1]", [("::1", None)]),
        ("[fe80::1]:11212,10.0.0.1:5", [("fe80::1", 11212), ("10.0.0.1", 5)]),
        ("*", [("*", None)]),
        ("a, b", [("a", None), ("b", None)]),
        ("notls:a,b", [("a", None, False), ("b", None, True)]),
        ("notls:[::1]:5", [("::1", 5, False)]),
        ("notls:::1", [("::1", None, False)]),
        ("tag[x]:proto[ascii]:notls:a:5", [("a", 5, False)]),
        ("proto[negotiating]:*", [("*", None, True)]),
    ],
)
def test_addresses(text: str, expected: list[Any]) -> None:
    assert addresses(text) == tuple(Address(*each) for each in expected)


@pytest.mark.parametrize(
    "text", ["", "a,", ":11211", "host:", "host:x", "host:0", "host:65536", "[::1", "[::1]1", "[]", "notls:"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|whole number"):
        addresses(text)


@pytest.mark.parametrize("text", ["8", "1000", "-7", "rwx", "", "7_7", "0o7", " 7"])
def test_bad_masks(text: str) -> None:
    with pytest.raises(ValueError, match="octal"):
        octal_mask(text)


@pytest.mark.parametrize("text", ["", "1_0", " 1", "+1", "٣", "1\n", "1" * 5000, "0x1", "-2"])
def test_bad_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number from -1 to 99"):
        number(-1, 99)(text)


def test_settings_are_written_as_memcached_writes_them() -> None:
    settings = Config(
        threads=3, listen=addresses("10.0.0.1,[::1]:5"), evictions=False, verbosity=1
    ).settings()
    assert settings == settings | {
        "maxconns": "1024",
        "tcpport": "11211",
        "udpport": "0",
        "inter": "10.0.0.1,[::1]:5",
        "verbosity": "1",
        "evictions": "off",
        "domain_socket": "NULL",
        "umask": "700",
        "num_threads": "3",
        "stat_key_prefix": ":",
        "cas_enabled": "yes",
        "tcp_backlog": "1024",
        "binding_protocol": "auto-negotiate",
        "item_size_max": "1048576",
        "idle_timeout": "0",
        "maxconns_fast": "yes",
        "flush_enabled": "yes",
        "shutdown_command": "no",
    }


def test_settings_name_where_the_server_listens() -> None:
    settings = Config(unix_socket="/x", udp_port=7, maxconns_fast=False).settings()
    assert settings == settings | {
        "domain_socket": "/x",
        "inter": "NULL",
        "udpport": "7",
        "maxconns_fast": "no",
    }
    assert Config(listen=addresses("notls:a,b:5")).settings()["inter"] == "notls:a,b:5"


def test_the_environment_changes_the_default_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHESERVER_LISTEN", "*")
    assert Config().listen == (Address("*", None),)
    assert Config(listen=addresses("::1")).listen == (Address("::1", None),)


def flag_table() -> list[str]:
    """The README's table of flags, made from the knobs."""
    rows = ["| flag | meaning | default |", "|---|---|---|"]
    for name, spec in knobs().items():
        names = spec.flags or ((f"-o {name}",) if spec.parse else (f"-o {name}", f"-o no_{name}"))
        flags = ", ".join(f"`{flag}`" for flag in names)
        value = f" `{spec.metavar}`" if spec.metavar else ""
        rows.append(f"| {flags}{value} | {spec.help} | {default_text(name) or 'off'} |")
    return rows


def test_the_table_in_the_readme_is_that_of_the_knobs() -> None:
    lines = README.read_text().splitlines()
    start = lines.index("| flag | meaning | default |") if "| flag | meaning | default |" in lines else 0
    table = flag_table()
    assert lines[start : start + len(table)] == table, "put this into the README:\n" + "\n".join(table)


class Cgroups:
    """A /proc and a /sys/fs/cgroup below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def cpus(self) -> int:
        return usable_cpus(str(self.root))


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    return Cgroups(tmp_path)


def test_the_affinity_mask_counts_where_there_is_no_quota(cgroups: Cgroups) -> None:
    assert cgroups.cpus() == 16


def test_a_v2_quota_of_any_ancestor_counts_and_is_rounded_up(cgroups: Cgroups) -> None:
    cgroups.write("proc/self/cgroup", "0::/pod/box\n")
    cgroups.write("proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n")
    cgroups.write("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n")
    cgroups.write("sys/fs/cgroup/pod/cpu.max", "250000 100000\n")
    assert cgroups.cpus() == 3
    cgroups.write("sys/fs/cgroup/pod/box/cpu.max", "50000 100000\n")
    assert cgroups.cpus() == 1


def test_a_v1_quota_counts_also_where_a_container_sees_only_its_own_part(cgroups: Cgroups) -> None:
    cgroups.write("proc/self/cgroup", "4:memory:/m\n3:cpu,cpuacct:/docker/abc\n")
    cgroups.write(
        "proc/self/mountinfo",
        "31 20 0:27 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
        "32 20 0:28 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
    )
    cgroups.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
    cgroups.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert cgroups.cpus() == 2
    cgroups.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert cgroups.cpus() == 16


def test_servers_of_a_cluster() -> None:
    parsed = cluster("cache-0.cache:11211,10.0.0.1,[::1]:5,::2")
    assert [each[:2] for each in parsed] == [
        ("cache-0.cache", 11211),
        ("10.0.0.1", None),
        ("::1", 5),
        ("::2", None),
    ]


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "*", "a|b", "a b", "a:0", "a:65536", "a:x", "-a", "a,b,a", "[::1", "a" * 254, "é"]
)
def test_bad_servers_of_a_cluster(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|whole number|twice"):
        cluster(text)
