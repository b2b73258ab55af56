# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Foresight: see foresight.pxd."""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from cacheserver.session cimport EngineC
from cacheserver.store.operations cimport store_hash, store_prefetch, store_prefetch_item
from protocol.request cimport KEY_MAX
from protocol.scan cimport scan_word


cdef uint64_t engine_foresee(EngineC *e, const char *buf, size_t n) noexcept nogil:
    """Guess which key the first request in `buf` asks for, from the shape that most have (a word, a space, the key), and
    start fetching its bucket of the index. Returns its hash, for engine_fetch(); 0 for no guess."""
    cdef const char *end = buf + n
    cdef const char *key = scan_word(buf, end)
    cdef const char *stop
    cdef uint64_t hash
    if key == end or key[0] != 0x20:
        return 0
    key += 1
    stop = scan_word(key, end)
    if stop > key and (stop - 1)[0] == 0x0d:
        stop -= 1
    if stop == key or stop - key > KEY_MAX:
        return 0
    hash = store_hash(e.store, key, <uint32_t>(stop - key))
    store_prefetch(e.store, hash)
    return hash


cdef void engine_fetch(EngineC *e, uint64_t hash) noexcept nogil:
    """Start fetching the item that engine_foresee() has guessed, if any; its bucket should have come by now."""
    if hash:
        store_prefetch_item(e.store, hash)
