# cython: language_level=3
"""Where a word ends, sixteen bytes at a time where the processor can (every x86-64 can).

Knows: bytes. Must not know: commands. Memory: looks at no byte outside [p, end). Threads: no state; any thread.
"""

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #define PROTOCOL_SCAN(name, match, same)                                                                  \\
        static inline const char *name(const char *p, const char *end) {                                      \\
            for (; end - p >= 16; p += 16) {                                                                  \\
                const __m128i v = _mm_loadu_si128((const __m128i *)p);                                        \\
                const unsigned hits = (unsigned)_mm_movemask_epi8(match);                                     \\
                if (hits)                                                                                     \\
                    return p + __builtin_ctz(hits);                                                           \\
            }                                                                                                 \\
            while (p < end && !(same))                                                                        \\
                p++;                                                                                          \\
            return p;                                                                                         \\
        }
    #else
    #define PROTOCOL_SCAN(name, match, same)                                                                  \\
        static inline const char *name(const char *p, const char *end) {                                      \\
            while (p < end && !(same))                                                                        \\
                p++;                                                                                          \\
            return p;                                                                                         \\
        }
    #endif
    PROTOCOL_SCAN(scan_space, _mm_cmpeq_epi8(v, _mm_set1_epi8(' ')), *p == ' ')
    PROTOCOL_SCAN(scan_word,
                  _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(' ')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\n'))),
                  *p == ' ' || *p == '\\n')
    """
    const char *scan_space(const char *p, const char *end) nogil   # the first space, or `end`
    const char *scan_word(const char *p, const char *end) nogil    # the first space or LF, or `end`
