"""The watch without the interpreter: one glance at files written by hand, and one that waits."""

from __future__ import annotations

import os
import resource
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cacheserver.pressure.glance import glance
from cacheserver.pressure.source import Gauge, Gauged, detect

KIB, MIB = 1 << 10, 1 << 20
LIMIT, LOW, HIGH = 256 * MIB, 100, 200
NO_LIMIT_V1 = "9223372036854771712\n"
WAIT = 10.0
MEMINFO = "MemTotal:        1048576 kB\nMemFree:          900000 kB\nMemAvailable:    {} kB\nBuffers: 1 kB\n"

Open = Callable[[str], int]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """opened(text) makes a file and returns a descriptor of it."""
    fds: list[int] = []

    def make(text: str) -> int:
        path = tmp_path / str(len(fds))
        path.write_text(text)
        fds.append(os.open(path, os.O_RDWR))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def once(wake: int, usage: int, limits: tuple[int, ...]) -> bool:
    """Whether one glance, without waiting, finds all quiet."""
    ready, rested = glance([], wake, 0.0, 1.0, 0.0, Gauge(usage, limits), LIMIT, LOW, HIGH, 0.0)
    assert ready == []
    assert rested == -1.0 or 0.0 <= rested < WAIT
    return rested >= 0.0


@pytest.mark.parametrize(
    ("usage", "quiet"),
    [
        ("100\n", True), ("200\n", True), ("150", True), ("99\n", False), ("201\n", False),
        ("99999999999999999999999\n", False), ("", False), ("\n", False), ("-150\n", False), ("low", False),
        ("1" * 600, False), ("150x\n", False), ("1.5e2\n", False), ("\x00150\n", False), (" 150 \n", True),
    ],
)  # fmt: skip
def test_the_usage_is_quiet_within_the_window_only(opened: Open, wake: int, usage: str, quiet: bool) -> None:
    assert once(wake, opened(usage), (opened(f"{LIMIT}\n"),)) is quiet


@pytest.mark.parametrize(
    ("limits", "quiet"),
    [
        ([str(LIMIT)], True), ([str(LIMIT - 4096)], False), ([NO_LIMIT_V1], False), (["max\n"], False),
        ([str(LIMIT), "max\n"], True), (["max\n", str(LIMIT)], True), ([str(2 * LIMIT), str(LIMIT)], True),
        ([str(LIMIT), "4096\n"], False), ([str(LIMIT), "soon\n"], False), ([str(LIMIT), ""], False),
        ([str(LIMIT), "-1\n"], False), ([str(LIMIT), "1" * 600], True), ([f"{LIMIT}k\n"], False),
        ([], False),
    ],
)  # fmt: skip
def test_the_lowest_limit_has_to_be_the_known_one(
    opened: Open, wake: int, limits: list[str], quiet: bool
) -> None:
    assert once(wake, opened("150\n"), tuple(opened(text) for text in limits)) is quiet


@pytest.mark.parametrize(
    ("text", "quiet"),
    [
        (MEMINFO.format((1 << 20) - 150), True), (MEMINFO.format((1 << 20) - 250), False),
        (MEMINFO.format((1 << 20) + 9), False),
        (MEMINFO.format((1 << 20) - 150).replace("1048576", "1048570"), False),
        ("MemTotal:  1048576 kB\nMemFree: 1 kB\n", False), ("MemTotal:\nMemAvailable:\n", False), ("", False),
        ("MemTotal:", False), ("\x00" + MEMINFO.format((1 << 20) - 150), False),
        # 2 ** 52 KiB and what has 19 digits are no sizes, whatever remains of them in 64 bits
        (MEMINFO.format((1 << 54) + (1 << 20) - 150), False), (MEMINFO.format("9" * 19), False),
    ],
)  # fmt: skip
def test_of_the_host_it_is_what_memavailable_leaves(opened: Open, wake: int, text: str, quiet: bool) -> None:
    usage = opened(text)
    _, rested = glance(
        [], wake, 0.0, 1.0, 0.0, Gauge(usage, meminfo=True), 1 << 30, LOW * KIB, HIGH * KIB, 0.0
    )
    assert (rested >= 0.0) is quiet


