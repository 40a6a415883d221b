"""
Finds out which of many rules may be about a name, without asking each of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nanotun.config.domains import Pattern, PatternKind

#: What a name is that can be found in the index.
_INDEXED = (PatternKind.BELOW, PatternKind.EXACTLY)


class NameIndex:
    """
    Rules by the names that they are about.

    @param patterns: the C{domains} of each rule, in the rules' order; L{None} for a rule that may
        be about any name.
    """

    def __init__(self, patterns: Sequence[Collection[Pattern] | None]) -> None:
        #: Numbers of rules by name; names that stand for themselves only have a = before them.
        self._byName: dict[str, list[int]] = {}
        self._others: list[int] = []
        for number, each in enumerate(patterns):
            if each is None or not all(pattern.kind in _INDEXED for pattern in each):
                self._others.append(number)
                continue
            for kind, value, _ in each:
                key = f"={value}" if kind is PatternKind.EXACTLY else value
                self._byName.setdefault(key, []).append(number)

    def about(self, name: str) -> list[int]:
        """
        The rules that the index does not exclude.

        @param name: in lower case, without a final dot.
        @return: their numbers, from 0 on, in the rules' order.
        """
        index = self._byName
        numbers = {*self._others, *index.get(f"={name}", ())}
        while name:
            if name in index:
                numbers.update(index[name])
            name = name.partition(".")[2]
        return sorted(numbers)
