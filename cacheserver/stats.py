"""The fields of every `stats` reply: which names, in which order, from which numbers.

Knows: memcached 1.6.45's names, and what its exporter trips over. Must not know: where the numbers come from;
it sees plain mappings only. A number nobody keeps is 0, so that dashboards find every name.

Three rules the exporter for Prometheus imposes: `mem_requested` stands only in `stats items`;
`store_too_large` and `store_no_memory` only in `stats` (a name in two places fails the scrape); every class
of `stats slabs` has all its fields.
"""

from collections.abc import Iterable, Iterator, Mapping

from cacheserver.lines import END

Row = tuple[str, object]
Numbers = Mapping[str, int]
Classes = Mapping[int, Numbers]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNTERS = _words(
    """
    cmd_get cmd_set cmd_flush cmd_touch cmd_meta get_hits get_misses get_expired get_flushed
    delete_misses delete_hits incr_misses incr_hits decr_misses decr_hits cas_misses cas_hits cas_badval
    touch_hits touch_misses store_too_large store_no_memory auth_cmds auth_errors
    """
)

STORE_FIELDS = _words(
    """
    hash_power_level hash_bytes hash_is_expanding slab_reassign_rescues slab_reassign_chunk_rescues
    slab_reassign_inline_reclaim slab_reassign_busy_items slab_reassign_busy_nomem
    slab_reassign_busy_deletes slab_reassign_last_busy_status slab_reassign_running slabs_moved
    lru_crawler_running lru_crawler_starts lru_maintainer_juggles malloc_fails log_worker_dropped
    log_worker_written log_watcher_skipped log_watcher_sent log_watchers unexpected_napi_ids
    round_robin_fallback bytes curr_items total_items slab_global_page_pool expired_unfetched
    evicted_unfetched evicted_active evictions reclaimed crawler_reclaimed crawler_items_checked
    lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru direct_reclaims lru_bumps_dropped
    """
)

# What this server adds, and the number behind it: the bytes held beside items, how the store's memory is
# used, and connections ended to save memory.
OWN_FIELDS: Mapping[str, str] = {
    "conn_bytes": "conn_bytes",
    "conn_carry_bytes": "carry_bytes",
    "conn_pending_bytes": "pending_bytes",
    "conn_pinned_bytes": "pinned_bytes",
    "conn_output_bytes": "output_buf_bytes",
    "conn_budget_kicks": "budget_kicks",
    "ssl_connections": "ssl_connections",
    "ssl_handshakes": "ssl_handshakes",
    "ssl_handshake_errors": "ssl_handshake_errors",
    "ssl_proto_errors": "ssl_proto_errors",
    "ssl_unfinished": "ssl_unfinished",
    "ssl_bytes": "ssl_bytes",
    "udp_datagrams": "udp_datagrams",
    "udp_datagrams_dropped": "udp_dropped",
    "udp_replies_too_large": "udp_too_large",
    "udp_replies_unsent": "udp_unsent",
    "store_bytes_live": "bytes_live",
    "store_bytes_loose": "bytes_loose",
    "store_bytes_free": "bytes_free",
    "store_bytes_meta": "bytes_meta",
    "store_committed": "committed",
    "store_untouched": "untouched",
    "store_reserved": "reserved",
    "store_debt": "debt",
    "pressure_bytes_released_soft": "released_soft",
    "pressure_bytes_released_hard": "released_hard",
    "pressure_kicks": "pressure_kicks",
    "detail_dropped": "detail_dropped",
}

ITEM_FIELDS = _words(
    """
    number number_hot number_warm number_cold number_temp age_hot age_warm age mem_requested evicted
    evicted_nonzero evicted_time outofmemory tailrepairs reclaimed expired_unfetched evicted_unfetched
    evicted_active crawler_reclaimed crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm
    moves_within_lru direct_reclaims hits_to_hot hits_to_warm hits_to_cold hits_to_temp
    """
)

SLAB_FIELDS = _words(
    """
    chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks free_chunks_end get_hits
    cmd_set delete_hits incr_hits decr_hits cas_hits cas_badval touch_hits
    """
)

# What `stats reset` sets back. Everything else is a state, not a count.
RESETTABLE = frozenset(COUNTERS) | _names(
    """
    idle_kicks bytes_read bytes_written conn_yields
    total_connections rejected_connections listen_disabled_num time_in_listen_disabled_us
    ssl_handshakes ssl_handshake_errors ssl_proto_errors
    budget_kicks pressure_kicks udp_datagrams udp_dropped udp_too_large udp_unsent
    released_soft released_hard slab_reassign_rescues slabs_moved
    lru_crawler_starts lru_maintainer_juggles log_worker_dropped log_worker_written log_watcher_skipped
    log_watcher_sent detail_dropped
    total_items expired_unfetched evicted_unfetched evicted_active evictions reclaimed crawler_reclaimed
    crawler_items_checked lrutail_reflocked moves_to_cold moves_to_warm moves_within_lru direct_reclaims
    """
)
RESETTABLE_IN_CLASS = (frozenset(ITEM_FIELDS) | frozenset(SLAB_FIELDS)) - _names(
    """
    number number_hot number_warm number_cold number_temp age_hot age_warm age mem_requested
    evicted_time chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks
    free_chunks_end
    """
)

