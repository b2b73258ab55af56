"""A short, seeded run of the parser fuzzer."""

from tests.fuzz.parser import run


def test_mutated_requests_never_break_the_invariant() -> None:
    assert run(seconds=1.0, seed=20) > 500
