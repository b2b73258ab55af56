"""A buffer that ends where memory ends: reading beyond it kills the process, so no test can miss it."""

import ctypes
import mmap

_PROT_NONE = 0


class GuardedBuffer:
    """Room for `size` bytes (rounded up to pages) before a page that must not be touched."""

    def __init__(self, size: int) -> None:
        pages = -(-size // mmap.PAGESIZE)
        self.room = pages * mmap.PAGESIZE
        self._map = mmap.mmap(-1, self.room + mmap.PAGESIZE)
        anchor = (ctypes.c_char * len(self._map)).from_buffer(self._map)
        libc = ctypes.CDLL(None, use_errno=True)
        guard = ctypes.c_void_p(ctypes.addressof(anchor) + self.room)
        if libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        self._view = memoryview(self._map)

    def place(self, data: bytes) -> memoryview:
        """`data` so that its last byte is the last one that may be read; valid until the next call."""
        start = self.room - len(data)
        self._view[start : self.room] = data
        return self._view[start : self.room]
