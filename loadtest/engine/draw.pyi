from array import array

KINDS: dict[str, int]

def drawn(name: str, a: float, b: float, keys: int, seed: int, count: int) -> array[int]: ...
