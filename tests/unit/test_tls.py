"""Certificates: what is wrong with files is one line, and broken new ones leave the old in force."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from cacheserver import cli
from cacheserver.config import Config
from cacheserver.errors import StartError
from cacheserver.tls import SESSIONS_MAX
from cacheserver.tls import Certificates as Loaded
from tests.certificates import Certificates


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
        ({"ssl_chain_cert": "GARBAGE"}, ["ssl_chain_cert=", "no usable certificate", "PEM"]),
        ({"ssl_key": "/no/such.key"}, ["ssl_key=/no/such.key", "No such file"]),
        ({"ssl_key": "GARBAGE"}, ["ssl_key=", "no usable private key", "PEM"]),
        ({"ssl_key": None}, ["ssl_chain_cert=", "no private key in it", "ssl_key=<file>"]),
        ({"ssl_key": "STRANGER"}, ["ssl_key=", "does not belong"]),
        ({"ssl_key": "LOCKED"}, ["ssl_key=", "password", "openssl pkey"]),
        ({"ssl_ca_cert": "/no/such.ca"}, ["ssl_ca_cert=/no/such.ca", "No such file"]),
        ({"ssl_ca_cert": "GARBAGE"}, ["ssl_ca_cert=", "no usable certificate"]),
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
    files = {"GARBAGE": garbage, "STRANGER": str(certificates.stranger_key), "LOCKED": str(locked)}
    with pytest.raises(StartError) as error:
        Loaded(config(certificates, **{name: files.get(value, value) for name, value in changes.items()}))
    text = str(error.value)
    assert "\n" not in text
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


def test_refresh_takes_new_files_and_keeps_the_old_where_they_are_broken(
    certificates: Certificates, tmp_path: Path
) -> None:
    chain, key, now = tmp_path / "chain.pem", tmp_path / "key.pem", [100.0]
    shutil.copy(certificates.server, chain)
    shutil.copy(certificates.server_key, key)
    loaded = Loaded(config(certificates, ssl_chain_cert=str(chain), ssl_key=str(key)), lambda: now[0])
    first = loaded.context
    now[0] = 107.9
    assert loaded.age == 7
    chain.write_text("broken")
    assert "no usable certificate" in loaded.refresh()
    assert loaded.context is first
    assert loaded.age == 7
    shutil.copy(certificates.client, chain)
    assert "does not belong" in loaded.refresh()
    shutil.copy(certificates.client_key, key)
    assert loaded.refresh() == ""
    assert loaded.context is not first
    assert loaded.age == 0


def test_too_many_sessions_that_clients_left_are_dropped(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Loaded(config(certificates))
    first = loaded.context
    monkeypatch.setattr(ssl.SSLContext, "session_stats", lambda self: {"number": SESSIONS_MAX})
    loaded.tend()
    assert loaded.context is first
    monkeypatch.setattr(ssl.SSLContext, "session_stats", lambda self: {"number": SESSIONS_MAX + 1})
    loaded.tend()
    assert loaded.context is not first


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
