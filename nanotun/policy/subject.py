"""
What is known of a flow that is being decided.  What is not known yet is a value of its own: the
rules say of it whether it could change where the flow goes, and only then is it found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple, TypeAlias

from nanotun.addresses import GATEWAY4, GATEWAY6, Reach, Special, isFake, isUnicast
from nanotun.flow import Decision, Flow, Known, Owner, ScriptAnswer
from nanotun.policy.decisions import nameOf
from nanotun.policy.reserved import specialOf

#: What may be lacking, as bits: the flow's owner, its name, and the script's answer.
OWNER, NAME, SCRIPT = 1, 2, 4

#: Something that cannot be found out, such as the address of a name under fake-ip.
UNKNOWABLE = 8

#: Which machine's flow it is.  That is lacking only where any machine's are meant, and is not found
#: out.
SOURCE = 16

_GATEWAYS = (GATEWAY4, GATEWAY6)


#: What is found out about a flow: its owner, the script's answer, or its name.  L{None} and the
#: empty text if it is not found.
Found: TypeAlias = "Owner | ScriptAnswer | str | None"


class Place(NamedTuple):
    """
    What an address says by itself.

    @ivar ordinary: whether any rule may be about it: it is neither the gateway's nor one that no
        host of a network can have.
    @ivar gateway: whether it is the gateway's.
    @ivar unicast: whether it can be one host's.
    @ivar fake: whether it stands for a name, and no host has it.
    @ivar special: the special-purpose network that it is of; L{None} for an address on the
        Internet, and for a fake one.
    @ivar local: whether it is link-local, private or otherwise reserved.
    @ivar number: the address as a number.
    @ivar six: whether it is an IPv6 address.
    """

    ordinary: bool
    gateway: bool
    unicast: bool
    fake: bool
    special: Special | None
    local: bool
    number: int
    six: bool


@lru_cache(maxsize=4096)
def placeOf(host: str, fakes: bool) -> Place:
    """
    What an address says.

    @param host: a literal address in its canonical text form.
    @param fakes: whether there are fake addresses.
    """
    fake = fakes and isFake(host)
    special = None if fake else specialOf(host)
    gateway, unicast = host in _GATEWAYS, isUnicast(host)
    hostOnly = special is not None and special.reach is Reach.HOST
    return Place(
        ordinary=unicast and not gateway and not hostOnly,
        gateway=gateway,
        unicast=unicast,
        fake=fake,
        special=special,
        local=special is not None and special.reach in (Reach.LINK, Reach.SITE),
        number=int(ip_address(host)),
        six=":" in host,
    )


class Subject:
    """
    A flow, and what is known of it.

    @ivar local: whether it is this machine's own.
    @ivar place: what its destination's address says.
    @ivar names: what its destination may be called, as for L{Known}.
    @ivar whole: likewise.
    @ivar name: the name that it is judged by; L{None} if it is not known.
    @ivar owner: L{None} if it is not known.
    @ivar answer: the script's; L{None} if it has not answered.
    @ivar asked: what was asked for, found or not, as bits.
    """

    __slots__ = ("answer", "asked", "flow", "local", "name", "names", "owner", "place", "whole")

    def __init__(self, flow: Flow, local: bool, place: Place) -> None:
        self.flow = flow
        self.local = local
        self.place = place
        self.names: tuple[str, ...] = ()
        self.whole = True
        self.name: str | None = None
        self.owner: Owner | None = None
        self.answer: ScriptAnswer | None = None
        self.asked = 0

    def call(self, known: Known) -> None:
        """Take down what is known of its destination's names."""
        self.names, self.whole = known
        self.name = self.names[0] if self.whole and len(self.names) == 1 else None

    def learn(self, found: Found) -> None:
        """Take down what was found out."""
        match found:
            case Owner():
                self.owner = found
            case ScriptAnswer():
                self.answer = found
            case str() if found:
                self.call(Known((found,)))


#: What the rules say by what is known: the decision if nothing more becomes known, and what could
#: still change where the flow goes, as bits.
Outcome: TypeAlias = "tuple[Decision, int]"


class Doubt(NamedTuple):
    """
    A rule that would decide, if only more were known.

    @ivar to: where it would send the flow, in one of these ways.
    @ivar lacks: what is not known, as bits.
    """

    to: frozenset[str]
    lacks: int


def lacking(doubts: Sequence[Doubt], decision: Decision) -> int:
    """
    What could change where a flow goes.  It is nothing if all rules in doubt would send it there
    anyway.

    @param doubts: those about rules that come before the one that decides.
    """
    if not doubts:
        return 0
    lacks = 0
    there = frozenset((nameOf(decision),))
    for doubt in doubts:
        lacks |= doubt.lacks
        if doubt.to != there:
            there = frozenset()
    return 0 if there else lacks


def named(owner: Owner) -> str:
    """An owner's name, for a sentence."""
    if owner.name:
        return f"{owner.name} (pid {owner.pid})" if owner.pid else owner.name
    if owner.pid:
        return f"pid {owner.pid}"
    # A flow that somebody has described may have no more than a control group.
    return f"cgroup:{owner.cgroup}" if owner.uid < 0 and owner.cgroup else f"uid {owner.uid}"
