# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Deadlines: see deadlines.pxd."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from cacheserver.store.arena cimport Arena, Page, arena_use_side, side_of
from cacheserver.store.platform cimport low_bit

cdef enum:
    OLD = 32768              # seconds after which a page's base is moved, so that half of REACH at least lies ahead

# In C for the sake of the vectors: the compiler makes them of the loops, but not of the bits that due_in_block() returns.
cdef extern from * nogil:
    """
    /* Bit i is set where 0 < chunks[i] <= elapsed, for the 64 deadlines of a block. */
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    static inline uint64_t due_in_block(const uint16_t *chunks, uint16_t elapsed) {
        uint64_t due = 0;
    #if defined(__SSE2__)
        const __m128i limit = _mm_set1_epi16((short)elapsed), zero = _mm_setzero_si128();
        for (int i = 0; i < 64; i += 16) {
            __m128i a = _mm_loadu_si128((const __m128i *)(chunks + i));
            __m128i b = _mm_loadu_si128((const __m128i *)(chunks + i + 8));
            __m128i da = _mm_andnot_si128(_mm_cmpeq_epi16(a, zero), _mm_cmpeq_epi16(_mm_subs_epu16(a, limit), zero));
            __m128i db = _mm_andnot_si128(_mm_cmpeq_epi16(b, zero), _mm_cmpeq_epi16(_mm_subs_epu16(b, limit), zero));
            due |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_packs_epi16(da, db)) << i;
        }
    #else
        for (int i = 0; i < 64; i++) due |= (uint64_t)(chunks[i] != 0 && chunks[i] <= elapsed) << i;
    #endif
        return due;
    }
    /* The earliest of a block's deadlines, 0 if there is none. */
    static inline uint16_t first_in_block(const uint16_t *chunks) {
        uint16_t least = 65535;
        for (int i = 0; i < 64; i++) {
            uint16_t before = (uint16_t)(chunks[i] - 1);     /* 0, none, becomes the largest */
            least = before < least ? before : least;
        }
        return (uint16_t)(least + 1);
    }
    /* Count n deadlines from a base that is `later` seconds later. */
    static inline void rebase(uint16_t *chunks, uint32_t n, uint16_t later) {
        for (uint32_t i = 0; i < n; i++) {
            uint16_t have = chunks[i];
            uint16_t left = have > later ? (uint16_t)(have - later) : 1;
            chunks[i] = have ? left : 0;
        }
    }
    """
    uint64_t due_in_block(const uint16_t *chunks, uint16_t elapsed)
    uint16_t first_in_block(const uint16_t *chunks)
    void rebase(uint16_t *chunks, uint32_t n, uint16_t later)


cdef void make_deadlines(Arena *a, uint32_t page, uint32_t chunk, uint32_t now) noexcept nogil:
    """Room for the deadline of a chunk, and a base: what may be left of the page's last use is wiped away."""
    cdef Page *p = &a.pages[page]
    cdef Deadlines *d = <Deadlines *>side_of(a, page)
    if p.deadlines == 0:
        memset(d, 0, p.side)
        p.deadlines = now if now else 1
    arena_use_side(a, page, sizeof(d.first) + (chunk + 1) * sizeof(uint16_t))


cdef void move_base(Deadlines *d, Page *p, uint32_t blocks, uint32_t now) noexcept nogil:
    """Let the page's deadlines count from the second before `now`; what is due stays due."""
    cdef uint32_t later = now - 1 - p.deadlines, written = (p.side - sizeof(d.first)) // sizeof(uint16_t)
    if later > REACH:
        later = REACH
    rebase(d.first, blocks, <uint16_t>later)
    rebase(d.chunks, min(blocks * BLOCK, written), <uint16_t>later)
    p.deadlines = now - 1


cdef uint32_t take_due(Arena *a, uint32_t page, uint32_t now, uint16_t *out, uint32_t most) noexcept nogil:
    """Write the numbers of up to `most` (BLOCK or more) chunks whose deadlines have come to `out`, and forget those.

    Returns how many. Page.min_exp is later than `now` when all have been taken.
    """
    cdef Page *p = &a.pages[page]
    cdef Deadlines *d = <Deadlines *>side_of(a, page)
    cdef uint32_t blocks = (p.bump + BLOCK - 1) >> BLOCK_SHIFT, block, n = 0, i, elapsed
    cdef uint16_t first, least = 0
    cdef uint64_t due
    if p.deadlines == 0:
        p.min_exp = NEVER
        return 0
    if now > p.deadlines and now - p.deadlines >= OLD:
        move_base(d, p, blocks, now)
    elapsed = now - p.deadlines if now > p.deadlines else 0
    for block in range(blocks):
        first = d.first[block]
        if 0 < first <= elapsed and n + BLOCK <= most:
            due = due_in_block(&d.chunks[block * BLOCK], <uint16_t>elapsed)
            while due:
                i = block * BLOCK + low_bit(due)
                d.chunks[i] = 0
                out[n] = <uint16_t>i
                n += 1
                due &= due - 1
            first = d.first[block] = first_in_block(&d.chunks[block * BLOCK])
        if first and (least == 0 or first < least):
            least = first
    p.min_exp = p.deadlines + least if least else NEVER
    return n
