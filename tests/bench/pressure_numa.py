"""Pressure on one NUMA node: is memory freed there, and nowhere else?

From the repository root, on a machine with two nodes or more and without other load (half a minute):

    python -m tests.bench.pressure_numa [--mib 128] [--node 1]

A cache in Python has pages bound to each of two nodes, on an LruList with a sublist for each, and is
registered as a class that heeds nodes. The monitor is told that the process is bound to one of the nodes, as
by a cpuset, and watches it by its own law. A hog that is bound to the same node takes all that is free there
above the reserve, and as much as half of what the cache has there.

The judge is the kernel, by its count of the cache's pages on each node. Ends with 1 when the hog was killed,
or when pages of the other node were lost.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import platform
import sys
from pathlib import Path

from cacheserver.pressure import Context, Monitor
from cacheserver.pressure.lru_list import LruList, LruStatus
from cacheserver.pressure.numa import NodeSource
from tests import hog
from tests.bench.pressure_scene import GIB, MIB, Failed, Hog, hog_words, machine, run

MPOL_DEFAULT, MPOL_BIND = 0, 2
CALLS = {"x86_64": (237, 238), "aarch64": (235, 237)}  # mbind, set_mempolicy
NODES_MAX = 64
RATE = 0.2 * GIB  # bytes a second
HOLD = 0.5  # seconds


def call(which: int, *arguments: object) -> None:
    """Make the system call mbind (0) or set_mempolicy (1)."""
    numbers = CALLS.get(platform.machine())
    if numbers is None:
        raise Failed(f"the numbers of the system calls on {platform.machine()} are not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(numbers[which]), *arguments):
        raise Failed(f"binding memory to a node: {os.strerror(ctypes.get_errno())}")


def bound_hog(node: int, mib: int) -> Hog:
    """Start a hog whose memory comes from `node` only: it inherits this thread's policy."""
    mask = ctypes.byref(ctypes.c_ulong(1 << node))
    call(1, ctypes.c_int(MPOL_BIND), mask, ctypes.c_ulong(NODES_MAX))
    try:
        return Hog([sys.executable, "-S", hog.__file__, *hog_words(mib, RATE, HOLD)], mib)
    finally:
        call(1, ctypes.c_int(MPOL_DEFAULT), None, ctypes.c_ulong(0))


class NodeCache:
    """Touched pages of 1 MiB, so many on each of some nodes; a shrinker that heeds nodes."""

    node_aware = True

    def __init__(self, nodes: list[int], mib: int) -> None:
        self._memory: dict[int, mmap.mmap] = {}
        self._lru: LruList[tuple[int, int]] = LruList()
        for node in nodes:
            memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._memory[node] = memory
            mask = ctypes.byref(ctypes.c_ulong(1 << node))
            call(
                0, ctypes.c_void_p(self._address(node)), ctypes.c_size_t(mib * MIB), ctypes.c_int(MPOL_BIND),
                mask, ctypes.c_ulong(NODES_MAX), ctypes.c_uint(0),
            )  # fmt: skip
            for number in range(mib):
                ctypes.memset(self._address(node) + number * MIB, 1, MIB)
                self._lru.add((node, number), node=node)

    def _address(self, node: int) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self._memory[node]))

    def count(self, context: Context) -> int:
        """Bytes that could be freed on the context's nodes."""
        return self._lru.count(context.nodes) * MIB

    def request_memory(self, target: int, hard: bool, context: Context) -> int:
        """Free the oldest pages on the context's nodes."""
        return self._lru.walk(self._free, -(-target // MIB), context.nodes) * MIB

    def _free(self, page: tuple[int, int]) -> LruStatus:
        node, number = page
        self._memory[node].madvise(mmap.MADV_DONTNEED, number * MIB, MIB)
        return LruStatus.REMOVED

    def resident(self, node: int) -> int:
        """Bytes of the part for `node` that the kernel has on that node; Failed where any are elsewhere."""
        start = f"{self._address(node):08x} "
        for line in Path("/proc/self/numa_maps").read_text().splitlines():
            if line.startswith(start):
                words = [word.split("=") for word in line.split() if word[0] == "N"]
                pages = {int(name[1:]): int(count) for name, count in words}
                if pages.keys() - {node}:
                    raise Failed(f"pages bound to node {node} are on {sorted(pages)}")
                return pages.get(node, 0) * mmap.PAGESIZE
        raise Failed("the kernel does not list the cache in /proc/self/numa_maps")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=128, help="that the cache has on each node")
    parser.add_argument("--node", type=int, default=1, choices=[0, 1], help="the node under pressure")
    wanted = parser.parse_args()
    cache, monitor = NodeCache([0, 1], wanted.mib), Monitor([NodeSource(policy=lambda: {wanted.node})])
    monitor.register_shrinker("node cache", cache, count=cache.count)
    before = {node: cache.resident(node) for node in (0, 1)}
    monitor.start()
    start = monitor.status()
    if start.binding != f"node {wanted.node}":
        raise Failed("there is one NUMA node only, or it cannot be read")
    size = (start.headroom - start.reserve) // MIB + wanted.mib // 2
    with bound_hog(wanted.node, size) as one:
        one.go()
        taken = one.taken()
        after = {node: cache.resident(node) for node in (0, 1)}
        ended = one.ended()
    monitor.stop()
    did = monitor.status()
    print(f"a hog of {size} MiB on node {wanted.node}; {machine()}\n")
    print("| node | cache before MiB | after | lost |\n|---|---|---|---|")
    for node in (0, 1):
        lost = before[node] - after[node]
        print(f"| {node} | {before[node] / MIB:.0f} | {after[node] / MIB:.0f} | {lost / MIB:.0f} |")
    end = "has all it wanted" if ended and taken else "was killed"
    asked = f"{did.shrinks_soft} soft and {did.shrinks_hard} hard requests"
    freed = (did.bytes_released_soft + did.bytes_released_hard) / MIB
    print(f"\nthe hog {end}; {asked}, {freed:.0f} MiB freed")
    other = 1 - wanted.node
    return int(not ended or after[other] < before[other] or after[wanted.node] >= before[wanted.node])


if __name__ == "__main__":
    sys.exit(run(main))
