"""Every knob of the server, each written once: a field of Config carries its flags, values and stats name.

Knows: the meaning of memcached's own flags. Must not know: argparse, any part of the server.
The command line, the `stats settings` reply and the table in the README all follow these fields.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from cacheserver import values
from cacheserver.cpus import usable_cpus
from cacheserver.values import Address

MAX_DEFAULT_THREADS = 4
LISTEN_VARIABLE = "CACHESERVER_LISTEN"  # in the environment: replaces the default of -l
TLS_VERSIONS = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")  # by the number that ssl_min_version takes


@dataclass(frozen=True, slots=True)
class Knob:
    """How one field of Config is set and shown. A bool field is a switch: its flag negates the default."""

    flags: tuple[str, ...]  # empty: a suboption of -o, under the field's own name
    help: str
    metavar: str | None = None
    parse: Callable[[str], Any] | None = None  # text -> value; raises ValueError with what is wrong
    default: str | None = None  # how the default is shown, where its value alone says too little
    stat: str | None = None  # the name in `stats settings`
    show: Callable[[Any], str] = str  # how `stats settings` writes the value


def _default_listen() -> tuple[Address, ...]:
    return values.addresses(os.environ.get(LISTEN_VARIABLE) or "127.0.0.1")


def _default_threads() -> int:
    return min(MAX_DEFAULT_THREADS, usable_cpus())


def knob(
    *flags: str,
    default: Any = None,
    make: Callable[[], Any] | None = None,
    shown: str | None = None,
    **how: Any,
) -> Any:
    """Return a dataclass field with its Knob; `make` makes its default at run time, `shown` shows it."""
    metadata = {"knob": Knob(flags, default=shown, **how)}
    return (
        field(default_factory=make, metadata=metadata) if make else field(default=default, metadata=metadata)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one server is told to do. Its values are checked by their parsers before it is made."""

    port: int = knob(
        "-p",
        "--port",
        default=11211,
        metavar="<num>",
        parse=values.number(-1, 65535),
        stat="tcpport",
        help="TCP port to listen on; -1 takes a free one",
    )
    listen: tuple[Address, ...] = knob(  # (): for a Unix socket alone
        "-l",
        "--listen",
        default=(),
        shown="127.0.0.1",
        metavar="<addr>",
        parse=values.addresses,
        stat="inter",
        show=values.show_addresses,
        help="address to listen on: host, host:port, [ipv6]:port or * for all; a comma list or several "
        "flags; one with notls: before it has no TLS",
    )
    unix_socket: str | None = knob(
        "-s",
        "--unix-socket",
        metavar="<file>",
        parse=values.path,
        stat="domain_socket",
        show=values.or_null,
        shown="none",
        help="Unix socket to listen on; TCP is served beside it only where -l says so",
    )
    unix_mask: int = knob(
        "-a",
        "--unix-mask",
        default=0o700,
        metavar="<mask>",
        parse=values.octal_mask,
        stat="umask",
        show="{:o}".format,
        shown="700",
        help="access mask of the Unix socket, in octal",
    )
    udp_port: int = knob(
        "-U",
        "--udp-port",
        default=0,
        metavar="<num>",
        parse=values.number(-1, 65535),
        stat="udpport",
        help="UDP port to listen on, at the hosts of -l; 0: none, -1 takes a free one",
    )
    threads: int = knob(
        "-t",
        "--threads",
        make=_default_threads,
        shown=f"usable CPUs, at most {MAX_DEFAULT_THREADS}",
        metavar="<num>",
        parse=values.number(1, 256),
        stat="num_threads",
        help="number of workers; affinity and the container's CPU quota count as CPUs",
    )
    conn_limit: int = knob(
        "-c",
        "--conn-limit",
        default=1024,
        metavar="<num>",
        parse=values.number(1, 1 << 22),
        stat="maxconns",
        help="most connections at once; the limit of open files is raised to fit",
    )
    maxconns_fast: bool = knob(
        default=True,
        shown="`maxconns_fast`",
        stat="maxconns_fast",
        show=values.yes_no,
        help="a client beyond -c is told so and closed; with no_ it waits until another leaves",
    )
    backlog: int = knob(
        "-b",
        "--listen-backlog",
        default=1024,
        metavar="<num>",
        parse=values.number(1, (1 << 31) - 1),
        stat="tcp_backlog",
        help="length of the queue of connections not yet accepted",
    )
    max_item: int = knob(
        "-I",
        "--max-item-size",
        default=1 << 20,
        metavar="<num>",
        parse=values.item_size,
        stat="item_size_max",
        shown="1m",
        help="largest item: bytes, or a number with k or m, from 1k to 1024m",
    )
    idle_timeout: int = knob(
        default=0,
        metavar="<seconds>",
        parse=values.number(0, (1 << 31) - 1),
        stat="idle_timeout",
        help="close connections idle for so long; 0 never",
    )
    tls: bool = knob(
        "-Z",
        "--enable-ssl",
        default=False,
        stat="ssl_enabled",
        show=values.yes_no,
        help="speak TLS on TCP listeners; needs ssl_chain_cert",
    )
    ssl_chain_cert: str | None = knob(
        metavar="<file>",
        parse=values.path,
        stat="ssl_chain_cert",
        show=values.or_none,
        shown="none",
        help="certificate and those above it, PEM",
    )
    ssl_key: str | None = knob(
        metavar="<file>",
        parse=values.path,
        stat="ssl_key",
        show=values.or_none,
        shown="in ssl_chain_cert",
        help="private key, PEM, without a password",
    )
    ssl_verify_mode: int = knob(
        default=0,
        metavar="<0-3>",
        parse=values.number(0, 3),
        stat="ssl_verify_mode",
        help="certificates of clients: 0 none, 1 checked if there is one, 2 or 3 required",
    )
    ssl_keyformat: int = knob(
        default=1,
        metavar="<1>",
        parse=values.key_format,
        stat="ssl_keyformat",
        help="form of ssl_key: 1, PEM",
    )
    ssl_ciphers: str | None = knob(
        metavar="<list>",
        parse=values.some_text,
        stat="ssl_ciphers",
        show=values.or_null,
        shown="OpenSSL's",
        help="ciphers up to TLS 1.2, as openssl ciphers writes them",
    )
    ssl_ca_cert: str | None = knob(
        metavar="<file>",
        parse=values.path,
        stat="ssl_ca_cert",
        show=values.or_null,
        shown="none",
        help="certificates that those of clients must be signed by, PEM",
    )
    ssl_min_version: int = knob(
        default=2,
        metavar="<0-3>",
        parse=values.number(0, 3),
        stat="ssl_min_version",
        show=TLS_VERSIONS.__getitem__,
        help="oldest version to accept: 0 TLS 1.0, 1 TLS 1.1, 2 TLS 1.2, 3 TLS 1.3",
    )
    evictions: bool = knob(
        "-M",
        "--disable-evictions",
        default=True,
        stat="evictions",
        show=values.on_off,
        help="answer an error when memory is used up instead of evicting",
    )
    cas: bool = knob(
        "-C",
        "--disable-cas",
        default=True,
        stat="cas_enabled",
        show=values.yes_no,
        help="do without CAS: every unique is 0",
    )
    flush: bool = knob(
        "-F",
        "--disable-flush-all",
        default=True,
        stat="flush_enabled",
        show=values.yes_no,
        help="refuse flush_all",
    )
    dumps: bool = knob(
        "-X",
        "--disable-dumping",
        default=True,
        stat="dump_enabled",
        show=values.yes_no,
        help="refuse to list keys: lru_crawler metadump and mgdump, stats cachedump",
    )
    enable_shutdown: bool = knob(
        "-A",
        "--enable-shutdown",
        default=False,
        stat="shutdown_command",
        show=values.yes_no,
        help="allow the shutdown command",
    )
    cluster: tuple[Address, ...] = knob(
        "--cluster",
        default=(),
        metavar="<hosts>",
        parse=values.cluster,
        shown="none",
        help="servers that `config get cluster` names: a comma list of host[:port], or one DNS name for all",
    )
    auth_file: str | None = knob(
        "-Y",
        "--auth-file",
        metavar="<file>",
        parse=values.path,
        stat="auth_enabled_ascii",
        show=lambda value: value or "no",
        shown="none",
        help="clients must log in as a user of this file, one user:password a line; read again on SIGHUP",
    )
    prefix_delimiter: str | None = knob(
        "-D",
        metavar="<char>",
        parse=values.delimiter,
        stat="stat_key_prefix",
        show=lambda value: value or ":",
        shown=":",
        help="character that ends a key's prefix; also turns statistics by prefix on (stats detail)",
    )
    watch: bool = knob(
        "-W",
        "--disable-watch",
        default=True,
        stat="watch_enabled",
        show=values.yes_no,
        help="refuse the watch command",
    )
    watcher_logbuf_size: int = knob(
        default=256 << 10,
        metavar="<KiB>",
        parse=values.kibibytes(4, 65536),
        stat="watcher_logbuf_size",
        shown="256",
        help="lines that may wait for one watcher, from 4 to 65536 KiB",
    )
    worker_logbuf_size: int = knob(
        default=64 << 10,
        metavar="<KiB>",
        parse=values.kibibytes(4, 16384),
        stat="worker_logbuf_size",
        shown="64",
        help="what may wait in each journal while somebody watches, from 4 to 16384 KiB",
    )
    protocol: str = knob(
        "-B",
        "--protocol",
        default="auto",
        metavar="<name>",
        parse=values.protocol,
        stat="binding_protocol",
        show=lambda value: "ascii" if value == "ascii" else "auto-negotiate",
        help="ascii or auto: the text protocol is what is served",
    )
    user: str | None = knob(
        "-u",
        "--user",
        metavar="<user>",
        parse=str,
        shown="none",
        help="user, by name or number, to become when started as root",
    )
    daemon: bool = knob(
        "-d", "--daemon", default=False, help="run as a daemon; returns when the server listens"
    )
    pidfile: str | None = knob(
        "-P",
        "--pidfile",
        metavar="<file>",
        parse=values.path,
        shown="none",
        help="file to keep the process id in",
    )
    core_dumps: bool = knob(
        "-r", "--enable-coredumps", default=False, help="raise the limit of the core file size"
    )
    record: str | None = knob(
        "--record",
        metavar="<file>",
        parse=values.path,
        shown="none",
        help="record what the memory pressure monitor sees and does, a line of JSON each time; 1 GiB at most",
    )
    verbosity: int = knob(
        "-v",
        "--verbose",
        default=0,
        stat="verbosity",
        shown="errors and warnings only",
        help="log more: -v changes of memory pressure, -vv each soft request to give memory back",
    )

    def __post_init__(self) -> None:
        if not self.listen:
            default = _default_listen()  # also where it is not used: a bad one is told at once
            if self.unix_socket is None:
                object.__setattr__(self, "listen", default)

    @property
    def udp_listen(self) -> tuple[Address, ...]:
        """Where UDP is served, if it is: the hosts of -l, or of its default beside a lone Unix socket."""
        return self.listen or _default_listen()

    def settings(self) -> dict[str, str]:
        """Return the knobs by their names in `stats settings`, the values as memcached writes them."""
        found = {}
        for name, spec in knobs().items():
            if spec.stat is not None:
                found[spec.stat] = spec.show(getattr(self, name))
        if self.auth_file is not None:
            found["binding_protocol"] = "ascii"  # logging in is part of the text protocol
        return found


def knobs() -> dict[str, Knob]:
    """Return the Knob of every field of Config, by field name, in the order of the help text."""
    return {each.name: each.metadata["knob"] for each in fields(Config)}


def default_text(name: str) -> str:
    """Return how the default of the field `name` is shown to people; "" for a switch, which is simply off."""
    spec = knobs()[name]
    value = next(each.default for each in fields(Config) if each.name == name)
    return spec.default if spec.default is not None else "" if isinstance(value, bool) else str(value)
