"""
What a check is, and what it finds.  Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class Level(enum.IntEnum):
    """How bad it is."""

    OK = 0
    INFO = 1  #: Worth knowing, but nothing is wrong.
    WARN = 2  #: It works, but not everything, not well, or not for long.
    FAIL = 3  #: It does not work.


class Finding(NamedTuple):
    """
    One result of a check.

    @ivar check: the name of the check.
    @ivar text: one sentence: what was found, and where.
    @ivar cure: what to do, as a sentence; empty if there is nothing to do or C{text} says it.
    """

    check: str
    level: Level
    text: str
    cure: str = ""


def exitStatus(findings: Iterable[Finding]) -> int:
    """0 if all is well, 1 if there are warnings, 2 if there are failures."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    return max(0, worst - Level.INFO)


class ICheck(Interface):
    """
    Examines one thing that can be wrong.  The doctor runs every check once, all at the same
    time.  A check that takes too long is cancelled, and that becomes its finding.
    """

    name = Attribute("What is examined, in one or two words (L{str}).")

    def run() -> list[Finding] | Deferred[list[Finding]]:
        """
        Examine it, and change nothing.

        @return: at least one finding, even if all is well.
        """
