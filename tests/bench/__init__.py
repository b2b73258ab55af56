"""Benchmarks: programs that measure and print, for docs/benchmarks.md; but for
`instructions` they judge nothing."""
