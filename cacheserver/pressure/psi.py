"""A PSI trigger: the kernel says when tasks have waited for memory, between two ticks.

Knows: the trigger protocol (kernel documentation, accounting/psi). Must not know: what the monitor makes of
it. Memory: owns one descriptor; closing it removes the trigger.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from cacheserver.pressure.mounts import groups
from cacheserver.pressure.source import Reading, Watch

# 200 ms of waiting within 2 s: windows that are a multiple of 2 s are open to unprivileged processes.
TRIGGER = b"some 200000 2000000\0"
# watches() is called about once a second: a refused trigger is tried again after half a minute
RETRY_CALLS = 30


class StallSource:
    """A trigger on this process's own group where v2 gives it a memory.pressure, else on the whole host."""

    name = "psi"

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._fd = -1
        self._wait = 0

    def read(self, now: float) -> Sequence[Reading]:
        return ()

    def quick(self, last: Reading) -> Reading | None:
        return None

    def watches(self) -> Sequence[Watch]:
        if self._fd < 0:
            if self._wait > 0:
                self._wait -= 1
                return ()
            self._fd = self._open()
            if self._fd < 0:
                self._wait = RETRY_CALLS
                return ()
        return (Watch(self._fd, True, self._acknowledge),)

    def _candidates(self) -> list[str]:
        paths = []
        try:
            with open(os.path.join(self._root, "proc/self/mountinfo"), errors="surrogateescape") as file:
                mountinfo = file.read()
            with open(os.path.join(self._root, "proc/self/cgroup"), errors="surrogateescape") as file:
                own = file.read()
            v2 = [group for group in groups(mountinfo, own, self._root) if group.version == 2]
            # In a hybrid set-up the v2 group does not bound memory, and its neighbours' stalls are not ours.
            if v2 and os.path.exists(os.path.join(v2[0].directory, "memory.max")):
                paths.append(os.path.join(v2[0].directory, "memory.pressure"))
        except OSError:
            pass
        return [*paths, os.path.join(self._root, "proc/pressure/memory")]

    def _open(self) -> int:
        for path in self._candidates():
            fd = -1
            try:
                fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                # A kernel file shows no size; writing to anything else would damage it.
                if os.fstat(fd).st_size == 0 and os.write(fd, TRIGGER):
                    return fd
            except OSError:
                pass
            if fd >= 0:
                os.close(fd)
        return -1

    def _acknowledge(self, events: int) -> bool:
        if events & select.POLLERR:  # the group is gone
            self.close()
            return False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
