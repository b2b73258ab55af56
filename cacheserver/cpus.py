"""How many CPUs this process may really use: its affinity mask, and the CPU quota of every cgroup it is in.

Knows: /proc and the cgroup file system, as paths below a given root. Must not know: workers, memory.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_cpus(root: str = "/") -> int:
    """Return the number of CPUs (>= 1) this process may use; a quota of 1.5 CPUs counts as 2."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _quotas(Path(root)):
        cpus = min(cpus, math.ceil(quota))
    return max(1, cpus)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota, in CPUs, of each cgroup that has one, from this process's own to the mount's root."""
    for mount, relative in _cpu_cgroups(root):
        folder = root / mount.relative_to("/")
        for path in (relative, *relative.parents):
            quota = _quota(folder / path)
            if quota is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Return the quota in `folder` by cgroup v2's cpu.max or v1's cfs files, None where there is none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _cpu_cgroups(root: Path) -> Iterator[tuple[PurePosixPath, PurePosixPath]]:
    """Yield (mount point, this process's cgroup relative to it) of each hierarchy that may hold a quota."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    own = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        own[controllers or "cgroup2"] = path
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields, kind, options = left.split(), right.split()[0], right.split()[-1].split(",")
        if kind == "cgroup2":
            names = "cgroup2"
        elif kind == "cgroup" and "cpu" in options:
            names = next((each for each in own if "cpu" in each.split(",")), "")
        else:
            continue
        if names in own:
            yield PurePosixPath(fields[4]), _below(own[names], fields[3])


def _below(path: str, top: str) -> PurePosixPath:
    """Return `path` relative to `top`; the mount's root where a container shows just a part of the tree."""
    try:
        return PurePosixPath(path).relative_to(top)
    except ValueError:
        return PurePosixPath()
