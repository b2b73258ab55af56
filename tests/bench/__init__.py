"""Benchmarks: scripts that print a table each; no test runs them."""
