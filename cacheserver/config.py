"""Every knob of the server, each written once: a field of Config carries its flags, values and stats name.

Knows: the meaning of memcached's own flags. Must not know: argparse, any part of the server.
The command line, the `stats settings` reply and the table in the README all follow these fields.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from cacheserver.cpus import usable_cpus

MAX_DEFAULT_THREADS = 4
LISTEN_VARIABLE = "CACHESERVER_LISTEN"  # in the environment: replaces the default of -l
TLS_VERSIONS = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")  # by the number that ssl_min_version takes


# What may stand before an address of -l; the tag means something to memcached's proxy only.
PREFIX = re.compile(r"(?:(?P<notls>notls)|proto\[(?P<protocol>[^\]]*)\]|tag\[[^\]]*\]):")


class Address(NamedTuple):
    """One TCP address to listen on; `port` None: the port of -p, `host` "*": every address of the machine.

    tls: whether TLS is spoken there, if it is on at all.
    """

    host: str
    port: int | None
    tls: bool = True


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


def number(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`, both included."""

    def parse(text: str) -> int:
        # int() would take blanks, underscores and other scripts' digits, too.
        value = int(text) if re.fullmatch("-?[0-9]{1,18}", text) else low - 1
        if not low <= value <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def item_size(text: str) -> int:
    """Parse `N`, `Nk` or `Nm` into bytes; from 1k to 1024m as memcached has it."""
    digits, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in ("k", "m") else (text, "")
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a size; give bytes or a number with k or m, such as 512k or 4m")
    size = int(digits) * {"": 1, "k": 1 << 10, "m": 1 << 20}[unit]
    if not 1 << 10 <= size <= 1 << 30:
        raise ValueError(f"{text!r} is not a size from 1k to 1024m")
    return size


def octal_mask(text: str) -> int:
    """Parse an access mask such as 700 or 0770."""
    value = int(text, 8) if re.fullmatch("[0-7]{1,9}", text) else -1
    if not 0 <= value <= 0o777:
        raise ValueError(f"{text!r} is not an access mask in octal, such as 700")
    return value


def protocol(text: str) -> str:
    """Accept the names that include the text protocol."""
    if text == "binary":
        raise ValueError(
            "the binary protocol, deprecated in memcached, is not served; set the client to the text protocol"
        )
    if text not in ("ascii", "auto"):
        raise ValueError(f"{text!r} is not a protocol; give ascii or auto")
    return text


def kibibytes(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers of KiB from `low` to `high`, into bytes."""
    count = number(low, high)
    return lambda text: count(text) << 10


def delimiter(text: str) -> str:
    """Accept the one character that ends a key's prefix."""
    if len(text.encode()) != 1:
        raise ValueError(f"{text!r} is not one single character")
    return text


def addresses(text: str) -> tuple[Address, ...]:
    """Parse a comma-separated list of `host`, `host:port`, `ipv6`, `[ipv6]:port`, `*`, `*:port`.

    Each may have prefixes: `notls:`, and memcached's `proto[name]:` and `tag[name]:`.
    """
    return tuple(_address(part.strip()) for part in text.split(","))


def _address(text: str) -> Address:
    tls = True
    while prefix := PREFIX.match(text):
        tls = tls and not prefix["notls"]
        if prefix["protocol"] is not None and prefix["protocol"] != "negotiating":
            protocol(prefix["protocol"])
        text = text[prefix.end() :]
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address; IPv6 with a port is written [::1]:11211")
        port = rest[1:] if rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or (text.endswith(":") and not text.endswith("::")):
        raise ValueError(f"{text!r} is not an address; give host, host:port or [ipv6]:port")
    return Address(host, number(1, 65535)(port) if port else None, tls)


def cluster(text: str) -> tuple[Address, ...]:
    """Parse a comma-separated list of servers, `host`, `host:port` or `[ipv6]:port`, each named once."""
    nodes = addresses(text)
    for host, _, tls in nodes:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host):
            raise ValueError(f"{host!r} is not a host name or IP address")
        if not tls:
            raise ValueError("notls: is a prefix for -l")
    if len(set(nodes)) < len(nodes):
        raise ValueError(f"{text!r} names a server twice")
    return nodes


def _path(text: str) -> str:
    if not text:
        raise ValueError("the path is empty")
    return os.path.abspath(text)