# `stats settings` as memcached 1.6.45 has it, with what holds in this server; knobs replace what they set.
# "lru_crawler yes" makes the exporter look at the six names behind it.
SETTINGS: Mapping[str, str] = {
    "maxbytes": "0",
    "maxconns": "1024",
    "tcpport": "11211",
    "udpport": "0",
    "inter": "NULL",
    "verbosity": "0",
    "oldest": "0",
    "evictions": "on",
    "domain_socket": "NULL",
    "umask": "700",
    "shutdown_command": "no",
    "growth_factor": "1.05",
    "chunk_size": "64",
    "num_threads": "4",
    "num_threads_per_udp": "0",
    "stat_key_prefix": ":",
    "detail_enabled": "no",
    "reqs_per_event": "0",
    "cas_enabled": "yes",
    "tcp_backlog": "1024",
    "binding_protocol": "auto-negotiate",
    "auth_enabled_sasl": "no",
    "auth_enabled_ascii": "no",
    "item_size_max": "1048576",
    "maxconns_fast": "yes",
    "hashpower_init": "0",
    "slab_reassign": "yes",
    "slab_automove": "1",
    "slab_automove_ratio": "0.80",
    "slab_automove_freeratio": "0.010",
    "slab_automove_window": "0",
    "slab_chunk_max": "262144",
    "lru_crawler": "yes",
    "lru_crawler_sleep": "100",
    "lru_crawler_tocrawl": "0",
    "tail_repair_time": "0",
    "flush_enabled": "yes",
    "dump_enabled": "yes",
    "watch_enabled": "yes",
    "hash_algorithm": "siphash",
    "lru_maintainer_thread": "yes",
    "lru_segmented": "yes",
    "hot_lru_pct": "20",
    "warm_lru_pct": "40",
    "hot_max_factor": "0.00",
    "warm_max_factor": "0.00",
    "temp_lru": "no",
    "temporary_ttl": "0",
    "idle_timeout": "0",
    "watcher_logbuf_size": "262144",
    "worker_logbuf_size": "65536",
    "read_buf_mem_limit": "0",
    "track_sizes": "no",
    "inline_ascii_response": "no",
    "ssl_enabled": "no",
    "ssl_chain_cert": "(null)",
    "ssl_key": "(null)",
    "ssl_verify_mode": "0",
    "ssl_keyformat": "1",
    "ssl_ciphers": "NULL",
    "ssl_ca_cert": "NULL",
    "ssl_wbuf_size": "16384",
    "ssl_session_cache": "no",
    "ssl_kernel_tls": "no",
    "ssl_min_version": "tlsv1.2",
    "num_napi_ids": "(null)",
    "memory_file": "(null)",
    "client_flags_size": "4",
}


def picked(names: Iterable[str], numbers: Numbers) -> Iterator[Row]:
    """Return the fields `names` in their order; a missing one is 0."""
    return ((name, numbers.get(name, 0)) for name in names)


def own_rows(numbers: Numbers) -> Iterator[Row]:
    """Return OWN_FIELDS with their numbers."""
    return ((name, numbers.get(number, 0)) for name, number in OWN_FIELDS.items())


def since(numbers: Numbers, before: Numbers, resettable: frozenset[str]) -> dict[str, int]:
    """Return `numbers` with the resettable ones counted from `before` on, never below 0."""
    return {
        name: max(0, value - before.get(name, 0)) if name in resettable else value
        for name, value in numbers.items()
    }


def classes_since(classes: Classes, before: Classes) -> dict[int, dict[str, int]]:
    """Return since() for each slab class; the age at the last eviction goes with its count."""
    found = {
        number: since(fields, before.get(number, {}), RESETTABLE_IN_CLASS)
        for number, fields in classes.items()
    }
    for fields in found.values():
        if not fields.get("evicted", 0):
            fields["evicted_time"] = 0
    return found


def item_rows(classes: Classes) -> Iterator[Row]:
    """`stats items`: a block for every class that holds items."""
    for number, fields in sorted(classes.items()):
        if fields.get("number", 0):
            for name, value in picked(ITEM_FIELDS, fields):
                yield f"items:{number}:{name}", value


def slab_rows(classes: Classes, active: int, malloced: int) -> Iterator[Row]:
    """`stats slabs`: a block for every class that has pages, then the totals; `malloced` in bytes."""
    for number, fields in sorted(classes.items()):
        if fields.get("total_pages", 0):
            for name, value in picked(SLAB_FIELDS, fields):
                yield f"{number}:{name}", value
    yield "active_slabs", active
    yield "total_malloced", malloced


def settings_rows(knobs: Mapping[str, str], maxbytes: int) -> Iterator[Row]:
    """`stats settings`: memcached's names, then those it does not have; `maxbytes` as of now."""
    yield from {**SETTINGS, **knobs, "maxbytes": str(maxbytes)}.items()


def one_word(text: str) -> str:
    """Return `text` as clients that split a line at its spaces can read it."""
    return ":".join(text.split()) or "none"


def render(rows: Iterable[Row]) -> bytes:
    """Write rows as a reply, END included."""
    return lines(rows) + END


def lines(rows: Iterable[Row]) -> bytes:
    """Write rows as a part of a reply."""
    return "".join([f"STAT {name} {value}\r\n" for name, value in rows]).encode()
