"""
Wildcards, matched in a time that grows with the name only: a regular expression with several
stars would try all ways to divide a name among them, and anybody may make an app ask for a
name that takes it minutes.
"""

from __future__ import annotations

from typing import NamedTuple


class Wildcard(NamedTuple):
    """
    A name with C{*} in it.

    @ivar parts: what is between the stars.
    @ivar least: how many characters a star stands for, at least.
    @ivar below: whether names below those are meant, too.
    """

    parts: tuple[str, ...]
    least: int = 1
    below: bool = False

    def takes(self, name: str) -> bool:
        """Whether a name is meant."""
        if not name.endswith(self.parts[-1]):
            return False
        if self._takesFrom(name, 0):
            return True
        at = 0
        while self.below and (at := name.find(".", at) + 1):
            if self._takesFrom(name, at):
                return True
        return False

    def _takesFrom(self, name: str, at: int) -> bool:
        """Whether what begins at an offset is meant, whose end has been looked at."""
        first, *middle, last = self.parts
        if not name.startswith(first, at):
            return False
        at += len(first)
        end = len(name) - len(last)
        for part in middle:
            # The first place will do: what follows has more room then.
            at = name.find(part, at + self.least, end)
            if at < 0:
                return False
            at += len(part)
        return at + self.least <= end


def wildcardOf(text: str, least: int = 1, below: bool = False) -> Wildcard:
    """Parse a text with C{*} in it; see L{Wildcard}."""
    return Wildcard(tuple(text.split("*")), least, below)
