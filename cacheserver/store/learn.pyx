# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, embedsignature=True, freethreading_compatible=True
"""Learning by trials: see learn.pxd (and learn.pyi for the docstrings of the face)."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from cacheserver.store.manner cimport Manner, manner_short

cdef enum:
    NOWHERE = 0              # rows of a trial
    GHOSTS = 1
    HOT = 2
    WARM = 3
    LRU = 4                  # the candidate that is plain LRU
    READS_MAX = 3            # saved reads of an item
    GHOST_PERCENT = 45       # of the items: what fits in the slots that the index has to spare on average
    SIZE_MAX = 1536          # items of a trial
    SIZE_MIN = 8             # below this a hit more or less says nothing
    SAMPLE_SHIFT = 20        # bits of a hash that sampling goes by: above those that small indexes use, below the shard's
    RATE_MAX = 22
    EPOCH_MIN = 256          # reads from one judgement to the next, at least

cdef:
    double DECAY = 0.95      # of a score from one judgement to the next: 20 epochs, or ten times a trial's size, count
    double LEAD = 0.003      # of all reads, by which another must be ahead to be chosen: 0.3 points of hit ratio
    double CHANCE = 0.6      # ... and so many times the square root of the hits or the misses, whichever are fewer

# Measured over real request streams, caches of 0.3 to 30 % of the keys: on average the best of these five
# comes within 0.1 points of the best of all. A share of 1 % is best where popularity lasts, 40 % where what is read soon is not read
# later, a second read as proof where reads come in pairs; LRU where the keys in use move on all the time. 20 % is good
# nearly everywhere, and what the choice starts with.
cdef uint32_t[5] SHARES = [20, 1, 40, 20, 0]
cdef uint32_t[5] PROOFS = [1, 1, 1, 2, 1]


cdef Manner learn_manner(uint32_t candidate) noexcept nogil:
    cdef Manner m
    m.probation = SHARES[candidate]
    m.proof = PROOFS[candidate]
    m.rounds = READS_MAX
    m.bump = candidate == LRU
    m.ghosts = candidate != LRU
    m.fills = True
    return m


cdef Learner *learn_open(uint64_t items) noexcept nogil:
    """A learner for a cache of so many items; NULL if there is no memory."""
    cdef Learner *l = <Learner *>calloc(1, sizeof(Learner))
    cdef uint32_t i
    if l == NULL:
        return NULL
    for i in range(KEYS_MAX, 0, -1):
        l.keys[i].chain = l.spare
        l.spare = <uint16_t>i
    for i in range(CANDIDATES):
        l.trials[i].manner = learn_manner(i)
    learn_resize(l, items)
    return l


cdef void learn_close(Learner *l) noexcept nogil:
    free(l)


cdef inline uint16_t *bucket_of(Learner *l, uint64_t hash) noexcept nogil:
    return &l.buckets[(hash ^ hash >> 32) & (KEYS_MAX - 1)]      # neither half is sampled by


cdef uint32_t find_key(Learner *l, uint64_t hash) noexcept nogil:
    cdef uint32_t i = bucket_of(l, hash)[0]
    while i and l.keys[i].hash != hash:
        i = l.keys[i].chain
    return i


cdef void put_in(Learner *l, uint32_t t, uint32_t i, uint32_t row) noexcept nogil:
    """Make a key, which is nowhere in trial `t`, the newest of a row."""
    cdef Row *r = &l.trials[t].rows[row]
    cdef Key *k = &l.keys[i]
    k.row[t] = row
    k.newer[t] = 0
    k.older[t] = r.newest
    if r.newest:
        l.keys[r.newest].newer[t] = <uint16_t>i
    else:
        r.oldest = <uint16_t>i
    r.newest = <uint16_t>i
    r.count += 1


cdef void take_out(Learner *l, uint32_t t, uint32_t i) noexcept nogil:
    cdef Key *k = &l.keys[i]
    cdef Row *r = &l.trials[t].rows[k.row[t]]
    if k.newer[t]:
        l.keys[k.newer[t]].older[t] = k.older[t]
    else:
        r.newest = k.older[t]
    if k.older[t]:
        l.keys[k.older[t]].newer[t] = k.newer[t]
    else:
        r.oldest = k.newer[t]
    k.row[t] = NOWHERE
    r.count -= 1


cdef void let_go(Learner *l, uint32_t i) noexcept nogil:
    """One holder less; the last one makes the key spare."""
    cdef Key *k = &l.keys[i]
    cdef uint16_t *link
    k.holders -= 1
    if k.holders:
        return
    link = bucket_of(l, k.hash)
    while link[0] != i:
        link = &l.keys[link[0]].chain
    link[0] = k.chain
    k.chain = l.spare
    l.spare = <uint16_t>i
    l.known -= 1


cdef inline void forget(Learner *l, uint32_t t, uint32_t i) noexcept nogil:
    take_out(l, t, i)
    let_go(l, i)


cdef void thin_ghosts(Learner *l, uint32_t t) noexcept nogil:
    while l.trials[t].rows[GHOSTS].count * 100 > l.size * GHOST_PERCENT:
        forget(l, t, l.trials[t].rows[GHOSTS].oldest)


cdef void evict(Learner *l, uint32_t t) noexcept nogil:
    """Make room for one item, as lru does."""
    cdef Trial *trial = &l.trials[t]
    cdef Manner *m = &trial.manner
    cdef uint32_t i, warm, hot
    while True:
        hot = trial.rows[HOT].count
        warm = trial.rows[WARM].count
        if hot and (warm == 0 or hot * 100 > m.probation * l.size):
            i = trial.rows[HOT].oldest
            take_out(l, t, i)
            if l.keys[i].reads[t] < m.proof:
                put_in(l, t, i, GHOSTS)
                thin_ghosts(l, t)
                return
            l.keys[i].reads[t] = 0
        else:
            i = trial.rows[WARM].oldest
            if l.keys[i].reads[t] == 0:
                forget(l, t, i)
                return
            take_out(l, t, i)
            l.keys[i].reads[t] -= 1
        put_in(l, t, i, WARM)


cdef void admit(Learner *l, uint32_t t, uint32_t i) noexcept nogil:
    """Store a key that the trial's cache does not hold."""
    cdef Trial *trial = &l.trials[t]
    cdef Manner *m = &trial.manner
    cdef uint32_t held = trial.rows[HOT].count + trial.rows[WARM].count
    cdef bint known = l.keys[i].row[t] == GHOSTS
    if known:
        take_out(l, t, i)
    else:
        l.keys[i].holders += 1
    l.keys[i].reads[t] = 0
    known = known or m.probation == 0 or held < l.size or manner_short(m, trial.rows[WARM].count, l.size)
    if held >= l.size:
        evict(l, t)
    put_in(l, t, i, WARM if known else HOT)


