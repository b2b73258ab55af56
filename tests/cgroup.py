"""A child memory cgroup for a test: make it, run programs in it, ask the kernel how it went, remove it.

    with MemoryGroup(128 << 20) as group:
        process = group.run([sys.executable, "-c", "..."])
        process.wait()
        assert group.oom_kills() == 0

Works with the v1 and the v2 controller, as root or where the parent group is delegated. `require()` skips the
test with the reason where no group can be made; with CACHESERVER_CI set such a skip is a failure.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_serial = itertools.count()


def _memory_parent() -> tuple[int, Path]:
    """(version, directory) of the group under which children are made; OSError says why there is none."""
    mounts = Path("/proc/self/mountinfo").read_text()
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    for line in mounts.splitlines():
        words, kind = line.split(" - ")[0].split(), line.split(" - ")[1].split()
        root, point = words[3], Path(words[4])
        if kind[0] == "cgroup" and "memory" in kind[2].split(","):
            path = next((path for names, path in own.items() if "memory" in names.split(",")), "/")
            inside = path[len(root.rstrip("/")) :] if path.startswith(root) else ""
            return 1, point / inside.lstrip("/")
    for line in mounts.splitlines():
        words, kind = line.split(" - ")[0].split(), line.split(" - ")[1].split()
        if kind[0] == "cgroup2":
            point = Path(words[4])
            if "memory" not in (point / "cgroup.subtree_control").read_text().split():
                # A process may not live beside the controlled children of its own group (except at the root).
                (point / "cgroup.subtree_control").write_text("+memory")
            return 2, point
    raise OSError("no memory controller is mounted")


def unavailable() -> str | None:
    """Why no memory group can be made here; None when it can."""
    try:
        with MemoryGroup(64 << 20):
            return None
    except (OSError, ValueError, StopIteration, IndexError) as error:
        return f"no child memory cgroup can be made here: {error}"


def require() -> None:
    """Skip the calling test with the reason when groups cannot be made; fail instead when CACHESERVER_CI is
    set.
    """
    import pytest

    reason = unavailable()
    if reason and os.environ.get("CACHESERVER_CI"):
        pytest.fail(f"{reason} (a skip is not accepted with CACHESERVER_CI set)")
    if reason:
        print(reason)
        pytest.skip(reason)


class MemoryGroup:
    """One group with a limit in bytes; a context manager. Leaving it kills what still runs inside."""

    def __init__(self, limit: int, name: str = "cacheserver-test") -> None:
        self.version, parent = _memory_parent()
        self.directory = parent / f"{name}-{os.getpid()}-{next(_serial)}"
        self._limit = limit
        self._started: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> MemoryGroup:
        self.directory.mkdir()
        try:
            self.set_limit(self._limit)
        except OSError:
            self.directory.rmdir()
            raise
        return self

    def set_limit(self, limit: int) -> None:
        """Change the limit live. On v1 OSError (EBUSY) when usage cannot be brought below it."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        (self.directory / name).write_text(str(limit))
        with contextlib.suppress(OSError):  # swap would hide what the test is about
            if self.version == 2:
                (self.directory / "memory.swap.max").write_text("0")
            else:
                (self.directory / "memory.swappiness").write_text("0")

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start `command` inside the group (it enters before it executes anything). Options as for Popen."""
        procs = str(self.directory / "cgroup.procs")

        def enter() -> None:
            with open(procs, "w") as file:
                file.write("0")

        process = subprocess.Popen(command, preexec_fn=enter, **options)
        self._started.append(process)
        return process

    def usage(self) -> int:
        """Bytes charged to the group now."""
        name = "memory.usage_in_bytes" if self.version == 1 else "memory.current"
        return int((self.directory / name).read_text())

    def oom_kills(self) -> int:
        """Processes of the group that the OOM killer has taken."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        for line in (self.directory / name).read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
        return 0  # kernels before 4.13 do not say; the exit status of the process (-9) does

    def limit_hits(self) -> int:
        """How often a charge met the limit (v1 failcnt, v2 the max event): not a kill, but no room was left.
        """
        if self.version == 1:
            return int((self.directory / "memory.failcnt").read_text())
        events = (self.directory / "memory.events").read_text().split()
        return int(events[events.index("max") + 1])

    def pids(self) -> list[int]:
        """Who is inside."""
        return [int(word) for word in (self.directory / "cgroup.procs").read_text().split()]

    def __exit__(self, *exc: object) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for _ in range(100):  # the kernel lets go of a group a moment after its last process
            try:
                self.directory.rmdir()
                return
            except OSError:
                time.sleep(0.05)
        raise OSError(f"{self.directory} could not be removed; still inside: {self.pids()}")
