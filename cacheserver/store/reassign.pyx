# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Reassigning pages: see reassign.pxd."""
from libc.stdint cimport int32_t, uint32_t, uint64_t

from cacheserver.store.arena cimport PAGE_DRAINING, arena_take_page
from cacheserver.store.drain cimport drain_begin, drain_slice
from cacheserver.store.victim cimport victim_page
from cacheserver.store.platform cimport pthread_mutex_lock, pthread_mutex_unlock
from cacheserver.store.release cimport unlock_kindly
from cacheserver.store.shard cimport DRAIN_FORCED, Shard, StoreC
from cacheserver.store.slab cimport slab_adopt, slab_owns, slab_sizes

cdef enum:
    ANY = -1
    POOL = 0                 # the class number of pages that no class has


cdef Shard *giver_of(StoreC *s, uint32_t cls) noexcept nogil:
    """The shard with most pages of a class; a racy look, as it may change before anything is done about it."""
    cdef Shard *best = &s.shards[0]
    cdef uint32_t i
    for i in range(1, s.nshards):
        if s.shards[i].classes[cls].pages > best.classes[cls].pages:
            best = &s.shards[i]
    return best


cdef bint may_give(StoreC *s, uint32_t cls) noexcept nogil:
    """Whether a shard has two pages of the class: with one it would keep none of the class's items."""
    return giver_of(s, cls).classes[cls].pages >= 2


cdef int32_t richest(StoreC *s, int32_t but) noexcept nogil:
    """The class number with most pages in one shard, `but` excepted; ANY if none may give one."""
    cdef uint64_t n, most = 1
    cdef int32_t number, best = ANY
    for number in range(1, <int32_t>slab_sizes().count + 1):
        n = giver_of(s, number - 1).classes[number - 1].pages
        if number != but and n > most:
            most = n
            best = number
    return best


cdef uint32_t begin(Shard *sh, uint32_t cls) noexcept nogil:
    """Close a page of the class to be emptied; 0 if there is none that may go, or another is being emptied."""
    cdef uint32_t page = 0
    pthread_mutex_lock(&sh.lock)
    if sh.draining == 0:
        page = victim_page(sh, cls, True)
        if page:
            drain_begin(sh, page, DRAIN_FORCED)
    pthread_mutex_unlock(&sh.lock)
    return page


cdef bint empty(Shard *sh, uint32_t page, uint32_t cls) noexcept nogil:
    """Empty a closed page in slices; its items move to other pages of their class, or make room there. False: it is not
    the class's page any more but nobody emptied it, or something on it stays."""
    cdef uint64_t before = sh.classes[cls].pages
    cdef bint mine = True, gone = False
    while mine:
        pthread_mutex_lock(&sh.lock)
        mine = sh.draining == page and sh.arena.pages[page].state == PAGE_DRAINING
        if mine:
            drain_slice(sh)
            mine = sh.draining == page
        gone = not slab_owns(sh, page) or sh.classes[cls].pages < before
        sh.slabs_moved += gone and not mine
        unlock_kindly(&sh.lock)
    return gone


cdef bint give(StoreC *s, Shard *sh, int32_t target) noexcept nogil:
    """Let the shard's class have a page of the pool; False if there is none and no leave for another."""
    cdef uint32_t page
    if target == POOL:
        return True
    page = arena_take_page(&s.arena, False)
    if page == 0:
        return False
    pthread_mutex_lock(&sh.lock)
    slab_adopt(sh, page, target - 1)
    pthread_mutex_unlock(&sh.lock)
    return True


cdef Reassigned store_reassign(StoreC *s, int32_t source, int32_t target) noexcept nogil:
    """Take a page from class `source` (from 1; 0: the pool; -1: any that has one to spare) and give it to `target`."""
    cdef int32_t runs = <int32_t>slab_sizes().count + 1
    cdef Shard *sh
    cdef uint32_t page
    if source == target:
        return REASSIGN_SAME
    if source == ANY:
        source = richest(s, target)
    if source < POOL or source > runs or target < POOL or target > runs:
        return REASSIGN_BAD_CLASS
    if source == runs or target == runs:
        return REASSIGN_NO_SPARE     # a large item's pages are its own, from the pool and back to it
    if source == POOL:
        if s.arena.npool == 0:
            return REASSIGN_NO_SPARE
        return REASSIGNED if give(s, giver_of(s, target - 1), target) else REASSIGN_NO_SPARE
    if not may_give(s, source - 1):
        return REASSIGN_NO_SPARE
    sh = giver_of(s, source - 1)
    page = begin(sh, source - 1)
    if page == 0 or not empty(sh, page, source - 1):
        return REASSIGN_BUSY
    give(s, sh, target)      # where somebody else was quicker, the page is in good hands, too
    return REASSIGNED
