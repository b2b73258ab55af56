# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Which key comes next: see draw.pxd.

Knows: distributions. Must not know: what a key is, who asks for it. Memory: a few words, however many keys there
are. Threads: the caller's.

Zipf's law is drawn by rejection-inversion (Hoermann and Derflinger, "Rejection-inversion to generate variates
from monotone discrete distributions", 1996): h(x) = x ** -S is integrated from 1.5 to keys + 0.5 with the mass of
the first key before it, a place under it is drawn, and its x rounded; x is taken unless the place lies above the
step of the histogram, which is rare. It is exact for every S above 0, of which 1 is no exception, and needs no table.
"""
from array import array

from cpython cimport array as carray
from libc.math cimport exp, expm1, fabs, log, log1p
from libc.stdint cimport int64_t, uint64_t


cdef void dice_seed(Dice *d, uint64_t seed) noexcept nogil:
    cdef int i
    for i in range(4):
        seed += 1
        d.s[i] = mixed(seed * <uint64_t>0x9E3779B97F4A7C15)


cdef inline double expm1_by(double x) noexcept nogil:
    """(exp(x) - 1) / x, and its limit at 0."""
    return expm1(x) / x if fabs(x) > 1e-8 else 1.0 + x * 0.5


cdef inline double log1p_by(double x) noexcept nogil:
    """log(1 + x) / x, and its limit at 0."""
    return log1p(x) / x if fabs(x) > 1e-8 else 1.0 - x * 0.5


cdef inline double weight(double exponent, double x) noexcept nogil:
    """x ** -S."""
    return exp(-exponent * log(x))


cdef inline double integral(double exponent, double x) noexcept nogil:
    """(x ** (1 - S) - 1) / (1 - S), the integral of the weight from 1 to x; log(x) where S is 1."""
    cdef double l = log(x)
    return expm1_by((1.0 - exponent) * l) * l


cdef inline double inverse(double exponent, double y) noexcept nogil:
    """The x whose integral is y."""
    cdef double t = y * (1.0 - exponent)
    if t < -1.0:             # only by rounding
        t = -1.0
    return exp(log1p_by(t) * y)


cdef void draw_init(Draw *d, Kind kind, uint64_t keys, double a, double b) noexcept nogil:
    """zipf: a is the exponent. hot: a is the share of the keys, b that of the draws."""
    d.kind = kind
    d.keys = keys
    d.next = 0
    d.end = keys
    d.once = False
    d.ended = False
    d.hot = <uint64_t>(a * <double>keys) if kind == HOT else 0
    if d.hot == 0:
        d.hot = 1
    d.hot_share = b
    d.exponent = a
    if kind == ZIPF:
        d.first = integral(a, 1.5) - 1.0
        d.last = integral(a, <double>keys + 0.5)
        d.sure = 2.0 - inverse(a, integral(a, 2.5) - weight(a, 2.0))


cdef uint64_t zipf(Draw *d, Dice *dice) noexcept nogil:
    """A rank, from 0."""
    cdef double place, x, step
    cdef uint64_t rank
    while True:
        place = d.last + unit(dice) * (d.first - d.last)
        x = inverse(d.exponent, place)
        rank = <uint64_t><int64_t>(x + 0.5) if x > 0.5 else 1
        if rank < 1:
            rank = 1
        elif rank > d.keys:
            rank = d.keys
        step = <double><int64_t>rank
        if step - x <= d.sure or place >= integral(d.exponent, step + 0.5) - weight(d.exponent, step):
            return rank - 1


cdef uint64_t scan(Draw *d) noexcept nogil:
    cdef uint64_t key = d.next
    d.next += 1
    if d.next >= d.end:
        if d.once:
            d.ended = True
        else:
            d.next = 0
    return key


cdef uint64_t draw_by_law(Draw *d, Dice *dice) noexcept nogil:
    """The next key of a law that is not uniform; draw_next() calls it."""
    if d.kind == ZIPF:
        return zipf(d, dice)
    if d.kind == SCAN:
        return scan(d)
    if d.kind == HOT and d.hot < d.keys:
        if unit(dice) < d.hot_share:
            return below(dice, d.hot)
        return d.hot + below(dice, d.keys - d.hot)
    return below(dice, d.keys)


KINDS = {"uniform": UNIFORM, "zipf": ZIPF, "hot": HOT, "scan": SCAN}


def drawn(str name, double a, double b, uint64_t keys, uint64_t seed, int count) -> array[int]:
    """Return `count` keys, for the tests; a and b are the law's numbers, 0 where it has none."""
    cdef Draw draw
    cdef Dice dice
    cdef int i
    cdef carray.array found = array("q", bytes(8 * count))
    draw_init(&draw, KINDS[name], keys, a, b)
    dice_seed(&dice, seed)
    for i in range(count):
        found.data.as_longlongs[i] = <long long>draw_next(&draw, &dice)
    return found
