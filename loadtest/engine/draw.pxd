# cython: language_level=3
"""Random numbers, and which key comes next."""
from libc.stdint cimport int64_t, uint64_t

cdef enum Kind:
    UNIFORM
    ZIPF
    HOT
    SCAN

cdef struct Dice:
    uint64_t s[4]

cdef struct Draw:
    Kind kind
    uint64_t keys
    uint64_t hot                # keys of the hot set, the first ones
    double hot_share            # of the draws
    double exponent             # zipf: see draw.pyx
    double first
    double last
    double sure
    uint64_t next               # scan
    uint64_t end                # scan: it goes on from 0 there, or ends if it goes `once`
    bint once
    bint ended


cdef inline uint64_t mixed(uint64_t x) noexcept nogil:
    """64 bits for a number that look drawn by lot; SplitMix64's step (Steele and others, 2014)."""
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t roll(Dice *d) noexcept nogil:
    """64 random bits: xoshiro256** (Blackman and Vigna, 2018)."""
    cdef uint64_t x = d.s[1] * 5
    cdef uint64_t found = ((x << 7) | (x >> 57)) * 9
    x = d.s[1] << 17
    d.s[2] ^= d.s[0]
    d.s[3] ^= d.s[1]
    d.s[1] ^= d.s[2]
    d.s[0] ^= d.s[3]
    d.s[2] ^= x
    d.s[3] = (d.s[3] << 45) | (d.s[3] >> 19)
    return found


cdef inline double unit(Dice *d) noexcept nogil:
    """A random number from 0 to below 1."""
    return <double><int64_t>(roll(d) >> 11) * (1.0 / 9007199254740992.0)    # signed: one instruction, not six


cdef inline uint64_t below(Dice *d, uint64_t n) noexcept nogil:
    """A random whole number from 0 to below `n`, which is at most 2 ** 53."""
    return <uint64_t><int64_t>(unit(d) * <double><int64_t>n)

cdef void dice_seed(Dice *d, uint64_t seed) noexcept nogil
cdef void draw_init(Draw *d, Kind kind, uint64_t keys, double a, double b) noexcept nogil
cdef uint64_t draw_by_law(Draw *d, Dice *dice) noexcept nogil


cdef inline uint64_t draw_next(Draw *d, Dice *dice) noexcept nogil:
    """The next key, from 0 to below `keys`."""
    return below(dice, d.keys) if d.kind == UNIFORM else draw_by_law(d, dice)
