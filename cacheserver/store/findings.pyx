# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Findings: see findings.pxd."""
from libc.stdint cimport uint32_t, uint64_t


cdef void report(Audit *t, const char *text, uint64_t a=0, uint64_t b=0, uint64_t c=0, uint64_t d=0) noexcept nogil:
    cdef Finding *f
    if t.found < MOST:
        f = &t.findings[t.found]
        f.text = text
        f.n[0] = a
        f.n[1] = b
        f.n[2] = c
        f.n[3] = d
    t.found += 1


cdef void expect(Audit *t, const char *text, uint64_t counted, uint64_t kept, uint64_t a=0, uint64_t b=0) noexcept nogil:
    """Report two numbers that differ: `text` has gaps for what was counted, what was kept, and up to two names."""
    if counted != kept:
        report(t, text, counted, kept, a, b)


cdef list findings_said(Audit *t):
    """The sentences, in the order in which they were found."""
    cdef uint32_t i
    cdef list said = []
    for i in range(min(t.found, MOST)):
        said.append((<bytes>t.findings[i].text).decode().format(*[t.findings[i].n[k] for k in range(4)]))
    if t.found > MOST:
        said.append(f"and {t.found - MOST} more")
    return said
