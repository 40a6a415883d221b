"""
The user's script, as the judge, the router and the relay know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from nanotun import script
    from nanotun.flow import ScriptAnswer, ScriptReply


class IScript(Interface):
    """
    Asks the functions of the user's script, and answers for them where they fail.  A function
    that a script does not have need not be asked; if it is, the rules decide.
    """

    needsProcess = Attribute(
        "Whether the processes of flows have to be looked up before L{decide} and L{ended} "
        "(L{bool})."
    )
    decides = Attribute("Whether L{decide} has to be called (L{bool}).")
    followsFlows = Attribute("Whether L{ended} has to be called (L{bool}).")
    answersQueries = Attribute("Whether L{query} has to be called (L{bool}).")

    def decide(flow: script.Flow) -> ScriptAnswer | Deferred[ScriptAnswer]:
        """
        Ask where a flow goes.  Never raises.

        @return: a deferred if the answer takes a while.  It may be cancelled if nobody waits
            for it any more, fails with L{twisted.internet.defer.CancelledError} then, and does
            not fail otherwise.
        """

    def ended(flow: script.Flow, end: script.End) -> None:
        """Say that a flow that was joined has ended.  Never raises."""

    def query(query: script.Query) -> ScriptReply | Deferred[ScriptReply]:
        """Ask what to answer to a DNS query; as L{decide}."""