@pytest.mark.parametrize("name", ["hybrid-v1", "docker-v1", "docker-v2", "kubernetes-v1", "kubernetes-v2"])
def test_it_sees_in_the_files_of_a_host_what_the_sources_see(
    tree: Callable[[str], Path], wake: int, name: str
) -> None:
    seen = 0
    for source in detect(str(tree(name))):
        for reading in source.read(1.0):
            assert isinstance(source, Gauged)
            gauge = source.gauge(reading)
            if gauge is None:
                continue
            seen += 1
            share = 1.0 if gauge.stat_fd >= 0 else 0.0
            there = reading.usage - reading.reclaimable
            for off, quiet in ((0, True), (1, False), (-1, False)):
                low = high = there + off
                _, rested = glance([], wake, 0.0, 1.0, 0.0, gauge, reading.limit, low, high, share)
                assert (rested >= 0.0) is quiet, reading
    assert seen


def test_a_file_that_is_gone_ends_the_watch(opened: Open, wake: int) -> None:
    usage, (read, write) = opened("150\n"), os.pipe()
    os.close(write)
    assert not once(wake, read, (opened(str(LIMIT)),)), "not a file"
    assert not once(wake, usage, (read,))
    os.close(read)
    assert not once(wake, read, (usage,)), "closed"


def test_what_is_ready_ends_the_watch_but_for_the_wake_up_in_the_deaf_time(opened: Open, wake: int) -> None:
    files = Gauge(opened("150\n"), (opened(str(LIMIT)),)), LIMIT, LOW, HIGH, 0.0
    os.eventfd_write(wake, 1)
    ready, rested = glance([], wake, 0.0, WAIT, WAIT, *files)
    assert ready == [(wake, select.POLLIN)]
    assert rested == -1.0
    ready, rested = glance([], wake, 0.001, WAIT, WAIT, *files)
    assert ready == [(wake, select.POLLIN)]
    assert rested >= 0.0, "after the deaf time it has looked once"
    quiet, notice = os.eventfd(0), os.eventfd(1)
    gone, other = os.pipe()
    os.close(other)
    try:
        ready, _ = glance([(quiet, select.POLLPRI), (gone, 0)], quiet, 0.0, WAIT, WAIT, *files)
        assert ready == [(gone, select.POLLHUP)]
        ready, _ = glance([(notice, select.POLLIN)], quiet, 0.0, WAIT, WAIT, *files)
        assert ready == [(notice, select.POLLIN)]
    finally:
        os.close(notice)
        os.close(quiet)
        os.close(gone)


def test_it_returns_within_a_tick_of_a_change_and_other_threads_run_meanwhile(
    opened: Open, wake: int
) -> None:
    usage, answer = opened("150\n"), []
    files = Gauge(usage, (opened(str(LIMIT)),)), LIMIT, LOW, HIGH, 0.0
    watching = threading.Thread(target=lambda: answer.append(glance([], wake, 0.0, 0.001, WAIT, *files)))
    watching.start()
    watching.join(0.02)
    assert watching.is_alive()
    os.pwrite(usage, b"250", 0)
    watching.join(WAIT / 2)
    assert not watching.is_alive()
    ready, rested = answer[0]
    assert ready == []
    assert 0.0 <= rested < WAIT / 2


@pytest.mark.parametrize(
    ("usage", "share", "quiet"),
    [
        (150, 0.0, True),
        (150, 1.0, False),
        (650, 1.0, True),
        (400, 0.5, True),
        (451, 0.5, False),
        (650, 0.0, False),
    ],
)
def test_page_cache_is_subtracted_as_far_as_it_counts(
    opened: Open, wake: int, usage: int, share: float, quiet: bool
) -> None:
    stat = opened("cache 9\ninactive_file 400\ninactive_file_x 7\nactive_file 301\nfile_mapped 50\n")
    terms = (b"inactive_file ", 2), (b"active_file ", 1), (b"file_mapped ", -2)  # 500 bytes
    gauge = Gauge(opened(f"{usage}\n"), (opened(str(LIMIT)),), stat_fd=stat, terms=terms)
    _, rested = glance([], wake, 0.0, 1.0, 0.0, gauge, LIMIT, LOW, HIGH, share)
    assert (rested >= 0.0) is quiet
    without = gauge._replace(terms=(*terms, (b"file_dirty ", -2), (b"pad ", 1)))
    _, rested = glance([], wake, 0.0, 1.0, 0.0, without, LIMIT, LOW, HIGH, share)
    assert (rested >= 0.0) is (quiet and share == 0.0), "a field is missing"