cdef void read_held(Learner *l, uint32_t t, uint32_t i) noexcept nogil:
    """Count a hit, and what it does to the item."""
    l.trials[t].hits += 1
    if l.trials[t].manner.bump:
        take_out(l, t, i)
        put_in(l, t, i, WARM)
    elif l.keys[i].reads[t] < READS_MAX:
        l.keys[i].reads[t] += 1


cdef void shrink_trials(Learner *l) noexcept nogil:
    """Bring all trials down to their size."""
    cdef uint32_t t
    for t in range(CANDIDATES):
        while l.trials[t].rows[HOT].count + l.trials[t].rows[WARM].count > l.size:
            evict(l, t)
        thin_ghosts(l, t)


cdef void set_rate(Learner *l, uint32_t rate) noexcept nogil:
    """Sample one key in 2**rate. Keys that are no longer of the sample go; what more keys there are now come by being
    read. Scores stay: hit ratios do not depend on the rate."""
    cdef uint32_t t, row, i, newer
    cdef bint coarser = rate > l.rate
    l.rate = rate
    l.mask = ((<uint64_t>1 << rate) - 1) << SAMPLE_SHIFT
    if not coarser:
        return
    for t in range(CANDIDATES):
        for row in range(GHOSTS, WARM + 1):
            i = l.trials[t].rows[row].oldest
            while i:
                newer = l.keys[i].newer[t]
                if l.keys[i].hash & l.mask:
                    forget(l, t, i)
                i = newer


cdef void fit_trials(Learner *l) noexcept nogil:
    cdef uint64_t size = l.items >> l.rate
    l.size = SIZE_MIN if size < SIZE_MIN else <uint32_t>size
    shrink_trials(l)


cdef void learn_resize(Learner *l, uint64_t items) noexcept nogil:
    """The real cache holds so many items now."""
    cdef uint32_t rate = l.rate
    if items > <uint64_t>SIZE_MAX << RATE_MAX:
        items = <uint64_t>SIZE_MAX << RATE_MAX
    if l.size and items == l.items:
        return
    l.items = items
    while items >> rate > SIZE_MAX:
        rate += 1
    set_rate(l, rate)
    fit_trials(l)
    while rate and items >> (rate - 1) <= SIZE_MAX // 3 * 2 and l.known < KEYS_MAX // 3:
        rate -= 1                # with a margin, so that it does not change to and fro
    if rate != l.rate:
        set_rate(l, rate)
        fit_trials(l)


