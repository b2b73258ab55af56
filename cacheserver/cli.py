"""The command line, in memcached's own terms: arguments in, a Config out, or one line and an exit status.

Knows: argparse, Config's fields, which of memcached's flags mean nothing here and which are refused.
Must not know: what the server does with a Config. The server is imported only once a Config stands.
"""

import argparse
import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from cacheserver import __version__
from cacheserver.config import LISTEN_VARIABLE, Config, Knob, default_text, knobs
from cacheserver.errors import CacheserverError, UsageError, one_line

log = logging.getLogger("cacheserver")

SIZE = "the size follows what the host or container has"
LRU = "the store tends its own LRU"
FAIR = "each connection's turn is bounded already"
NOTHING = "there is nothing of the kind to turn on or off"
TLS = "TLS has buffers of its own, session tickets and no kernel offload, whatever is asked for"
TLS_OFF = "TLS is off; -Z turns it on"
HELP_WIDTH = 78  # columns; to ask the terminal takes modules that would stay as long as the server does


@dataclass(frozen=True, slots=True)
class Legacy:
    """A flag of memcached's that has no knob here; `why` says so to the operator in a few words."""

    flags: tuple[str, ...]
    why: str
    metavar: str | None = None  # None: takes no value


IGNORED = (
    Legacy(("-m", "--memory-limit"), SIZE, "<num>"),
    Legacy(("-L", "--enable-largepages"), SIZE),
    Legacy(("-f", "--slab-growth-factor"), SIZE, "<num>"),
    Legacy(("-n", "--slab-min-size"), SIZE, "<bytes>"),
    Legacy(("-R", "--max-reqs-per-event"), FAIR, "<num>"),
    Legacy(("-N", "--napi_ids"), NOTHING, "<num>"),
)
REFUSED = (
    Legacy(
        ("-k", "--lock-memory"),
        "locked pages cannot be given back to the host, which this server lives by; leave it out",
    ),
    Legacy(
        ("-S", "--enable-sasl"),
        "SASL is part of the binary protocol, which is not served; -Y has the text protocol's logins",
    ),
    Legacy(
        ("-e", "--memory-file"),
        "a memory file has a fixed size and this server's memory has none; leave it out",
        "<file>",
    ),
)
IGNORED_SUBOPTIONS = {
    SIZE: "hashpower no_hashexpand slab_reassign no_slab_reassign slab_automove no_slab_automove "
    "slab_automove_ratio slab_automove_window slab_automove_freeratio read_buf_mem_limit "
    "resp_obj_mem_limit slab_sizes slab_chunk_max no_chunked_items",
    LRU: "lru_crawler no_lru_crawler lru_crawler_sleep lru_crawler_tocrawl lru_maintainer no_lru_maintainer "
    "hot_lru_pct warm_lru_pct hot_max_factor warm_max_factor temporary_ttl tail_repair_time",
    TLS: "ssl_wbuf_size ssl_session_cache ssl_kernel_tls",
    NOTHING: "hash_algorithm "
    "track_sizes inline_ascii_resp no_inline_ascii_resp modern no_modern drop_privileges no_drop_privileges "
    "relaxed_privileges sock_cookie_id",
}
REFUSED_PREFIXES = {
    "ext_": "this version has no flash tier",
    "proxy_": "this version is no proxy",
}


def main(arguments: Sequence[str]) -> int:
    """Run the server as `arguments` say; return its exit status: 0, 1 (the host refuses) or 2 (bad usage)."""
    logging.basicConfig(format="cacheserver: %(message)s", level=logging.WARNING)
    try:
        config, ignored = parse(arguments)
        log.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(config.verbosity, 2)])
        if ignored:
            log.warning("%s", one_line(ignored))
        from cacheserver import server

        return server.run(config)
    except CacheserverError as error:
        with contextlib.suppress(OSError):
            print(f"cacheserver: {one_line(str(error))}", file=sys.stderr, flush=True)
        return error.status


def parse(arguments: Sequence[str]) -> tuple[Config, str]:
    """Return the Config `arguments` ask for, and one line naming what was ignored and why ("" for nothing).

    Raises UsageError. Ends the program where only help or the version is asked for.
    """
    space = _parser().parse_args(list(arguments))
    ignored: dict[str, list[str]] = {}
    for text, why in space.ignored or ():
        ignored.setdefault(why, []).append(text)
    values = {each.name: getattr(space, each.name) for each in fields(Config) if hasattr(space, each.name)}
    if not values.get("tls"):
        ignored_tls = [f"-o {name}" for name in values if name.startswith("ssl_")]
        if ignored_tls:
            ignored[TLS_OFF] = ignored_tls
    line = "; ".join(f"ignored {', '.join(dict.fromkeys(texts))}: {why}" for why, texts in ignored.items())
    try:
        config = Config(**values)
    except ValueError as error:  # the one default that is read and not written here
        raise UsageError(f"the environment variable {LISTEN_VARIABLE}: {error}") from None
    if config.port == 0 and config.udp_port == 0 and any(address.port is None for address in config.listen):
        raise UsageError(
            "-p 0 turns TCP off, so nothing is left to listen on; give a port, or a Unix socket by -s, or -U"
        )
    if config.auth_file is not None and config.udp_port:
        raise UsageError("-Y: nobody can log in over UDP; give -U 0, or leave one of them out")
    return config, line


