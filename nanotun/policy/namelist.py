"""
Names, wildcards and regular expressions of one list, and those that it excepts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nanotun.policy.nametable import NameTable
from nanotun.policy.wildcard import Wildcard

#: Regular expressions of one list, and wildcards that end alike: a new name is compared with each
#: of them, and 256 take some 100 us.
SLOW_LIMIT = 256

#: What an entry of L{NameTable} begins with that is one name only, with nothing below it.
EXACTLY = b"="


def tailOf(pattern: str) -> str:
    """The labels at the end of a wildcard that have no C{*}; empty for none."""
    rest = pattern.rpartition("*")[2]
    return rest.partition(".")[2]


class NameEntries:
    """
    Names with all below them, single names, wildcards and regular expressions.

    @ivar table: the names; single ones with L{EXACTLY} before them.
    @param expected: about how many names there will be.
    """

    def __init__(self, expected: int = 0) -> None:
        self.table = NameTable(expected)
        self._singles = False
        self._wildcards = 0
        self._byTail: dict[str, list[tuple[Wildcard, str]]] = {}
        self._regexes: list[tuple[re.Pattern[str], str]] = []

    def __len__(self) -> int:
        return len(self.table) + self._wildcards + len(self._regexes)

    @property
    def slow(self) -> int:
        """With how many patterns a new name is compared, at worst."""
        return len(self._regexes) + max(map(len, self._byTail.values()), default=0)

    def addSingles(self, names: list[bytes]) -> None:
        """Add names without what is below them."""
        self._singles = True
        self.table.update([EXACTLY + name for name in names])

    def addWildcard(self, text: str, wildcard: Wildcard) -> None:
        """Add a wildcard, and the text that it was made of."""
        self._wildcards += 1
        self._byTail.setdefault(tailOf(text), []).append((wildcard, text))

    def addRegex(self, regex: re.Pattern[str]) -> None:
        """Add a regular expression, for C{search}."""
        self._regexes.append((regex, f"~{regex.pattern}"))

    def find(self, name: str) -> str:
        """
        Look a name up.

        @param name: in lower case, ASCII, without a final dot.
        @return: the entry that has it, as the list's user would write it; empty for none.
        """
        key = name.encode()
        found = self.table.within(key)
        if found:
            return found.decode()
        if self._singles and EXACTLY + key in self.table:
            return f"={name}"
        if self._byTail:
            tail = name
            while True:
                for wildcard, text in self._byTail.get(tail, ()):
                    if wildcard.takes(name):
                        return text
                if not tail:
                    break
                tail = tail.partition(".")[2]
        for regex, text in self._regexes:
            if regex.search(name):
                return text
        return ""


class NameList(NamedTuple):
    """
    A list of names, as it was read from a file.

    @ivar path: the file's.
    @ivar takes: what is on the list.
    @ivar excepts: what is not on it all the same.
    @ivar important: what AdGuard's lists mark with C{$important}, which goes before the rest;
        L{None} if nothing is.
    """

    path: str
    takes: NameEntries
    excepts: NameEntries
    important: NameList | None = None

    def __len__(self) -> int:
        return len(self.takes) + (len(self.important.takes) if self.important else 0)

    @property
    def slow(self) -> int:
        """With how many patterns a new name is compared, at worst."""
        slow = max(self.takes.slow, self.excepts.slow)
        return slow + self.important.slow if self.important else slow

    def find(self, name: str) -> str:
        """
        Look a name up.

        @param name: see L{NameEntries.find}.
        @return: the entry that has it; empty for none.
        """
        if self.important is not None:
            if self.important.excepts.find(name):
                return ""
            found = self.important.takes.find(name)
            if found:
                return found
        found = self.takes.find(name)
        if found and len(self.excepts) and self.excepts.find(name):
            return ""
        return found
