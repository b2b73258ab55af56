"""What memcached_exporter reads from the live server. The metrics are data in the module beside this one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.exporter_metrics import METRICS, WHOLE_CLASS, Metric
from tests.integration.work import Replies, classes


def holders(metric: Metric, replies: Replies) -> dict[str, dict[str, str]]:
    """Return where the exporter looks for a metric's fields: by class, or under "" in the whole reply."""
    if metric.reply in ("items", "slabs") and metric.fields[0] not in WHOLE_CLASS:
        return classes(replies[metric.reply], "items:" if metric.reply == "items" else "")
    return {"": replies[metric.reply]}


def parsed(text: str, form: str) -> Any:
    """Read a value as the exporter reads it. Raises where it would fail."""
    if form == "number":
        return float(text)
    if form == "switch":
        return {"yes": 1.0, "no": 0.0}[text]
    if form == "time":
        assert re.fullmatch(r"\d+\.\d{6}", text)
        seconds, micros = text.split(".")
        return int(seconds) + int(micros) / 1e6
    assert re.fullmatch(r"\d+\.\d+\.\d+", text)
    return text


@pytest.mark.parametrize("metric", [m for m in METRICS if not m.lent], ids=lambda metric: metric.name)
def test_the_exporter_finds_a_metric_in_its_form(metric: Metric, replies: Replies) -> None:
    found = holders(metric, replies)
    assert found
    for fields in found.values():
        for name in metric.fields:
            parsed(fields[name], metric.form)


def test_the_exporter_s_table_is_whole_and_what_is_not_here_is_not_claimed(replies: Replies) -> None:
    assert len({metric.name for metric in METRICS} | {"up"}) == 103
    for metric in METRICS:
        if metric.lent:
            assert metric.fields[0] not in replies[""]


def test_no_metric_comes_twice(replies: Replies) -> None:
    # The exporter reads these names from two replies, and a scrape with a metric twice fails as a whole.
    for fields in classes(replies["items"], "items:").values():
        assert not {"store_too_large", "store_no_memory"} & set(fields)
    for fields in classes(replies["slabs"], "").values():
        assert "mem_requested" not in fields


def test_sets_are_counted_so_that_the_exporter_s_difference_is_right(replies: Replies) -> None:
    def sets(found: dict[str, str], *cas: str) -> int:
        return int(found["cmd_set"]) - sum(int(found[name]) for name in cas)

    whole = sets(replies[""], "cas_misses", "cas_hits", "cas_badval")
    by_class = [sets(found, "cas_hits", "cas_badval") for found in classes(replies["slabs"], "").values()]
    assert all(number >= 0 for number in by_class)
    assert whole >= sum(by_class) > 0


def test_the_crawler_is_on_so_that_the_exporter_looks_at_its_settings(replies: Replies) -> None:
    assert replies["settings"]["lru_crawler"] == "yes"
