"""
The user's rules, in their order: which of them decides about a flow.

Rules that name their destinations by name only are found by an index, and what is known of a
destination is kept, so that a thousand rules cost no more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from nanotun.config.domains import Pattern
from nanotun.config.flowrules import NONE, FlowRule
from nanotun.flow import Decision
from nanotun.policy.conditions import (
    Condition,
    Destination,
    Never,
    Now,
    because,
    both,
    namesDestination,
    otherConditions,
)
from nanotun.policy.decisions import decisionTo
from nanotun.policy.lists import Lists
from nanotun.policy.nameindex import NameIndex
from nanotun.policy.subject import UNKNOWABLE, Doubt, Place, Subject, placeOf

#: Destinations of which it is known which rules are about them: as many as a busy machine has in
#: a few minutes.
DESTINATIONS = 4096


class AskedRule(NamedTuple):
    """
    One rule that was asked, for an explanation.

    @ivar rule: such as C{"#3"}.
    @ivar where: where it was written.
    @ivar to: where it sends flows.
    @ivar value: 1 if it holds, 0 if not, else minus what is not known, as bits.
    @ivar why: the reason, as the end of a sentence.
    """

    rule: str
    where: str
    to: str
    value: int
    why: str


class _Rule(NamedTuple):
    """
    A rule, ready to be asked.

    @ivar destination: L{None} if it names none.
    @ivar conditions: all others.
    @ivar to: where it sends flows, as the only element.
    """

    rule: FlowRule
    destination: Destination | None
    conditions: tuple[Condition, ...]
    to: frozenset[str]
    decision: Decision

    def valueOf(self, name: str | None, host: str, place: Place, local: bool) -> int:
        """
        Whether it is about a destination.

        @param local: whether that is local or reserved.
        """
        if self.destination is not None:
            return self.destination.valueOf(name, host, place)
        return int(self.rule.lan or not local)


class _Candidate(NamedTuple):
    """
    A rule that may be about a destination.

    @ivar doubt: where it sends flows, and what has to be known to tell whether it is about the
        destination.
    @ivar conditions: what else it asks for.
    @ivar decision: what it decides; L{None} for several rules that lack the same and ask for
        nothing else.
    """

    doubt: Doubt
    conditions: tuple[Condition, ...] = ()
    decision: Decision | None = None


class RuleTable:
    """
    The rules of one configuration.

    @ivar usesNames: whether any of them is about names.
    @param rules: in their order.
    @param lists: has every list that the rules name.
    @param now: what times are compared with.
    @param fakes: whether there are fake addresses.
    """

    def __init__(
        self, rules: Sequence[FlowRule], lists: Lists, now: Now, fakes: bool = False
    ) -> None:
        self._rules = [
            _made(number, rule, lists, now) for number, rule in enumerate(rules, start=1)
        ]
        self._fakes = fakes
        self.usesNames = any(rule.wants.domains or rule.never.domains for rule in rules)
        self._index = NameIndex([_indexed(rule) for rule in rules])
        self._byAddress = any(rule.wants.networks or rule.wants.countries for rule in rules)
        self._candidates = lru_cache(maxsize=DESTINATIONS)(self._find)

    def __len__(self) -> int:
        return len(self._rules)

    def decide(self, subject: Subject, doubts: list[Doubt]) -> Decision | None:
        """
        Find the first rule that holds.

        @param doubts: gets what could hold before that one, if more were known.
        @return: L{None} if no rule is known to hold.
        """
        host = subject.flow.destination.host if self._byAddress else ""
        for doubt, conditions, decision in self._candidates(
            subject.name, host, subject.place.local
        ):
            lacks = doubt.lacks
            for condition in conditions:
                value = condition.value(subject)
                if value == 0:
                    break
                if value < 0:
                    lacks |= -value
            else:
                if not lacks:
                    return decision
                if not lacks & UNKNOWABLE:
                    doubts.append(doubt if lacks == doubt.lacks else Doubt(doubt.to, lacks))
        return None

    def _find(self, name: str | None, host: str, local: bool) -> tuple[_Candidate, ...]:
        """
        The rules that may be about a destination, in their order.

        @param host: its address; empty where no rule looks at it.
        @param local: see L{_Rule.valueOf}.
        """
        place = placeOf(host, self._fakes) if host else _UNKNOWN
        found = []
        for rule in self._about(name):
            value = rule.valueOf(name, host, place, local)
            if value > 0 or (value < 0 and not -value & UNKNOWABLE):
                doubt = Doubt(rule.to, 0 if value > 0 else -value)
                found.append(_Candidate(doubt, rule.conditions, rule.decision))
        return tuple(found if len(found) < 2 else _runs(found))

    def _about(self, name: str | None) -> list[_Rule]:
        """The rules that the index does not exclude."""
        if name is None:
            return self._rules
        return [self._rules[number] for number in self._index.about(name)]

    def ofName(self, name: str) -> tuple[int, FlowRule] | None:
        """
        The rule that decides about all flows to a name.

        @return: the first rule that holds by the name alone, after its number, from 1 on; L{None}
            if there is none, or if one before it could hold.
        """
        for number in self._index.about(name):
            rule = self._rules[number]
            if rule.destination is None:
                return None
            value = rule.destination.valueOf(name, "", _UNKNOWN)
            if value:
                decides = value == 1 and not rule.conditions
                return (number + 1, rule.rule) if decides else None
        return None

    def waysOf(self, name: str, default: str) -> frozenset[str]:
        """
        Everywhere that flows to a name may go if its address says nothing, as under fake-ip.

        @param default: where they go if no rule holds.
        @return: names of upstreams.
        """
        found = set()
        for rule in self._about(name):
            value = 1 if rule.destination is None else rule.destination.valueOf(name, "", _UNKNOWN)
            if value < 0 and -value & UNKNOWABLE:
                continue
            if value:
                found.add(rule.rule.to)
            if value > 0 and not rule.conditions:
                return frozenset(found)
        return frozenset({*found, default})

    def trace(self, subject: Subject) -> list[AskedRule]:
        """Ask one rule after the other, up to the first that holds; slow, for an explanation."""
        steps = []
        for each in self._rules:
            rule, conditions = each.rule, list(each.conditions)
            if each.destination is not None:
                conditions.insert(0, each.destination)
            if each.destination is None and subject.place.local and not rule.lan:
                value, why = (
                    0,
                    f"{subject.flow.destination.host} is local, and lan: true is not set",
                )
            else:
                value = both(condition.value(subject) for condition in conditions)
                why = because(conditions, subject) or "it has no conditions"
            steps.append(AskedRule(each.decision.rule, rule.where, rule.to, value, why))
            if value == 1:
                break
        return steps


def usesOwners(rules: Iterable[FlowRule]) -> bool:
    """Whether any rule is about processes."""
    return any(rule.wants.processes or rule.never.processes for rule in rules)


#: An address that is not known.
_UNKNOWN = placeOf("198.19.0.1", fakes=True)


def _indexed(rule: FlowRule) -> tuple[Pattern, ...] | None:
    """The names that a rule is about; L{None} if it may be about any."""
    wants = rule.wants
    return None if wants.networks or wants.countries else wants.domains or None


def _made(number: int, rule: FlowRule, lists: Lists, now: Now) -> _Rule:
    """Make a rule ready."""
    wants, never = rule.wants, rule.never
    conditions = otherConditions(wants, lists, now)
    if never != NONE:
        excluded = otherConditions(never, lists, now)
        if namesDestination(never):
            excluded.append(Destination(never, lists))
        conditions.append(Never(excluded))
    where = f" ({rule.where})" if rule.where else ""
    decision = decisionTo(rule.to, f"#{number}", f"rule {number}{where} says so")
    destination = Destination(wants, lists) if namesDestination(wants) else None
    return _Rule(rule, destination, tuple(conditions), frozenset((rule.to,)), decision)


def _runs(found: Sequence[_Candidate]) -> Iterator[_Candidate]:
    """
    Make one of candidates that follow each other, lack the same, and ask for nothing else: if
    the name is not known, there may be a thousand.
    """
    for (lacks, alone), run in groupby(found, lambda each: (each.doubt.lacks, not each.conditions)):
        same = list(run)
        if lacks and alone and len(same) > 1:
            yield _Candidate(Doubt(frozenset().union(*(each.doubt.to for each in same)), lacks))
        else:
            yield from same
