"""
Which fields of JSON the documentation names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from tests import ROOT


def fieldsIn(page: str, heading: str) -> frozenset[str]:
    """
    The words that a section has between backticks.

    @param page: a file in docs/.
    @param heading: the section's; what is below it, up to the next one of its level, counts.
    """
    text = (ROOT / "docs" / page).read_text()
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    assert found, f"{page} has no {heading}"
    level = heading.partition(" ")[0]
    section = re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.M)[0]
    section = re.sub(r"^```.*?^```", "", section, flags=re.M | re.S)
    return frozenset(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))


def keysOf(value: Any, byName: Collection[str] = (), inside: str = "") -> Iterator[str]:
    """
    All keys of objects in a JSON value.

    @param byName: keys whose objects have names for keys, which are not fields.
    @param inside: the key that the value has.
    """
    if isinstance(value, dict):
        for key, each in value.items():
            if inside not in byName:
                yield key
            yield from keysOf(each, byName, key if inside not in byName else "")
    elif isinstance(value, list):
        for each in value:
            yield from keysOf(each, byName, inside)
