"""TLS as its clients and operators meet it: a server process, real sockets, certificates made for the run."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import ssl
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymemcache.client.base import Client

from tests.certificates import Certificates
from tests.handshake_flood import neighbours
from tests.integration.secure_server import PATIENCE, SecureServer, SecureWire, serving
from tests.secure import SecureClient, served_at_once
from tests.servers import HOST, Server, command, free_port, run_to_end
from tests.wire import TIMEOUT

EMBEDDED = """
import sys
from cacheserver.config import Config
from cacheserver.server import Server
from cacheserver.sockets import open_sockets
from cacheserver.values import addresses

listen, chain, key = sys.argv[1:]
config = Config(listen=addresses(listen), tls=True, ssl_chain_cert=chain, ssl_key=key)
sys.exit(Server(config, open_sockets(config)).run(lambda: None))
"""


@pytest.fixture(scope="module")
def shared(certificates: Certificates) -> Iterator[SecureServer]:
    with serving(certificates, "-t", "2") as server:
        yield server


@pytest.fixture
def secure(shared: SecureServer) -> Iterator[SecureServer]:
    """The shared server; whatever a test does to it, it holds nothing afterwards."""
    files = shared.server.open_files()
    yield shared
    held = ("ssl_bytes", "ssl_connections", "ssl_unfinished", "conn_carry_bytes", "conn_pending_bytes")
    shared.until(lambda: [shared.stat(name) for name in (*held, "conn_pinned_bytes")] == [0] * 6)
    shared.until(lambda: shared.server.open_files() <= files)


def test_the_start_line_names_what_speaks_tls(secure: SecureServer) -> None:
    assert f"listening on {HOST}:{secure.port} (TLS), {HOST}:" in secure.server.errors()
    assert secure.server.errors().count("(TLS)") == 1
    settings = secure.server.stats(b"settings")
    assert settings["ssl_enabled"] == "yes"
    assert settings["ssl_chain_cert"] == str(secure.made.server)
    assert f"notls:{HOST}:" in settings["inter"]


def test_tls_and_plain_clients_share_the_store(secure: SecureServer) -> None:
    with secure.connect() as wire, secure.server.connect() as plain:
        assert wire.set(b"from-tls", b"1") == b"STORED"
        assert plain.set(b"from-plain", b"2") == b"STORED"
        assert wire.get_many([b"from-tls", b"none", b"from-plain"]) == {
            b"from-tls": b"1",
            b"from-plain": b"2",
        }
        assert plain.get(b"from-tls") == b"1"


def test_a_server_within_a_program_needs_no_more_than_its_configuration(certificates: Certificates) -> None:
    port, plain = free_port(), free_port()
    pair = (str(certificates.server), str(certificates.server_key))
    script = [sys.executable, "-c", EMBEDDED, f"{HOST}:{port},notls:{HOST}:{plain}", *pair]
    with Server(script, (HOST, plain)) as server:
        secure = SecureServer(server, port, certificates)
        with secure.connect() as wire:
            assert wire.set(b"key", b"value") == b"STORED"
            assert secure.stat("ssl_connections") == 1


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 100000, 1000000])
def test_values_of_any_size_both_ways(secure: SecureServer, size: int) -> None:
    value = random.Random(size).randbytes(size)
    with secure.connect() as wire:
        assert wire.set(b"k", value) == b"STORED"
        assert wire.get(b"k") == value
        wire.send(b"get k k\r\nget none\r\n")
        head = b"VALUE k 0 %d\r\n" % size
        expected = (head + value + b"\r\n") * 2 + b"END\r\nEND\r\n"
        assert wire.read_exactly(len(expected)) == expected


def test_a_pipeline_is_answered_in_order_to_a_reader_that_is_slow(secure: SecureServer) -> None:
    value = random.Random(7).randbytes(300000)
    with secure.connect(receive_buffer=8192) as wire:
        wire.set(b"k", value)
        wire.send((b"get k\r\nincr none 1\r\n" * 20) + b"stats settings\r\nversion\r\n")
        expected = (b"VALUE k 0 300000\r\n" + value + b"\r\nEND\r\nNOT_FOUND\r\n") * 20
        assert wire.read_exactly(len(expected)) == expected
        rest, ended = wire.read_until(b"END\r\nVERSION ")
        assert not ended
        assert b"STAT ssl_enabled yes" in rest


def test_a_login_and_a_value_in_one_record(certificates: Certificates, tmp_path: Path) -> None:
    (users := tmp_path / "users").write_text("alice:secret\n")
    value = random.Random(6).randbytes(6000)
    with serving(certificates, "-Y", str(users)) as secure, secure.connect() as wire:
        wire.send(b"set x 0 0 12\r\nalice secret\r\nset k 0 0 6000\r\n" + value + b"\r\nget k\r\n")
        expected = b"STORED\r\nSTORED\r\nVALUE k 0 6000\r\n" + value + b"\r\nEND\r\n"
        assert wire.read_exactly(len(expected)) == expected


def test_quit_ends_with_a_last_word(secure: SecureServer) -> None:
    client = SecureClient(secure.raw(), secure.made.client_context())
    client.setblocking(False)
    secure.until(client.shake)
    client.raw.settimeout(TIMEOUT)
    client.send(b"get a\r\nquit\r\n")
    data = b""
    while part := client.recv(100):
        data += part
    assert data == b"END\r\n"
    assert client.last_word
    client.close()


def test_strangers_are_closed_and_counted_and_harm_nobody(secure: SecureServer) -> None:
    before = secure.stat("ssl_handshake_errors")
    with secure.connect() as wire:
        for garbage in (b"get a\r\n", b"\x16\x03\x01\x00\x04abcd", b"\x80\x00" * 10, b"\x00"):
            with secure.raw() as stranger:
                stranger.sendall(garbage)
                with contextlib.suppress(ConnectionResetError):
                    while stranger.recv(100):
                        pass
        secure.until(lambda: secure.stat("ssl_handshake_errors") == before + 4)
        assert wire.set(b"k", b"v") == b"STORED"


def test_every_connection_is_counted_finished_or_not(secure: SecureServer) -> None:
    before = secure.server.stats()
    with secure.connect(), secure.connect(), secure.raw(), secure.raw() as half:
        half.sendall(b"\x16\x03")
        names = ("ssl_connections", "ssl_unfinished")
        secure.until(lambda: [secure.stat(name) for name in names] == [2, 2])
        now = secure.server.stats()
        assert int(now["curr_connections"]) == int(before["curr_connections"]) + 4
        assert int(now["ssl_handshakes"]) == int(before["ssl_handshakes"]) + 2
        assert int(now["ssl_bytes"]) >= 2 * 16384
        assert int(now["time_since_server_cert_refresh"]) >= 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(secure: SecureServer, version: ssl.TLSVersion) -> None:
    context = secure.made.client_context()
    context.minimum_version = context.maximum_version = version
    with SecureWire(secure.port, context) as first:
        assert first.ask(b"get a\r\n") == b"END"
        assert not first.tls.session_reused
        session = first.tls.session
    with SecureWire(secure.port, context, session=session) as second:
        assert second.ask(b"get a\r\n") == b"END"
        assert second.tls.session_reused


def test_pymemcache_needs_its_context_only(secure: SecureServer) -> None:
    context = secure.made.client_context()
    client = Client(("localhost", secure.port), tls_context=context, default_noreply=False, timeout=5)
    assert client.set("key", b"v" * 100000)
    assert client.get_many(["key", "none"]) == {"key": b"v" * 100000}
    assert client.incr("none", 1) is None
    client.close()


def test_refresh_certs_and_sighup_serve_new_connections_with_new_files(
    certificates: Certificates, tmp_path: Path
) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def install(certificate: Path, its_key: Path) -> None:
        shutil.copy(certificate, chain)
        shutil.copy(its_key, key)

    install(certificates.server, certificates.server_key)
    options = f",ssl_chain_cert={chain},ssl_key={key}"
    with serving(certificates, ssl_options=options) as secure, secure.connect() as old:
        assert old.name() == "server"
        install(certificates.client, certificates.client_key)
        assert old.ask(b"refresh_certs\r\n") == b"OK"
        with secure.connect() as new:
            assert new.name() == "client"
        chain.write_text("broken")
        answer = old.ask(b"refresh_certs\r\n").decode()
        assert re.fullmatch(rf"Error -o ssl_chain_cert={chain}: no certificate in PEM form .*", answer)
        with secure.connect() as new:
            assert new.name() == "client"
        install(certificates.server, certificates.server_key)
        secure.server.signal(signal.SIGHUP)
        secure.until(lambda: "loaded again" in secure.server.errors())
        with secure.connect() as new:
            assert new.name() == "server"
        key.unlink()
        secure.server.signal(signal.SIGHUP)
        secure.until(lambda: "the certificates in force stay: " in secure.server.errors())
        assert old.set(b"k", b"v") == b"STORED"
        with secure.connect() as new:
            assert new.get(b"k") == b"v"


def test_refresh_certs_without_tls(server: Server) -> None:
    with server.connect() as wire:
        assert wire.ask(b"refresh_certs\r\n") == b"Error TLS not enabled"


def works(port: int, context: ssl.SSLContext) -> bool:
    """Whether the server serves a client with this context; TLS 1.3 shows a refusal on the first read."""
    try:
        with SecureWire(port, context) as wire:
            return wire.ask(b"get a\r\n") == b"END"
    except (ssl.SSLError, ConnectionError, EOFError):
        return False


@pytest.mark.parametrize(("mode", "without"), [(1, True), (2, False), (3, False)])
def test_client_certificates(certificates: Certificates, mode: int, without: bool) -> None:
    with serving(
        certificates, ssl_options=f",ssl_ca_cert={certificates.ca},ssl_verify_mode={mode}"
    ) as secure:
        known, nameless, stranger = (
            certificates.client_context(certificate=first) for first in (True, False, False)
        )
        stranger.load_cert_chain(certificates.stranger, certificates.stranger_key)
        assert works(secure.port, known)
        assert works(secure.port, nameless) == without
        assert not works(secure.port, stranger)
        assert works(secure.port, known)


def test_the_oldest_version_accepted_is_1_2_or_what_is_asked_for(
    secure: SecureServer, certificates: Certificates
) -> None:
    old, older = certificates.client_context(), certificates.client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with warnings.catch_warnings(action="ignore"):
        older.minimum_version, older.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    older.set_ciphers("ALL:@SECLEVEL=0")
    assert works(secure.port, old)
    assert not works(secure.port, older)
    with serving(certificates, ssl_options=",ssl_min_version=3") as strict:
        assert not works(strict.port, old)
        assert works(strict.port, certificates.client_context())
    with serving(certificates, ssl_options=",ssl_min_version=1,ssl_ciphers=ALL:@SECLEVEL=0") as lax:
        assert works(lax.port, older)


@pytest.mark.parametrize(
    ("count", "flags"),
    [(200, ()), (30, ("-c", "64")), (30, ("-c", "64", "-o", "no_maxconns_fast"))],
    ids=["200", "many for the places", "many for the places, which none is refused"],
)
def test_clients_that_come_at_the_same_time_are_all_served(
    certificates: Certificates, count: int, flags: tuple[str, ...]
) -> None:
    with serving(certificates, *flags) as secure:
        assert served_at_once(secure.port, certificates.client_context(), count, PATIENCE) == count
        assert secure.stat("ssl_handshake_errors") == 0


@pytest.mark.parametrize(("count", "flags"), [(200, ()), (30, ("-c", "64"))], ids=["200", "few places"])
def test_a_flood_of_handshakes_keeps_nobody_out(
    certificates: Certificates, count: int, flags: tuple[str, ...]
) -> None:
    with (
        serving(certificates, *flags) as secure,
        neighbours(flood=secure.port),
        secure.server.connect() as plain,
    ):
        secure.until(lambda: secure.stat("ssl_handshake_errors") > 50)
        assert served_at_once(secure.port, certificates.client_context(), count, PATIENCE) == count
        assert plain.set(b"k", b"v") == b"STORED"


def test_memory_of_connections_that_are_gone_is_given_back(certificates: Certificates) -> None:
    with serving(certificates) as secure:
        with contextlib.ExitStack() as opened:
            before = secure.server.rss()
            context = certificates.client_context()
            for _ in range(600):
                opened.enter_context(SecureWire(secure.port, context))
            secure.until(lambda: secure.stat("ssl_connections") == 600)
            grown = secure.server.rss() - before
            assert 600 * 8000 < grown <= secure.stat("ssl_bytes") + (4 << 20)
        secure.until(lambda: secure.server.rss() - before < grown // 2)


def test_wrong_files_are_one_line_and_status_1(certificates: Certificates) -> None:
    for option in ("ssl_verify_mode=0", "ssl_chain_cert=/no/such.pem"):
        ended = run_to_end(command(free_port(), "-Z", "-o", option))
        assert ended.returncode == 1
        assert ended.stderr.startswith("cacheserver: -")
        assert ended.stderr.count("\n") == 1


def test_strangers_take_a_quarter_of_the_places_at_most(certificates: Certificates) -> None:
    with serving(certificates, "-c", "8") as secure, contextlib.ExitStack() as opened:
        for _ in range(6):
            for _ in range(5):
                opened.enter_context(secure.raw())
            plain = opened.enter_context(secure.server.connect())
            assert plain.set(b"k", b"v") == b"STORED"
            assert int(plain.stats()["ssl_unfinished"]) <= 2


def test_unfinished_handshakes_count_against_the_limit(certificates: Certificates) -> None:
    with serving(certificates, "-c", "4") as secure, contextlib.ExitStack() as opened:
        plain = [opened.enter_context(secure.server.connect()) for _ in range(3)]
        stranger = opened.enter_context(secure.raw())
        while plain[0].stats()["ssl_unfinished"] != "1":
            time.sleep(0.01)
        with secure.server.connect() as refused:
            assert refused.read_to_end() == b"ERROR Too many open connections\r\n"
        with secure.raw() as refused_too:
            assert refused_too.recv(100) == b""
        stranger.close()
        while plain[0].stats()["ssl_unfinished"] != "0":
            time.sleep(0.01)
        assert opened.enter_context(secure.connect()).set(b"k", b"v") == b"STORED"


def test_idle_connections_are_closed_and_busy_ones_are_not(certificates: Certificates) -> None:
    with (
        serving(certificates, "-o", "idle_timeout=2") as secure,
        secure.connect() as idle,
        secure.connect() as busy,
    ):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert busy.ask(b"get a\r\n") == b"END"
            time.sleep(0.2)
        assert idle.read_to_end() == b""
        assert secure.stat("idle_kicks") >= 1


def test_sigterm_answers_what_is_in_flight(certificates: Certificates) -> None:
    value = random.Random(3).randbytes(1000000)
    with serving(certificates) as secure:
        with secure.connect() as idle, secure.connect(receive_buffer=8192) as slow, secure.raw() as stranger:
            slow.set(b"k", value)
            slow.send(b"get k\r\n")
            secure.until(lambda: secure.stat("conn_pending_bytes") + secure.stat("conn_pinned_bytes") > 0)
            secure.server.signal(signal.SIGTERM)
            assert idle.read_to_end() == b""
            assert slow.read_values() == {b"k": value}
            assert slow.read_to_end() == b""
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        assert secure.server.wait(5) == 0
