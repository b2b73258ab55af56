"""What sources, shrinkers, waits and log handlers do wrong does not keep the monitor from its ticks."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from pathlib import Path

import pytest

from cacheserver.pressure import Monitor, lookout, runner
from cacheserver.pressure.source import Watch
from tests.unit.pressure.conftest import HandSource
from tests.unit.pressure.running import WAIT, FileSource, comes, running

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize("what", ["read", "quick", "watches", "acknowledge", "gauge", "close"])
def test_a_source_that_raises_leaves_the_others_in_force(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, asked, notice = threading.Event(), threading.Event(), os.eventfd(1)

    def failing(*whatever: object) -> bool:
        failed.set()
        raise ValueError(what)

    bad, good = FileSource(256 * MIB, tmp_path), HandSource(GIB, "good")
    bad.take(238 * MIB)
    good.others = 400 * MIB
    if what == "acknowledge":
        monkeypatch.setattr(bad, "watches", lambda: [Watch(notice, False, failing, select.POLLIN)])
    else:
        monkeypatch.setattr(bad, what, failing)
    if what == "quick":
        monkeypatch.setattr(runner, "glance", None)
    watching = Monitor([bad, good])
    watching.register_shrinker("x", lambda target, hard: asked.set() or 0)
    watching.start()
    try:
        assert what == "close" or failed.wait(WAIT)
        good.others = GIB
        assert asked.wait(WAIT)
    finally:
        watching.stop()
        os.close(notice)
    assert failed.is_set()


def test_a_wait_that_always_fails_does_not_keep_the_tick_from_being_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waited = threading.Event()

    def refused(*whatever: object) -> object:
        waited.set()
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(runner, "glance", refused)
    monkeypatch.setattr(lookout, "full_interval", lambda *whatever: 1000.0)
    source, asked = FileSource(256 * MIB, tmp_path), threading.Event()
    source.take(238 * MIB)
    watching = Monitor([source])
    watching.register_shrinker("x", lambda target, hard: asked.set() or 0, count=lambda: MIB)
    watching.start()
    try:
        assert waited.wait(WAIT)
        source.take(250 * MIB)
        assert asked.wait(WAIT)
    finally:
        watching.stop()
    assert caplog.text.count("the pressure monitor failed with OSError") == 1


def test_a_shrinker_whose_errors_cannot_even_be_shown_is_left_out_like_others() -> None:
    class Shy(ValueError):
        def __repr__(self) -> str:
            raise RuntimeError("not even that")

    def bad(target: int, hard: bool) -> int:
        raise Shy

    source = HandSource(256 * MIB)
    watching = Monitor([source])
    watching.register_shrinker("bad", bad)
    watching.start()
    try:
        source.others = 250 * MIB
        assert comes(lambda: not watching.shrinkers()[0].enabled)
        ticks = watching.status().ticks
        assert comes(lambda: watching.status().ticks > ticks + 1)
        assert running() == 1
    finally:
        watching.stop()


def test_a_log_handler_may_raise_and_may_call_the_monitor(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            if len(lines) == 1:
                raise ValueError("a bad handler")
            if "asked" in lines[-1]:
                watching.request(MIB, True)
                watching.unregister_shrinker(handle)
                watching.stop()

    log, handler = logging.getLogger("cacheserver.pressure"), Handler()
    source = HandSource(256 * MIB)
    watching = Monitor([source])
    handle = watching.register_shrinker("cache", lambda target, hard: target)
    log.addHandler(handler)
    try:
        watching.start()
        source.others = 250 * MIB
        assert comes(lambda: not running())
        assert comes(lambda: not [one for one in threading.enumerate() if "pressure" in one.name])
    finally:
        log.removeHandler(handler)
        watching.stop()
    assert any("hard request" in line for line in lines[1:])
    assert "a bad handler" in capsys.readouterr().err


def test_a_program_that_asks_while_nobody_reads_the_log_does_not_hold_up_the_watch() -> None:
    writing, leave = threading.Event(), threading.Event()

    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            writing.set()
            leave.wait(WAIT)

    log, handler = logging.getLogger("cacheserver.pressure"), Full()
    watching = Monitor([HandSource(GIB)])
    watching.register_shrinker("bad", lambda target, hard: -1)
    watching.start()
    log.addHandler(handler)
    asking = threading.Thread(target=watching.request, args=(MIB, True), daemon=True)
    try:
        asking.start()
        assert writing.wait(WAIT)
        asking.join(WAIT / 2)
        assert not asking.is_alive()
        ticks = watching.status().ticks
        assert comes(lambda: watching.status().ticks > ticks)
    finally:
        leave.set()
        log.removeHandler(handler)
        watching.stop()
