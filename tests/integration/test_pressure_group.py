"""The monitor in a real memory group, the kernel as the judge: nobody is killed, memory moves both ways.

And what the kernel itself tells of a group, or holds against a process.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheserver.pressure import Watch
from cacheserver.pressure.cgroup import Bound
from cacheserver.pressure.mounts import Group as Place
from tests.limits import Group, joining, memory_group
from tests.servers import HOST, Server, command, free_port

ROOT = Path(__file__).parent.parent.parent
MIB = 1 << 20
HOLD = 2.0  # seconds the neighbour keeps what it took


def start(group: Group, module: str, *words: str) -> subprocess.Popen[str]:
    command = joining(group.path, [sys.executable, "-m", module, *words])
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def ask(cache: subprocess.Popen[str]) -> dict[str, Any]:
    assert cache.stdin is not None
    assert cache.stdout is not None
    line = ""
    with contextlib.suppress(BrokenPipeError):
        cache.stdin.write("?\n")
        cache.stdin.flush()
        line = cache.stdout.readline()
    assert line, f"the cache is gone, exit status {cache.wait()}"
    return json.loads(line)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def settled(cache: subprocess.Popen[str]) -> int:
    """The cache's size once it has stopped growing."""
    last = -1
    for _ in range(100):
        own = ask(cache)["own"]
        if own == last:
            return int(own)
        last = own
        time.sleep(0.3)
    pytest.fail("the cache never stops growing")


def filled(cache: subprocess.Popen[str], group: Group) -> bool:
    """Whether what the interpreter leaves is used down to the reserve, the deadband and a page or two."""
    status = ask(cache)
    left = status["limit"] - group.usage()
    return bool(0.5 * status["reserve"] < left < 1.03 * status["reserve"] + 3 * MIB)


@pytest.mark.parametrize("limit", [64, 128, 256])
def test_a_cache_fills_a_group_of_any_size_and_yields_to_a_neighbour(limit: int) -> None:
    hog_size = {64: 20, 128: 40, 256: 128}[limit]
    with memory_group(limit * MIB) as group:
        cache = start(group, "tests.integration.toy_cache")
        full = settled(cache)
        before = ask(cache)
        assert before["binding"].startswith("cgroup ")
        assert before["limit"] == limit * MIB
        assert filled(cache, group)

        hog = start(group, "tests.hog", "--mib", str(hog_size), "--seconds", "0.5", "--hold", str(HOLD))
        assert hog.stdout is not None
        assert hog.stdout.readline() == "holding\n", "the hog was killed"
        squeezed = ask(cache)
        yielded = hog_size * MIB - before["reserve"]  # the rest came out of the reserve, which is refilled
        assert squeezed["own"] <= full - yielded
        assert squeezed["bytes_released_hard"] + squeezed["bytes_released_soft"] >= yielded

        assert hog.wait(10) == 0
        assert until(lambda: filled(cache, group), 10), "it does not grow back"
        assert ask(cache)["own"] >= squeezed["own"] + hog_size * MIB // 2
        assert group.kills() == 0
        assert cache.poll() is None


def test_a_limit_lowered_live_in_steps_within_the_reserve_is_followed() -> None:
    goal = 120 * MIB
    with memory_group(256 * MIB) as group:
        cache = start(group, "tests.integration.toy_cache")
        settled(cache)
        limit = 256 * MIB

        def lower() -> bool:
            # One step below usage would be refused (v1, EBUSY) or go to the OOM killer (v2).
            nonlocal limit
            limit = max(goal, min(limit, group.usage() + 4 * MIB))
            group.set_limit(limit)
            return limit == goal

        assert until(lower, 20), f"stuck at {limit >> 20} MiB"
        assert until(lambda: ask(cache)["limit"] == goal, 5), "the limit is not read again"
        assert until(lambda: ask(cache)["headroom"] >= 0.9 * ask(cache)["reserve"], 5)
        assert group.kills() == 0


def ready(watch: Watch) -> int:
    poller = select.poll()
    poller.register(watch.fd, watch.events)
    return sum(events for _, events in poller.poll(0))


def test_the_kernel_tells_by_itself_when_a_group_gets_full() -> None:
    with memory_group(32 * MIB) as group:
        bound = Bound(Place(group.version, str(group.path), "/test", topmost=False))
        (before,) = bound.read(1.0)
        watches = bound.watches()
        assert len(watches) == (5 if group.version == 1 else 1)  # three levels and two marks; memory.events
        assert not any(map(ready, watches))
        hog = start(group, "tests.hog", "--mib", "64", "--seconds", "0.5")
        assert hog.wait(20) == -signal.SIGKILL
        assert until(lambda: all(map(ready, watches)), 10)
        for watch in watches:
            watch.acknowledge(ready(watch))
            assert not ready(watch)
        (after,) = bound.read(2.0)
        assert after.throttles > before.throttles
        assert after.ooms > before.ooms
        bound.close()


@pytest.mark.parametrize("limit", ["as", "data"])
def test_a_server_keeps_its_cache_within_the_limit_of_its_address_space(limit: str) -> None:
    port, value = free_port(), b"x" * 500_000
    argv = ["prlimit", f"--{limit}={512 * MIB}", *command(port)]  # the store reserves 128 MiB of it
    with Server(argv, (HOST, port)) as server, server.connect() as wire:
        for number in range(400):
            assert wire.set(b"key%d" % number, value) == b"STORED"
        stats = server.stats()
        assert int(stats["evictions"]) > 0
        assert server.rss() > 64 * MIB
        # What it says it may hold is what it can hold: the limit leaves more than the store has reserved.
        assert int(stats["bytes"]) < int(stats["limit_maxbytes"]) < 128 * MIB
