from collections.abc import Sequence

# A slab class: worth, pages, spare, size, used, sets; see ClassView in rebalance.pxd.
View = tuple[int, int, int, int, int, int]

# Each takes the classes by ascending size, with the one of items that have pages of their own (size 0) last;
# it raises ValueError for none or too many. `step`: every how many-th class may be opened.

def giver(classes: Sequence[View], taker: int, *, step: int = 1) -> int | None:
    """Return the class that should give a page to `taker`, which has to evict; None if all is well."""

def cost(classes: Sequence[View], cls: int, *, step: int = 1) -> float:
    """Return the worth that a class with pages would lose with one."""

def opening(classes: Sequence[View], *, step: int = 1) -> int | None:
    """Return the class without pages that should have some, None if there is none."""

def step(seen: int, pages: int) -> int:
    """Return every how many-th class a shard of so many pages opens, asked for items of so many classes."""
