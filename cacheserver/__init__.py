"""A memcached-compatible cache server that nobody has to size.

Knows: its version, the one place it is written (the build reads it from here), and whose protocol it
speaks. Imports nothing, so that
`cacheserver ping` and a program that embeds one layer pay for that layer only.
"""

__version__ = "0.1.0"

# What `version` and `stats` answer: the memcached whose replies these are. Clients decide by it what they may
# send (from 1.4.14 on `config get cluster`), and libmemcached refuses a major version of 0.
PROTOCOL_VERSION = "1.6.45"
