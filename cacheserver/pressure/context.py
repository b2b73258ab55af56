"""What a request for memory is limited to: the part of it that `target` and `hard` do not say.

Knows: nothing but its own fields. Must not know: shrinkers, readings. Memory: a few words, made once a
request. Threads: any, it never changes.

It is the kernel's `struct shrink_control` (include/linux/shrinker.h): `nodes` for `nid`, `group` for `memcg`,
`may_block` for what `gfp_mask` forbids.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One request's limits. ValueError for an empty set of nodes, which no memory can satisfy."""

    hard: bool = False  # free before returning; False: may be deferred
    nodes: frozenset[int] | None = None  # only memory on these NUMA nodes is of use; None: on any
    group: str | None = None  # only memory of this owner group is of use; None: of any
    # False: the request comes from a thread that cannot wait, so the callback takes locks by trying and does
    # no I/O; what it cannot get that way it leaves
    may_block: bool = True

    def __post_init__(self) -> None:
        if self.nodes is not None and not self.nodes:
            raise ValueError("nodes is empty: name at least one NUMA node, or None for all")

    @property
    def limited(self) -> bool:
        """Whether only a part of a shrinker's memory is of use."""
        return self.nodes is not None or self.group is not None