def test_what_it_has_no_room_for_or_would_not_wait_for_is_refused(wake: int) -> None:
    gauge = Gauge(0, (0,))
    for seconds in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="never end"):
            glance([], wake, 0.0, 1.0, seconds, gauge, LIMIT, LOW, HIGH, 0.0)
    with pytest.raises(ValueError, match="never wait"):
        glance([], wake, 0.0, 0.0, 1.0, gauge, LIMIT, LOW, HIGH, 0.0)
    for many in gauge._replace(limit_fds=(0,) * 5), gauge._replace(terms=((b"x ", 1),) * 9):
        with pytest.raises(ValueError, match="too many"):
            glance([], wake, 0.0, 1.0, 0.0, many, LIMIT, LOW, HIGH, 0.0)


@pytest.mark.parametrize(
    "stat",
    [
        "active 1\n" * 1820 + "inactive_file 5001\n",  # too long to be read whole: it may end inside a number
        "inactive_file 9007199254740992000\n",
        "inactive_file 9007199254740992\n",
        "inactive_file -500\n",
        "inactive_file\n",
        "\x00inactive_file 500\n",
        "",
    ],
)
def test_page_cache_that_makes_no_sense_is_not_subtracted(opened: Open, wake: int, stat: str) -> None:
    terms = ((b"inactive_file ", 2),)
    gauge = Gauge(opened("150\n"), (opened(str(LIMIT)),), stat_fd=opened(stat), terms=terms)
    _, rested = glance([], wake, 0.0, 1.0, 0.0, gauge, LIMIT, -(1 << 62), 1 << 62, 1.0)
    assert rested == -1.0


def test_a_long_list_is_watched_and_a_longer_one_than_the_system_takes_is_an_error(
    opened: Open, wake: int
) -> None:
    files = Gauge(opened("150\n"), (opened(str(LIMIT)),)), LIMIT, LOW, HIGH, 0.0
    os.eventfd_write(wake, 1)
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    ready, _ = glance([(-1, select.POLLIN)] * (min(most, 5000) - 1), wake, 0.0, WAIT, WAIT, *files)
    assert ready == [(wake, select.POLLIN)]
    with pytest.raises(OSError, match="Invalid argument"):
        glance([(-1, select.POLLIN)] * min(most, 1 << 20), wake, 0.0, WAIT, WAIT, *files)


def test_a_descriptor_that_was_closed_or_is_another_file_now_only_ends_the_watch(
    opened: Open, wake: int
) -> None:
    usage, limit = opened("150\n"), opened(str(LIMIT))
    read, write = os.pipe()
    answer: list[tuple[list[tuple[int, int]], float]] = []

    def watch() -> None:
        answer.append(
            glance([(read, 0)], wake, 0.0, 0.001, WAIT, Gauge(usage, (limit,)), LIMIT, LOW, HIGH, 0.0)
        )

    watching = threading.Thread(target=watch)
    watching.start()
    other = os.open("/proc/self/status", os.O_RDONLY)
    os.dup2(other, usage)  # its number is somebody else's from now on
    watching.join(WAIT)
    assert answer[0][0] == []
    os.close(read)
    ready, _ = glance([(read, 0)], wake, 0.0, WAIT, WAIT, Gauge(limit, (limit,)), LIMIT, LOW, HIGH, 0.0)
    assert ready == [(read, select.POLLNVAL)]
    os.close(write)
    os.close(other)
