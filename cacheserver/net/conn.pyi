class Budget:
    """A bound, in bytes, on what all connections of the reactors that share it may hold of one kind.

    `limit` must be positive. Any thread may read `used`. A reactor that exceeds its share (limit / reactors)
    while the whole is exceeded closes its own largest holders, so the whole stays below twice the limit at
    any time and settles below it.
    """

    def __init__(self, limit: int) -> None: ...
    @property
    def limit(self) -> int: ...
    @property
    def used(self) -> int: ...
