"""
Finds the owners of flows, and decides where flows go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from nanotun.flow import Decision, Flow, Owner

#: Finds the name that a waiting flow's first bytes ask for.  It fires with the name, in lower
#: case without a final dot, or with the empty text; it may be cancelled, and does not fail
#: otherwise.
Sniff: TypeAlias = "Callable[[], Deferred[str]]"


class IOwners(Interface):
    """
    Finds the process that a flow of this machine belongs to.  If any rule is about
    processes, the judge asks before the flow's first packet is answered.
    """

    misses = Attribute("How many flows there were whose owner could not be found in time (L{int}).")

    def ownerOf(flow: Flow) -> Owner | Deferred[Owner | None] | None:
        """
        Find the owner of a flow, whose socket is still connecting.  Never raises, and
        takes milliseconds at most.

        @return: L{None} if there is none; L{misses} counts those.  A deferred if it takes
            longer: it fires within about a second, with L{None} if the owner was not found
            by then.  If a proxy runs on this machine, it fires when the owner is known.  It
            may be cancelled, and does not fail otherwise.
        """


class IJudge(Interface):
    """Decides where flows go.  The router calls it once for each flow."""

    def judge(flow: Flow, sniff: Sniff | None = None) -> Decision | Deferred[Decision]:
        """
        Decide about a flow.  Never raises: in doubt the flow goes where all others go.

        @param sniff: called at most once, and only if the name could change the decision;
            L{None} if the flow's first bytes cannot be read.
        @return: a deferred if the decision takes a while.  It may be cancelled, and does
            not fail otherwise.
        """

    def judgeAgain(flow: Flow, before: Decision) -> Decision | Deferred[Decision | None] | None:
        """
        Decide about a flow that is open already, by what was known when it began: neither is the
        script asked, nor is its name looked for.

        @param before: what was decided then; has the name that it was judged by.  A fake
            address has its name anyway.
        @return: without trouble; as for L{judge}.  L{None} if it is in doubt, because the owner,
            who was known then, matters and is not found any more.
        """

    def stands(flow: Flow, decision: Decision) -> float | None:
        """
        Tell whether a decision holds for other flows to the same address and port.  Asked about
        flows that leave, once they are decided.  Never raises.

        @return: for how many seconds it holds for all flows of this machine, if that flow is
            one, or else for all of other machines, unless something changes that ends all
            standing decisions; infinity for no limit.  L{None} if the next flow may be decided
            otherwise.
        """
