"""
What is known of a flow that is being decided.  What is not known yet is a value of its own: the
rules say of it whether it could change where the flow goes, and only then is it found out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from nanotun.addresses import GATEWAY4, GATEWAY6, Special, isFake, isUnicast
from nanotun.flow import Decision, Flow, Owner
from nanotun.policy.reserved import specialOf

#: What may be lacking, as bits of L{Outcome.lacks}.
OWNER = 1

_GATEWAYS = (GATEWAY4, GATEWAY6)


class Place(NamedTuple):
    """
    What an address says by itself.

    @ivar gateway: whether it is the gateway's.
    @ivar unicast: whether it can be one host's.
    @ivar fake: whether it stands for a name, and no host has it.
    @ivar special: the special-purpose network that it is of; L{None} for an address on the
        Internet, and for a fake one.
    """

    gateway: bool
    unicast: bool
    fake: bool
    special: Special | None


@lru_cache(maxsize=4096)
def placeOf(host: str, fakes: bool) -> Place:
    """
    What an address says.

    @param host: a literal address in its canonical text form.
    @param fakes: whether there are fake addresses.
    """
    fake = fakes and isFake(host)
    return Place(host in _GATEWAYS, isUnicast(host), fake, None if fake else specialOf(host))


class Subject:
    """
    A flow, and what is known of it.

    @ivar local: whether it is this machine's own.
    @ivar place: what its destination's address says.
    @ivar owner: L{None} if it is not known.
    @ivar asked: what was asked for, found or not, as bits.
    """

    __slots__ = ("asked", "flow", "local", "owner", "place")

    def __init__(self, flow: Flow, local: bool, place: Place) -> None:
        self.flow = flow
        self.local = local
        self.place = place
        self.owner: Owner | None = None
        self.asked = 0


class Outcome(NamedTuple):
    """
    What the rules say by what is known.

    @ivar decision: the decision if nothing more becomes known.
    @ivar lacks: what could still change where the flow goes, as bits.
    """

    decision: Decision
    lacks: int = 0
