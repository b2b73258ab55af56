"""The Python face of the replies: what the inline functions of reply.pxd write, as bytes."""

STATUSES: dict[str, int]

def status_line(name: str) -> bytes:
    """The fixed line of a status, CRLF included; `name` is a key of STATUSES (KeyError otherwise)."""

def value_head(key: bytes, flags: int, nbytes: int, cas: int | None = None) -> bytes:
    """The "VALUE ..." line before a data block; `cas` only where the request asked for it.

    ValueError for a key of 0 or more than 250 bytes, OverflowError for flags beyond 32 bits.
    """

def number_line(value: int) -> bytes:
    """The reply of incr and decr: 0..2**64-1 in decimal, CRLF included (OverflowError beyond)."""

def version_line(version: bytes) -> bytes:
    """ "VERSION <version>", CRLF included; ValueError for more than 86 bytes."""
