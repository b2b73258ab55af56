"""Values of the command line: text in, a value out, and back as `stats settings` writes it.

Knows: memcached's ways to write sizes, masks, addresses. Must not know: which knob has which value.
Each parser raises ValueError with one line that says what is wrong and what would be right.
"""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

# What may stand before an address of -l; the tag means something to memcached's proxy only.
PREFIX = re.compile(r"(?:(?P<notls>notls)|proto\[(?P<protocol>[^\]]*)\]|tag\[[^\]]*\]):")


class Address(NamedTuple):
    """One TCP address to listen on; `port` None: the port of -p, `host` "*": every address of the machine.

    tls: whether TLS is spoken there, if it is on at all.
    """

    host: str
    port: int | None
    tls: bool = True


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


def path(text: str) -> str:
    if not text:
        raise ValueError("the path is empty")
    return os.path.abspath(text)


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def on_off(value: bool) -> str:
    return "on" if value else "off"


def or_null(value: str | None) -> str:
    return "NULL" if value is None else value


def or_none(value: str | None) -> str:
    return "(null)" if value is None else value


def key_format(text: str) -> int:
    """Accept PEM, by memcached's number for it."""
    if text != "1":
        raise ValueError(
            f"{text!r} is not 1, which stands for PEM; other keys become PEM by "
            "openssl pkey -inform DER -in <file> -out <new file>"
        )
    return 1


def some_text(text: str) -> str:
    if not text:
        raise ValueError("the value is missing")
    return text


def show_addresses(value: tuple[Address, ...]) -> str:
    texts = (("" if each.tls else "notls:") + address_text(each.host, each.port) for each in value)
    return ",".join(texts) or "NULL"


def address_text(host: str, port: int | None) -> str:
    """Write an address as -l takes it; an IPv6 host gets its brackets when a port follows."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
