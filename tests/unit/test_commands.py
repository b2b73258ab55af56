"""The rare commands: whose they are, and the grammar of those that would change the server."""

import logging
from types import SimpleNamespace

import pytest

from cacheserver.commands import Commands
from tests.unit.fake_server import FakeServer, fields


@pytest.mark.parametrize(
    "line",
    [
        b"foo",
        b"stats foo",
        b"stats noreply",
        b"STATS",
        b"lru",
        b"slabs",
        b"lru_crawler",
        b"mg a v",
        b"",
    ],
)
def test_what_is_not_in_the_table_is_an_error(commands: Commands, line: bytes) -> None:
    assert commands(line) == b"ERROR\r\n"


def test_watch_and_stats_detail_are_answered_by_those_whose_they_are(
    commands: Commands, server: FakeServer
) -> None:
    assert commands(b"watch fetchers  evictions") == b"<fetchers,evictions>\r\n"
    assert commands(b"watch") == b"<>\r\n"
    assert commands(b"stats detail dump x") == b"<dump,x>\r\n"
    found = fields(commands(b"stats"))
    assert [found[name] for name in ("log_watchers", "log_watcher_sent", "detail_dropped")] == ["2", "7", "5"]
    assert fields(commands(b"stats settings"))["detail_enabled"] == "yes"
    commands(b"stats reset")
    assert server.detail.numbers == {}
    found = fields(commands(b"stats"))
    assert [found[name] for name in ("log_watchers", "log_watcher_sent")] == ["2", "0"]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (b"1", b"OK\r\n"),
        (b"0 x", b"OK\r\n"),
        (b"1 noreply", b""),
        (b"", b"CLIENT_ERROR bad command line format\r\n"),
        (b"x", b"CLIENT_ERROR bad command line format\r\n"),
        (b"-1", b"CLIENT_ERROR bad command line format\r\n"),
        (b"noreply", b""),
    ],
)
def test_verbosity_needs_a_level(commands: Commands, arguments: bytes, answer: bytes) -> None:
    log = logging.getLogger("cacheserver")
    before = log.level
    try:
        assert commands(b"verbosity " + arguments) == answer
    finally:
        log.setLevel(before)


def test_verbosity_changes_what_is_logged_and_is_shown(commands: Commands) -> None:
    log = logging.getLogger("cacheserver")
    before = log.level
    try:
        commands(b"verbosity 99")
        assert log.level == logging.DEBUG
        assert fields(commands(b"stats settings"))["verbosity"] == "2"
        commands(b"verbosity 0")
        assert log.level == logging.WARNING
    finally:
        log.setLevel(before)


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (b"64", b"OK\r\n"),
        (b"8 noreply", b""),
        (b"7", b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"),
        (b"7 noreply", b""),
        (b"1000000001", b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"),
        (b"4294967296", b"ERROR\r\n"),
        (b"x", b"ERROR\r\n"),
        (b"", b"ERROR\r\n"),
    ],
)
def test_cache_memlimit_checks_its_number_and_changes_nothing(
    commands: Commands, arguments: bytes, answer: bytes
) -> None:
    before = fields(commands(b"stats"))["limit_maxbytes"]
    assert commands(b"cache_memlimit " + arguments) == answer
    assert fields(commands(b"stats"))["limit_maxbytes"] == before


def test_shutdown_is_refused_unless_enabled(commands: Commands, server: FakeServer) -> None:
    assert commands(b"shutdown") == b"SERVER_ERROR: shutdown not enabled\r\n"
    assert server.stopped == 0


@pytest.mark.parametrize("line", [b"shutdown", b"shutdown graceful"])
def test_shutdown_stops_the_server_and_closes(line: bytes) -> None:
    server = FakeServer(enable_shutdown=True)
    assert Commands(server)(line) is None
    assert server.stopped == 1


def test_shutdown_knows_no_other_mode() -> None:
    server = FakeServer(enable_shutdown=True)
    assert Commands(server)(b"shutdown now") == b"CLIENT_ERROR invalid shutdown mode\r\n"
    assert server.stopped == 0


def test_refresh_certs_says_what_memcached_says(commands: Commands, server: FakeServer) -> None:
    assert commands(b"refresh_certs") == b"Error TLS not enabled\r\n"
    assert "time_since_server_cert_refresh" not in fields(commands(b"stats"))
    server.certificates = SimpleNamespace(age=5, confirm=lambda: True)
    assert commands(b"refresh_certs") == b"OK\r\n"  # at once
    server.certificates.confirm = lambda: False
    for why, answer in (("", b"OK\r\n"), ("the key does not belong", b"Error the key does not belong\r\n")):
        server.certificates.refresh = lambda why=why: why
        sent: list[bytes] = []
        job = commands(b"refresh_certs")
        assert not isinstance(job, bytes | None)
        job(SimpleNamespace(send=sent.append))
        assert sent == [answer]
    assert fields(commands(b"stats"))["time_since_server_cert_refresh"] == "5"
