"""The bytes of every reply."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import reply

LINES = {
    "STORED": b"STORED\r\n",
    "NOT_STORED": b"NOT_STORED\r\n",
    "EXISTS": b"EXISTS\r\n",
    "NOT_FOUND": b"NOT_FOUND\r\n",
    "DELETED": b"DELETED\r\n",
    "TOUCHED": b"TOUCHED\r\n",
    "OK": b"OK\r\n",
    "END": b"END\r\n",
    "ERROR": b"ERROR\r\n",
    "BAD_FORMAT": b"CLIENT_ERROR bad command line format\r\n",
    "BAD_DELETE": b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
    "BAD_EXPTIME": b"CLIENT_ERROR invalid exptime argument\r\n",
    "BAD_DELTA": b"CLIENT_ERROR invalid numeric delta argument\r\n",
    "BAD_CHUNK": b"CLIENT_ERROR bad data chunk\r\n",
    "NON_NUMERIC": b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    "DUPLICATE_FLAG": b"CLIENT_ERROR duplicate flag\r\n",
    "UNKNOWN_FLAG": b"CLIENT_ERROR invalid flag\r\n",
    "BAD_FLAG": b"CLIENT_ERROR invalid or duplicate flag\r\n",
    "MANY_FLAGS": b"CLIENT_ERROR options flags are too long\r\n",
    "BAD_TOKEN": b"CLIENT_ERROR bad token in command line format\r\n",
    "LONG_OPAQUE": b"CLIENT_ERROR opaque token too long\r\n",
    "BAD_KEY": b"CLIENT_ERROR error decoding key\r\n",
    "BAD_INITIAL": b"CLIENT_ERROR invalid numeric initial value\r\n",
    "BAD_STEP": b"CLIENT_ERROR invalid numeric delta value\r\n",
    "BAD_SET_MODE": b"CLIENT_ERROR invalid mode for ms M token\r\n",
    "BAD_ARITHMETIC_MODE": b"CLIENT_ERROR invalid mode for ma M token\r\n",
    "TOO_LARGE": b"SERVER_ERROR object too large for cache\r\n",
    "NO_MEMORY": b"SERVER_ERROR out of memory storing object\r\n",
    "NO_MEMORY_READING": b"SERVER_ERROR out of memory writing get response\r\n",
    "FLUSH_REFUSED": b"CLIENT_ERROR flush_all not allowed\r\n",
    "UNAUTHENTICATED": b"CLIENT_ERROR unauthenticated\r\n",
    "LOGIN_FAILED": b"CLIENT_ERROR authentication failure\r\n",
    "BAD_LOGIN": b"CLIENT_ERROR bad authentication token format\r\n",
    "BAD_LOGIN_END": b"CLIENT_ERROR bad command line termination\r\n",
    "TOO_MANY": b"ERROR Too many open connections\r\n",
}


def test_every_status_has_its_line() -> None:
    assert {name: reply.status_line(name) for name in reply.STATUSES} == LINES


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(9)
@example(10)
@example(99)
@example(100)
@example(2**64 - 1)
def test_numbers_are_written_in_decimal(value: int) -> None:
    assert reply.number_line(value) == b"%d\r\n" % value


@pytest.mark.parametrize("digits", range(1, 20))
def test_numbers_are_right_around_every_power_of_ten(digits: int) -> None:
    for value in (10**digits - 1, 10**digits, 10**digits + 1):
        assert reply.number_line(value) == b"%d\r\n" % value


def test_a_value_head_carries_the_cas_only_where_asked_for() -> None:
    assert reply.value_head(b"k", 0, 0) == b"VALUE k 0 0\r\n"
    assert reply.value_head(b"k", 7, 12, 0) == b"VALUE k 7 12 0\r\n"


def test_the_widest_value_head_fits_its_reservation() -> None:
    head = reply.value_head(b"k" * 250, 2**32 - 1, 2**64 - 1, 2**64 - 1)
    assert head == b"VALUE %s 4294967295 18446744073709551615 18446744073709551615\r\n" % (b"k" * 250)


def test_a_version_stands_alone_on_its_line() -> None:
    assert reply.version_line(b"1.6.45") == b"VERSION 1.6.45\r\n"
