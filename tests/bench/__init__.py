"""Benchmarks: programs that measure and print, for docs/benchmarks.md; they judge nothing."""
