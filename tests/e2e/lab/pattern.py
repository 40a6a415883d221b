"""
The bytes that the tests transfer.  They look random, are the same in every process, and never
align with a buffer, so a lost, duplicated or swapped piece changes the hash.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random

PERIOD = 16 * 1024 * 1024 - 4093
"""The length after which the pattern repeats; coprime to every power of two."""


@functools.lru_cache(maxsize=1)
def block() -> bytes:
    """One period of the pattern."""
    return random.Random(0x6E74).randbytes(PERIOD)


@functools.lru_cache(maxsize=256)
def sha256(length: int) -> str:
    """The hex SHA-256 of the pattern's first C{length} bytes."""
    digest = hashlib.sha256()
    view = memoryview(block())
    while length > 0:
        digest.update(view[:length])
        length -= PERIOD
    return digest.hexdigest()


def file(length: int) -> int:
    """
    The pattern as a file in memory.

    @return: its fd, at offset 0; the caller closes it.
    """
    fd = os.memfd_create("pattern")
    view = memoryview(block())
    while length > 0:
        os.write(fd, view[:length])
        length -= min(length, PERIOD)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
