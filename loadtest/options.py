"""The command line: its subcommands, their options, and what fields of a scenario the options set.

Knows: argparse, the fields of workloads and loads. Must not know: what is done with them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from loadtest import headline, scenario, slo
from loadtest.units import seconds_of, size_of
from loadtest.workload import Load, Workload

DEFAULT_ADDRESS = "127.0.0.1:11211"
HELP: Mapping[str, str] = {
    "protocol": "text, meta or resp (Redis)",
    "get_share": "of the requests, 0 to 1; the others are sets",
    "multiget": "keys of a get",
    "keys": "how many there are",
    "key_prefix": "what every key begins with",
    "key_size": "bytes: fixed:N, range:A-B, list:N:WEIGHT,..., lognormal:MEDIAN:SIGMA, meta:NAME, file:PATH",
    "popularity": "uniform, zipf:S, hot:SHARE_OF_KEYS:SHARE_OF_REQUESTS, scan",
    "value_size": "bytes, as --key-size",
    "ttl": "none, fixed:S, range:A-B (seconds)",
    "fill": "read-through: set what a get misses",
    "backend_ms": "milliseconds between a miss and its set",
    "verify": "look at every byte of every value",
    "trace": "a file (int32:FILE or int64:FILE where it is not text), a folder of distributions, or a law,"
    " in place of popularity and sizes",
    "connections": "over all processes",
    "depth": "requests in flight on each connection (closed loop)",
    "rate": "requests a second, over all: open loop; 0: closed loop, as fast as replies come",
    "seconds": "of load, after the warm-up",
    "warmup": "seconds before, which do not count",
    "processes": "that make the load",
    "seed": "of everything that is drawn by lot",
    "churn": "requests after which a connection is closed and opened anew; 0: never",
    "steps": "staircase: SECONDS:VALUE,... of the rate, or of the connections in a closed loop",
    "patience": "seconds without any connection after which the load ends",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; what is right is in --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"loadtest: {message} (see {self.prog} --help)\n")


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    """The options; SystemExit(2) with one line where they make no sense."""
    parser = Parser(
        prog="cacheserver-loadtest",
        description="Load tests for memcached, Redis and servers that speak like them.",
        epilog="Exit status: 0 all is well, 1 a condition of --slo is not met, 2 something could not be"
        " measured or written, 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _run(commands)
    _reports(commands)
    _headline(commands)
    replay = commands.add_parser(
        "replay", help="replay a trace over one connection, read-through", add_help=False
    )
    replay.add_argument("rest", nargs=argparse.REMAINDER)
    return parser.parse_args(given)


def overrides(found: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the workload and of the load that options set."""
    told = vars(found)
    workload, load = (
        {field: told[field] for field in kind._fields if told.get(field) is not None}
        for kind in (Workload, Load)
    )
    return workload, load


