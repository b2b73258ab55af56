"""The server in a real memory cgroup that is far smaller than the data: never killed, and the memory is used.

Knows: cgroups, the kernel's counts, and values that describe themselves. The server is inside the group, the
client and its buffers are outside.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.limits import Group, joining, memory_group
from tests.servers import REPLACEMENT, Server, serving
from tests.values import check, make
from tests.wire import Wire

MIB = 1 << 20
VALUE = 4096  # bytes
BATCH = 64  # sets in one send
STORED = b"STORED\r\n" * BATCH
HOG_MIB = 128


def key_of(number: int) -> bytes:
    return b"key%09d" % number


def batch(first: int) -> bytes:
    parts = []
    for number in range(first, first + BATCH):
        key = key_of(number)
        parts.append(b"set %b 0 0 %d\r\n%b\r\n" % (key, VALUE, make(key, number, VALUE)))
    return b"".join(parts)


def fill(wire: Wire, nbytes: int, first: int = 0) -> int:
    """Write `nbytes` of values as fast as the server takes them; return the number of the next key.

    Two batches are under way at any time, so the server never waits for this client. Every reply must be
    STORED.
    """
    count = nbytes // VALUE // BATCH * BATCH
    wire.send(batch(first))
    for number in range(first + BATCH, first + count, BATCH):
        wire.send(batch(number))
        assert wire.read_exactly(len(STORED)) == STORED
    assert wire.read_exactly(len(STORED)) == STORED
    return first + count


def read_back(wire: Wire, next_key: int) -> tuple[int, int]:
    """Read every key, the newest first, checking each byte.

    Return (bytes of values found, hits among the newest 1000 keys).
    """
    found = 0
    newest_hits = 0
    for end in range(next_key, 0, -BATCH):
        hits = wire.get_many(key_of(number) for number in range(end - 1, end - 1 - BATCH, -1))
        for key, value in hits.items():
            check(key, value)
            found += len(value)
            newest_hits += int(key[3:]) >= next_key - 1000
    return found, newest_hits


@contextmanager
def limited(mib: int) -> Iterator[tuple[Group, Server]]:
    """Run a server with one worker inside a group of `mib` MiB."""
    with memory_group(mib * MIB) as group, serving("-t", "1", group=group.path) as server:
        assert server.pid in group.processes()
        yield group, server


def assert_alive(group: Group, server: Server) -> None:
    assert server.running(), f"the server has ended: {server.errors()[-500:]}"
    assert group.kills() == 0


@pytest.mark.parametrize(
    ("mib", "written_mib", "share"), [(256, 2048, 0.75), (128, 1024, 0.25), (64, 512, 0.25)]
)
def test_a_fast_writer_fills_the_group_and_no_more(
    mib: int, written_mib: int, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with limited(mib) as (group, server), server.connect(timeout=30) as wire:
        started = time.monotonic()
        next_key = fill(wire, written_mib * MIB)
        seconds = time.monotonic() - started
        assert_alive(group, server)
        found, newest_hits = read_back(wire, next_key)
        assert_alive(group, server)
        with capsys.disabled():
            print(
                f"\n{mib} MiB group: wrote {written_mib} MiB in {seconds:.1f} s,"
                f" read back {found / MIB:.1f} MiB = {100 * found / MIB / mib:.1f} %,"
                f" rss {server.rss() / MIB:.1f} MiB"
            )
        assert newest_hits == 1000
        assert found >= share * mib * MIB
        assert int(wire.stats()["evictions"]) > 0


def hog(group: Group, hold: float) -> subprocess.Popen[str]:
    """Start a process in the group that takes 128 MiB within a second."""
    argv = [sys.executable, "-m", "tests.hog", "--mib", str(HOG_MIB), "--seconds", "1", "--hold", str(hold)]
    return subprocess.Popen(joining(group.path, argv), stdout=subprocess.PIPE, text=True)


def sum_of(stats: dict[str, str], prefix: str) -> int:
    return sum(int(value) for name, value in stats.items() if name.startswith(prefix))


@pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached does not make room for others")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "under write load"])
def test_a_neighbour_gets_its_memory_and_gives_it_back(
    busy: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with limited(256) as (group, server), server.connect(timeout=30) as wire:
        next_key = fill(wire, 1024 * MIB)
        full = server.rss()
        neighbour = hog(group, hold=3.0)
        lowest = full
        try:
            while neighbour.poll() is None:
                if busy:
                    next_key = fill(wire, 8 * MIB, next_key)
                else:
                    time.sleep(0.02)
                lowest = min(lowest, server.rss())
                assert_alive(group, server)
            assert neighbour.stdout is not None
            assert neighbour.stdout.read().startswith("holding\n")
            assert neighbour.returncode == 0, "the neighbour was killed"
        finally:
            neighbour.kill()
            neighbour.communicate()
        again = regrow(wire, server, next_key, target=int(0.9 * full))
        stats = wire.stats()
        with capsys.disabled():
            print(
                f"\nrss full {full / MIB:.1f} MiB, lowest {lowest / MIB:.1f}, again {again / MIB:.1f};"
                f" shrinks {sum_of(stats, 'pressure_shrinks_')},"
                f" bytes {sum_of(stats, 'pressure_bytes_') / MIB:.1f} MiB"
            )
        assert_alive(group, server)
        assert full - lowest >= 80 * MIB
        assert again >= 0.9 * full
        assert sum_of(stats, "pressure_shrinks_") > 0
        assert sum_of(stats, "pressure_bytes_") >= 80 * MIB


@pytest.mark.skipif("memcached" in REPLACEMENT, reason="memcached does not make room for others")
def test_a_limit_changed_live_is_followed_down_and_up() -> None:
    low = 144 * MIB
    with limited(256) as (group, server), server.connect(timeout=30) as wire:
        next_key = fill(wire, 512 * MIB)
        full = server.rss()
        limit = 256 * MIB
        while limit > low:
            # Half the free reserve at a time: version 1 refuses what is in use, version 2 kills for it.
            limit = max(low, limit - int(wire.stats()["pressure_reserve"]) // 2 // MIB * MIB)
            group.set_limit(limit)
            next_key = settle(wire, limit, next_key)
            assert_alive(group, server)
        assert group.usage() <= low
        group.set_limit(256 * MIB)
        assert regrow(wire, server, next_key, target=int(0.9 * full)) >= 0.9 * full
        assert_alive(group, server)


def settle(wire: Wire, limit: int, next_key: int) -> int:
    """Write until the server has its reserve under `limit` bytes, for 20 s at most; return the next key."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        next_key = fill(wire, 2 * MIB, next_key)
        stats = wire.stats()
        free, wanted = int(stats["pressure_headroom"]), int(stats["pressure_reserve"])
        if int(stats["pressure_limit"]) == limit and free >= 0.9 * wanted:
            return next_key
    pytest.fail(f"{limit >> 20} MiB are not followed")


def regrow(wire: Wire, server: Server, next_key: int, target: int) -> int:
    """Write until the server's resident size is `target` bytes, for 20 s at most; return that size."""
    deadline = time.monotonic() + 20
    while server.rss() < target and time.monotonic() < deadline:
        next_key = fill(wire, 16 * MIB, next_key)
    found, newest_hits = read_back(wire, next_key)
    assert newest_hits == 1000
    assert found > 0
    return server.rss()
