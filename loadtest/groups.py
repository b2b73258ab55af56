"""Memory cgroups of versions 1 and 2 from outside: whose a process is, what it holds, and new ones to try in.

Knows: the files of the memory controller. Must not know: what runs in a group, why somebody looks. Sizes are
bytes. Readings are None where a file is not there, cannot be read or says "no limit": a sample that cannot be
had is left out. A group that make() has made belongs to its caller and is removed with the `with` block.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

UNLIMITED_V1 = 1 << 62  # v1 writes "no limit" as 2^63 rounded down to pages
PSI = re.compile(r"^some .*total=(\d+)", re.MULTILINE)


class NoGroup(Exception):
    """Why there is no such group, in one line."""


class Mount(NamedTuple):
    """Where a hierarchy with the memory controller is mounted, and which of its groups is seen there."""

    path: Path
    root: str
    version: int


def mounts(proc: Path = Path("/proc")) -> list[Mount]:
    """The mounted hierarchies that may have the memory controller, version 1 first: it wins over 2."""
    found = []
    with contextlib.suppress(OSError):
        for line in (proc / "self/mountinfo").read_text().splitlines():
            front, _, back = line.partition(" - ")
            kind, _, options = back.partition(" ")
            root, path = front.split()[3:5]
            if kind == "cgroup" and "memory" in options.split()[-1].split(","):
                found.append(Mount(Path(path), root, 1))
            elif kind == "cgroup2":
                found.append(Mount(Path(path), root, 2))
    return sorted(found, key=lambda mount: mount.version)


class Group:
    """One memory cgroup at the directory `path`, below the mounted `top`."""

    def __init__(self, path: Path, version: int, top: Path | None = None) -> None:
        self.path = path
        self.version = version
        self.top = top or path

    # -- readings --

    def binding(self) -> tuple[int, int] | None:
        """(limit, usage) of the group itself or of the ancestor with the least room; None: no limit."""
        found = []
        for path in (self.path, *self.path.parents):
            limit, usage = self._limit(path), _number(path / self._usage_name)
            if limit is not None and usage is not None:
                found.append((limit, usage))
            if path == self.top:
                break
        return min(found, key=lambda pair: pair[0] - pair[1], default=None)

    def limit(self) -> int | None:
        """The limit that binds, the group's own or an ancestor's."""
        pair = self.binding()
        return pair[0] if pair else None

    def own_limit(self) -> int | None:
        """The limit that stands in the group itself."""
        return self._limit(self.path)

    def usage(self) -> int | None:
        """What is charged to the group itself, page cache and kernel memory included."""
        return _number(self.path / self._usage_name)

    def kills(self) -> int | None:
        """Processes of the group that the kernel has killed for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        with contextlib.suppress(OSError, ValueError):
            for line in (self.path / name).read_text().splitlines():
                word, _, number = line.partition(" ")
                if word == "oom_kill":
                    return int(number)
        return None

    def stalled(self, host: Path = Path("/proc/pressure/memory")) -> int | None:
        """Microseconds in which some task waited for memory: the group's (v2), else the host's."""
        for path in (self.path / "memory.pressure", host):
            with contextlib.suppress(OSError):
                found = PSI.search(path.read_text())
                if found:
                    return int(found[1])
        return None

    def processes(self) -> list[int]:
        return _processes(self.procs)

    def all_processes(self) -> set[int]:
        """Those of the groups below it, too."""
        return {pid for path in self.path.rglob(self.procs.name) for pid in _processes(path)}

    # -- doing --

    @property
    def procs(self) -> Path:
        """The file that a process joins by writing its id to."""
        return self.path / "cgroup.procs"

    @property
    def limit_file(self) -> Path:
        return self.path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max")

    def set_limit(self, nbytes: int | None) -> None:
        """Set the group's own limit, None for none.

        OSError(EBUSY) on version 1 where more is in use; on version 2 the kernel kills instead.
        """
        if self.version == 2:
            self.limit_file.write_text("max" if nbytes is None else str(nbytes))
            return
        # The limit of memory and swap together must never be the lower one; where it is not, it stays.
        both = _number(self._both_file)
        if both is not None and (nbytes is None or both < nbytes):
            self._both_file.write_text("-1" if nbytes is None else str(nbytes))
        self.limit_file.write_text("-1" if nbytes is None else str(nbytes))

    def no_swap(self) -> None:
        """Keep the group's memory in memory where the kernel counts swap; call it after set_limit()."""
        with contextlib.suppress(OSError):
            if self.version == 2:
                (self.path / "memory.swap.max").write_text("0")
            else:
                self._both_file.write_text(str(self.own_limit() or -1))

    @property
    def _both_file(self) -> Path:
        return self.path / "memory.memsw.limit_in_bytes"

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

    @property
    def _usage_name(self) -> str:
        return "memory.usage_in_bytes" if self.version == 1 else "memory.current"

    def _limit(self, path: Path) -> int | None:
        number = _number(path / ("memory.limit_in_bytes" if self.version == 1 else "memory.max"))
        return None if number is None or number >= UNLIMITED_V1 else number


def _processes(procs: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in procs.read_text().split()]
    return []


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


# -- which group --


def at(path: Path) -> Group:
    """The group whose directory is `path`. NoGroup."""
    path = path.resolve()
    for mount in mounts():
        if path.is_relative_to(mount.path):
            return Group(path, mount.version, mount.path)
    for version, name in ((1, "memory.limit_in_bytes"), (2, "memory.events"), (2, "cgroup.controllers")):
        if (path / name).exists():
            return Group(path, version)
    raise NoGroup(f"{path} is no memory cgroup: say a directory below where the hierarchy is mounted")


def of_process(pid: int, proc: Path = Path("/proc")) -> Group | None:
    """The memory cgroup of a process; None where it cannot be seen from here."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    paths: dict[int, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths[2] = path
        elif "memory" in controllers.split(","):
            paths[1] = path
    for mount in mounts(proc):
        if mount.version not in paths:
            continue
        below = os.path.relpath(paths[mount.version], mount.root)
        folder = (mount.path / below).resolve() if not below.startswith("..") else mount.path
        if folder.is_dir():
            return Group(folder, mount.version, mount.path)
    return None


# -- new ones --


def _parents() -> Iterator[tuple[Path, int]]:
    """Yield the directories in which a child group might be made, with the version."""
    for mount in mounts():
        if mount.version == 1:
            yield mount.path, 1
            continue
        own = of_process(os.getpid())
        for path in (mount.path, *([own.path] if own and own.version == 2 else [])):
            with contextlib.suppress(OSError):
                (path / "cgroup.subtree_control").write_text("+memory")
            with contextlib.suppress(OSError):
                if "memory" in (path / "cgroup.subtree_control").read_text().split():
                    yield path, 2


@contextlib.contextmanager
def make(limit: int) -> Iterator[Group]:
    """Make a memory cgroup that may hold `limit` bytes and has no swap. NoGroup where that is impossible."""
    reasons = ["no memory controller of cgroup v1 or v2 is mounted"]
    for parent, version in _parents():
        group = Group(parent / f"loadtest-{uuid.uuid4().hex[:12]}", version)
        try:
            group.path.mkdir()
        except OSError as error:
            reasons.append(str(error))
            continue
        try:
            try:
                group.set_limit(limit)
            except OSError as error:
                reasons.append(str(error))
                continue
            group.no_swap()
            yield group
            return
        finally:
            group.remove()
    raise NoGroup(f"no memory-limited group can be made (that needs root): {reasons[-1]}")
