"""A memory-limited group of processes, made of a real cgroup of version 1 or 2.

Knows: what tests ask of a group beyond loadtest.groups, which makes and removes it. Tests take one from
`memory_group`, which skips where there can be none; programs from `limited_group`, which raises NoGroup.
Sizes are bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtest import groups
from tests.requirements import missing


class Group(groups.Group):
    """One memory cgroup. What a test relies on and cannot be read is an error here, not None."""

    def set_limit(self, nbytes: int | None) -> None:
        """Set the limit, None for none; there is no swap beside it where the kernel counts swap.

        OSError(EBUSY) on version 1 where more than `nbytes` is in use.
        """
        super().set_limit(nbytes)
        self.no_swap()

    def throttle(self, nbytes: int) -> None:
        """Set memory.high, which slows down and never kills (version 2 only); 0 takes it away."""
        (self.path / "memory.high").write_text(str(nbytes) if nbytes else "max")

    def usage(self) -> int:
        nbytes = super().usage()
        assert nbytes is not None, f"{self.path} does not tell its usage"
        return nbytes

    def kills(self) -> int:
        count = super().kills()
        assert count is not None, f"{self.path} does not tell its kills"
        return count

    def limit_hits(self) -> int | None:
        """How often a process of the group wanted memory that the limit did not leave; None on version 1.

        Linux 6.18 leaves memory.failcnt at 0 even after a kill.
        """
        if self.version == 1:
            return None
        events = dict(line.split() for line in (self.path / "memory.events").read_text().splitlines())
        return int(events["max"])

    def highest_usage(self) -> int:
        """The largest usage since `forget_highest`; 0 where the kernel does not tell."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            return int((self.path / name).read_text())
        except OSError:
            return 0

    def forget_highest(self) -> None:
        """Begin anew with `highest_usage`; on version 2 it keeps that of the group's whole life."""
        if self.version == 1:
            (self.path / "memory.max_usage_in_bytes").write_text("0")


@contextlib.contextmanager
def limited_group(limit: int) -> Iterator[Group]:
    """Make a cgroup that may hold `limit` bytes; groups.NoGroup where that is impossible."""
    with groups.make(limit) as made:
        yield Group(made.path, made.version)


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Group]:
    """Make a cgroup that may hold `limit` bytes; skip the test (in CI: fail it) where that is impossible."""
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(limited_group(limit))
        except groups.NoGroup as error:
            missing(str(error))
        yield group


def joining(group: Path | None, argv: Sequence[str]) -> list[str]:
    """Return a command that enters the cgroup at `group` and then becomes `argv`; None changes nothing."""
    if group is None:
        return list(argv)
    return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *argv]
