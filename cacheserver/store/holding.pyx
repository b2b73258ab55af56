# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Holding: see holding.pxd (and holding.pyi for the docstrings of its face)."""
from cython cimport no_gc_clear
from libc.stdint cimport uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from cacheserver.store.arena cimport arena_wake
from cacheserver.store.operations cimport STORED, Outcome, Put, store_get, store_hash
from cacheserver.store.receive cimport store_abandon, store_commit, store_is_revoked, store_progress, store_reserve
from cacheserver.store.store cimport Store
from cacheserver.store.store import MODES, OUTCOMES
from cacheserver.store.view cimport View, store_done, store_pin, store_unpin


@no_gc_clear                 # __dealloc__ needs the store
cdef class Receiving:
    def __cinit__(self, Store store not None, bytes key, uint32_t nbytes, uint32_t flags=0, uint32_t exptime=0,
                  uint32_t now=1):
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef Outcome outcome
        self.store = store
        with nogil:
            outcome = store_reserve(&store.c, store_hash(&store.c, k, n), k, n, flags, exptime, nbytes, now, &self.r)
        if outcome != STORED:
            raise MemoryError(OUTCOMES[outcome])

    def __dealloc__(self):
        if self.r.item != NULL:
            with nogil:
                store_abandon(&self.store.c, &self.r)

    @property
    def revoked(self):
        return store_is_revoked(&self.r)

    @property
    def missing(self):
        return self.r.nbytes - self.r.received if self.r.item != NULL else 0

    def write(self, bytes data, uint32_t now=1):
        cdef const char *more = data
        cdef uint32_t n = len(data)
        if self.r.item == NULL or n > self.r.nbytes - self.r.received:
            raise ValueError(f"{len(data)} bytes are more than are missing")
        with nogil:
            memcpy(self.r.value + self.r.received, more, n)
            self.r.received += n
            store_progress(&self.store.c, &self.r, now)

    def commit(self, str mode="set", uint64_t cas=0, uint32_t now=1):
        cdef Put put
        cdef Outcome outcome
        if self.r.item == NULL or self.r.received != self.r.nbytes:
            raise ValueError("the value is not complete")
        memset(&put, 0, sizeof(put))
        put.mode = MODES[mode]
        put.compare = cas
        with nogil:
            outcome = store_commit(&self.store.c, &self.r, &put, now)
            arena_wake(&self.store.c.arena)
        return OUTCOMES[outcome]

    def abandon(self):
        with nogil:
            store_abandon(&self.store.c, &self.r)


@no_gc_clear
cdef class Pinned:
    def __cinit__(self, Store store not None, bytes key, uint32_t now=1):
        cdef View v
        cdef const char *k = key
        cdef uint32_t n = len(key)
        cdef bint hit
        self.store = store
        with nogil:
            hit = store_get(&store.c, store_hash(&store.c, k, n), k, n, now, False, &v)
            if hit:
                self.start = v.value
                self.nbytes = v.nbytes
                self.pin = store_pin(&store.c, &v)
                if self.pin == 0:
                    store_done(&v)
        if not hit:
            raise KeyError(key)
        if self.pin == 0:
            raise MemoryError("the item has all the pins it can have")

    def __dealloc__(self):
        if self.pin:
            with nogil:
                store_unpin(&self.store.c, self.pin)

    @property
    def value(self):
        if self.pin == 0:
            raise ValueError("the pin has been given back")
        return self.start[:self.nbytes]

    @property
    def address(self):
        return <uintptr_t>self.start

    def release(self):
        if self.pin:
            with nogil:
                store_unpin(&self.store.c, self.pin)
            self.pin = 0
