"""The command line in memcached's own terms: what is taken, ignored aloud, or refused in one line."""

from __future__ import annotations

import pytest

from cacheserver import __version__, cli
from cacheserver.config import Config
from cacheserver.errors import UsageError
from cacheserver.values import Address


def parsed(*arguments: str) -> Config:
    config, ignored = cli.parse(arguments)
    assert ignored == ""
    return config


def test_without_arguments_every_knob_has_its_default() -> None:
    assert parsed() == Config()


def test_short_flags_may_carry_their_value_and_stand_together() -> None:
    config = parsed("-p11222", "-vv", "-dMt3", "-c", "77", "-I2m", "-a", "0777")
    assert (config.port, config.verbosity, config.daemon, config.evictions) == (11222, 2, True, False)
    assert (config.threads, config.conn_limit, config.max_item, config.unix_mask) == (3, 77, 2 << 20, 0o777)


def test_long_names_are_memcacheds() -> None:
    config = parsed(
        "--port=5", "--unix-socket=/tmp/x", "--unix-mask", "770", "--threads=2", "--conn-limit=9",
        "--listen-backlog=3", "--max-item-size=8k", "--verbose", "--daemon", "--pidfile=/tmp/y",
        "--user=nobody", "--enable-shutdown", "--disable-flush-all", "--disable-evictions", "--disable-cas",
        "--enable-coredumps", "--udp-port=0", "--protocol=ascii",
    )  # fmt: skip
    assert config == Config(
        port=5, unix_socket="/tmp/x", unix_mask=0o770, threads=2, conn_limit=9, backlog=3, max_item=8192,
        verbosity=1, daemon=True, pidfile="/tmp/y", user="nobody", enable_shutdown=True, flush=False,
        evictions=False, cas=False, core_dumps=True, protocol="ascii",
    )  # fmt: skip


def test_addresses_add_up_over_commas_and_flags() -> None:
    config = parsed("-l", "127.0.0.1,[::1]:5", "-l", "10.0.0.1")
    assert config.listen == (Address("127.0.0.1", None), Address("::1", 5), Address("10.0.0.1", None))


def test_suboptions() -> None:
    assert parsed("-o", "idle_timeout=30").idle_timeout == 30
    assert not parsed("-o", "idle_timeout=30,no_maxconns_fast").maxconns_fast
    assert parsed("-o", "no_maxconns_fast", "-o", "maxconns_fast").maxconns_fast


def test_what_has_no_meaning_here_is_named_once_with_the_reason() -> None:
    config, line = cli.parse(
        ["-m64", "-f", "1.25", "-n48", "-L", "-o", "slab_automove=1,hashpower=20", "-m64", "-R5"]
    )
    assert config == Config()
    reason = "the size follows what the host or container has"
    assert line.startswith(
        "ignored -m 64, -f 1.25, -n 48, -L, -o slab_automove=1, -o hashpower=20: " + reason
    )
    assert line.count("-m 64") == line.count(reason) == 1
    assert "ignored -R 5: " in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-B", "binary"], "not served"),
        (["-S"], "SASL"),
        (["-k"], "locked"),
        (["-e", "/dev/shm/x"], "memory file"),
        (["-U", "65536"], "65535"),
        (["-l", "proto[binary]:127.0.0.1"], "not served"),
        (["-l", "proto[smtp]:127.0.0.1"], "'smtp'"),
        (["-l", "notls:"], "-l"),
        (["-o", "no_maxconns_fast=1"], "takes no value"),
        (["-o", "no_idle_timeout"], "no_idle_timeout"),
        (["-s", "/tmp/x", "-l", "127.0.0.1", "-p", "0"], "nothing is left to listen on"),
        (["-Y", ""], "-Y"),
        (["-Y", "/etc/x", "-U", "11211"], "UDP"),
        (["-o", "ext_path=/x:1G"], "flash"),
        (["-o", "ssl_verify_mode=4"], "from 0 to 3"),
        (["-o", "ssl_min_version=tlsv1.2"], "from 0 to 3"),
        (["-o", "ssl_keyformat=2"], "openssl pkey"),
        (["-o", "ssl_key="], "the path is empty"),
        (["-p", "port"], "'port' is not a whole number"),
        (["-p", "65536"], "65535"),
        (["-p", "0"], "nothing is left to listen on"),
        (["-t", "0"], "'0'"),
        (["-c", "-5"], "'-5'"),
        (["-I", "2g"], "-I"),
        (["-l", "[::1"], "-l"),
        (["-o", "colour=red"], "'colour'"),
        (["-o", "idle_timeout"], "idle_timeout"),
        (["-D", "::"], "-D"),
        (["-p"], "-p"),
        (["--frobnicate"], "--frobnicate"),
        (["-vx"], "-v"),
        (["stray"], "stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refused_flag_or_bad_value_is_one_line_and_status_2(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("cacheserver: ")
    assert captured.err.count("\n") == 1
    assert why in captured.err


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parse(["-h"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for flag in [f"-{letter}" for letter in "plsaUtcbIZMCFADBudPrvohVmfnLR"]:
        assert f"\n  {flag}" in text, f"{flag} is missing"
    assert "idle_timeout" in text


def test_help_shows_the_address_that_the_environment_gives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CACHESERVER_LISTEN", "10.9.8.7")
    with pytest.raises(SystemExit):
        cli.parse(["-h"])
    assert "10.9.8.7" in capsys.readouterr().out


def test_a_bad_address_in_the_environment_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CACHESERVER_LISTEN", "host:abc")
    assert cli.main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("cacheserver: the environment variable CACHESERVER_LISTEN: 'abc' is not ")
    assert error.count("\n") == 1


def test_the_version_is_told_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parse(["-V"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"cacheserver {__version__}\n"


def test_a_unix_socket_needs_no_port() -> None:
    assert parsed("-s", "/tmp/x", "-p", "0").unix_socket == "/tmp/x"


def test_a_unix_socket_takes_the_place_of_tcp_unless_an_address_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CACHESERVER_LISTEN", "10.9.8.7")
    assert parsed("-s", "/tmp/x").listen == ()
    assert parsed("-s", "/tmp/x", "-U", "5").udp_listen == (Address("10.9.8.7", None),)
    both = parsed("-s", "/tmp/x", "-l", "10.0.0.1")
    assert (both.listen, both.unix_socket) == ((Address("10.0.0.1", None),), "/tmp/x")


def test_udp_needs_no_tcp() -> None:
    config = parsed("-p", "0", "-U", "11211")
    assert (config.port, config.udp_port, config.udp_listen) == (0, 11211, config.listen)


def test_an_error_of_the_command_line_is_raised_for_programs() -> None:
    with pytest.raises(UsageError):
        cli.parse(["--port", "none"])
