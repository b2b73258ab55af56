# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Budgets: see budget.pxd (and budget.pyi for the docstrings of the Python face)."""
from cacheserver.net.linux cimport net_atomic_add, net_atomic_get, net_atomic_set


cdef class Budget:
    """A bound, in bytes, on what all connections of the reactors that share it may hold of one kind.

    `limit` must be positive; it may be changed at any time. All of it is any thread's. A reactor that exceeds
    its share (limit / reactors) while the whole is exceeded closes connections of its own, so the whole stays
    below twice the limit at any time and settles below it. A lower limit takes effect with the reactors' next
    batch or sweep.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @property
    def limit(self) -> int:
        return net_atomic_get(&self.c.limit)

    @limit.setter
    def limit(self, limit: int) -> None:
        if limit <= 0:
            raise ValueError(f"a budget must be positive, not {limit} bytes")
        net_atomic_set(&self.c.limit, limit)

    @property
    def used(self) -> int:
        return net_atomic_get(&self.c.used)

    def take(self, size: int) -> bool:
        """Count `size` bytes that no reactor holds. False, and nothing counted, where they exceed the limit."""
        cdef long long n = size
        if net_atomic_add(&self.c.used, n) <= net_atomic_get(&self.c.limit):
            return True
        net_atomic_add(&self.c.used, -n)
        return False

    def give(self, size: int) -> None:
        """Count `size` bytes out again."""
        net_atomic_add(&self.c.used, -<long long>size)


shared_held = Budget(64 << 20)
shared_pinned = Budget(256 << 20)
shared_carry = Budget(256 << 20)
shared_secure = Budget(256 << 20)


cdef void budget_join(BudgetC *b, long long parties) noexcept nogil:
    """Count a reactor in (1) or out (-1)."""
    net_atomic_add(&b.parties, parties)


cdef bint budget_exceeded(BudgetC *b, long long own) noexcept nogil:
    cdef long long parties, limit = net_atomic_get(&b.limit)
    if net_atomic_get(&b.used) <= limit:
        return False
    parties = net_atomic_get(&b.parties)
    return own * (parties if parties > 0 else 1) > limit
