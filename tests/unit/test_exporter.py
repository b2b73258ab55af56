"""What the exporter for Prometheus makes of `stats`, by its own rules."""

import re
from collections.abc import Iterator

from cacheserver import stats
from cacheserver.commands import Commands
from tests.unit.fake_server import fields

Metric = tuple[str, tuple[str, ...]]
COMMAND_HITS = ("get", "delete", "incr", "decr", "cas", "touch")


def scrape(commands: Commands) -> dict[Metric, float]:
    """Make the metrics the exporter makes, by its rules: a missing key or a metric twice fails."""
    general, by_item, by_slab = fields(commands(b"stats")), {}, {}
    for reply, into, skip in ((b"stats items", by_item, 1), (b"stats slabs", by_slab, 0)):
        for name, value in fields(commands(reply)).items():
            parts = name.split(":")[skip:]
            if len(parts) == 1:
                general[name] = value
            else:
                into.setdefault(parts[0], {})[parts[1]] = value
    metrics: dict[Metric, float] = {}
    for metric, value in [
        *general_metrics(general),
        *class_metrics(by_item, by_slab),
        *settings_metrics(fields(commands(b"stats settings"))),
    ]:
        assert metric not in metrics, f"{metric} twice"
        metrics[metric] = value
    return metrics


def general_metrics(found: dict[str, str]) -> Iterator[tuple[Metric, float]]:
    for name in stats.STORE_FIELDS + stats.COUNTERS + ("limit_maxbytes", "uptime", "time", "total_malloced"):
        yield (name, ()), float(found[name])
    for name in ("rusage_user", "rusage_system"):
        assert re.fullmatch(r"\d+\.\d{6}", found[name])
    cas = sum(float(found[name]) for name in ("cas_misses", "cas_hits", "cas_badval"))
    yield ("commands", ("set", "hit")), float(found["cmd_set"]) - cas


def class_metrics(
    items: dict[str, dict[str, str]], slabs: dict[str, dict[str, str]]
) -> Iterator[tuple[Metric, float]]:
    for number, found in items.items():
        for name in ("store_too_large", "store_no_memory"):
            assert name not in found, "a metric without labels must not come from a class"
        for name, value in found.items():
            yield (f"slab_{name}", (number,)), float(value)
    for number, found in slabs.items():
        for command in COMMAND_HITS:
            yield ("slab_commands", (number, command, "hit")), float(found[f"{command}_hits"])
        cas = float(found["cas_hits"]) + float(found["cas_badval"])
        yield ("slab_commands", (number, "set", "hit")), float(found["cmd_set"]) - cas
        for name, value in found.items():
            if name in ("chunk_size", "chunks_per_page", "mem_requested") or "chunks" in name:
                yield (f"slab_{name}", (number,)), float(value)


def settings_metrics(found: dict[str, str]) -> Iterator[tuple[Metric, float]]:
    yield ("maxconns", ()), float(found["maxconns"])
    switches = {"yes": 1.0, "no": 0.0}
    assert found["lru_crawler"] == "yes"
    for name in ("lru_crawler", "lru_maintainer_thread"):
        yield (name, ()), switches[found[name]]
    for name in ("lru_crawler_sleep", "lru_crawler_tocrawl", "hot_lru_pct", "warm_lru_pct"):
        yield (name, ()), float(int(found[name]))
    for name in ("hot_max_factor", "warm_max_factor"):
        yield (name, ()), float(found[name])


def test_the_exporter_can_scrape_everything_once(commands: Commands) -> None:
    metrics = scrape(commands)
    assert metrics["commands", ("set", "hit")] == 55 - (3 + 1 + 1)
    assert metrics["slab_mem_requested", ("3",)] == 130
    assert metrics["slab_commands", ("3", "get", "hit")] == 70
    assert metrics["limit_maxbytes", ()] == 12345678
