from collections.abc import Sequence

class Hearing:
    def __init__(
        self,
        protocol: int,
        prefix: bytes,
        key_sizes: Sequence[int],
        value_sizes: Sequence[int],
        *,
        verify: bool = False,
        fill: bool = False,
        apart: bool = False,
        ttl: int = 0,
    ) -> None: ...
    def get(self, *numbers: int) -> bytes: ...
    def set(self, number: int, size: int = -1) -> bytes: ...
    def hear(self, data: bytes) -> str: ...
    def tally(self) -> dict[str, int]: ...
    def missed(self) -> list[int]: ...
