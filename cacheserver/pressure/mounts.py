"""Where this process's memory cgroups are on disk: /proc/self/mountinfo joined with /proc/self/cgroup.

Knows: the two files' formats (proc(5), cgroups(7)), cgroup namespaces and bind mounts. Must not know: what
stands in a group's files.

Neither file alone says it. Inside a container /proc/self/cgroup may name a path of the host while the mount
shows only the container's own part of the tree: the mount's root (mountinfo field 4) is what the two have in
common.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Group(NamedTuple):
    """One cgroup directory that bounds this process."""

    version: int  # 1 or 2
    directory: str  # on disk
    path: str  # as the hierarchy names it, "/a/b"
    # no group above it is visible; in a cgroup namespace nothing in the two files tells whether there is one
    topmost: bool


class _Mount(NamedTuple):
    version: int
    root: str
    point: str


def _mounts(text: str) -> list[_Mount]:
    """The cgroup2 mounts and the v1 mounts with the memory controller."""
    found = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        words, kind = left.split(" "), right.split(" ")
        if not dash or len(words) < 5 or len(kind) < 3:
            continue
        root, point = (_ESCAPE.sub(lambda m: chr(int(m[1], 8)), word) for word in words[3:5])
        if kind[0] == "cgroup2":
            found.append(_Mount(2, root, point))
        elif kind[0] == "cgroup" and "memory" in kind[2].split(","):
            found.append(_Mount(1, root, point))
    return found


def _paths(text: str) -> dict[int, str]:
    """This process's cgroup path: version -> path, for v2 and for the v1 memory controller."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon or not path.startswith("/"):
            continue
        if number == "0" and not controllers:
            found[2] = path
        elif "memory" in controllers.split(","):
            found[1] = path
    return found


def _below(mount_root: str, path: str) -> str | None:
    """`path` as seen from a mount whose root is `mount_root`: "" or "/a/b"; None when it lies outside."""
    if mount_root == "/":
        return "" if path == "/" else path
    if path == mount_root or path.startswith(mount_root + "/"):
        return path[len(mount_root) :]
    return None


def file_system(mountinfo: str, device: int) -> str | None:
    """The type of the file system on `device` (a stat's st_dev), "proc" for one; None: not mounted here."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        words = left.split(" ")
        if len(words) > 2 and words[2] == number:
            return right.split(" ")[0]
    return None


def groups(mountinfo: str, cgroup: str, root: str = "/") -> list[Group]:
    """Every visible group that bounds this process, own group first, then its ancestors, for each version.

    `mountinfo` and `cgroup` are the texts of /proc/self/mountinfo and /proc/self/cgroup.
    """
    paths = _paths(cgroup)
    result: list[Group] = []
    for version in (1, 2):
        if version not in paths:
            continue
        best: list[Group] = []
        for mount in _mounts(mountinfo):
            if mount.version == version:
                chain = _chain(mount, paths[version], root)
                # Where a hierarchy is mounted twice, the mount that shows most of the way up knows most
                # bounds.
                if len(chain) > len(best):
                    best = chain
        result += best
    return result


def _chain(mount: _Mount, path: str, root: str) -> list[Group]:
    """The groups from this process's own up to the mount point, as far as they exist."""
    point = os.path.join(root, mount.point.lstrip("/"))
    # A path with ".." leads out of the cgroup namespace, and one that the mount's root is not part of belongs
    # to another view of the tree; either way the mount point is the nearest group known to bound this
    # process.
    below = None if ".." in path.split("/") else _below(mount.root, path)
    names = [] if below is None else [word for word in below.split("/") if word]
    shown = "" if mount.root == "/" or ".." in mount.root else mount.root
    chain = []
    for depth in range(len(names), -1, -1):
        directory = os.path.join(point, *names[:depth])
        if os.path.isdir(directory):
            name = shown + "".join("/" + word for word in names[:depth]) or "/"
            chain.append(Group(mount.version, directory, name, depth == 0))
    return chain
