# cython: language_level=3
"""How an event reads: a journal's record as a line of text, in the words of memcached's logger.

Knows: records, the wording. Must not know: journals, queues, who reads. Owns no memory. Threads: any.
"""
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.store.journal cimport Record

cdef enum:
    LINE_ROOM = 1024         # bytes: URI_KEY_MAX, and the longest of the fields around it
    SKIPPED_ROOM = 32

cdef uint32_t format_line(char *line, Record *r, const char *key) noexcept nogil
cdef uint32_t format_skipped(char *line, uint64_t count) noexcept nogil
