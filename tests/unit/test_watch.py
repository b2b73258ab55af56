"""The `watch` command without a server: its grammar, who may watch, what becomes of a watcher."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cacheserver.lines import OK
from cacheserver.watch import FAILED, NOT_ALLOWED, TOO_MANY, WATCHERS_MAX, Watch

PATIENCE = 10.0
KINDS = {b"fetchers": 1, b"mutations": 2, b"evictions": 4}


class FakeQueue:
    def __init__(self, kinds: int) -> None:
        self.kinds = kinds
        self.lines = b""

    @property
    def pending(self) -> int:
        return len(self.lines)

    def take(self, most: int) -> bytes:
        taken, self.lines = self.lines[:most], self.lines[most:]
        return taken


class FakeLog:
    """Hands each queue what a test has put down for it, when it is drained."""

    def __init__(self) -> None:
        self.queues: list[FakeQueue] = []
        self.news: list[bytes] = []
        self.out_of_memory = False

    def add(self, kinds: int, nbytes: int) -> FakeQueue:
        if self.out_of_memory:
            raise MemoryError
        self.queues.append(FakeQueue(kinds))
        return self.queues[-1]

    def remove(self, queue: FakeQueue) -> None:
        self.queues.remove(queue)

    def drain(self) -> int:
        if not self.news:
            return 0
        line = self.news.pop()
        for queue in list(self.queues):
            queue.lines += line
        return 1

    def counters(self) -> dict[str, int]:
        return {"log_watcher_sent": 3}


class FakeStream:
    def __init__(self) -> None:
        self.sent = b""
        self.hung_up = threading.Event()
        self.closed = threading.Event()

    def send(self, data: bytes, *, patience: float = 60.0) -> None:
        if self.hung_up.is_set():
            raise ConnectionError
        self.sent += data

    def gone(self, timeout: float = 0.0) -> bool:
        return self.hung_up.is_set()

    def close(self) -> None:
        self.closed.set()

    def hang_up(self) -> None:
        self.hung_up.set()


class Bench:
    """Watchers in threads of their own, as the desk would run them."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.watch = Watch(self.log, KINDS)
        self.streams: list[FakeStream] = []

    def begin(self, *names: bytes) -> FakeStream:
        job = self.watch.command(names)
        assert callable(job)
        stream = FakeStream()
        self.streams.append(stream)

        def run() -> None:
            try:
                job(stream)
            except ConnectionError:
                stream.close()

        threading.Thread(target=run, daemon=True).start()
        until(lambda: stream.sent != b"" or stream.closed.is_set())
        return stream


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.watch.stop()
    assert all(stream.closed.wait(PATIENCE) for stream in made.streams if stream.sent == OK)


@pytest.mark.parametrize(
    ("names", "reply"),
    [
        ([b"bogus"], b"ERROR\r\n"),
        ([b"fetchers", b"bogus"], b"ERROR\r\n"),
        ([b"Fetchers"], b"ERROR\r\n"),
        ([b"fetchers", b"noreply"], b""),
    ],
)
def test_what_cannot_be_watched(bench: Bench, names: list[bytes], reply: bytes) -> None:
    assert bench.watch.command(names) == reply
    assert bench.log.queues == []


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        ([], 1),
        ([b"fetchers"], 1),
        ([b"evictions", b"mutations"], 6),
        ([b"rawcmds", b"sysevents", b"proxyreqs", b"proxyevents", b"proxyuser", b"mutations"], 2),
        ([b"rawcmds"], 0),
    ],
)
def test_a_watcher_sees_the_kinds_it_named(bench: Bench, names: list[bytes], kinds: int) -> None:
    assert bench.begin(*names).sent == OK
    assert [queue.kinds for queue in bench.log.queues] == [kinds]


def test_where_watching_is_refused_nothing_is_looked_at() -> None:
    watch = Watch(FakeLog(), KINDS, allowed=False)
    assert watch.command([b"fetchers"]) == watch.command([b"bogus"]) == NOT_ALLOWED


def test_lines_reach_every_watcher(bench: Bench) -> None:
    first, second = bench.begin(), bench.begin(b"mutations")
    bench.log.news.append(b"a line\n")
    until(lambda: first.sent == second.sent == OK + b"a line\n")
    assert bench.watch.counters() == {"log_watcher_sent": 3, "log_watchers": 2}


def test_who_hangs_up_makes_room_for_another_and_the_last_one_ends_the_thread(bench: Bench) -> None:
    streams = [bench.begin() for _ in range(WATCHERS_MAX)]
    assert bench.begin().sent == TOO_MANY
    streams[0].hang_up()
    assert streams[0].closed.wait(PATIENCE)
    until(lambda: len(bench.log.queues) == WATCHERS_MAX - 1)
    assert bench.begin().sent == OK
    for stream in bench.streams:
        stream.hang_up()
    until(lambda: not any(thread.name == "watch" for thread in threading.enumerate()))
    assert bench.log.queues == []
    bench.log.news.append(b"seen again\n")
    again = bench.begin()
    until(lambda: again.sent == OK + b"seen again\n")


def test_without_memory_a_watcher_is_told_so(bench: Bench) -> None:
    bench.log.out_of_memory = True
    assert bench.begin().sent == FAILED
    assert bench.watch.counters()["log_watchers"] == 0


def test_the_end_of_the_server_ends_all_watchers_and_lets_none_in(bench: Bench) -> None:
    stream = bench.begin()
    bench.watch.stop()
    assert stream.closed.wait(PATIENCE)
    assert bench.begin().sent == b""
