from cacheserver.pressure.source import Gauge

def glance(
    watches: list[tuple[int, int]],
    wake_fd: int,
    deaf: float,
    tick: float,
    seconds: float,
    gauge: Gauge,
    limit: int,
    low: int,
    high: int,
    share: float,
) -> tuple[list[tuple[int, int]], float]:
    """Watch one bound without the GIL, every `tick` seconds, until something is to be looked at.

    Returns when one of `watches` (descriptor, poll's events) or `wake_fd` is ready, when what `gauge` shows
    is not as expected, or after `seconds`. Expected is that the lowest finite limit is `limit` and the usage
    within `low`..`high`, both included; all in bytes. A file that cannot be read or makes no sense is not.
    `share`: how much of the page cache to subtract from the usage, 0.0 to 1.0; at 0.0 it is not read. `deaf`:
    seconds, up to a tick, before `wake_fd` is listened to.

    Returns the ready descriptors with poll's events, and how many seconds after the call was the last glance
    that found all as expected; -1.0: there was none. ValueError for a tick that is not above 0, for `seconds`
    without end, and for more than 4 limits or 8 terms. OSError when the system refuses to wait (for more
    descriptors than the process may have open, say).
    """
