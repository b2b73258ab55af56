"""The process's own limits as bounds: RLIMIT_AS (`ulimit -v`) and RLIMIT_DATA (`ulimit -d`).

Knows: getrlimit and /proc/self/statm. Must not know: who reserves address space. Memory: owns one probe.

Both limits are on address space, touched or not (mm/mmap.c, may_expand_vm), and a cache that reserves its
space at once would look full when it is empty. Space that is mapped, private and writable but not touched
yet is therefore no usage: whoever holds it can still fill it. So what counts is

    RLIMIT_AS    total - (data - anonymous)          RLIMIT_DATA    anonymous

with total, data and the resident anonymous memory of statm. Nobody is killed at these limits, but mmap fails.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence

from cacheserver.pressure.source import Probe, Reading, Watch, whole

PAGE = resource.getpagesize()


class RlimitSource:
    """One bound for each of the two limits that is set. `getrlimit`: as resource.getrlimit."""

    name = "rlimit"

    def __init__(
        self, root: str = "/", getrlimit: Callable[[int], tuple[int, int]] = resource.getrlimit
    ) -> None:
        self._statm = Probe(os.path.join(root, "proc/self/statm"))
        self._getrlimit = getrlimit
        self._last: tuple[int, int] | None = None

    def read(self, now: float) -> Sequence[Reading]:
        limits = [
            (name, self._getrlimit(which)[0])
            for name, which in (("RLIMIT_AS", resource.RLIMIT_AS), ("RLIMIT_DATA", resource.RLIMIT_DATA))
        ]
        # Below 0 is RLIM_INFINITY, and what Python makes of a limit of 2^63 bytes and more.
        if all(limit < 0 for _, limit in limits):
            return ()
        usage = self._usage()
        stale = usage is None
        usage = self._last = usage or self._last
        if usage is None:
            return ()
        return [
            Reading(name, limit, used, stale=stale)
            for (name, limit), used in zip(limits, usage, strict=True)
            if limit >= 0
        ]

    def _usage(self) -> tuple[int, int] | None:
        """Bytes that count against (RLIMIT_AS, RLIMIT_DATA); None: unreadable."""
        text = self._statm.read()
        if text is None:
            return None
        try:
            size, resident, shared, _text, _lib, data = map(whole, text.split()[:6])
        except ValueError:
            self._statm.complain("it has not the six numbers of statm")
            return None
        self._statm.recover()
        anonymous = min(max(0, resident - shared), data)
        return (size - (data - anonymous)) * PAGE, anonymous * PAGE

    def quick(self, last: Reading) -> Reading | None:
        fresh = next((reading for reading in self.read(0.0) if reading.name == last.name), None)
        return None if fresh is None or fresh.stale else fresh

    def watches(self) -> Sequence[Watch]:
        return ()

    def close(self) -> None:
        self._statm.close()
