"""Certificates: what is wrong with files is one line, and broken new ones leave the old in force."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from cacheserver import cli
from cacheserver.config import Config
from cacheserver.errors import StartError
from cacheserver.tls import CONTEXTS_MAX, SESSIONS_MAX
from cacheserver.tls import Certificates as Loaded
from tests.certificates import Certificates
from tests.secure import secure_pair


def config(made: Certificates, **changes: Any) -> Config:
    pair = {"ssl_chain_cert": str(made.server), "ssl_key": str(made.server_key)}
    return Config(tls=True, **{**pair, **changes})


@pytest.fixture
def garbage(tmp_path: Path) -> str:
    path = tmp_path / "garbage.pem"
    path.write_text("this is no certificate\n")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ssl_chain_cert": None}, ["-Z needs a certificate", "ssl_chain_cert=<file>"]),
        (
            {"ssl_chain_cert": "/no/such.pem"},
            ["=/no/such.pem", "No such file", "check the path"],
        ),
        ({"ssl_chain_cert": "/etc"}, ["ssl_chain_cert=/etc", "folder"]),
        ({"ssl_chain_cert": "GARBAGE"}, ["ssl_chain_cert=", "no certificate in PEM form", "PEM file"]),
        ({"ssl_chain_cert": "BROKEN"}, ["ssl_chain_cert=", "no usable certificate", "PEM file"]),
        ({"ssl_key": "/no/such.key"}, ["ssl_key=/no/such.key", "No such file"]),
        ({"ssl_key": "GARBAGE"}, ["ssl_key=", "no private key in PEM form", "PEM file"]),
        ({"ssl_key": None}, ["ssl_chain_cert=", "no private key in it", "ssl_key=<file>"]),
        ({"ssl_key": "STRANGER"}, ["ssl_key=", "does not belong"]),
        ({"ssl_key": "LOCKED"}, ["ssl_key=", "password", "openssl pkey"]),
        ({"ssl_ca_cert": "/no/such.ca"}, ["ssl_ca_cert=/no/such.ca", "No such file"]),
        ({"ssl_ca_cert": "GARBAGE"}, ["ssl_ca_cert=", "no certificate in PEM form"]),
        ({"ssl_ca_cert": "BROKEN"}, ["ssl_ca_cert=", "no usable certificate"]),
        ({"ssl_verify_mode": 1}, ["ssl_verify_mode=1", "ssl_ca_cert=<file>"]),
        ({"ssl_ciphers": "NO-SUCH"}, ["ssl_ciphers=NO-SUCH", "knows no such cipher"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_that_says_what_to_do(
    certificates: Certificates, garbage: str, tmp_path: Path, changes: dict[str, Any], says: list[str]
) -> None:
    locked = tmp_path / "locked.key"
    if "LOCKED" in changes.values():
        certificates.run(
            "pkey", "-in", certificates.server_key, "-aes128", "-passout", "pass:x", "-out", locked
        )
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    stranger = str(certificates.stranger_key)
    files = {"GARBAGE": garbage, "BROKEN": str(broken), "STRANGER": stranger, "LOCKED": str(locked)}
    with pytest.raises(StartError) as error:
        Loaded(config(certificates, **{name: files.get(value, value) for name, value in changes.items()}))
    text = str(error.value)
    assert "\n" not in text
    assert "_ssl.c" not in text
    for each in says:
        assert each in text


def test_key_and_certificate_may_stand_in_one_file(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.server.read_bytes() + certificates.server_key.read_bytes())
    Loaded(config(certificates, ssl_chain_cert=str(both), ssl_key=None))


@pytest.mark.parametrize(
    ("mode", "expected"),
    list(enumerate((ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED, ssl.CERT_REQUIRED))),
)
def test_verify_modes_are_memcacheds(certificates: Certificates, mode: int, expected: int) -> None:
    loaded = Loaded(config(certificates, ssl_verify_mode=mode, ssl_ca_cert=str(certificates.ca)))
    assert loaded.context.verify_mode == expected
    assert (loaded.rest_bytes > Loaded(config(certificates)).rest_bytes) == (mode > 0)


def test_a_client_cannot_renegotiate(certificates: Certificates) -> None:
    assert Loaded(config(certificates)).context.options & ssl.OP_NO_RENEGOTIATION


class Installed:
    """Copies of files, as an operator has them, and certificates that were loaded from them."""

    def __init__(self, made: Certificates, folder: Path) -> None:
        self.made = made
        self.chain, self.key, self.now = folder / "chain.pem", folder / "key.pem", 100.0
        self.install(made.server, made.server_key)
        files = {"ssl_chain_cert": str(self.chain), "ssl_key": str(self.key)}
        self.loaded = Loaded(config(made, **files), lambda: self.now)

    def install(self, chain: Path, key: Path) -> None:
        for source, target in ((chain, self.chain), (key, self.key)):
            shutil.copy(source, target)

    def settle(self) -> None:
        """Wait until the files' times of change tell them from later ones."""
        while not self.loaded.confirm():
            assert self.loaded.refresh() == ""
            time.sleep(0.01)

    def name(self) -> str:
        """The name in the certificate that a client is shown."""
        context = self.made.client_context()
        with contextlib.ExitStack() as opened:
            ends = [opened.enter_context(end) for end in socket.socketpair()]
            shown = secure_pair(ends[0], ends[1], (context, self.loaded.context))[0].tls.getpeercert()
        assert shown
        return str(dict(pair for part in shown["subject"] for pair in part)["commonName"])  # type: ignore[misc]


