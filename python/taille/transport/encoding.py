"""Bytes of tensors in fewer bytes, exactly.

Weights have no repeats, but their bytes are not equally frequent, least of all the sign and exponent of floats. So the
bytes of a tensor are first put together by their place in the element (shuffled), and then written with Huffman codes
(deflate without a search for repeats), or with one where that is smaller, as in text and in zeros. zlib alone reads it.
"""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["CHUNK", "DEFLATE", "DEFLATE_NEAR", "ITEMS", "STORED", "add_back", "decode", "encode", "subtract"]

CHUNK = 1 << 22  # bytes that are encoded at once, at most: what reading one takes is bounded by this
ITEMS = (1, 2, 4, 8)  # bytes of an element

STORED, DEFLATE, DEFLATE_NEAR = range(3)  # the last: with bytes of the base that may be alike, as a dictionary
RAW = -15  # deflate without zlib's head: a checksum over everything is kept elsewhere


def encode(data: bytes, item: int, near: bytes = b"") -> tuple[int, bytes]:
    """The codec and the bytes, never more than `data`.

    Args:
        data: at most CHUNK bytes, a multiple of `item`.
        item: bytes of an element.
        near: what may be alike in places, such as an older form.
    """
    planes = shuffled(data, item)
    found = [(STORED, data)]
    if near:
        found.append((DEFLATE_NEAR, deflated(planes, zlib.Z_DEFAULT_STRATEGY, near)))
    else:
        found += [(DEFLATE, deflated(planes, s)) for s in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)]
    return min(found, key=lambda pair: len(pair[1]))


def deflated(data: bytes, strategy: int, near: bytes = b"") -> bytes:
    """Deflate's form of the bytes."""
    options = (zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, RAW, zlib.DEF_MEM_LEVEL, strategy)
    worker = zlib.compressobj(*options, near) if near else zlib.compressobj(*options)
    return worker.compress(data) + worker.flush()


def decode(codec: int, payload: bytes, item: int, size: int, near: bytes = b"") -> bytes:
    """The `size` bytes that `encode` was given. No more than that is ever made, whatever the payload.

    Raises:
        ValueError: the payload is no such thing.
    """
    if codec == STORED:
        if len(payload) != size:
            raise ValueError(f"{len(payload)} bytes are stored, and {size} declared")
        return payload
    worker = zlib.decompressobj(RAW, near) if codec == DEFLATE_NEAR else zlib.decompressobj(RAW)
    try:
        planes = worker.decompress(payload, size + 1)  # one more, so that the end of the stream is reached
    except zlib.error as error:
        raise ValueError(f"not deflate data ({error})") from None
    if len(planes) != size or not worker.eof or worker.unused_data:
        raise ValueError(f"the data does not give the {size} bytes that are declared")
    return unshuffled(planes, item)


def shuffled(data: bytes, item: int) -> bytes:
    """All first bytes of the elements, then all second ones, ..."""
    return data if item == 1 else np.frombuffer(data, np.uint8).reshape(-1, item).T.tobytes()


def unshuffled(planes: bytes, item: int) -> bytes:
    """The inverse of `shuffled`."""
    return planes if item == 1 else np.frombuffer(planes, np.uint8).reshape(item, -1).T.tobytes()


def subtract(new: bytes, base: bytes, item: int) -> bytes:
    """The differences of elements, taken as whole numbers without overflow (modulo), small ones of both signs first.

    Floats that are near each other are so as whole numbers too, so the high bytes of small changes are zero. 0, -1, 1,
    -2, ... become 0, 1, 2, 3, ...
    """
    signed = np.dtype(f"<i{item}")
    difference = np.frombuffer(new, signed) - np.frombuffer(base, signed)
    folded = (difference << 1) ^ (difference >> (8 * item - 1))
    return bytes(folded.astype(signed).data)


def add_back(difference: bytes, base: bytes, item: int) -> bytes:
    """The inverse: `add_back(subtract(new, base, item), base, item) == new`."""
    unsigned = np.dtype(f"<u{item}")
    folded = np.frombuffer(difference, unsigned)
    one = unsigned.type(1)
    change = (folded >> one) ^ (~(folded & one) + one)
    return bytes((np.frombuffer(base, unsigned) + change).astype(unsigned).data)
