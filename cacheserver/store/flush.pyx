# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Flushing: see flush.pxd."""
from libc.stdint cimport uint32_t
from libc.string cimport memset

from cacheserver.store.arena cimport CHUNK_BITS, PAGE_RUN, PAGE_SLAB, Page, arena_put_page, item_at
from cacheserver.store.index cimport index_clear
from cacheserver.store.item cimport LIVE, LOOSE, STATE, Item, handle_t
from cacheserver.store.platform cimport pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.shard cimport Shard, StoreC
from cacheserver.store.slab cimport slab_close_page, slab_free, slab_owns, slab_reopen_page, slab_sizes


cdef void forget_page(Shard *sh, uint32_t page) noexcept nogil:
    """Drop everything on a page that belongs to the shard; what is pinned or being received stays, out of the index."""
    cdef Page *p = &sh.arena.pages[page]
    cdef uint32_t chunk
    cdef handle_t h
    cdef Item *it
    if p.pins == 0 and p.state != PAGE_RUN:
        sh.classes[p.cls].used -= p.used
        sh.classes[p.cls].pages -= 1
        sh.pages -= 1
        arena_put_page(sh.arena, page)
        return
    if p.state == PAGE_RUN:
        it = item_at(sh.arena, page << CHUNK_BITS)
        if it.bits & STATE == LIVE:
            it.bits = (it.bits & ~STATE) | LOOSE
            if it.refs == 0:
                slab_free(sh, page << CHUNK_BITS)
        return
    if p.state == PAGE_SLAB:
        slab_close_page(sh, page)
    for chunk in range(p.bump):
        h = page << CHUNK_BITS | chunk
        it = item_at(sh.arena, h)
        if it.bits & STATE == LIVE:
            it.bits = (it.bits & ~STATE) | LOOSE
            it.next = it.prev = 0
            if it.refs == 0:
                slab_free(sh, h)
    slab_reopen_page(sh, page)


cdef void flush_all(StoreC *s) noexcept nogil:
    """Forget every item, page by page and not item by item; the memory goes back to the host by the upkeep."""
    cdef uint32_t i, page, c
    cdef Shard *sh
    for i in range(s.nshards):
        sh = &s.shards[i]
        pthread_mutex_lock(&sh.lock)
        index_clear(&sh.index)
        for c in range(slab_sizes().count + 1):
            memset(sh.classes[c].segments, 0, sizeof(sh.classes[c].segments))
            sh.classes[c].open = 0
            sh.classes[c].bytes = 0
        sh.bytes = 0
        sh.draining = sh.moving = 0
        for page in range(1, s.arena.high):
            if slab_owns(sh, page):
                s.arena.pages[page].next = s.arena.pages[page].prev = 0
        for page in range(1, s.arena.high):
            if slab_owns(sh, page):
                forget_page(sh, page)
        pthread_mutex_unlock(&sh.lock)
