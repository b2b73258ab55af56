"""A memory-limited group of processes, made of a real cgroup of version 1 or 2.

Knows: the files of the memory controller. The group is a child of the root of the hierarchy (version 1) or of
this process's own group (version 2, where the controller must be available to it); it is removed at the end.
Tests take one from `memory_group`, which skips where there can be none; programs from `limited_group`, which
raises NoGroup. Sizes are bytes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.requirements import missing

ROOT_V1 = Path("/sys/fs/cgroup/memory")
ROOTS_V2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


class NoGroup(Exception):
    """Why no memory-limited group can be made, in one line."""


class Group:
    """One memory cgroup. Processes join by writing their id to `path`/cgroup.procs."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version

    def _number(self, name: str) -> int:
        return int((self.path / name).read_text())

    def limit(self, nbytes: int) -> None:
        """Set the limit; there is no swap beside it where the kernel counts swap.

        OSError(EBUSY) on version 1 where more than `nbytes` is in use.
        """
        if self.version == 2:
            (self.path / "memory.max").write_text(str(nbytes))
            with contextlib.suppress(OSError):
                (self.path / "memory.swap.max").write_text("0")
            return
        # The limit of memory and swap together must never be the lower one: raised first, lowered last.
        with contextlib.suppress(OSError):
            (self.path / "memory.memsw.limit_in_bytes").write_text(str(nbytes))
        (self.path / "memory.limit_in_bytes").write_text(str(nbytes))
        with contextlib.suppress(OSError):
            (self.path / "memory.memsw.limit_in_bytes").write_text(str(nbytes))

    def throttle(self, nbytes: int) -> None:
        """Set memory.high, which slows down and never kills (version 2 only); 0 takes it away."""
        (self.path / "memory.high").write_text(str(nbytes) if nbytes else "max")

    def usage(self) -> int:
        """Bytes charged to the group now, page cache and kernel memory included."""
        return self._number("memory.usage_in_bytes" if self.version == 1 else "memory.current")

    def kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory."""
        return self._field("memory.oom_control" if self.version == 1 else "memory.events", "oom_kill")

    def limit_hits(self) -> int | None:
        """How often a process of the group wanted memory that the limit did not leave; None on version 1.

        Linux 6.18 leaves memory.failcnt at 0 even after a kill.
        """
        return None if self.version == 1 else self._field("memory.events", "max")

    def highest_usage(self) -> int:
        """The largest usage since `forget_highest`; 0 where the kernel does not tell."""
        try:
            return self._number("memory.max_usage_in_bytes" if self.version == 1 else "memory.peak")
        except OSError:
            return 0

    def forget_highest(self) -> bool:
        """Begin anew with `highest_usage`; False where it keeps that of the group's whole life (v2)."""
        if self.version == 1:
            (self.path / "memory.max_usage_in_bytes").write_text("0")
        return self.version == 1

    def _field(self, name: str, field: str) -> int:
        text = (self.path / name).read_text()
        return int(dict(line.split() for line in text.splitlines()).get(field, 0))

    def processes(self) -> list[int]:
        return [int(word) for word in (self.path / "cgroup.procs").read_text().split()]

    def remove(self) -> None:
        """Kill what is left in the group and remove it."""
        for _ in range(100):
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                self.path.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                return


def _own_group_v2(root: Path) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return root / line[3:].lstrip("/")
    return root


def _candidates() -> Iterator[tuple[Path, int]]:
    """Yield the directories in which a child group might be made, with the version."""
    if (ROOT_V1 / "memory.limit_in_bytes").exists():
        yield ROOT_V1, 1
    for root in ROOTS_V2:
        if "memory" in _words(root / "cgroup.controllers"):
            with contextlib.suppress(OSError):
                (root / "cgroup.subtree_control").write_text("+memory")
            for parent in (root, _own_group_v2(root)):
                if "memory" in _words(parent / "cgroup.subtree_control"):
                    yield parent, 2


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


@contextlib.contextmanager
def limited_group(limit: int) -> Iterator[Group]:
    """Make a cgroup that may hold `limit` bytes; NoGroup where that is impossible."""
    reasons = ["no memory controller of cgroup v1 or v2 is mounted"]
    for parent, version in _candidates():
        group = Group(parent / f"cacheserver-test-{uuid.uuid4().hex[:12]}", version)
        try:
            group.path.mkdir()
        except OSError as error:
            reasons.append(str(error))
            continue
        try:
            group.limit(limit)
            yield group
        finally:
            group.remove()
        return
    raise NoGroup(f"no memory-limited group can be made: {reasons[-1]}")


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Group]:
    """Make a cgroup that may hold `limit` bytes; skip the test (in CI: fail it) where that is impossible."""
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(limited_group(limit))
        except NoGroup as error:
            missing(str(error))
        yield group


def joining(group: Path | None, argv: Sequence[str]) -> list[str]:
    """Return a command that enters the cgroup at `group` and then becomes `argv`; None changes nothing."""
    if group is None:
        return list(argv)
    return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *argv]
