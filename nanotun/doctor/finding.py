"""
What a check found.  Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Level(enum.IntEnum):
    """How bad it is."""

    OK = 0
    INFO = 1  #: Worth knowing; nothing is wrong.
    WARN = 2  #: It works, but not as well, or not for long, or not everything.
    FAIL = 3  #: It does not work.


class Finding(NamedTuple):
    """
    @ivar check: the name of the check.
    @ivar text: one sentence: what is so, on what.
    @ivar cure: what to do, as a sentence; empty where there is nothing to be done, or
        C{text} says so already.
    """

    check: str
    level: Level
    text: str
    cure: str = ""


def exitStatus(findings: Iterable[Finding]) -> int:
    """0: all well; 1: warnings; 2: failures."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    return max(0, worst - Level.INFO)


class ICheck(Interface):
    """
    One thing that can be wrong.  The doctor runs each once, all at the same time; one
    that takes too long is cancelled, and that is its finding.
    """

    name = Attribute("What it is about, in one or two words (L{str}).")

    def run() -> list[Finding] | Deferred[list[Finding]]:
        """
        Look, and change nothing.

        @return: what was found, at least one finding; that all is well is one.
        """
