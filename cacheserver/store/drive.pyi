from cacheserver.store.store import Store

def fill(store: Store, keys: int, nbytes: int) -> int:
    """Set keys 0 to `keys` - 1 to values of `nbytes` bytes (1 to 4096); returns how many were stored."""

def drive(store: Store, keys: int, nbytes: int, operations: int, seed: int) -> int:
    """Do so many operations on keys drawn evenly from those of fill(): nine gets to a set; returns the hits.

    The whole run is one stretch without the GIL, so threads that call this meet at the store's locks only.
    seed: of the sequence of keys; two threads take two.
    """