class _Parser(argparse.ArgumentParser):
    """argparse with the error as one line, raised."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").replace("unrecognized arguments:", "unknown argument:")
        message = message.replace("ignored explicit argument", "takes no value, not")
        raise UsageError(f"{message} (cacheserver -h lists the flags)")


def _parser() -> _Parser:
    parser = _Parser(
        prog="cacheserver",
        usage="cacheserver [flags]\n       cacheserver ping [host:port]",
        description="A memcached-compatible cache that follows the memory its host or container has left.",
        formatter_class=functools.partial(argparse.HelpFormatter, width=HELP_WIDTH),
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    suboptions = {}
    for name, spec in knobs().items():
        if spec.flags:
            _add(parser, name, spec)
        else:
            suboptions[name] = spec
    parser.add_argument(
        "-o",
        "--extended",
        action=_Suboptions,
        knobs=suboptions,
        metavar="<name[=value],...>",
        help="; ".join(
            f"{name}={spec.metavar}: {spec.help}" if spec.parse else f"{name}, no_{name}: {spec.help}"
            for name, spec in suboptions.items()
        ),
    )
    parser.add_argument("-h", "--help", action="help", help="print this help and exit")
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"cacheserver {__version__}",
        help="print the version and exit",
    )
    parser.add_argument(
        "-i",
        "--license",
        action="version",
        version="cacheserver: MIT License",
        help="print the license and exit",
    )
    quiet = parser.add_argument_group("accepted for memcached's sake and ignored")
    for legacy in IGNORED:
        quiet.add_argument(
            *legacy.flags,
            action=_Ignore,
            why=legacy.why,
            nargs=None if legacy.metavar else 0,
            metavar=legacy.metavar,
            help=legacy.why,
        )
    for legacy in REFUSED:
        parser.add_argument(
            *legacy.flags,
            action=_Refuse,
            why=legacy.why,
            nargs=None if legacy.metavar else 0,
            help=argparse.SUPPRESS,
        )
    parser.set_defaults(ignored=None)
    return parser


def _add(parser: argparse.ArgumentParser, name: str, spec: Knob) -> None:
    """Give `parser` the flags of one knob."""
    default = default_text(name)
    if name == "listen":
        default = os.environ.get(LISTEN_VARIABLE) or default
    text = f"{spec.help} (default: {default})" if default else spec.help
    how: dict[str, Any] = {"dest": name, "help": text.replace("%", "%%")}
    if spec.parse is not None:
        how |= {
            "type": _type(spec),
            "metavar": spec.metavar,
            "action": _Extend if name == "listen" else "store",
        }
    elif name == "verbosity":
        how |= {"action": "count"}
    else:
        initial = next(each.default for each in fields(Config) if each.name == name)
        how |= {"action": "store_const", "const": not initial}
    parser.add_argument(*spec.flags, **how)


def _type(spec: Knob) -> Any:
    """Return the knob's parser in the form argparse takes: what is wrong comes out as one line."""

    def convert(text: str) -> Any:
        assert spec.parse is not None
        try:
            return spec.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


class _Extend(argparse.Action):
    """Add a tuple's values to those of the same flag before."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), *values))


class _Ignore(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, *, why: str, **how: Any) -> None:
        super().__init__(option_strings, "ignored", **how)
        self.why = why

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        text = f"{self.option_strings[0]} {values}" if isinstance(values, str) else self.option_strings[0]
        namespace.ignored = [*(namespace.ignored or ()), (text, self.why)]


class _Refuse(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, *, why: str, **how: Any) -> None:
        super().__init__(option_strings, dest, **how)
        self.why = why

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        raise UsageError(f"{option_string} is refused: {self.why}")


class _Suboptions(argparse.Action):
    """-o: a comma list of names and values; what has a knob is set, the rest goes by the tables above."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, knobs: dict[str, Knob], **how: Any
    ) -> None:
        super().__init__(option_strings, dest, **how)
        self.knobs = knobs

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        for name, value, text in _pairs(values):
            field = name if name in self.knobs else name.removeprefix("no_")
            if field in self.knobs and (field == name or self.knobs[field].parse is None):
                setattr(namespace, field, _suboption(name, value, self.knobs[field]))
                continue
            for prefix, why in REFUSED_PREFIXES.items():
                if name.startswith(prefix):
                    raise UsageError(f"-o {name} is refused: {why}")
            why = next((why for why, names in IGNORED_SUBOPTIONS.items() if name in names.split()), "")
            if not why:
                raise UsageError(f"-o: unknown suboption {name!r} (cacheserver -h lists the flags)")
            namespace.ignored = [*(namespace.ignored or ()), (f"-o {text}", why)]


def _pairs(values: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield (name, value or None, the text of both) of each entry of a suboption list."""
    for text in filter(None, values.split(",")):
        name, equals, value = text.partition("=")
        yield name, value if equals else None, text


def _suboption(name: str, value: str | None, spec: Knob) -> Any:
    """Return the parsed value of one suboption that has a knob; a switch is off under its name with no_.

    Raises UsageError.
    """
    if spec.parse is None:
        if value is not None:
            raise UsageError(f"-o {name}: takes no value, not {value!r}")
        return not name.startswith("no_")
    try:
        return spec.parse(value or "")
    except ValueError as error:
        raise UsageError(f"-o {name}: {error}") from None
