"""Chunk accounting: what is asked, counted, waited for and refused."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacheserver.pressure import ChunkAccount, Monitor
from tests.unit.pressure.conftest import HandSource

MIB = 1 << 20
CHUNK = 10 * MIB
WAIT = 0.020


class Bench:
    """An account of ten chunks on a clock turned by hand. A wait takes 1 ms, in which the program does what
    is next in `meanwhile`.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []
        self.meanwhile: list[Callable[[], object]] = []
        self.account = ChunkAccount(
            CHUNK, hard_wait=WAIT, monitor=Monitor([]), clock=lambda: self.now, wait=self.wait
        )
        self.account.add(10)

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += min(0.001, seconds)
        if self.meanwhile:
            self.meanwhile.pop(0)()

    def soft(self, target: int) -> int:
        return self.account.request_memory(target, False)

    def hard(self, target: int) -> int:
        return self.account.request_memory(target, True)


@pytest.fixture(params=["eventfd", "pipe"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with eventfds, and one without."""
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.account.close()


@pytest.mark.usefixtures("system")
def test_a_request_comes_in_whole_chunks_and_leaves_the_count_at_once(bench: Bench) -> None:
    account = bench.account
    assert account.read() == 0
    assert bench.soft(CHUNK + 1) == 0
    assert (account.count, account.pending) == (8, 2)
    assert bench.soft(1000 * CHUNK) == 0  # never more than there is
    assert (account.count, account.pending) == (0, 10)
    assert account.read() == 10
    assert account.read() == 0


def test_what_is_under_way_is_not_asked_for_twice(bench: Bench) -> None:
    for target in (3, 3, 5, 2):
        bench.soft(target * CHUNK)
    assert bench.account.read() == 5
    bench.account.remove(4)
    bench.soft(3 * CHUNK)
    assert bench.account.read() == 2


def test_what_is_put_back_is_counted_and_asked_for_again(bench: Bench) -> None:
    bench.soft(4 * CHUNK)
    assert bench.account.read() == 4
    bench.account.remove(1)
    assert bench.account.put_back(3) == 3
    assert (bench.account.count, bench.account.pending) == (9, 0)
    bench.soft(2 * CHUNK)
    assert bench.account.read() == 2


def test_chunks_that_another_thread_freed_meanwhile_cannot_be_put_back(bench: Bench) -> None:
    bench.soft(4 * CHUNK)
    bench.account.remove(3)
    assert bench.account.put_back(2) == 1
    assert (bench.account.count, bench.account.pending) == (7, 0)


def test_a_hard_request_ends_as_soon_as_enough_is_freed(bench: Bench) -> None:
    bench.meanwhile = [lambda: None, lambda: bench.account.remove(2), lambda: bench.account.remove(1)]
    assert bench.hard(3 * CHUNK) == 3 * CHUNK
    assert len(bench.waits) == 3
    assert bench.account.count == 7


def test_a_hard_request_waits_for_what_was_asked_for_softly(bench: Bench) -> None:
    bench.soft(6 * CHUNK)
    bench.meanwhile = [lambda: bench.account.remove(2)]
    assert bench.hard(2 * CHUNK) == 2 * CHUNK
    assert bench.account.read() == 6


def test_a_hard_request_ends_when_all_is_answered(bench: Bench) -> None:
    bench.meanwhile = [lambda: bench.account.remove(1), lambda: bench.account.put_back(2)]
    assert bench.hard(3 * CHUNK) == CHUNK
    assert len(bench.waits) == 2


def test_a_hard_request_gives_up_in_time_and_says_what_was_freed(bench: Bench) -> None:
    bench.meanwhile = [lambda: bench.account.remove(1)]
    assert bench.hard(3 * CHUNK) == CHUNK
    assert bench.now - 100.0 == pytest.approx(WAIT)
    assert bench.waits[0] == pytest.approx(WAIT)
    assert bench.waits[1] == pytest.approx(WAIT - 0.001)
    assert bench.account.pending == 2


def test_a_program_that_never_answers_is_waited_for_once_until_it_does(bench: Bench) -> None:
    assert bench.hard(CHUNK) == 0
    waited = len(bench.waits)
    assert bench.hard(2 * CHUNK) == 0
    assert len(bench.waits) == waited
    assert bench.account.read() == 2  # asked it is
    bench.account.put_back(2)
    bench.meanwhile = [lambda: bench.account.remove(1)]
    assert bench.hard(CHUNK) == CHUNK


def test_an_account_with_nothing_on_it_is_neither_asked_nor_waited_for(bench: Bench) -> None:
    bench.account.remove(10)
    assert bench.hard(CHUNK) == 0
    assert bench.waits == []
    assert bench.account.read() == 0


def test_freeing_far_more_than_was_asked_does_not_look_like_a_lie(bench: Bench) -> None:
    bench.meanwhile = [lambda: bench.account.remove(1000)] * 3
    for _ in range(3):
        bench.account.add(1000)
        assert CHUNK <= bench.hard(1) <= 64 * MIB + 4


@pytest.mark.parametrize(
    ("misuse", "advice"),
    [
        (lambda account: account.add(-1), "cannot add -1 chunks: .* remove()"),
        (lambda account: account.remove(-1), "cannot remove -1 chunks: .* add()"),
        (lambda account: account.put_back(-1), "cannot put back -1 chunks: pass how many"),
        (
            lambda account: account.remove(11),
            r"cannot remove 11 chunks, the account has 10: report .* add\(\)",
        ),
    ],
)
def test_misuse_is_refused_in_words_and_changes_nothing(
    bench: Bench, misuse: Callable[[ChunkAccount], object], advice: str
) -> None:
    bench.soft(CHUNK)
    with pytest.raises(ValueError, match=advice):
        misuse(bench.account)
    assert (bench.account.count, bench.account.pending) == (9, 1)


@pytest.mark.parametrize(
    "arguments", [{"chunk_size": 0}, {"hard_wait": -1.0}, {"hard_wait": float("inf")}, {"cost": 0}]
)
def test_an_account_of_nonsense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ChunkAccount(**{"chunk_size": CHUNK, "monitor": Monitor([]), **arguments})  # type: ignore[arg-type]


@pytest.mark.usefixtures("system")
async def test_any_loop_can_wait_for_the_descriptor(bench: Bench) -> None:
    account = bench.account
    assert select.select([account], [], [], 0) == ([], [], [])
    bench.soft(CHUNK)
    assert select.select([account], [], [], 0)[0] == [account]
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[int] = loop.create_future()
    loop.add_reader(account, lambda: asked.set_result(account.read()))
    bench.soft(4 * CHUNK)
    assert await asked == 4
    loop.remove_reader(account)
    assert select.select([account], [], [], 0) == ([], [], [])


@pytest.mark.usefixtures("system")
def test_the_monitor_asks_a_thread_that_waits_and_hears_no_more_after_close() -> None:
    source = HandSource(1000 * MIB)
    monitor = Monitor([source], clock=lambda: 100.0)
    account = ChunkAccount(CHUNK, monitor=monitor, hard_wait=60.0)
    account.add(50)
    asked: list[int] = []

    def free() -> None:
        select.select([account], [], [])
        asked.append(account.read())
        source.others -= asked[0] * CHUNK
        account.remove(asked[0])

    thread = threading.Thread(target=free)
    thread.start()
    source.others = 1000 * MIB
    monitor.tick(100.0)  # hard: returns when the thread has freed
    thread.join(60)
    assert asked[0] >= 6  # 6 % is the smallest reserve, and nothing is left of it
    assert monitor.status().bytes_released_hard == asked[0] * CHUNK

    account.close()
    account.close()
    assert account.fileno() == -1
    shrinks = monitor.status().shrinks_hard
    monitor.tick(101.0)
    assert monitor.status().shrinks_hard == shrinks


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "put_back", "soft", "hard", "read"]), st.integers(0, 9))
    )
)
def test_no_chunk_is_ever_lost_or_invented(steps: list[tuple[str, int]]) -> None:
    account = Bench().account
    held, asked, back, freed = 10, 0, 0, 0
    for step, number in steps:
        if step == "add":
            account.add(number)
            held += number
        elif step == "remove" and number <= held:
            settled = min(number, account.pending)
            account.remove(number)
            held, freed = held - number, freed + settled
        elif step == "put_back":
            back += account.put_back(number)
        elif step in ("soft", "hard"):
            account.request_memory(number * CHUNK or 1, step == "hard")
        elif step == "read":
            asked += account.read()
        assert account.count + account.pending == held
        assert account.count >= 0
    asked += account.read()
    assert asked == freed + back + account.pending
    account.close()
