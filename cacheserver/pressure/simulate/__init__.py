"""The laboratory of the control law: a made host, made neighbours, the real law, and other laws beside it.

Knows the monitor's face. Nothing of `cacheserver.pressure` knows this package.
"""
