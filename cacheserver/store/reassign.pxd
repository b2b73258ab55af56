# cython: language_level=3
"""Moving one page from a slab class to another because somebody asks for it.

Knows: how to empty a page in slices, and who may have it then. Must not know: which move would be wise.
Owns no memory. Threads: any; takes one shard's lock at a time, for a slice of a page.
"""
from libc.stdint cimport int32_t

from cacheserver.store.shard cimport StoreC

cdef enum Reassigned:
    REASSIGNED
    REASSIGN_BUSY            # a page is being emptied already, or something on the page cannot move now
    REASSIGN_BAD_CLASS
    REASSIGN_NO_SPARE        # no shard has two pages of the source, or a class is that of items with pages of their own
    REASSIGN_SAME

cdef Reassigned store_reassign(StoreC *s, int32_t source, int32_t target) noexcept nogil
