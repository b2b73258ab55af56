"""The Python face of the base64 of keys, for tests."""

def encode(data: bytes) -> bytes:
    """Return `data` in base64, padded."""

def decode(text: bytes) -> bytes | None:
    """Return the bytes `text` stands for, None for what is no base64 (nothing at all included)."""
