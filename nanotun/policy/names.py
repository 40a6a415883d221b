"""
Finds out whether a name is among the C{domains} of a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nanotun.config.domains import Pattern, PatternKind
from nanotun.policy.namelist import NameList
from nanotun.policy.wildcard import Wildcard, wildcardOf


class NameSet:
    """
    The names that the C{domains} of a rule take.

    @param patterns: the values of C{domains}.
    @param lists: what was read from files, by their paths; has all that patterns name.
    """

    def __init__(self, patterns: Iterable[Pattern], lists: Mapping[str, NameList]) -> None:
        self._below: dict[str, str] = {}
        self._exactly: dict[str, str] = {}
        self._lists: list[NameList] = []
        self._regexes: list[tuple[re.Pattern[str], str]] = []
        self._likes: list[tuple[Wildcard, str]] = []
        for kind, value, text in patterns:
            if kind is PatternKind.BELOW:
                self._below[value] = text
            elif kind is PatternKind.EXACTLY:
                self._exactly[value] = text
            elif kind is PatternKind.FILE:
                self._lists.append(lists[value])
            elif kind is PatternKind.MATCHES:
                self._regexes.append((re.compile(value, re.IGNORECASE), text))
            else:
                # All names are meant by stars alone, that of the root, too, which is empty.
                least = 1 if value.strip("*") else 0
                self._likes.append((wildcardOf(value, least), text))

    def find(self, name: str) -> str:
        """
        Look a name up.

        @param name: in lower case, ASCII, without a final dot; empty for the root.
        @return: the value that takes it, as it was written, and for a list the entry and the
            file; empty for none.
        """
        exact = self._exactly.get(name)
        if exact is not None:
            return exact
        if self._below:
            each = name
            while each:
                found = self._below.get(each)
                if found is not None:
                    return found
                each = each.partition(".")[2]
        for one in self._lists:
            entry = one.find(name)
            if entry:
                return f"{entry} in {one.path}"
        for wildcard, text in self._likes:
            if wildcard.takes(name):
                return text
        for regex, text in self._regexes:
            if regex.search(name):
                return text
        return ""
