"""
What C{nanotun doctor} looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from nanotun.doctor.finding import Finding


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
