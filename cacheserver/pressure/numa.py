"""The host as a bound where this process may use some of its NUMA nodes only.

Knows: /sys/devices/system/node, Mems_allowed of /proc/self/status (cpusets), the memory policy of the process
(numactl --membind). Must not know: which node a cache's memory lies on. Memory: owns its probes.

Such a process runs out of memory when its nodes do, however much the others have, so the sum of its nodes
bounds it beside the host as a whole. A node that is one of several allowed ones is no bound: the kernel goes
on to the next when it is full.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence

from cacheserver.pressure.source import Probe, Reading, Watch, field

REFRESH_SECONDS = 1.0  # how often to look whether the process was bound to other nodes
NODES_MAX = 1024  # the kernel's own most
MPOL_BIND = 2
MPOL_MODE = 0x1FFF  # above it are flags (include/uapi/linux/mempolicy.h)
GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236}  # the number of the system call
_ALLOWED = re.compile(rb"^Mems_allowed_list:(.*)$", re.MULTILINE)
_ZONE = re.compile(rb"^Node (\d+), zone.*?^\s+high\s+(\d+)", re.MULTILINE | re.DOTALL)


def bound_nodes() -> set[int] | None:
    """The nodes that the calling thread's memory policy binds it to; None: it does not bind.

    A thread inherits the policy of the one that started it, so the monitor's has what `numactl` set.
    """
    number = GET_MEMPOLICY.get(os.uname().machine)
    try:
        import ctypes  # some builds of Python lack it
    except ImportError:
        return None
    if number is None:
        return None
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    mode, mask = ctypes.c_int(0), (ctypes.c_ulong * (NODES_MAX // width))()
    arguments = ctypes.byref(mode), mask, ctypes.c_ulong(NODES_MAX), None, ctypes.c_ulong(0)
    if ctypes.CDLL(None).syscall(ctypes.c_long(number), *arguments):
        return None
    if mode.value & MPOL_MODE != MPOL_BIND:
        return None
    return {node for node in range(NODES_MAX) if mask[node // width] >> (node % width) & 1}


def parse_list(text: str) -> set[int]:
    """The numbers of a kernel list of nodes such as "0-2,5". ValueError for what is none."""
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        if int(last or first) >= NODES_MAX:
            raise ValueError(f"no node {last or first}")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers


class NodeSource:
    """One bound, the sum of the allowed nodes; none where all nodes with memory are allowed.

    `policy`: the nodes that a memory policy binds to, None for no such policy.
    """

    name = "numa"

    def __init__(self, root: str = "/", policy: Callable[[], set[int] | None] = bound_nodes) -> None:
        self._root = root
        self._policy = policy
        self._directory = os.path.join(root, "sys/devices/system/node")
        self._with_memory = Probe(os.path.join(self._directory, "has_memory"), optional=True)
        self._status = Probe(os.path.join(root, "proc/self/status"))
        self._pressure = Probe(os.path.join(root, "proc/pressure/memory"), optional=True)
        self._nodes: dict[int, Probe] = {}  # those allowed; empty: no bound
        self._kept: dict[int, int] = {}  # bytes of each node that the kernel keeps for itself
        self._refreshed = -1e9
        self._last: Reading | None = None

    def _refresh(self, now: float) -> None:
        if now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        there = self._present()
        if there is None:
            return  # what is known stays in force
        allowed = self._allowed(there) if len(there) > 1 else there
        wanted = allowed if allowed < there else set()
        if wanted != self._nodes.keys():
            self._close_nodes()
            path = os.path.join(self._directory, "node{}", "meminfo")
            self._nodes = {node: Probe(path.format(node)) for node in sorted(wanted)}
            self._last = None
        if self._nodes:
            self._kept = self._read_kept() or self._kept

    def _present(self) -> set[int] | None:
        """The nodes with memory; None while that cannot be read."""
        text = self._with_memory.read()
        if text is None:
            # From the beginning: a kernel without NUMA.
            return None if self._nodes else set()
        try:
            there = parse_list(text.decode())
        except ValueError:
            there = set()
        if not there:
            self._with_memory.complain("no nodes in it")
            return None
        self._with_memory.recover()
        return there

    def _allowed(self, there: set[int]) -> set[int]:
        """Those of the nodes `there` that this process may use; the last answer while that is unknown."""
        text = self._status.read()
        found = _ALLOWED.search(text or b"")
        try:
            allowed = parse_list(found[1].decode()) & there if found else set()
        except ValueError:
            allowed = set()
        if allowed:
            self._status.recover()
        else:
            if text is not None:
                self._status.complain("no Mems_allowed_list of nodes with memory in it")
            allowed = set(self._nodes) or there
        policy = self._policy()
        return (allowed & policy) or allowed if policy else allowed

    def _read_kept(self) -> dict[int, int]:
        """What reclaim keeps free on each node: the sum of its zones' high watermarks."""
        kept: dict[int, int] = {}
        with contextlib.suppress(OSError), open(os.path.join(self._root, "proc/zoneinfo"), "rb") as file:
            page = os.sysconf("SC_PAGESIZE")
            for node, pages in _ZONE.findall(file.read()):
                kept[int(node)] = kept.get(int(node), 0) + int(pages) * page
        return kept

    def read(self, now: float) -> Sequence[Reading]:
        self._refresh(now)
        return self._read(self._pressure.stall()) if self._nodes else ()

    def _read(self, stall: float) -> Sequence[Reading]:
        total = usage = reclaimable = 0
        for number, probe in self._nodes.items():
            figures = self._read_node(number, probe)
            if figures is None:
                return [self._last._replace(stale=True)] if self._last else ()
            total, usage, reclaimable = total + figures[0], usage + figures[1], reclaimable + figures[2]
        name = ("node " if len(self._nodes) == 1 else "nodes ") + ",".join(map(str, self._nodes))
        self._last = Reading(name, total, usage, reclaimable, stall, nodes=tuple(self._nodes))
        return [self._last]

    def _read_node(self, node: int, probe: Probe) -> tuple[int, int, int] | None:
        """(total, usage, reclaimable) in bytes. A node has no MemAvailable; page cache as in cgroups."""
        text = probe.read()
        if text is None:
            return None

        def figure(name: str) -> int | None:
            found = field(text, f"Node {node} {name}:".encode())
            return None if found is None else found << 10

        total, free = figure("MemTotal"), figure("MemFree")
        inactive, active = figure("Inactive(file)"), figure("Active(file)")
        if total is None or free is None or inactive is None or active is None:
            probe.complain("no MemTotal, MemFree, Inactive(file) and Active(file) in it")
            return None
        probe.recover()
        busy = sum(figure(name) or 0 for name in ("Mapped", "Dirty", "Writeback"))
        free = max(0, free - self._kept.get(node, 0))
        return total, total - free, max(0, inactive + active // 2 - busy)

    def quick(self, last: Reading) -> Reading | None:
        fresh = self._read(last.stall)
        return fresh[0] if fresh and not fresh[0].stale and fresh[0].name == last.name else None

    def watches(self) -> Sequence[Watch]:
        return ()

    def _close_nodes(self) -> None:
        for probe in self._nodes.values():
            probe.close()
        self._nodes = {}

    def close(self) -> None:
        self._close_nodes()
        self._refreshed = -1e9
        self._with_memory.close()
        self._status.close()
        self._pressure.close()
