"""A memory-limited group of processes, made of a real cgroup of version 1 or 2.

Knows: the files of the memory controller. The group is a child of the root of the hierarchy (version 1) or of
this process's own group (version 2, where the controller must be available to it); it is removed at the end.
Sizes are bytes.
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


class Group:
    """One memory cgroup. Processes join by writing their id to `path`/cgroup.procs."""

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self.version = version

    def _number(self, name: str) -> int:
        return int((self.path / name).read_text())

    def limit(self, nbytes: int) -> None:
        """Set the limit; there is no swap beside it where the kernel counts swap."""
        name, swap = (
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            if self.version == 1
            else ("memory.max", "memory.swap.max")
        )
        (self.path / name).write_text(str(nbytes))
        with contextlib.suppress(OSError):
            (self.path / swap).write_text(str(nbytes if self.version == 1 else 0))

    def usage(self) -> int:
        """Bytes charged to the group now, page cache and kernel memory included."""
        return self._number("memory.usage_in_bytes" if self.version == 1 else "memory.current")

    def kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory."""
        text = (self.path / ("memory.oom_control" if self.version == 1 else "memory.events")).read_text()
        fields = dict(line.split() for line in text.splitlines())
        return int(fields.get("oom_kill", 0))

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
def memory_group(limit: int) -> Iterator[Group]:
    """Make a cgroup that may hold `limit` bytes; skip the test (in CI: fail it) where that is impossible."""
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
    missing(f"no memory-limited group can be made: {reasons[-1]}")


def joining(group: Path | None, argv: Sequence[str]) -> list[str]:
    """Return a command that enters the cgroup at `group` and then becomes `argv`; None changes nothing."""
    if group is None:
        return list(argv)
    return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *argv]
