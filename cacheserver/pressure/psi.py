"""A PSI trigger: the kernel says when tasks have waited for memory, between two ticks.

Knows: the trigger protocol (kernel documentation, accounting/psi). Must not know: what the monitor makes of
it. Memory: owns one descriptor (notice); closing it removes the trigger.
"""

from __future__ import annotations

import logging
import os
import select

from cacheserver.pressure.mounts import groups
from cacheserver.pressure.notice import NoticeSource
from cacheserver.pressure.source import Trouble

# 200 ms of waiting within 2 s: windows that are a multiple of 2 s are open to unprivileged processes.
TRIGGER = b"some 200000 2000000\0"


class StallSource(NoticeSource):
    """A trigger on this process's own group where v2 gives it a memory.pressure, else on the whole host."""

    name = "psi"

    def __init__(self, root: str = "/") -> None:
        # Polling goes on without it, and it is refused in many a container: nobody need be warned.
        super().__init__(Trouble("notice of stalls (PSI)", logging.INFO))
        self._root = root
        self._own = ""  # /proc/self/cgroup as it was when the trigger was made

    def _membership(self) -> str:
        """The text of /proc/self/cgroup, "" while it cannot be read."""
        try:
            with open(os.path.join(self._root, "proc/self/cgroup"), errors="surrogateescape") as file:
                return file.read()
        except OSError:
            return ""

    def _moved(self) -> bool:
        return self._membership() not in ("", self._own)

    def _candidates(self) -> list[str]:
        paths = []
        self._own = self._membership()
        try:
            with open(os.path.join(self._root, "proc/self/mountinfo"), errors="surrogateescape") as file:
                mountinfo = file.read()
        except OSError:
            mountinfo = ""
        v2 = [group for group in groups(mountinfo, self._own, self._root) if group.version == 2]
        # In a hybrid set-up the v2 group does not bound memory, and its neighbours' stalls are not ours.
        if v2 and os.path.exists(os.path.join(v2[0].directory, "memory.max")):
            paths.append(os.path.join(v2[0].directory, "memory.pressure"))
        return [*paths, os.path.join(self._root, "proc/pressure/memory")]

    def _open(self) -> tuple[int, int]:
        refused = ""
        for path in self._candidates():
            try:
                return open_trigger(path), select.POLLPRI
            except FileNotFoundError:  # a kernel without PSI
                pass
            except (OSError, ValueError) as error:
                refused = f"{path}: {getattr(error, 'strerror', None) or error}"
        if refused:
            raise ValueError(refused)
        return -1, 0


def open_trigger(path: str) -> int:
    """Make a trigger on the PSI file at `path`; returns its descriptor. OSError, ValueError: refused."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # A kernel file shows no size; writing to anything else would damage it.
        if os.fstat(fd).st_size:
            raise ValueError("not a kernel file")
        os.write(fd, TRIGGER)
    except BaseException:
        os.close(fd)
        raise
    return fd
