# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""The index's memory: see index_memory.pxd."""
from libc.stdint cimport int64_t, uint64_t

from cacheserver.store.arena cimport Arena, arena_give_back, drop_space, unmap_space
from cacheserver.store.index cimport HUGE, STRIDE, Bucket, Index

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_COLLAPSE
    #define MADV_COLLAPSE 25     /* Linux 6.1; older ones refuse it */
    #endif
    """
    enum:
        MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE
    int madvise(void *addr, size_t length, int advice) nogil

cdef enum:
    PIECE = 1048576          # bytes given back to the host by one system call: some 70 us


cdef bint index_overflow_idle(Index *ix, int64_t least) noexcept nogil:
    """Whether no overflow bucket is in use, and they hold `least` bytes or more."""
    return ix.overflow_used == 0 and ix.retired == NULL and <int64_t>ix.overflow_ready >= least


cdef Bucket *index_retire_overflow(Index *ix, Bucket *fresh) noexcept nogil:
    """Put an untouched reservation in the place of the overflow buckets, if they are idle still: index_release() gives
    back what those hold. Returns what is to be unmapped."""
    if fresh == NULL or not index_overflow_idle(ix, 1):
        return fresh
    ix.retired = ix.overflow
    ix.retired_bytes = ix.overflow_ready
    ix.overflow = fresh
    ix.overflow_end = 1
    ix.overflow_free = 0
    ix.overflow_ready = 0
    return NULL


cdef int64_t index_spare(Index *ix) noexcept nogil:
    """Bytes behind the last bucket that index_release() would give back."""
    cdef uint64_t need = (ix.count * sizeof(Bucket) + STRIDE - 1) // STRIDE * STRIDE
    if need < ix.huge:       # of a huge page the host takes nothing back but the whole
        need = (need + HUGE - 1) // HUGE * HUGE
    return <int64_t>(ix.ready - need) if ix.ready > need else 0


cdef int64_t index_release(Index *ix, Arena *a) noexcept nogil:
    """Give a piece of what is behind the last bucket, or was retired, back to the host; returns its bytes, 0 = all gone.

    A system call: the lock is not held; the caller has set `releasing` under it, and clears it afterwards under it.
    """
    cdef int64_t n = index_spare(ix)
    if n:
        n = n if n < PIECE else PIECE
        if ix.ready - n < ix.huge:
            n = ix.ready - (ix.ready - n) // HUGE * HUGE
        ix.ready -= n
        drop_space(<char *>ix.buckets + ix.ready, n)
        if ix.ready < ix.huge:
            madvise(<char *>ix.buckets + ix.ready, ix.huge - ix.ready, MADV_NOHUGEPAGE)
            ix.huge = ix.ready
    elif ix.retired != NULL:
        n = ix.retired_bytes if ix.retired_bytes < PIECE else PIECE
        ix.retired_bytes -= n
        drop_space(<char *>ix.retired + ix.retired_bytes, n)
        if ix.retired_bytes == 0:
            unmap_space(ix.retired, ix.space * sizeof(Bucket))
            ix.retired = NULL
    arena_give_back(a, n)
    return n


cdef bint index_may_join(Index *ix) noexcept nogil:
    """Whether there are buckets for one more huge page, all of them in use. Lock held."""
    return not ix.releasing and ix.huge + HUGE <= ix.count * sizeof(Bucket)


cdef bint index_join(Index *ix) noexcept nogil:
    """Put the next 2 MiB of buckets in one huge page; False if the system does not.

    A lookup goes to a bucket at random, and on pages of 4 KiB the translation of its address takes longer than the fetch.
    Only what is resident as a whole is joined, so the host charges nothing for it. A system call that copies 2 MiB: the lock
    is not held; the caller has set `releasing` under it, and clears it afterwards under it.
    """
    cdef char *at = <char *>ix.buckets + ix.huge
    madvise(at, HUGE, MADV_HUGEPAGE)
    if madvise(at, HUGE, MADV_COLLAPSE) != 0:
        madvise(at, HUGE, MADV_NOHUGEPAGE)
        return False
    ix.huge += HUGE
    return True
