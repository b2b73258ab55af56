# cython: language_level=3
"""What the store holds, as a dict of plain numbers (memcached's names where it has one).

Where the memory is, in bytes, under "classes" for each slab class and in total (all begin with bytes_):

    committed   granted by the host and not given back = live + loose + free + meta
    untouched   of these, what the host has not charged yet: committed - untouched is resident
    live        header, key, client flags and value of the items in the index
    loose       chunks of items that are not in the index: half received, or removed and still being sent
    free        what is left: free chunks, the ends of chunks and pages, empty pages
    meta        index, what lies beside pages, the learner, page table, counters
    pool        of free: empty pages that no class has (in total only)
    side        of meta: what lies beside the pages, that is the times of items that expire (in total only)
    table       of meta: page table and counters, for which no leave is asked (in total only)

committed without table is the ledger's "committed", to the byte while nobody writes; and "hash_bytes" is the index.
A class's part of meta is what lies beside its pages; the ages ("age_hot", "age_warm") are seconds since
the item at a segment's tail was used.

Knows: every counter of the store. Must not know: how a reply to `stats` looks. Owns no memory.
Threads: takes the shards' locks one at a time for the classes in use, and none for the page table, with the GIL released. So
while others write the parts are of slightly different moments.
"""
from cacheserver.store.shard cimport StoreC

cdef dict store_snapshot(StoreC *s)
