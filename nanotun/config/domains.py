"""
The values of a rule's C{domains}: names, wildcards, regular expressions and lists in files.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class PatternKind(enum.Enum):
    """How a pattern is compared with a name; the values are what it begins with."""

    BELOW = ""  #: The name itself, and every name below it.
    EXACTLY = "="  #: That name only.
    LIKE = "*"  #: The whole name, where each C{*} stands for one or more characters.
    MATCHES = "~"  #: A regular expression that is found somewhere in the name.
    FILE = "file:"  #: A name in a list.


class Pattern(NamedTuple):
    """
    One value of C{domains}.

    Names that it is compared with are in lower case, in their ASCII form, without dots at
    the ends.

    @ivar value: a name in that form for BELOW and EXACTLY; the same with C{*} in it for LIKE;
        an expression that compiles for MATCHES; an absolute path for FILE.
    @ivar text: as the user wrote it.
    """

    kind: PatternKind
    value: str
    text: str
