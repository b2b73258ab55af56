from array import array
from collections.abc import Sequence

class Generator:
    def __init__(
        self,
        address: bytes,
        *,
        protocol: int,
        prefix: bytes,
        key_sizes: Sequence[int],
        value_sizes: Sequence[int],
        kind: int,
        a: float,
        b: float,
        keys: int,
        first: int,
        last: int,
        once: bool,
        get_share: float,
        multiget: int,
        ttl: tuple[int, int],
        fill: bool,
        backend: int,
        verify: bool,
        traced: bool,
        connections: int,
        most_connections: int,
        depth: int,
        rate: float,
        offset: float,
        churn: int,
        patience: int,
        steps: list[tuple[int, float]],
        seed: int,
    ) -> None: ...
    def connect(self) -> str: ...
    def begin(self, start: int) -> None: ...
    def run(self, until: int) -> str: ...
    def feed(self, numbers: array[int] | None, sizes: array[int] | None) -> None: ...
    def take(
        self,
    ) -> tuple[tuple[int, ...], tuple[bytes, bytes], tuple[bytes, bytes], tuple[bytes, bytes], int]: ...
    def trouble(self) -> str: ...
    def complaint(self) -> str: ...
    def refusal(self) -> str: ...
    @property
    def dropped(self) -> int: ...
    @property
    def waited(self) -> int: ...
