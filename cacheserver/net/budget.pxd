# cython: language_level=3
"""Budgets: bounds, in bytes, on what connections hold together.

Knows: counting. Must not know: connections, what is counted. Memory: none. Threads: everything is atomic.
"""

cdef struct BudgetC:
    long long limit          # bytes, atomic
    long long used           # bytes, atomic
    long long parties        # reactors that share it, atomic

cdef class Budget:
    cdef BudgetC c

cdef Budget shared_held, shared_pinned, shared_carry, shared_secure

cdef void budget_join(BudgetC *b, long long parties) noexcept nogil
cdef bint budget_exceeded(BudgetC *b, long long own) noexcept nogil
