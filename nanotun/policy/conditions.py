"""
The conditions of the user's rules.

The value of a condition is 1 if it holds, 0 if it does not, or else minus what is lacking to
tell, as bits.  Of such values L{both}, L{either} and L{negated} are what Kleene's logic of three
values makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from nanotun.config.flowrules import Conditions, ListFile, PortSpan
from nanotun.config.networks import Network
from nanotun.config.selectors import Selector
from nanotun.config.times import TimeSpan
from nanotun.policy.lists import Lists
from nanotun.policy.names import NameSet
from nanotun.policy.networktable import NetworkTable
from nanotun.policy.subject import NAME, OWNER, SOURCE, UNKNOWABLE, Place, Subject, named, placeOf

#: The day of the week, 0 for Monday, and the minute of the day, by this machine's clock.
Now: TypeAlias = "Callable[[], tuple[int, int]]"

_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


def both(values: Iterable[int]) -> int:
    """Whether all hold.  With L{UNKNOWABLE} in it, it will never be known that they do."""
    lacks = 0
    for value in values:
        if value == 0:
            return 0
        if value < 0:
            lacks |= -value
    return -lacks if lacks else 1


def either(values: Iterable[int]) -> int:
    """Whether any holds.  It lacks L{UNKNOWABLE} only if nothing else can be found out."""
    lacks = 0
    for value in values:
        if value == 1:
            return 1
        if value < 0:
            lacks |= -value
    return -_attainable(lacks)


def negated(value: int) -> int:
    """Whether it does not hold."""
    return -_attainable(-value) if value < 0 else 1 - value


def _attainable(lacks: int) -> int:
    """What is lacking, without what cannot be found out if anything else can."""
    return lacks & ~UNKNOWABLE or lacks


class _Domains:
    """The destination's name."""

    def __init__(self, wants: Conditions, lists: Lists) -> None:
        self._names = NameSet(wants.domains, lists.names)

    def value(self, name: str | None, host: str, place: Place) -> int:
        """See L{Destination.valueOf}."""
        return -NAME if name is None else int(bool(self._names.find(name)))

    def why(self, name: str | None, host: str, place: Place) -> str:
        """Why it has its value."""
        if name is None:
            return "no name is known"
        found = self._names.find(name)
        if not found:
            return f"{name} is none of its domains"
        if name == found.removeprefix("="):
            return f"the name is {name}"
        plain = not found.startswith("~") and "*" not in found and " " not in found
        return f"{name} {'is below' if plain else 'matches'} {found}"


class _Networks:
    """The networks that the destination's address is in."""

    def __init__(self, wants: Conditions, lists: Lists) -> None:
        self._tables = _tables(wants.networks, lists)

    def value(self, name: str | None, host: str, place: Place) -> int:
        """See L{Destination.valueOf}."""
        return -UNKNOWABLE if place.fake else _within(self._tables, place)

    def why(self, name: str | None, host: str, place: Place) -> str:
        """Why it has its value."""
        if place.fake:
            return "no address is known"
        for table in self._tables:
            if found := table.rangeOf(place.number, place.six):
                return f"{host} is in its networks ({found})"
        return f"{host} is in none of its networks"


class _Countries:
    """The country that the destination's address is in."""

    def __init__(self, wants: Conditions, lists: Lists) -> None:
        self._codes = frozenset(wants.countries)
        self._countryOf = lists.countryOf

    def value(self, name: str | None, host: str, place: Place) -> int:
        """See L{Destination.valueOf}."""
        country = "" if place.fake else self._countryOf(host)
        return int(country in self._codes) if country else -UNKNOWABLE

    def why(self, name: str | None, host: str, place: Place) -> str:
        """Why it has its value."""
        if place.fake:
            return "no address is known"
        country = self._countryOf(host)
        return f"{host} is in {country}" if country else "the address's country is not known"


class Destination:
    """
    Where a flow goes: its name, its address, and the country of that.

    @param wants: C{domains}, C{networks} and C{countries} of these.
    """

    def __init__(self, wants: Conditions, lists: Lists) -> None:
        self._parts: list[_Domains | _Networks | _Countries] = []
        if wants.domains:
            self._parts.append(_Domains(wants, lists))
        if wants.networks:
            self._parts.append(_Networks(wants, lists))
        if wants.countries:
            self._parts.append(_Countries(wants, lists))

    def valueOf(self, name: str | None, host: str, place: Place) -> int:
        """
        Whether a destination is meant.

        @param name: in lower case, without a final dot; L{None} if it is not known.
        @param host: its address.
        @param place: what the address says.
        """
        return either(each.value(name, host, place) for each in self._parts)

    def value(self, subject: Subject) -> int:
        """Whether it holds of a flow."""
        return self.valueOf(subject.name, subject.flow.destination.host, subject.place)

    def why(self, subject: Subject) -> str:
        """Why it has its value, as a part of a sentence."""
        end = subject.name, subject.flow.destination.host, subject.place
        values = [(each.value(*end), each) for each in self._parts]
        whole = either(value for value, _ in values)
        if whole == 1:
            return next(each.why(*end) for value, each in values if value == 1)
        return _listed(each.why(*end) for value, each in values if (value < 0) == (whole < 0))