def _default_listen() -> tuple[Address, ...]:
    return addresses(os.environ.get(LISTEN_VARIABLE) or "127.0.0.1")


def _default_threads() -> int:
    return min(MAX_DEFAULT_THREADS, usable_cpus())


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _on_off(value: bool) -> str:
    return "on" if value else "off"


def _or_null(value: str | None) -> str:
    return "NULL" if value is None else value


def _or_none(value: str | None) -> str:
    return "(null)" if value is None else value


def key_format(text: str) -> int:
    """Accept PEM, by memcached's number for it."""
    if text != "1":
        raise ValueError(
            f"{text!r} is not 1, which stands for PEM; other keys become PEM by "
            "openssl pkey -inform DER -in <file> -out <new file>"
        )
    return 1


def _text(text: str) -> str:
    if not text:
        raise ValueError("the value is missing")
    return text


def _show_addresses(value: tuple[Address, ...]) -> str:
    texts = (("" if each.tls else "notls:") + address_text(each.host, each.port) for each in value)
    return ",".join(texts) or "NULL"


def address_text(host: str, port: int | None) -> str:
    """Write an address as -l takes it; an IPv6 host gets its brackets when a port follows."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
    """What one server is told to do. Values are checked by the parsers above, before a Config is made."""

    port: int = knob(
        "-p",
        "--port",
        default=11211,
        metavar="<num>",
        parse=number(-1, 65535),
        stat="tcpport",
        help="TCP port to listen on; -1 takes a free one",
    )
    listen: tuple[Address, ...] = knob(  # (): for a Unix socket alone
        "-l",
        "--listen",
        default=(),
        shown="127.0.0.1",
        metavar="<addr>",
        parse=addresses,
        stat="inter",
        show=_show_addresses,
        help="address to listen on: host, host:port, [ipv6]:port or * for all; a comma list or several "
        "flags; one with notls: before it has no TLS",
    )
    unix_socket: str | None = knob(
        "-s",
        "--unix-socket",
        metavar="<file>",
        parse=_path,
        stat="domain_socket",
        show=_or_null,
        shown="none",
        help="Unix socket to listen on; TCP is served beside it only where -l says so",
    )
    unix_mask: int = knob(
        "-a",
        "--unix-mask",
        default=0o700,
        metavar="<mask>",
        parse=octal_mask,
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
        parse=number(-1, 65535),
        stat="udpport",
        help="UDP port to listen on, at the hosts of -l; 0: none, -1 takes a free one",
    )
    threads: int = knob(
        "-t",
        "--threads",
        make=_default_threads,
        shown=f"usable CPUs, at most {MAX_DEFAULT_THREADS}",
        metavar="<num>",
        parse=number(1, 256),
        stat="num_threads",
        help="number of workers; affinity and the container's CPU quota count as CPUs",
    )
    conn_limit: int = knob(
        "-c",
        "--conn-limit",
        default=1024,
        metavar="<num>",
        parse=number(1, 1 << 22),
        stat="maxconns",
        help="most connections at once; the limit of open files is raised to fit",
    )
    maxconns_fast: bool = knob(
        default=True,
        shown="`maxconns_fast`",
        stat="maxconns_fast",
        show=_yes_no,
        help="a client beyond -c is told so and closed; with no_ it waits until another leaves",
    )
    backlog: int = knob(
        "-b",
        "--listen-backlog",
        default=1024,
        metavar="<num>",
        parse=number(1, (1 << 31) - 1),
        stat="tcp_backlog",
        help="length of the queue of connections not yet accepted",
    )
    max_item: int = knob(
        "-I",
        "--max-item-size",
        default=1 << 20,
        metavar="<num>",
        parse=item_size,
        stat="item_size_max",
        shown="1m",
        help="largest item: bytes, or a number with k or m, from 1k to 1024m",
    )
    idle_timeout: int = knob(
        default=0,
        metavar="<seconds>",
        parse=number(0, (1 << 31) - 1),
        stat="idle_timeout",
        help="close connections idle for so long; 0 never",
    )
    tls: bool = knob(
        "-Z",
        "--enable-ssl",
        default=False,
        stat="ssl_enabled",
        show=_yes_no,
        help="speak TLS on TCP listeners; needs ssl_chain_cert",
    )
    ssl_chain_cert: str | None = knob(
        metavar="<file>",
        parse=_path,
        stat="ssl_chain_cert",
        show=_or_none,
        shown="none",
        help="certificate and those above it, PEM",
    )
    ssl_key: str | None = knob(
        metavar="<file>",
        parse=_path,
        stat="ssl_key",
        show=_or_none,
        shown="in ssl_chain_cert",
        help="private key, PEM, without a password",
    )
    ssl_verify_mode: int = knob(
        default=0,
        metavar="<0-3>",
        parse=number(0, 3),
        stat="ssl_verify_mode",
        help="certificates of clients: 0 none, 1 checked if there is one, 2 or 3 required",
    )
    ssl_keyformat: int = knob(
        default=1, metavar="<1>", parse=key_format, stat="ssl_keyformat", help="form of ssl_key: 1, PEM"
    )
    ssl_ciphers: str | None = knob(
        metavar="<list>",
        parse=_text,
        stat="ssl_ciphers",
        show=_or_null,
        shown="OpenSSL's",
        help="ciphers up to TLS 1.2, as openssl ciphers writes them",
    )
    ssl_ca_cert: str | None = knob(
        metavar="<file>",
        parse=_path,
        stat="ssl_ca_cert",
        show=_or_null,
        shown="none",
        help="certificates that those of clients must be signed by, PEM",
    )
    ssl_min_version: int = knob(
        default=2,
        metavar="<0-3>",
        parse=number(0, 3),
        stat="ssl_min_version",
        show=TLS_VERSIONS.__getitem__,
        help="oldest version to accept: 0 TLS 1.0, 1 TLS 1.1, 2 TLS 1.2, 3 TLS 1.3",
    )
    evictions: bool = knob(
        "-M",
        "--disable-evictions",
        default=True,
        stat="evictions",
        show=_on_off,
        help="answer an error when memory is used up instead of evicting",
    )
    cas: bool = knob(
        "-C",
        "--disable-cas",
        default=True,
        stat="cas_enabled",
        show=_yes_no,
        help="do without CAS: every unique is 0",
    )
    flush: bool = knob(
        "-F", "--disable-flush-all", default=True, stat="flush_enabled", show=_yes_no, help="refuse flush_all"
    )
    dumps: bool = knob(
        "-X",
        "--disable-dumping",
        default=True,
        stat="dump_enabled",
        show=_yes_no,
        help="refuse to list keys: lru_crawler metadump and mgdump, stats cachedump",
    )
    enable_shutdown: bool = knob(
        "-A",
        "--enable-shutdown",
        default=False,
        stat="shutdown_command",
        show=_yes_no,
        help="allow the shutdown command",
    )
    cluster: tuple[Address, ...] = knob(
        "--cluster",
        default=(),
        metavar="<hosts>",
        parse=cluster,
        shown="none",
        help="servers that `config get cluster` names: a comma list of host[:port], or one DNS name for all",
    )
    auth_file: str | None = knob(
        "-Y",
        "--auth-file",
        metavar="<file>",
        parse=_path,
        stat="auth_enabled_ascii",
        show=lambda value: value or "no",
        shown="none",
        help="clients must log in as a user of this file, one user:password a line; read again on SIGHUP",
    )
    prefix_delimiter: str | None = knob(
        "-D",
        metavar="<char>",
        parse=delimiter,
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
        show=_yes_no,
        help="refuse the watch command",
    )
    watcher_logbuf_size: int = knob(
        default=256 << 10,
        metavar="<KiB>",
        parse=kibibytes(4, 65536),
        stat="watcher_logbuf_size",
        shown="256",
        help="lines that may wait for one watcher, from 4 to 65536 KiB",
    )
    worker_logbuf_size: int = knob(
        default=64 << 10,
        metavar="<KiB>",
        parse=kibibytes(4, 16384),
        stat="worker_logbuf_size",
        shown="64",
        help="what may wait in each journal while somebody watches, from 4 to 16384 KiB",
    )
    protocol: str = knob(
        "-B",
        "--protocol",
        default="auto",
        metavar="<name>",
        parse=protocol,
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
        "-P", "--pidfile", metavar="<file>", parse=_path, shown="none", help="file to keep the process id in"
    )
    core_dumps: bool = knob(
        "-r", "--enable-coredumps", default=False, help="raise the limit of the core file size"
    )
    verbosity: int = knob(
        "-v",
        "--verbose",
        default=0,
        stat="verbosity",
        shown="errors and warnings only",
        help="log more: -v changes of memory pressure, -vv each request to give memory back",
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
