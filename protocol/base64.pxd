# cython: language_level=3
"""Keys in base64, the way meta commands carry keys with bytes that a line cannot hold (RFC 4648, section 4).

Knows: the alphabet. Must not know: what is encoded. Memory: reads and writes the caller's buffers only.
Threads: no state; any thread.
"""
from libc.stddef cimport size_t

cdef size_t base64_encode(const char *src, size_t n, char *out) noexcept nogil
# Write (n + 2) // 3 * 4 characters at `out`; returns how many.

cdef size_t base64_decode(const char *src, size_t n, char *out) noexcept nogil
# Write at most n // 4 * 3 bytes at `out`; returns how many, 0 for what is no base64. Strict: whole groups of four,
# nothing but the alphabet, padding only where it belongs.
