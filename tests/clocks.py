"""
A clock for what also reads.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock


class ReaderClock(Clock):
    """A clock that also keeps readers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """Watch a reader."""
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """Stop watching a reader, if it is watched."""
        if reader in self.readers:
            self.readers.remove(reader)
