"""How many CPUs this process may really use: its affinity mask, and the CPU quota of every cgroup it is in.

Knows: /proc and the cgroup file system, below a given root. Must not know: workers, memory.
"""

import math
import os
from collections.abc import Iterator


def usable_cpus(root: str = "/") -> int:
    """Return the number of CPUs (>= 1) this process may use; a quota of 1.5 CPUs counts as 2."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota in _quotas(root):
        cpus = min(cpus, math.ceil(quota))
    return max(1, cpus)


def _quotas(root: str) -> Iterator[float]:
    """Yield the quota, in CPUs, of each cgroup that has one, from this process's own to the mount's root."""
    for mount, path in _cpu_cgroups(root):
        folder = os.path.join(root, mount.lstrip("/"))
        while True:
            quota = _quota(os.path.join(folder, path))
            if quota is not None:
                yield quota
            if not path:
                break
            path = os.path.dirname(path)


def _quota(folder: str) -> float | None:
    """Return the quota in `folder` by cgroup v2's cpu.max or v1's cfs files, None where there is none."""
    try:
        if os.path.exists(os.path.join(folder, "cpu.max")):
            quota, period = _read(folder, "cpu.max").split()
        else:
            quota, period = _read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us")
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _cpu_cgroups(root: str) -> Iterator[tuple[str, str]]:
    """Yield (mount point, this process's cgroup relative to it) of each hierarchy that may hold a quota."""
    try:
        groups = _read(root, "proc/self/cgroup").splitlines()
        mounts = _read(root, "proc/self/mountinfo").splitlines()
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
            yield fields[4], _below(own[names], fields[3])


def _below(path: str, top: str) -> str:
    """Return `path` relative to `top`; "" for `top` itself, and where a container shows another part."""
    top = top.rstrip("/")
    return path[len(top) :].strip("/") if path.startswith(top + "/") else ""


def _read(*parts: str) -> str:
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return file.read()
