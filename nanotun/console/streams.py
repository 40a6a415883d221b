"""
The standard streams, whatever the caller has closed of them.
"""

from __future__ import annotations

import os
import sys


def fillStreams() -> None:
    """
    Open what of the standard streams is closed: the next file that is opened would
    take its number, and get what is written.  Python has L{None} for such a stream.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)
