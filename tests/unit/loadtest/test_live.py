"""Progress: a line a second where there is no terminal, a table where there is one."""

from __future__ import annotations

import errno
import io

import pytest

from loadtest.live import HEADS, Live, cells, fitting
from loadtest.timeline import Sample
from loadtest.units import MIB
from tests.unit.loadtest import made


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SAMPLE = Sample(2.0, limit=256 * MIB, usage=100 * MIB, hog=10 * MIB, level="low")


def test_a_line_a_second_without_a_terminal() -> None:
    stream = io.StringIO()
    with Live("title", stream) as live:
        live(made.second(1.0, warmup=True), None)
        live(made.second(2.0), SAMPLE)
    title, first, second = stream.getvalue().splitlines()
    assert title == "title"
    assert first.startswith("1 s (warm-up)  rate 1000  hits 0.9000  p50 100 us")
    assert "memory 100.0 MiB  limit 256.0 MiB  hog 10.0 MiB  level low  errors 0" in second


def test_a_rate_is_of_the_time_that_has_passed() -> None:
    assert cells(made.second(2.0), None, 0.5)[1] == "2000"
    assert len(cells(made.second(2.0), SAMPLE, 1.0)) == len(HEADS)


def test_a_table_on_a_terminal() -> None:
    pytest.importorskip("rich")
    stream = Terminal()
    with Live("title", stream) as live:
        live(made.second(1.0), SAMPLE)
    text = stream.getvalue()
    assert all(cell in text for cell in ("0.9000", "256.0", "low"))
    assert "\x1b[" in text


def test_a_narrow_terminal_shows_whole_columns_and_the_first_of_them_first() -> None:
    rows = [cells(made.second(2.0), SAMPLE, 1.0)]
    assert fitting(rows, 200) == list(range(len(HEADS)))
    narrow = fitting(rows, 40)
    assert [HEADS[place] for place in narrow] == ["at", "rate", "hits", "p99", "memory", "errors"]
    assert sum(1 + max(len(rows[0][place]), len(HEADS[place])) for place in narrow) <= 40
    assert fitting(rows, 3) == [0]


def test_quiet_is_quiet() -> None:
    for stream in (io.StringIO(), Terminal()):
        with Live("title", stream, quiet=True) as live:
            live(made.second(1.0), SAMPLE)
        assert stream.getvalue() == ""


def test_a_stream_that_nobody_reads_any_more_does_not_end_the_load() -> None:
    class Closed(io.StringIO):
        tried = 0

        def write(self, _text: str) -> int:
            self.tried += 1
            raise BrokenPipeError

    stream = Closed()
    with Live("title", stream) as live:
        live(made.second(1.0), SAMPLE)
    assert stream.tried == 1  # and it is not tried again


@pytest.mark.parametrize("written", [0, 1])
def test_a_terminal_that_goes_does_not_end_the_load(written: int) -> None:
    pytest.importorskip("rich")

    class Going(Terminal):
        left = written

        def write(self, text: str) -> int:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, "the terminal has gone")
            return super().write(text)

    stream = Going()
    with Live("title", stream) as live:
        for at in range(1, 9):
            live(made.second(float(at)), SAMPLE)
    assert stream.left < 0