cdef bint judge(Learner *l) noexcept nogil:
    """Compare scores; True: the choice has changed."""
    cdef uint32_t t, best = 0
    cdef double most, lead, scarce
    l.all_reads = l.all_reads * DECAY + l.reads
    l.reads = 0
    for t in range(CANDIDATES):
        l.trials[t].score = l.trials[t].score * DECAY + l.trials[t].hits
        l.trials[t].hits = 0
        if l.trials[t].score > l.trials[best].score:
            best = t
    most = l.trials[best].score
    lead = most - l.trials[l.choice].score - LEAD * l.all_reads
    scarce = most if most < l.all_reads - most else l.all_reads - most
    if lead <= 0 or lead * lead <= CHANCE * CHANCE * scarce:
        return False
    l.choice = best
    return True


cdef uint32_t know(Learner *l, uint64_t hash) noexcept nogil:
    """The key of a hash, found or new, with one holder more; 0 if it has fallen out of the sample."""
    cdef uint32_t i = find_key(l, hash)
    cdef Key *k
    cdef uint16_t *link
    if i == 0 and l.spare == 0:
        set_rate(l, l.rate + 1)
        fit_trials(l)
        if hash & l.mask or l.spare == 0:
            return 0
    if i == 0:
        i = l.spare
        k = &l.keys[i]
        l.spare = k.chain
        l.known += 1
        link = bucket_of(l, hash)
        k.hash = hash
        k.chain = link[0]
        link[0] = <uint16_t>i
    l.keys[i].holders += 1
    return i


cdef void learn_store(Learner *l, uint64_t hash) noexcept nogil:
    """A value of a sampled key was stored."""
    cdef uint32_t i = know(l, hash), t
    if i == 0:
        return
    for t in range(CANDIDATES):
        if l.keys[i].row[t] < HOT:
            admit(l, t, i)
    let_go(l, i)


cdef bint learn_read(Learner *l, uint64_t hash, bint found) noexcept nogil:
    """A sampled key was read, and `found` in the real cache or not. True: the choice has changed.

    Trials that miss what was found take it in at once: there it would be stored now. What was not found they get by
    learn_store(), if anybody stores it.
    """
    cdef uint32_t i = find_key(l, hash), t
    if i:
        for t in range(CANDIDATES):
            if l.keys[i].row[t] >= HOT:
                read_held(l, t, i)
    if found:
        learn_store(l, hash)
    l.reads += 1
    if l.reads < EPOCH_MIN or l.reads < l.size // 2:
        return False
    return judge(l)


cdef void learn_delete(Learner *l, uint64_t hash) noexcept nogil:
    """A sampled key was deleted."""
    cdef uint32_t i = find_key(l, hash), t
    if i == 0:
        return
    l.keys[i].holders += 1       # it stays ours until the last trial has let go
    for t in range(CANDIDATES):
        if l.keys[i].row[t] != NOWHERE:
            forget(l, t, i)
    let_go(l, i)


cdef class Lessons:
    def __cinit__(self, uint64_t items):
        self.learner = learn_open(items)
        if self.learner == NULL:
            raise MemoryError("no memory for a learner")

    def __dealloc__(self):
        learn_close(self.learner)

    def resize(self, uint64_t items):
        learn_resize(self.learner, items)

    def read(self, hashes, bint found=True):
        cdef uint64_t hash
        for hash in hashes:
            if learn_samples(self.learner, hash):
                learn_read(self.learner, hash, found)

    def store(self, uint64_t hash):
        if learn_samples(self.learner, hash):
            learn_store(self.learner, hash)

    def delete(self, uint64_t hash):
        if learn_samples(self.learner, hash):
            learn_delete(self.learner, hash)

    @property
    def choice(self):
        return learn_choice(self.learner)

    @property
    def shares(self):
        cdef uint32_t t
        return [learn_manner(t).probation for t in range(CANDIDATES)]

    @property
    def scores(self):
        cdef uint32_t t
        return [self.learner.trials[t].score for t in range(CANDIDATES)], self.learner.all_reads

    @property
    def known(self):
        return self.learner.known

    @property
    def sampling(self):
        return self.learner.rate, self.learner.size

    @property
    def nbytes(self):
        return learn_bytes()
