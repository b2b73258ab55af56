"""Which memory cgroups this process is in, followed while it runs: moves, groups that go, mounts that come.

Knows: when the two files behind `mounts` are to be read again. Must not know: what stands in a group's files.
Memory: two descriptors. Threads: one at a time.
"""

from __future__ import annotations

import os
import select
from typing import BinaryIO

from cacheserver.pressure.mounts import Group, groups, own_paths, printable
from cacheserver.pressure.source import Probe, Trouble


class Membership:
    """The groups of this process. `root`: the directory that holds proc and sys."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._own = Probe(os.path.join(root, "proc/self/cgroup"))
        self._seen: bytes | None = None  # its text that `_groups` were made of
        self._mountinfo = Trouble(os.path.join(root, "proc/self/mountinfo"))
        self._mounts: BinaryIO | None = None  # that file, open
        self._hidden = Trouble("this process's memory cgroup")
        self._groups: list[Group] = []

    def groups(self) -> list[Group]:
        """As mounts.groups. What is known stays while the files cannot be read, or make no sense."""
        # The file is made at open: through an old descriptor a moved process would still see the new group,
        # but after a fork the child would see its parent's.
        self._own.close()
        own = self._own.read()
        there = [os.path.isdir(group.directory) for group in self._groups]
        if own is None or (own == self._seen and all(there) and not self._mounts_changed()):
            return self._groups
        mountinfo = self._read_mountinfo()
        if mountinfo is None:
            return self._groups
        found = groups(os.fsdecode(mountinfo), os.fsdecode(own), self._root)
        if not found and any(there):
            self._own.complain("no group is found by it and mountinfo")
            return self._groups
        self._own.recover()
        self._seen, self._groups = own, found
        self._tell_hidden(own_paths(os.fsdecode(own)))
        return found

    def _tell_hidden(self, paths: dict[int, str]) -> None:
        """Say so when this process's group is out of sight: in a chroot without /sys, say."""
        version = min(paths, default=0)  # where v1 has the memory controller, v2 has not
        if version and paths[version] != "/" and all(group.version != version for group in self._groups):
            self._hidden.begin(f"no mount shows {printable(paths[version])}, so its limit is not known")
        else:
            self._hidden.end()

    def _mounts_changed(self) -> bool:
        """Whether something was mounted or unmounted since the last time; the kernel tells (proc(5))."""
        if self._mounts is None:
            return True
        poller = select.poll()
        poller.register(self._mounts, select.POLLPRI)
        return bool(poller.poll(0))

    def _read_mountinfo(self) -> bytes | None:
        """The whole file: on hosts with many mounts it is larger than a probe reads. It stays open, for
        `_mounts_changed`.
        """
        self._close_mounts()
        try:
            self._mounts = open(self._mountinfo.what, "rb")  # noqa: SIM115 - see above
            text = self._mounts.read()
        except OSError as error:
            self._close_mounts()
            self._mountinfo.begin(error.strerror or str(error))
            return None
        self._mountinfo.end()
        return text

    def _close_mounts(self) -> None:
        if self._mounts:
            self._mounts.close()
            self._mounts = None

    def close(self) -> None:
        """Close the descriptors and forget the groups; a later `groups` begins anew."""
        self._own.close()
        self._close_mounts()
        self._seen, self._groups = None, []
