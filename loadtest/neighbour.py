"""The hog beside the server, and the limit that moves: a plan brought about while the load runs.

Knows: plans, the hog's lines, the file of a limit. Must not know: the load, what is measured. The hog is a
process of its own, bounded in size and time, and is ended with the `with` block; where this process dies, the
kernel ends it. The plan runs on a thread of its own. The limit that stood before is put back at the end.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.groups import Group
from loadtest.scenario import Action, most_of_hog
from loadtest.units import size_text

PROGRAM = Path(__file__).with_name("hog.py")
START_SECONDS = 10.0
SPARE_SECONDS = 60.0  # that the hog may live longer than the load: a load may begin late
RETRY_SECONDS = 0.05  # between two tries of a limit that the kernel refuses while more is in use
PATIENCE = 10.0  # seconds of such tries


class NeighbourError(Exception):
    """Why the plan cannot be brought about, in one line."""


class Note(NamedTuple):
    """Something that happened beside the load; `at` in seconds, on the clock of who asks."""

    at: float
    kind: str  # "hog" | "limit" | "kill" | "server" | "failed": what was planned did not come about
    text: str


class Hog:
    """The process; `group` is the memory cgroup that it joins. NeighbourError where it cannot be started."""

    def __init__(self, most: int, seconds: float, group: Group | None) -> None:
        argv = [sys.executable, "-S", "-E", str(PROGRAM), str(most), str(seconds + SPARE_SECONDS)]
        if group is not None:
            argv.append(str(group.procs))
        self._process = subprocess.Popen(  # in a group of its own: Ctrl-C is for who started it
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self.pid = self._process.pid
        late = threading.Timer(START_SECONDS, self._process.kill)
        late.start()
        try:
            assert self._process.stdout is not None
            answer = self._process.stdout.readline().strip()
        finally:
            late.cancel()
        if answer != "ready":
            self.end()
            raise NeighbourError(f"the hog does not start: {answer.removeprefix('no: ') or 'it died'}")

    def go(self, size: int, rate: int) -> None:
        """Grow or fall to `size` bytes. BrokenPipeError where it is gone: the kernel may have chosen it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size} {rate}\n")
        self._process.stdin.flush()

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Kill it and wait for it; what it held is free then."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Neighbour:
    """Brings `actions` about, in seconds from begin(); `notes` tells what was done and when."""

    def __init__(
        self,
        actions: Sequence[Action],
        group: Group | None,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.notes: list[Note] = []
        self.hog: Hog | None = None
        self._actions = list(actions)
        self._group = group
        self._seconds = seconds
        self._clock = clock
        self._moves_limit = any(action.kind == "limit" for action in actions)
        self._before = group.own_limit() if group is not None and self._moves_limit else None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if self._moves_limit:
            self._check_limit()

    def __enter__(self) -> Neighbour:
        most = most_of_hog(self._actions)
        if most:
            self.hog = Hog(most, self._seconds, self._group)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self.hog is not None:
            self.hog.end()
        if self._moves_limit and self._group is not None:
            with contextlib.suppress(OSError):
                self._group.set_limit(self._before)

    @property
    def hog_pid(self) -> int | None:
        return self.hog.pid if self.hog is not None else None

    def begin(self, elapsed: float = 0.0) -> None:
        """Begin the plan; `elapsed` seconds of it are over already. Once only."""
        if self._thread is None and self._actions:
            self._thread = threading.Thread(
                target=self._run, args=(time.monotonic() - elapsed,), name="loadtest-neighbour", daemon=True
            )
            self._thread.start()

    def _run(self, start: float) -> None:
        for number, action in enumerate(self._actions):
            if self._over.wait(max(0.0, start + action.at - time.monotonic())):
                return
            following = self._actions[number + 1 :]
            overtaken = any(
                each.kind == action.kind and start + each.at <= time.monotonic() for each in following
            )
            if action.kind == "hog":
                self._tell_hog(action)
            elif not overtaken:
                self._move_limit(action)
        self._over.wait()  # a hog that this thread has started anew ends with it

    def _tell_hog(self, action: Action) -> None:
        speed = f" at {size_text(action.rate)}/s" if action.rate else ""
        try:
            if self.hog is None or not self.hog.alive():
                self._note("hog", "the hog had been killed: another one")
                self.hog = Hog(most_of_hog(self._actions), self._seconds, self._group)
            self.hog.go(action.nbytes, action.rate)
        except (OSError, NeighbourError) as error:
            self._note("failed", f"no hog: {error}")
        else:
            self._note("hog", f"hog goes to {size_text(action.nbytes)}{speed}")

    def _move_limit(self, action: Action) -> None:
        """Set it; while the kernel refuses (v1: more is in use), try again until the next step is due."""
        assert self._group is not None
        until = time.monotonic() + (PATIENCE if action.last else RETRY_SECONDS)
        problem = ""
        while True:
            try:
                self._group.set_limit(action.nbytes)
            except OSError as error:
                problem = error.strerror or str(error)
            else:
                if action.last:
                    self._note("limit", f"limit {size_text(action.nbytes)}")
                return
            if time.monotonic() >= until or self._over.wait(RETRY_SECONDS):
                break
        if action.last:
            self._note("failed", f"limit {size_text(action.nbytes)} refused by the kernel: {problem}")

    def _check_limit(self) -> None:
        """NeighbourError where the limit cannot be set."""
        if self._group is None:
            raise NeighbourError(
                "the scenario moves the limit of the server's memory cgroup, and none is known:"
                " name it (--pid, --cgroup, --container)"
            )
        if not os.access(self._group.limit_file, os.W_OK):
            raise NeighbourError(
                f"{self._group.limit_file} cannot be written: root may, outside of the container"
            )

    def _note(self, kind: str, text: str) -> None:
        self.notes.append(Note(self._clock(), kind, text))
