"""Relief: merging requests, and losing none whichever thread is first."""

from collections.abc import Callable

from cacheserver.relief import Relief


class FakeWorker:
    """Keeps the calls for later, runs them at once as a fast thread would, or refuses them as an ended one."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.reactor = self
        self.calls: list[Callable[[], None]] = []
        self.relieved: list[tuple[bool, int]] = []

    def call_soon_threadsafe(self, call: Callable[[], None]) -> bool:
        if self.mode == "late":
            self.calls.append(call)
        elif self.mode == "at once":
            call()
        return self.mode != "ended"

    def relieve(self, hard: bool, target: int) -> None:
        self.relieved.append((hard, target))


def relief(mode: str) -> tuple[FakeWorker, Relief]:
    worker = FakeWorker(mode)
    return worker, Relief(worker)  # type: ignore[arg-type]


def test_waiting_requests_are_merged_into_the_strongest() -> None:
    worker, holder = relief("late")
    for hard, target in ((False, 0), (True, 500), (True, 200), (False, 0)):
        holder.relieve_soon(hard, target)
    assert len(worker.calls) == 1
    worker.calls.pop()()
    holder.relieve_soon(False, 0)
    worker.calls.pop()()
    assert worker.relieved == [(True, 500), (False, 0)]


def test_call_that_runs_before_the_caller_goes_on_blocks_no_later_one() -> None:
    worker, holder = relief("at once")
    holder.relieve_soon(False, 0)
    holder.relieve_soon(True, 7)
    assert worker.relieved == [(False, 0), (True, 7)]


def test_refused_call_leaves_nothing_behind() -> None:
    worker, holder = relief("ended")
    holder.relieve_soon(True, 7)
    worker.mode = "at once"
    holder.relieve_soon(False, 0)
    assert worker.relieved == [(False, 0)]
