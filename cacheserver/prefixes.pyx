# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Statistics by prefix: see prefixes.pxd (and prefixes.pyi for the docstrings of its face)."""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

cdef enum:
    FIRST_SLOTS = 1024
    FIRST_TEXT = 16384


cdef uint32_t prefix_length(PrefixTable *t, const char *key, uint32_t nkey) noexcept nogil:
    """Bytes of a key before its first delimiter; nkey where it has none, and then nothing is counted."""
    cdef const char *end = <const char *>memchr(key, t.delimiter, nkey)
    return nkey if end == NULL else <uint32_t>(end - key)


cdef void clear(PrefixTable *t) noexcept nogil:
    free(t.slots)
    free(t.entries)
    free(t.text)
    t.slots = NULL
    t.entries = NULL
    t.text = NULL
    t.nslots = t.count = t.cap = t.ntext = t.text_cap = 0


cdef bint more_slots(PrefixTable *t) noexcept nogil:
    """Twice as many slots and entries; False (nothing changed) if memory is out."""
    cdef uint32_t n = t.nslots * 2 if t.nslots else FIRST_SLOTS, i, slot
    cdef uint32_t *slots = <uint32_t *>malloc(n * sizeof(uint32_t))
    cdef Entry *entries = <Entry *>realloc(t.entries, n * sizeof(Entry)) if slots != NULL else NULL
    if entries == NULL:
        free(slots)
        return False
    memset(slots, 0, n * sizeof(uint32_t))
    for i in range(t.count):
        slot = <uint32_t>entries[i].hash & (n - 1)
        entries[i].next = slots[slot]
        slots[slot] = i + 1
    free(t.slots)
    t.slots = slots
    t.entries = entries
    t.nslots = t.cap = n
    return True


cdef bint more_text(PrefixTable *t) noexcept nogil:
    cdef uint32_t n = t.text_cap * 2 if t.text_cap else FIRST_TEXT
    cdef char *text = <char *>realloc(t.text, n)
    if text == NULL:
        return False
    t.text = text
    t.text_cap = n
    return True


cdef Entry *find(PrefixTable *t, uint64_t hash, const char *text, uint32_t n) noexcept nogil:
    cdef uint32_t at = t.slots[<uint32_t>hash & (t.nslots - 1)] if t.nslots else 0
    cdef Entry *e
    while at:
        e = &t.entries[at - 1]
        if e.hash == hash and e.n == n and memcmp(t.text + e.text, text, n) == 0:
            return e
        at = e.next
    return NULL


cdef Entry *add(PrefixTable *t, uint64_t hash, const char *text, uint32_t n) noexcept nogil:
    """A new entry, or NULL where the table holds all it may."""
    cdef uint32_t slot
    cdef Entry *e
    if t.count == PREFIXES_MAX or t.ntext + n > TEXT_MAX:
        return NULL
    if t.count == t.cap and not more_slots(t):
        return NULL
    if t.ntext + n > t.text_cap and not more_text(t):     # a prefix is far shorter than what is added
        return NULL
    e = &t.entries[t.count]
    memset(e, 0, sizeof(Entry))
    e.hash = hash
    e.text = t.ntext
    e.n = n
    memcpy(t.text + t.ntext, text, n)
    slot = <uint32_t>hash & (t.nslots - 1)
    e.next = t.slots[slot]
    t.count += 1
    t.ntext += n
    t.slots[slot] = t.count
    return e


cdef void prefix_count(PrefixTable *t, uint64_t hash, const char *text, uint32_t n, Counted what, bint hit) noexcept nogil:
    """Count one operation on a key that begins with `text`; `hash`: of the text, such that clients cannot choose it."""
    cdef Entry *e
    pthread_mutex_lock(&t.lock)
    e = find(t, hash, text, n)
    if e == NULL:
        e = add(t, hash, text, n)
    if e != NULL:
        e.counts[<int>what] += 1
        e.counts[<int>COUNT_HIT] += hit
    else:
        t.dropped += 1
    pthread_mutex_unlock(&t.lock)


cdef class Prefixes:
    def __cinit__(self, str delimiter=":"):
        cdef bytes one = delimiter.encode()
        if len(one) != 1:
            raise ValueError(f"{delimiter!r} is not one single character")
        self.c.delimiter = one[0]
        pthread_mutex_init(&self.c.lock, NULL)

    def __dealloc__(self):
        clear(&self.c)
        pthread_mutex_destroy(&self.c.lock)

    def clear(self):
        with nogil:
            pthread_mutex_lock(&self.c.lock)
            clear(&self.c)
            pthread_mutex_unlock(&self.c.lock)

    def count(self, bytes key, str what, bint hit=False):
        cdef const char *k = key
        cdef uint32_t nkey = len(key), n = prefix_length(&self.c, k, nkey)
        cdef Counted which = {"get": COUNT_GET, "set": COUNT_SET, "del": COUNT_DELETE}[what]
        cdef uint64_t h = hash(key[:n]) & 0xffffffffffffffff
        if n < nkey:
            with nogil:
                prefix_count(&self.c, h, k, n, which, hit)

    def rows(self, uint32_t start, uint32_t most):
        cdef uint32_t i, n = 0, first, size, text = 0
        cdef Entry *entries = <Entry *>malloc(most * sizeof(Entry))
        cdef char *bytes_of = <char *>malloc(most * 256)
        try:
            if entries == NULL or bytes_of == NULL:
                raise MemoryError("no memory for statistics by prefix")
            with nogil:
                pthread_mutex_lock(&self.c.lock)
                if start < self.c.count:
                    n = self.c.count - start if self.c.count - start < most else most
                    first = self.c.entries[start].text
                    size = self.c.entries[start + n - 1].text + self.c.entries[start + n - 1].n - first
                    memcpy(entries, self.c.entries + start, n * sizeof(Entry))
                    memcpy(bytes_of, self.c.text + first, size)
                pthread_mutex_unlock(&self.c.lock)
            rows = []
            for i in range(n):
                rows.append((bytes_of[text:text + entries[i].n], entries[i].counts[0], entries[i].counts[1],
                             entries[i].counts[2], entries[i].counts[3]))
                text += entries[i].n
            return rows
        finally:
            free(entries)
            free(bytes_of)

    def __len__(self):
        return self.c.count

    @property
    def dropped(self):
        return self.c.dropped
