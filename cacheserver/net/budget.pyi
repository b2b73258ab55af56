class Budget:
    """A bound, in bytes, on what all connections of the reactors that share it may hold of one kind.

    `limit` must be positive; it may be changed at any time. All of it is any thread's. A reactor that exceeds
    its share (limit / reactors) while the whole is exceeded closes connections of its own, so the whole stays
    below twice the limit at any time and settles below it. A lower limit takes effect with the reactors' next
    batch or sweep.
    """

    def __init__(self, limit: int) -> None: ...
    @property
    def limit(self) -> int: ...
    @limit.setter
    def limit(self, limit: int) -> None: ...
    @property
    def used(self) -> int: ...
    def take(self, size: int) -> bool:
        """Count `size` bytes that no reactor holds. False, and nothing counted: they exceed the limit."""

    def give(self, size: int) -> None:
        """Count `size` bytes out again."""
