# cython: language_level=3
"""A page gone with everything on it: what a hard shrink does thousands of times in a second.

Knows: pages, index and segments, and what they need to hear of a page that goes as a whole: nothing is written to the
items on it, and neighbours that go together are not told of each other. Must not know: which page, or why.
Memory: the page goes to the arena's pool; nothing here calls the system. Threads: the shard's lock is held.
"""
from libc.stdint cimport uint32_t

from cacheserver.store.shard cimport Shard

cdef void discard_page(Shard *sh, uint32_t page) noexcept nogil
