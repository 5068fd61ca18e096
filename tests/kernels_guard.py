"""Arrays that end (or begin) at an inaccessible page, so that a kernel touching one byte more crashes."""

import ctypes
import mmap

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_PAGE = mmap.PAGESIZE


def guarded_empty(shape, dtype=np.float32, *, at="end"):
    """A zeroed array whose last (`at="end"`) or first (`at="begin"`) byte borders an inaccessible page."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = max(1, -(-size // _PAGE))
    memory = mmap.mmap(-1, (pages + 2) * _PAGE)
    base = np.frombuffer(memory, np.uint8)
    for page in (0, pages + 1):
        if _libc.mprotect(base.ctypes.data + page * _PAGE, _PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    start = _PAGE if at == "begin" else (pages + 1) * _PAGE - size
    return base[start : start + size].view(dtype).reshape(shape)


def guarded(values, *, at="end"):
    """A copy of `values` beside an inaccessible page (see guarded_empty)."""
    values = np.ascontiguousarray(values)
    copy = guarded_empty(values.shape, values.dtype, at=at)
    copy[...] = values
    return copy