@pytest.fixture
def installed(certificates: Certificates, tmp_path: Path) -> Installed:
    return Installed(certificates, tmp_path)


def test_refresh_takes_new_files_and_keeps_the_old_where_they_are_broken(installed: Installed) -> None:
    loaded, made = installed.loaded, installed.made
    first = loaded.context
    installed.now = 107.9
    assert loaded.age == 7
    installed.chain.write_text("broken")
    assert "no certificate in PEM form" in loaded.refresh()
    assert loaded.context is first
    assert loaded.age == 7
    shutil.copy(made.client, installed.chain)
    assert "does not belong" in loaded.refresh()
    assert installed.name() == "server"
    shutil.copy(made.client_key, installed.key)
    assert loaded.refresh() == ""
    assert installed.name() == "client"
    assert loaded.age == 0


def test_files_that_say_the_same_need_no_other_context(installed: Installed) -> None:
    loaded, first = installed.loaded, installed.loaded.context
    installed.settle()
    installed.now = 105.0
    assert loaded.confirm()
    assert loaded.age == 0
    installed.install(installed.made.server, installed.made.server_key)
    assert not loaded.confirm()  # somebody has touched them
    assert loaded.refresh() == ""
    assert loaded.context is first
    installed.key.unlink()
    assert not loaded.confirm()


def test_a_change_is_seen_however_soon_after_the_load_it_comes(installed: Installed) -> None:
    made = installed.made
    pairs = {"client": (made.client, made.client_key), "server": (made.server, made.server_key)}
    for name, pair in pairs.items():
        installed.install(*pair)
        assert not installed.loaded.confirm()
        assert installed.loaded.refresh() == ""
        assert installed.name() == name


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every context has too many sessions."""
    monkeypatch.setattr(ssl.SSLContext, "session_stats", lambda self: {"number": SESSIONS_MAX + 1})


def test_few_sessions_that_clients_left_stay(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl.SSLContext, "session_stats", lambda self: {"number": SESSIONS_MAX})
    first = installed.loaded.context
    installed.loaded.tend()
    assert installed.loaded.context is first


@pytest.mark.usefixtures("crowded")
def test_too_many_sessions_are_dropped_and_the_files_are_left_alone(installed: Installed) -> None:
    first = installed.loaded.context
    installed.install(installed.made.client, installed.made.client_key)
    installed.loaded.tend()
    assert installed.loaded.context is not first
    assert installed.name() == "server"
    installed.key.unlink()
    second = installed.loaded.context
    installed.loaded.tend()
    assert installed.loaded.context is not second
    assert installed.name() == "server"


@pytest.mark.usefixtures("crowded")
def test_clients_cannot_have_any_number_of_contexts_kept(installed: Installed) -> None:
    kept = []
    for _ in range(2 * CONTEXTS_MAX):
        kept.append(installed.loaded.context)
        installed.loaded.tend()
    assert len({id(each) for each in kept}) == CONTEXTS_MAX
    kept.clear()
    last = installed.loaded.context
    installed.loaded.tend()
    assert installed.loaded.context is not last


@pytest.mark.usefixtures("crowded")
def test_where_the_sessions_cannot_be_dropped_the_log_says_so(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def spent(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    first = installed.loaded.context
    monkeypatch.setattr(os, "memfd_create", spent)
    installed.loaded.tend()
    assert installed.loaded.context is first
    assert "could not be dropped: cannot load the TLS certificates: Too many open files" in caplog.text


def test_tls_knobs_have_memcacheds_names() -> None:
    chosen = (
        "ssl_chain_cert=/a,ssl_key=/b,ssl_ca_cert=/c,ssl_verify_mode=3,ssl_min_version=3,ssl_ciphers=HIGH"
    )
    parsed, ignored = cli.parse(["--enable-ssl", "-o", chosen, "-o", "ssl_keyformat=1,ssl_wbuf_size=64"])
    assert parsed == Config(
        tls=True, ssl_chain_cert="/a", ssl_key="/b", ssl_ca_cert="/c", ssl_verify_mode=3, ssl_min_version=3,
        ssl_ciphers="HIGH",
    )  # fmt: skip
    assert ignored.startswith("ignored -o ssl_wbuf_size=64: ")
    shown = parsed.settings()
    assert [shown[name] for name in ("ssl_enabled", "ssl_key", "ssl_min_version")] == ["yes", "/b", "tlsv1.3"]
    assert Config().settings()["ssl_chain_cert"] == "(null)"


def test_tls_knobs_without_tls_are_named_as_ignored() -> None:
    _, ignored = cli.parse(["-o", "ssl_chain_cert=/a,ssl_key=/b"])
    assert ignored == "ignored -o ssl_chain_cert, -o ssl_key: TLS is off; -Z turns it on"
