"""The Python face of the classic text grammar, for tests; the server calls parse() from C."""

from typing import Any, Literal

from _typeshed import ReadableBuffer

ParsedName = Literal["GOT_REQUEST", "NEED_DATA", "GOT_KEYS", "BAD_REQUEST"]

OPS: dict[int, str]

def parse_request(data: ReadableBuffer) -> tuple[ParsedName, dict[str, Any]]:
    """What parse() makes of `data`: the outcome's name, and the fields set for it as Python values.

    Spans become bytes, flags become bools. NEED_DATA has no fields; BAD_REQUEST has error (None: no reply),
    noreply, swallow (bytes), close and length; the others have op, noreply and length (bytes) and what the
    operation needs: see protocol/text.pxd.

    Meta commands have `encoded` (the key was in base64). All but me and mn have `flags` (the letters seen,
    sorted), `returns` (those the reply shows, in the order of the request), `opaque` where there is one, and
    under its letter each flag that carries a number or a mode.
    """
