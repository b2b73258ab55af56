"""Where this process's memory cgroups are on disk: /proc/self/mountinfo joined with /proc/self/cgroup.

Knows: the two files' formats (proc(5), cgroups(7)), cgroup namespaces and bind mounts. Must not know: what
stands in a group's files.

Neither file alone says it. Inside a container /proc/self/cgroup may name a path of the host while the mount
shows only the container's own part of the tree: the mount's root (mountinfo field 4) is what the two have in
common. Where the mount was made outside this process's cgroup namespace, its root is "/.." for each level
above the namespace, whose names nothing tells: there the group is found by looking for the process in it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from typing import NamedTuple

_ESCAPE = re.compile(r"\\([0-7]{3})")


class Group(NamedTuple):
    """One cgroup directory that bounds this process."""

    version: int  # 1 or 2
    directory: str  # on disk
    path: str  # as the hierarchy names it, "/a/b", to be told to people
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


def own_paths(text: str) -> dict[int, str]:
    """This process's cgroup path, from the text of /proc/self/cgroup: version -> path, for v2 and for the v1
    memory controller.
    """
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


def printable(path: str) -> str:
    """A path as it can be told: whoever makes a group may put any byte but two into its name."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in path)


def _search(point: str, up: int, path: list[str], pid: int) -> list[str] | None:
    """Names of the directories from `point` down to the group with the process `pid`: `up` levels of any
    name, then `path`. None: it is not in any of them.
    """
    found: list[list[str]] = [[]]
    for _ in range(up):
        found = [[*names, name] for names in found for name in _directories(os.path.join(point, *names))]
    for names in found:
        own = [*names, *path]
        # a group may be removed meanwhile; one that cannot be read is not ours
        with contextlib.suppress(OSError), open(os.path.join(point, *own, "cgroup.procs")) as file:
            if str(pid) in file.read().split():
                return own
    return None


def _directories(path: str) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return []


def groups(mountinfo: str, cgroup: str, root: str = "/", pid: int = 0) -> list[Group]:
    """Every visible group that bounds this process, own group first, then its ancestors, for each version.

    `mountinfo` and `cgroup` are the texts of /proc/self/mountinfo and /proc/self/cgroup; `pid`: of the
    process, 0 for this one.
    """
    paths = own_paths(cgroup)
    result: list[Group] = []
    for version in (1, 2):
        if version not in paths:
            continue
        best: list[Group] = []
        for mount in _mounts(mountinfo):
            if mount.version == version:
                chain = _chain(mount, paths[version], root, pid or os.getpid())
                # Where a hierarchy is mounted twice, the mount that shows most of the way up knows most
                # bounds.
                if len(chain) > len(best):
                    best = chain
        result += best
    return result


def _chain(mount: _Mount, path: str, root: str, pid: int) -> list[Group]:
    """The groups from this process's own up to the mount point, as far as they exist."""
    point = os.path.join(root, mount.point.lstrip("/"))
    shown = "" if mount.root == "/" or ".." in mount.root else mount.root
    chain = []
    # Where the own group is not in the mount's view of the tree, or cannot be found in it, the mount point is
    # the nearest group known to bound this process.
    names = _names(mount, path, point, pid) or []
    for depth in range(len(names), -1, -1):
        directory = os.path.join(point, *names[:depth])
        if os.path.isdir(directory):
            name = shown + "".join("/" + word for word in names[:depth]) or "/"
            chain.append(Group(mount.version, directory, printable(name), depth == 0))
    return chain


def _names(mount: _Mount, path: str, point: str, pid: int) -> list[str] | None:
    """Names of the directories from the mount `point` down to the group `path`; None: it is not there."""
    above, words = _split(mount.root)
    out, names = _split(path)
    if above and not words and out <= above:
        return _search(point, above - out, names, pid)
    below = None if above or out else _below(mount.root, path)
    return None if below is None else [word for word in below.split("/") if word]


def _split(path: str) -> tuple[int, list[str]]:
    """How many levels a path leads out of the cgroup namespace, and the names it then leads down."""
    words = [word for word in path.split("/") if word]
    out = len(list(itertools.takewhile(lambda word: word == "..", words)))
    return out, words[out:]
