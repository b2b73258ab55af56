# cython: language_level=3
"""Pages move between the slab classes of a shard while it is written to, a slice of a page with each write that must evict;
and which class an item lies in where classes share pages (see rebalance).

Knows: which move rebalance advises, how a page is emptied. Must not know: what is stored, why memory is short.
Memory: the page that is being emptied stays its class's until it is empty; whoever else empties it may have it then.
Threads: the shard's lock is held in every function.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.item cimport handle_t
from cacheserver.store.shard cimport Shard

cdef void balance_step(Shard *sh, uint32_t cls) noexcept nogil
cdef handle_t balance_fresh(Shard *sh, uint32_t cls) noexcept nogil
cdef uint32_t balance_host(Shard *sh, uint32_t cls) noexcept nogil
cdef bint evict_for_room(Shard *sh, uint32_t cls) noexcept nogil
cdef bint balance_run(Shard *sh) noexcept nogil

cdef inline bint balance_fits(Shard *sh, uint32_t held, uint32_t own) noexcept nogil:
    """Whether an item of class `own` belongs in a chunk of class `held`."""
    return held == own or (held > own and sh.classes[own].pages == 0 and balance_host(sh, own) == held)
