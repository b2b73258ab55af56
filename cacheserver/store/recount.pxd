# cython: language_level=3
"""The first half of an audit: every page and every chunk, counted again, and the pool.

Knows: how pages, chunks and items must look. Must not know: the lists that lead to them. Nothing is allocated or changed.
Threads: the locks of all shards and of the arena are held.
"""
from cacheserver.store.findings cimport Audit

cdef void recount_pages(Audit *t) noexcept nogil
cdef void recount_pool(Audit *t) noexcept nogil
