"""A memcached-compatible cache server that nobody has to size.

Knows: its version, the one place it is written (the build reads it from here). Imports nothing, so that
`cacheserver ping` and a program that embeds one layer pay for that layer only.
"""

__version__ = "0.1.0"
