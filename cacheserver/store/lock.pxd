# cython: language_level=3
"""How an operation takes the lock of its shard.

It holds that for 0.1 to 0.2 us, and going to sleep and being woken takes some microseconds: so who finds a shard busy
spins a little first. Only a little, a hundred pauses (0.3 to 5 us, as the processor takes them): whoever works longer under the lock looks whether somebody sleeps there
(mutex_wanted()) and cannot see one that spins, and a holder that has lost its processor does not come back so soon.
Knows: shards. Must not know: what is done under the lock. Owns no memory.
"""
from libc.stdint cimport uint64_t

from cacheserver.store.arena cimport item_at
from cacheserver.store.index cimport index_glance
from cacheserver.store.item cimport handle_t
from cacheserver.store.platform cimport prefetch, pthread_mutex_t
from cacheserver.store.shard cimport Shard

cdef extern from * nogil:
    """
    #include <pthread.h>
    enum { LOCK_SPINS = 100 };   /* measured with tests.bench.contention: fewer sleep too often, more gain nothing */
    static inline int lock_looks_taken(const pthread_mutex_t *m) {
    #if defined(__GLIBC__)
        return __atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) != 0;
    #else
        (void)m;
        return 0;
    #endif
    }
    static inline void lock_pause(void) {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ volatile("isb");
    #endif
    }
    static __attribute__((noinline, unused)) void lock_contended(pthread_mutex_t *m) {
        for (int i = 0; i < LOCK_SPINS; i++) {
            if (!lock_looks_taken(m) && pthread_mutex_trylock(m) == 0) return;
            lock_pause();
        }
        pthread_mutex_lock(m);
    }
    static inline void lock_spinning(pthread_mutex_t *m) {
        if (__builtin_expect(pthread_mutex_trylock(m) != 0, 0)) lock_contended(m);
    }
    """
    void lock_spinning(pthread_mutex_t *m)

cdef inline void lock_shard(Shard *sh) noexcept nogil:
    lock_spinning(&sh.lock)

cdef inline void lock_lookup(Shard *sh, uint64_t hash) noexcept nogil:
    """Lock a shard to look a hash up. Most of the time under the lock goes by waiting for the bucket and the item to come
    from memory: where others may want the lock, that begins before."""
    cdef handle_t h
    if sh.nshards > 1:
        h = index_glance(&sh.index, hash)
        if h:
            prefetch(item_at(sh.arena, h))
    lock_spinning(&sh.lock)