class Processes:
    """Whose flow it is."""

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self._texts = frozenset(map(str, selectors))

    def value(self, subject: Subject) -> int:
        """Whether it holds of a flow."""
        owner = subject.owner
        if owner is None:
            # Nobody knows the programs of another machine, and what was not found stays unknown.
            return -OWNER if subject.local and not subject.asked & OWNER else -UNKNOWABLE
        if not self._texts.isdisjoint(owner.selected):
            return 1
        return 0 if owner.whole else -UNKNOWABLE

    def why(self, subject: Subject) -> str:
        """Why it has its value, as a part of a sentence."""
        owner = subject.owner
        if owner is None:
            whose = "its process" if subject.local else "another machine's process"
            return f"{whose} is not known"
        found = sorted(self._texts & owner.selected)
        if not found and not owner.whole:
            return "its process is not known"
        who = named(owner)
        if found and found[0] in (owner.name, owner.path, who):
            return f"the process is {found[0]}"
        return f"{who} is {found[0] if found else 'none of its processes'}"


class Ports:
    """The destination's port."""

    def __init__(self, spans: Sequence[PortSpan]) -> None:
        self._spans = spans

    def value(self, subject: Subject) -> int:
        """Whether it holds of a flow."""
        protocol, port = subject.flow.protocol, subject.flow.destination.port
        for each, first, last in self._spans:
            if first <= port <= last and (each is None or each is protocol):
                return 1
        return 0

    def why(self, subject: Subject) -> str:
        """Why it has its value, as a part of a sentence."""
        port = f"{subject.flow.protocol.name} {subject.flow.destination.port}"
        return f"the port is {port}" if self.value(subject) else f"{port} is none of its ports"


class SourceHosts:
    """The address of another machine whose flow it is."""

    def __init__(self, networks: Iterable[Network | ListFile], lists: Lists) -> None:
        self._tables = _tables(networks, lists)

    def value(self, subject: Subject) -> int:
        """Whether it holds of a flow."""
        if subject.local:
            return 0
        host = subject.flow.source.host
        return _within(self._tables, placeOf(host, False)) if host else -SOURCE

    def why(self, subject: Subject) -> str:
        """Why it has its value, as a part of a sentence."""
        if subject.local:
            return "it is a flow of this machine itself"
        host = subject.flow.source.host
        return f"{host} is {'one' if self.value(subject) else 'none'} of its sources"


class Times:
    """When the flow begins."""

    def __init__(self, spans: Sequence[TimeSpan], now: Now) -> None:
        self._spans = spans
        self._now = now

    def value(self, subject: Subject) -> int:
        """Whether it holds now, of any flow."""
        day, minute = self._now()
        return int(any(span.includes(day, minute) for span in self._spans))

    def why(self, subject: Subject) -> str:
        """Why it has its value, as a part of a sentence."""
        day, minute = self._now()
        now = f"it is {_DAYS[day]} {minute // 60:02}:{minute % 60:02}"
        return now if self.value(subject) else f"{now}, which is none of its times"


class Never:
    """
    What a rule's C{not} says: not all of some conditions hold.

    @param conditions: those.
    """

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = conditions

    def value(self, subject: Subject) -> int:
        """Whether it holds of a flow."""
        return negated(both(each.value(subject) for each in self._conditions))

    def why(self, subject: Subject) -> str:
        """Why it has its value, as a part of a sentence."""
        reason = because(self._conditions, subject)
        value = self.value(subject)
        if value < 0:
            return reason
        return f"its not {'does not apply' if value else 'applies'} ({reason})"


#: A condition; each has C{value(subject)} and C{why(subject)}.
Condition: TypeAlias = "Destination | Processes | Ports | SourceHosts | Times | Never"


def because(conditions: Sequence[Condition], subject: Subject) -> str:
    """Why all of some conditions hold, one does not, or more has to be known."""
    values = [(each.value(subject), each) for each in conditions]
    whole = both(value for value, _ in values)
    if whole == 0:
        return next(each.why(subject) for value, each in values if value == 0)
    return _listed(each.why(subject) for value, each in values if value < 0 or whole > 0)


def _listed(texts: Iterable[str]) -> str:
    """Parts of a sentence in a row, each once; empty for none."""
    *first, last = dict.fromkeys(texts) or [""]
    return f"{', '.join(first)}, and {last}" if first else last


def otherConditions(wants: Conditions, lists: Lists, now: Now) -> list[Condition]:
    """All conditions but the destination; what costs least comes first."""
    found: list[Condition] = []
    if wants.ports:
        found.append(Ports(wants.ports))
    if wants.processes:
        found.append(Processes(wants.processes))
    if wants.sources:
        found.append(SourceHosts(wants.sources, lists))
    if wants.times:
        found.append(Times(wants.times, now))
    return found


def namesDestination(wants: Conditions) -> bool:
    """Whether any of the conditions is about the destination itself."""
    return bool(wants.domains or wants.networks or wants.countries)


def _tables(networks: Iterable[Network | ListFile], lists: Lists) -> list[NetworkTable]:
    """The networks that are written in a rule, and those of files."""
    given = list(networks)
    tables = [lists.networks[each.path] for each in given if isinstance(each, ListFile)]
    inline = [each for each in given if not isinstance(each, ListFile)]
    return [NetworkTable.of(inline), *tables] if inline else tables


def _within(tables: Iterable[NetworkTable], place: Place) -> int:
    """Whether an address is in any of the networks."""
    number, six = place.number, place.six
    for table in tables:
        if table.has(number, six):
            return 1
    return 0
