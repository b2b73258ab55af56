"""What the rare commands have in common: the fixed lines, silence on demand, reading a number.

Knows: tokens and reply lines. Must not know: any command.
"""

from collections.abc import Sequence

OK = b"OK\r\n"
ERROR = b"ERROR\r\n"
END = b"END\r\n"
BAD_FORMAT = b"CLIENT_ERROR bad command line format\r\n"
NOREPLY = b"noreply"
U32_MAX = 2**32 - 1


def reply(line: bytes, arguments: Sequence[bytes]) -> bytes:
    """Return `line`, or nothing where the client asked for silence."""
    return b"" if arguments and arguments[-1] == NOREPLY else line


def whole_number(arguments: Sequence[bytes]) -> int | None:
    """Return the first argument as 0..2**32-1; None if it is missing or something else."""
    if not arguments or not arguments[0].isdigit() or len(arguments[0]) > 10:
        return None
    value = int(arguments[0])
    return value if value <= U32_MAX else None


def signed_number(token: bytes) -> int | None:
    """Return `token` as -2**31..2**31-1; None if it is something else."""
    digits = token[1:] if token.startswith(b"-") else token
    if not digits.isdigit() or len(digits) > 10:
        return None
    value = int(token)
    return value if -(2**31) <= value < 2**31 else None
