"""What memcached_exporter 0.16.0 makes of the four replies it asks for: every metric, and where it reads it.

Knows: names only. `reply` is the one after the word `stats` ("" is plain `stats`); items and slabs are read
for each class. `form`: how the exporter parses the value: number, time (seconds.microseconds), text, switch
(yes, no). `lent` metrics are there only where memcached is built with what they are about.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    name: str
    reply: str
    fields: tuple[str, ...]
    form: str = "number"
    lent: bool = False


SUCCESSES = ("get", "delete", "incr", "decr", "cas", "touch")
COMMANDS = tuple(f"{word}_{end}" for word in SUCCESSES for end in ("hits", "misses"))
CLASS_COMMANDS = tuple(f"{word}_hits" for word in SUCCESSES)


def _plain(reply: str, text: str) -> list[Metric]:
    """One metric a line: its name and its field, where that has another name."""
    found = []
    for line in text.split("\n"):
        words = line.split()
        if words:
            found.append(Metric(words[0], reply, (words[-1],)))
    return found


def _lent(text: str) -> list[Metric]:
    return [Metric(name, "", (field,), lent=True) for name, field in map(str.split, text.strip().split("\n"))]


METRICS: list[Metric] = [
    Metric("version", "", ("version",), "text"),
    Metric("process_user_cpu_seconds_total", "", ("rusage_user",), "time"),
    Metric("process_system_cpu_seconds_total", "", ("rusage_system",), "time"),
    Metric("commands_total", "", (*COMMANDS, "cas_badval", "cmd_flush", "cmd_set")),
    *_plain(
        "",
        """
        uptime_seconds uptime
        time_seconds time
        read_bytes_total bytes_read
        written_bytes_total bytes_written
        current_connections curr_connections
        connections_total total_connections
        connections_rejected_total rejected_connections
        connections_yielded_total conn_yields
        connections_listener_disabled_total listen_disabled_num
        current_bytes bytes
        limit_bytes limit_maxbytes
        current_items curr_items
        items_total total_items
        items_evicted_total evictions
        items_reclaimed_total reclaimed
        item_too_large_total store_too_large
        item_no_memory_total store_no_memory
        direct_reclaims_total direct_reclaims
        lru_crawler_starts_total lru_crawler_starts
        lru_crawler_reclaimed_total crawler_reclaimed
        lru_crawler_items_checked_total crawler_items_checked
        lru_crawler_moves_to_cold_total moves_to_cold
        lru_crawler_moves_to_warm_total moves_to_warm
        lru_crawler_moves_within_lru_total moves_within_lru
        accepting_connections accepting_conns
        round_robin_fallback_total round_robin_fallback
        unexpected_napi_ids_total unexpected_napi_ids
        """,
    ),
    Metric("lru_crawler_enabled", "settings", ("lru_crawler",), "switch"),
    Metric("lru_crawler_maintainer_thread", "settings", ("lru_maintainer_thread",), "switch"),
    *_plain(
        "settings",
        """
        max_connections maxconns
        lru_crawler_sleep
        lru_crawler_to_crawl lru_crawler_tocrawl
        lru_crawler_hot_percent hot_lru_pct
        lru_crawler_warm_percent warm_lru_pct
        lru_crawler_hot_max_factor hot_max_factor
        lru_crawler_warm_max_factor warm_max_factor
        """,
    ),
    Metric("slab_lru_hits_total", "items", ("hits_to_hot", "hits_to_warm", "hits_to_cold", "hits_to_temp")),
    *_plain(
        "items",
        """
        slab_current_items number
        slab_items_age_seconds age
        slab_items_crawler_reclaimed_total crawler_reclaimed
        slab_items_evicted_total evicted
        slab_items_evicted_nonzero_total evicted_nonzero
        slab_items_evicted_time_seconds evicted_time
        slab_items_evicted_unfetched_total evicted_unfetched
        slab_items_expired_unfetched_total expired_unfetched
        slab_items_outofmemory_total outofmemory
        slab_items_reclaimed_total reclaimed
        slab_items_tailrepairs_total tailrepairs
        slab_items_moves_to_cold moves_to_cold
        slab_items_moves_to_warm moves_to_warm
        slab_items_moves_within_lru moves_within_lru
        slab_hot_items number_hot
        slab_warm_items number_warm
        slab_cold_items number_cold
        slab_temporary_items number_temp
        slab_hot_age_seconds age_hot
        slab_warm_age_seconds age_warm
        slab_mem_requested_bytes mem_requested
        """,
    ),
    Metric("slab_commands_total", "slabs", (*CLASS_COMMANDS, "cas_badval", "cmd_set")),
    *_plain(
        "slabs",
        """
        slab_chunk_size_bytes chunk_size
        slab_chunks_per_page chunks_per_page
        slab_current_pages total_pages
        slab_current_chunks total_chunks
        slab_chunks_used used_chunks
        slab_chunks_free free_chunks
        slab_chunks_free_end free_chunks_end
        """,
    ),
    Metric("malloced_bytes", "slabs", ("total_malloced",)),
    *_lent(
        """
        extstore_compact_lost_total extstore_compact_lost
        extstore_compact_rescued_total extstore_compact_rescues
        extstore_compact_skipped_total extstore_compact_skipped
        extstore_pages_allocated_total extstore_page_allocs
        extstore_pages_evicted_total extstore_page_evictions
        extstore_pages_reclaimed_total extstore_page_reclaims
        extstore_pages_free extstore_pages_free
        extstore_pages_used extstore_pages_used
        extstore_objects_evicted_total extstore_objects_evicted
        extstore_objects_read_total extstore_objects_read
        extstore_objects_written_total extstore_objects_written
        extstore_objects_used extstore_objects_used
        extstore_bytes_evicted_total extstore_bytes_evicted
        extstore_bytes_written_total extstore_bytes_written
        extstore_bytes_read_total extstore_bytes_read
        extstore_bytes_used extstore_bytes_used
        extstore_bytes_fragmented extstore_bytes_fragmented
        extstore_bytes_limit extstore_limit_maxbytes
        extstore_io_queue_depth extstore_io_queue
        proxy_conn_requests_total proxy_conn_requests
        proxy_conn_errors_total proxy_conn_errors
        proxy_conn_oom_total proxy_conn_oom
        proxy_req_active proxy_req_active
        proxy_config_reloads_total proxy_config_reloads
        proxy_config_reload_fails_total proxy_config_reload_fails
        proxy_config_cron_runs_total proxy_config_cron_runs
        proxy_config_cron_fails_total proxy_config_cron_fails
        proxy_backend_total proxy_backend_total
        proxy_backend_marked_bad_total proxy_backend_marked_bad
        proxy_backend_failed proxy_backend_failed
        proxy_request_failed_depth_total proxy_request_failed_depth
        """
    ),
]
WHOLE_CLASS = ("total_malloced", "active_slabs")  # the fields of `stats slabs` that belong to no class
