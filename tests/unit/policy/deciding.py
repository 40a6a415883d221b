"""Rules of the user's, and flows for them."""

from __future__ import annotations

from typing import Any

from nanotun.config.flowrules import FlowRule
from nanotun.config.flowrules import rules as checkedRules
from nanotun.flow import Endpoint, Flow, Known, Owner, Protocol
from nanotun.policy.lists import NO_LISTS, Lists
from nanotun.policy.ruletable import RuleTable
from nanotun.policy.subject import Subject, placeOf

ME, NEIGHBOUR = "198.18.0.2", "192.168.1.77"

#: A Wednesday, at noon.
NOON = (2, 12 * 60)


def flowRules(*given: dict[str, Any]) -> tuple[FlowRule, ...]:
    """Rules as from a file, where the first is on line 1, the second on line 2 and so on."""
    found = checkedRules(list(given))
    return tuple(
        rule._replace(where=f"FILE, line {line}") for line, rule in enumerate(found, start=1)
    )


def ruleTable(*given: dict[str, Any], lists: Lists = NO_LISTS, fakes: bool = True) -> RuleTable:
    """A table of such rules, at noon on a Wednesday."""
    return RuleTable(flowRules(*given), lists, lambda: NOON, fakes)


def flow(destination: str, source: str = ME) -> Flow:
    """A flow from C{"tcp 192.0.2.1:443"}."""
    protocol, _, place = destination.partition(" ")
    host, _, port = place.rpartition(":")
    ends = Endpoint(source, 40000), Endpoint(host.strip("[]"), int(port))
    return Flow(1, Protocol[protocol.upper()], *ends)


def subject(
    destination: str,
    *names: str,
    whole: bool = True,
    owner: Owner | None = None,
    source: str = ME,
) -> Subject:
    """
    A flow of which is known what is given here.

    @param destination: C{"tcp 192.0.2.1:443"}.
    """
    asked = flow(destination, source)
    found = Subject(asked, source == ME, placeOf(asked.destination.host, fakes=True))
    found.call(Known(names, whole))
    found.owner = owner
    return found
