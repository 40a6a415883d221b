"""
What a proxy asks for with a 407: C{Proxy-Authenticate} (RFC 9110, section 11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

#: A token (RFC 9110, section 5.6.2), and what may follow it: C{=} and a token,
#: a quoted string or, with some servers, anything without a comma.
_ITEM = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    rb'(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^",\t ]*)))?'
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class Challenge(NamedTuple):
    """
    One way to log in that the proxy offers.

    @ivar scheme: in lower case.
    @ivar parameters: by name in lower case, without quotes.
    """

    scheme: bytes
    parameters: dict[bytes, bytes]


def parseChallenges(values: Iterable[bytes]) -> list[Challenge]:
    """
    Read all C{Proxy-Authenticate} fields of one answer.  What is not
    understood is passed over: there may be a better offer behind it.

    @param values: the fields' values, each a list with commas.
    @return: in the proxy's order, which is that of its preference.
    """
    found: list[Challenge] = []
    for value in values:
        # A comma ends a parameter and a challenge alike; a name without '='
        # begins a challenge.
        begun = False
        for name, quoted, bare in _items(value):
            if bare is None and quoted is None:
                found.append(Challenge(name.lower(), {}))
                begun = True
            elif begun:
                text = bare if quoted is None else _ESCAPED.sub(rb"\1", quoted)
                found[-1].parameters.setdefault(name.lower(), text or b"")
    return found


def _items(value: bytes) -> Iterable[tuple[bytes, bytes | None, bytes | None]]:
    for match in _ITEM.finditer(value):
        yield match[1], match[2], match[3]
