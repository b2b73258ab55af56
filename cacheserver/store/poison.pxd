# cython: language_level=3
"""Which bytes of the arena nobody may touch, told to AddressSanitizer where it is compiled in; nothing otherwise.

Poisoned are pages that hold nothing (from their first use on), chunks that were never handed out, and what is free of the
others: all of a free chunk but the two words that a scan of its page reads (the link, and the one with the state), and what
lies behind the end of an item in its chunk. Who makes an item lets in what it has asked for, and no more.
Knows: AddressSanitizer's interface, how long the header of an item is. Must not know: who owns what. Owns no memory.
Threads: the caller owns the bytes.
"""
from libc.stdint cimport uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #if defined(__SANITIZE_ADDRESS__)
    #define STORE_POISONS 1
    #elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define STORE_POISONS 1
    #endif
    #endif
    #ifdef STORE_POISONS
    #include <sanitizer/asan_interface.h>
    static inline int poison_is_on(void) { return 1; }
    static inline void poison(void *p, uint64_t n) { __asan_poison_memory_region(p, n); }
    static inline void unpoison(void *p, uint64_t n) { __asan_unpoison_memory_region(p, n); }
    #else
    static inline int poison_is_on(void) { return 0; }
    static inline void poison(void *p, uint64_t n) { (void)p; (void)n; }
    static inline void unpoison(void *p, uint64_t n) { (void)p; (void)n; }
    #endif
    """
    bint poison_is_on()
    void poison(void *p, uint64_t nbytes)        # the end must be a multiple of 8 from the arena's start
    void unpoison(void *p, uint64_t nbytes)      # to the byte

cdef inline void poison_free(void *chunk, uint64_t chunk_size) noexcept nogil:
    """A chunk that holds nothing: its link (bytes 0 to 7) and its state (24 to 31) are read."""
    poison(<char *>chunk + 8, 16)
    poison(<char *>chunk + 32, chunk_size - 32)

cdef inline void poison_behind(void *chunk, uint64_t nbytes, uint64_t chunk_size) noexcept nogil:
    """A chunk whose item has, or is about to have, `nbytes`: none of the rest."""
    unpoison(chunk, nbytes)
    poison(<char *>chunk + nbytes, chunk_size - nbytes)