def _run(commands: Any) -> None:
    named = "; ".join(f"{name}: {scenario.read(name).get('about', '')}" for name in scenario.names())
    parser = commands.add_parser(
        "run",
        help="a load against a server",
        description="Make a load against a server and tell what came of it.",
        epilog=f"Scenarios: {named}.",
    )
    parser.add_argument(
        "address",
        nargs="?",
        default=DEFAULT_ADDRESS,
        help=f"host:port, [v6]:port or the path of a Unix socket (default: {DEFAULT_ADDRESS})",
    )
    parser.add_argument(
        "--scenario", default="", help="one of those below, or a .toml file; options go over it"
    )
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="EVENT",
        help='what happens beside the load: "30s limit=512M over=5s", "10s hog=256M rate=0.5G hold=5s"',
    )
    parser.add_argument("--slo", default=None, help=slo.__doc__.split("\n")[0][:-1] if slo.__doc__ else "")
    parser.add_argument("--label", default="", help="name of the run beside others (default: the address)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    _fields(parser.add_argument_group("workload"), Workload)
    _fields(parser.add_argument_group("load"), Load)
    server = parser.add_argument_group(
        "whose memory", "without any: the process that listens at the address, where that is on this machine"
    )
    server.add_argument("--pid", type=_whole, help="of the server")
    server.add_argument("--cgroup", help="directory of the server's memory cgroup, version 1 or 2")
    server.add_argument("--container", help="name (Docker) or id of the server's container")
    _files(parser)


def _reports(commands: Any) -> None:
    for name, count, about in (
        ("report", None, "the table, the page, the pictures of a run that was kept as JSON"),
        ("compare", "+", "two or more runs side by side"),
    ):
        parser = commands.add_parser(name, help=about, description=about.capitalize() + ".")
        if count:
            parser.add_argument("first", metavar="A.json")
            parser.add_argument("files", nargs=count, metavar="B.json")
        else:
            parser.add_argument("first", metavar="FILE.json")
            parser.add_argument("--slo", default=None, help="conditions to judge it by")
        _files(parser, json=False, hdr=not count)


def _headline(commands: Any) -> None:
    plan = headline.Plan()
    parser = commands.add_parser(
        "headline",
        help="this server, and memcached with two sizes, in a limited cgroup beside a neighbour",
        description="Show what a size that nobody chose is worth. Needs root, for cgroups, and memcached.",
    )
    parser.add_argument("--out", default="headline", help="folder for the picture, the page and the figures")
    parser.add_argument("--limit", type=_size, default=plan.limit, help="of each cgroup (256M)")
    parser.add_argument("--peak", type=_size, default=plan.peak, help="of the neighbour (96M)")
    parser.add_argument("--seconds", type=_seconds, default=plan.seconds, help="of each server (120)")
    parser.add_argument("--rate", type=float, default=plan.rate, help="requests a second (20000)")
    parser.add_argument("--keys", type=_whole, default=plan.keys, help="how many there are (400000)")
    parser.add_argument("--value-size", default=plan.value_size, help="bytes (lognormal:1500:0.7)")
    parser.add_argument("--ours", default=plan.ours, help="command of this server, {port} for the port")
    parser.add_argument("--memcached", default=plan.memcached, help="command of memcached without -m")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _fields(group: Any, kind: type[Any]) -> None:
    """An option for each field; one that is not given leaves it to the scenario."""
    for field, default in kind._field_defaults.items():
        option = "--" + field.replace("_", "-")
        text = f"{HELP[field]} ({default})" if default not in ("", ()) else HELP[field]
        text = text.replace("%", "%%")
        if isinstance(default, bool):
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=HELP[field])
        elif field == "steps":
            group.add_argument(option, type=_steps, help=text, metavar="S:V,...")
        else:
            types: dict[type[Any], Any] = {int: _whole, float: _seconds if field in TIMES else float}
            group.add_argument(option, type=types.get(type(default), str), help=text, metavar="X")


TIMES = ("seconds", "warmup", "patience")


def _files(parser: argparse.ArgumentParser, json: bool = True, hdr: bool = True) -> None:
    group = parser.add_argument_group("files")
    if json:
        group.add_argument(
            "--json", default="", help='results (default: loadtest-NAME-TIME.json here; "-": stdout; "none")'
        )
        group.add_argument("--report", default="", metavar="FOLDER", help="all of these files, in a folder")
    group.add_argument("--html", default="", help="the report as one page")
    group.add_argument("--png", default="", help="the charts as one picture")
    if hdr:
        group.add_argument("--hdr", default="", help="logs of HdrHistogram: NAME.hlog")


def _typed(function: Any) -> Any:
    """For argparse: the ValueError's own words are what the user reads."""

    def convert(text: str) -> Any:
        try:
            return function(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _whole_of(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _steps_of(text: str) -> list[tuple[float, float]]:
    pairs = []
    for piece in text.split(","):
        at, _, value = piece.partition(":")
        try:
            pairs.append((float(at), float(value)))
        except ValueError:
            raise ValueError(f"{piece!r} is no step: say SECONDS:VALUE") from None
    return pairs


_whole = _typed(_whole_of)
_size = _typed(size_of)
_seconds = _typed(seconds_of)
_steps = _typed(_steps_of)
