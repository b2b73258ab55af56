# cython: language_level=3
"""The few C facilities the store needs and Cython does not ship: atomics, bit scans, mutexes, threads, clocks,
prefetch, 16-byte compare.

Knows: the compiler and libc. Must not know: pages, items. Owns no memory.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <pthread.h>
    #include <sched.h>
    #include <signal.h>
    #include <time.h>
    #include <unistd.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    static inline int64_t atomic_add(int64_t *p, int64_t v) { return __atomic_add_fetch(p, v, __ATOMIC_RELAXED); }
    static inline int64_t atomic_get(const int64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void atomic_set(int64_t *p, int64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
    static inline int64_t atomic_swap(int64_t *p, int64_t v) { return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL); }
    static inline int atomic_take(int64_t *p, int64_t n) {
        int64_t have = __atomic_load_n(p, __ATOMIC_RELAXED);
        while (have >= n)
            if (__atomic_compare_exchange_n(p, &have, have - n, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return 1;
        return 0;
    }
    static inline void publish(uint8_t *p, uint8_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline uint8_t observe(const uint8_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline int64_t atomic_read(const int64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void atomic_publish(int64_t *p, int64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline void atomic_mark(int64_t *p, int64_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
    static inline int64_t atomic_look(const int64_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline char *pointer_look(char **p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void pointer_mark(char **p, char *v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
    /* The empty asm: without it GCC takes a function that only prefetches for one without effect, and drops the call. */
    static inline void prefetch(const void *p) { __builtin_prefetch(p); __asm__ volatile(""); }
    static inline void prefetch_write(void *p) { __builtin_prefetch(p, 1); __asm__ volatile(""); }
    static inline uint32_t bit_count(uint64_t v) { return (uint32_t)__builtin_popcountll(v); }
    static inline uint32_t low_bit(uint64_t v) { return (uint32_t)__builtin_ctzll(v); }
    /* Bit i is set where tags[i] == tag, for the 12 tags of an index bucket (16 bytes are readable). */
    static inline uint32_t match_tags(const uint8_t *tags, uint8_t tag) {
    #if defined(__SSE2__)
        __m128i have = _mm_loadu_si128((const __m128i *)tags);
        return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(have, _mm_set1_epi8((char)tag))) & 0xfff;
    #else
        uint32_t m = 0;
        for (int i = 0; i < 12; i++) m |= (uint32_t)(tags[i] == tag) << i;
        return m;
    #endif
    }
    /* Bit i is set where slots[i] == h, for the 12 slots of an index bucket (16-byte aligned). */
    static inline uint32_t match_slots(const uint32_t *slots, uint32_t h) {
    #if defined(__SSE2__)
        const __m128i *have = (const __m128i *)slots, want = _mm_set1_epi32((int)h);
        return (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(have[0], want)))
            | (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(have[1], want))) << 4
            | (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(have[2], want))) << 8;
    #else
        uint32_t m = 0;
        for (int i = 0; i < 12; i++) m |= (uint32_t)(slots[i] == h) << i;
        return m;
    #endif
    }
    /* Whether a thread waits for a mutex that the caller holds. A guess: where the C library does not show it, nobody does. */
    static inline int mutex_wanted(const pthread_mutex_t *m) {
    #if defined(__GLIBC__)
        return __atomic_load_n(&m->__data.__lock, __ATOMIC_RELAXED) > 1;
    #else
        (void)m;
        return 0;
    #endif
    }
    /* A thread that takes no signal (those are Python's to handle), and on whose stack no huge page fits. 0, or an error. */
    static inline int start_thread(pthread_t *t, void *(*work)(void *), void *argument) {
        sigset_t all, before;
        pthread_attr_t small;
        int failed = pthread_attr_init(&small);
        if (failed) return failed;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_attr_setstacksize(&small, 256 << 10);
        if (!failed) failed = pthread_create(t, &small, work, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&small);
        return failed;
    }
    static inline long processors(void) {
    #if defined(__linux__)
        cpu_set_t allowed;
        if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
    #endif
        return sysconf(_SC_NPROCESSORS_ONLN);
    }
    static inline int this_processor(void) {
    #if defined(__linux__)
        return sched_getcpu();
    #else
        return -1;
    #endif
    }
    static inline void avoid_processor(int number) {
    #if defined(__linux__)
        cpu_set_t allowed;
        if (number < 0 || number >= CPU_SETSIZE || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
        CPU_CLR(number, &allowed);
        if (CPU_COUNT(&allowed)) sched_setaffinity(0, sizeof allowed, &allowed);
    #endif
    }
    static inline void rest_us(long us) {
        struct timespec t = {0, us * 1000};
        nanosleep(&t, NULL);
    }
    static inline int64_t wall_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
    }
    static inline int64_t monotonic_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    """
    int64_t atomic_add(int64_t *p, int64_t v)
    int64_t atomic_get(const int64_t *p)
    void atomic_set(int64_t *p, int64_t v)
    int64_t atomic_swap(int64_t *p, int64_t v)
    bint atomic_take(int64_t *p, int64_t n)      # subtract n only if that much is there
    void publish(uint8_t *p, uint8_t v)          # store after everything written before it
    uint8_t observe(const uint8_t *p)            # load before everything read after it
    int64_t atomic_read(int64_t *p)              # load before everything read after it
    void atomic_publish(int64_t *p, int64_t v)   # store after everything written before it
    void atomic_mark(int64_t *p, int64_t v)      # these four keep one order that every thread sees
    int64_t atomic_look(int64_t *p)
    char *pointer_look(char **p)
    void pointer_mark(char **p, char *v)
    void prefetch(const void *p)
    void prefetch_write(void *p)
    uint32_t bit_count(uint64_t v)
    uint32_t low_bit(uint64_t v)                 # index of the lowest set bit; v must not be 0
    uint32_t match_tags(const uint8_t *tags, uint8_t tag)
    uint32_t match_slots(const uint32_t *slots, uint32_t h)
    int64_t wall_us()                            # microseconds since 1970
    int64_t monotonic_ns()

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *m, void *attr)
    int pthread_mutex_destroy(pthread_mutex_t *m)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_trylock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
    ctypedef struct pthread_t:
        pass
    int pthread_join(pthread_t thread, void **result)

cdef extern from * nogil:
    bint mutex_wanted(const pthread_mutex_t *m)
    void rest_us(long us)                        # a system call: at least so many microseconds
    int start_thread(pthread_t *t, void *(*work)(void *) noexcept nogil, void *argument)
    long processors()                            # that this thread may run on
    int this_processor()                         # its number; negative: not known
    void avoid_processor(int number)             # from now on, where there is another for this thread

cdef extern from "<sched.h>" nogil:
    int sched_yield()
