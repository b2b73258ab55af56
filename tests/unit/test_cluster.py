"""`config get cluster`: the reply's form, and when its list and its number change."""

from __future__ import annotations

import threading

import pytest

from cacheserver import cluster
from cacheserver.cluster import Cluster, config_reply, lookup
from cacheserver.values import Address

ASK = [b"get", b"cluster"]


class Names:
    """A resolver whose answers a test changes; a name it has no addresses for does not resolve."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names

    def __call__(self, host: str) -> list[str]:
        if host not in self.names:
            raise OSError("Name or service not known")
        return list(self.names[host])


def made(*hosts: str, names: Names, now: int = 1000) -> Cluster:
    entries = [Address(host, None) for host in hosts]
    return Cluster(entries, 11211, resolve=names, wall=lambda: float(now))


def listed(member: Cluster) -> tuple[int, list[str]]:
    """Return (number, nodes) of the reply, checked against its own length."""
    head, _, rest = member.answer(ASK).partition(b"\r\n")
    word, name, flags, size = head.split(b" ")
    assert (word, name, flags) == (b"CONFIG", b"cluster", b"0")
    assert rest[int(size) :] == b"\r\nEND\r\n"
    version, nodes, nothing = rest[: int(size)].split(b"\n")
    assert nothing == b""
    return int(version), nodes.decode().split(" ")


def test_the_reply_is_elasticaches() -> None:
    nodes = [("a.example", "10.0.0.1", 11211), ("b.example", "", 11212)]
    block = b"12\na.example|10.0.0.1|11211 b.example||11212\n"
    assert config_reply(12, nodes) == b"CONFIG cluster 0 %d\r\n%b\r\nEND\r\n" % (len(block), block)


def test_without_a_cluster_the_command_is_unknown() -> None:
    member = Cluster((), 11211)
    member.start()
    assert member.answer(ASK) == b"ERROR\r\n"


@pytest.mark.parametrize("words", [[], [b"get"], [b"get", b"clusters"], [b"set", b"cluster"], [*ASK, b"x"]])
def test_nothing_else_can_be_asked(words: list[bytes]) -> None:
    member = Cluster([Address("10.0.0.1", None)], 11211)
    member.start()
    assert member.answer(ASK).startswith(b"CONFIG")
    assert member.answer(words) == b"ERROR\r\n"


def test_addresses_need_no_resolver() -> None:
    member = Cluster([Address("10.0.0.2", None), Address("::1", 5)], 11311, resolve=Names(), wall=lambda: 7.0)
    member.start()
    assert listed(member) == (7, ["10.0.0.2|10.0.0.2|11311", "::1|::1|5"])


def test_one_name_stands_for_all_its_addresses() -> None:
    names = Names(cache=["10.0.0.3", "10.0.0.1"])
    member = made("cache", names=names)
    member.refresh()
    first = listed(member)
    assert first == (1000, ["10.0.0.1|10.0.0.1|11211", "10.0.0.3|10.0.0.3|11211"])
    names.names["cache"] = ["10.0.0.1", "10.0.0.3"]  # resolvers answer in turns
    member.refresh()
    assert listed(member) == first
    names.names["cache"].append("10.0.0.2")
    member.refresh()
    assert listed(member) == (
        1001,
        [f"10.0.0.{number}|10.0.0.{number}|11211" for number in (1, 2, 3)],
    )


def test_hosts_of_a_list_keep_their_name_and_their_address() -> None:
    names = Names(a=["10.0.0.1", "10.0.0.9"], b=["10.0.0.2"])
    member = made("a", "b", "c", names=names)
    member.refresh()
    assert listed(member) == (1000, ["a|10.0.0.1|11211", "b|10.0.0.2|11211", "c||11211"])
    names.names = {"a": ["10.0.0.0", "10.0.0.1"], "c": ["10.0.0.3"]}
    member.refresh()
    assert listed(member) == (1001, ["a|10.0.0.1|11211", "b|10.0.0.2|11211", "c|10.0.0.3|11211"])


def test_the_last_good_answer_stays() -> None:
    names = Names()
    member = made("cache", names=names)
    member.refresh()
    assert member.answer(ASK).startswith(b"SERVER_ERROR ")
    names.names["cache"] = ["10.0.0.1"]
    member.refresh()
    good = member.answer(ASK)
    assert good.startswith(b"CONFIG")
    for broken in ({}, {"cache": []}):
        names.names = broken
        member.refresh()
        assert member.answer(ASK) == good


def test_a_later_start_has_a_higher_number() -> None:
    names = Names(cache=["10.0.0.1"])
    older, newer = made("cache", names=names, now=1000), made("cache", names=names, now=2000)
    older.refresh()
    names.names["cache"] = ["10.0.0.2"]
    newer.refresh()
    assert listed(newer)[0] > listed(older)[0]


def test_a_slow_resolver_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "RESOLVE_SECONDS", 0.0)
    asked, go = threading.Event(), threading.Event()

    def slow(_host: str) -> list[str]:
        asked.set()
        assert go.wait(10)
        return ["10.0.0.1"]

    member = Cluster([Address("cache", None)], 11211, resolve=slow)
    member.start()
    try:
        assert asked.wait(10)
        assert member.answer(ASK).startswith(b"SERVER_ERROR ")
        go.set()
        for _ in range(1000):
            if member.answer(ASK).startswith(b"CONFIG"):
                break
            threading.Event().wait(0.01)
        assert listed(member)[1] == ["10.0.0.1|10.0.0.1|11211"]
    finally:
        go.set()
        member.stop()


def test_lookup_lists_one_family_and_refuses_impossible_names() -> None:
    assert lookup("localhost") == ["127.0.0.1"]
    for name in ("no.such.host.invalid", "x" * 64 + ".example"):
        with pytest.raises((OSError, ValueError)):
            lookup(name)
