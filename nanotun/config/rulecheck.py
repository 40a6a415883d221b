"""
What is wrong with rules that are good one by one.

Pure: settings in; an error, or sentences, out.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from nanotun.config.domains import Pattern, PatternKind
from nanotun.config.flowrules import NONE, Conditions, FlowRule, ListFile, PortSpan
from nanotun.config.networks import Network
from nanotun.config.upstreamentries import noUpstream
from nanotun.config.upstreams import upstreamNames
from nanotun.errors import EntryError

if TYPE_CHECKING:
    from nanotun.config.keys import Settings

SENTENCE_LIMIT = 8  #: Sentences; whoever has more such rules finds the others after these.


def checkRules(settings: Settings) -> None:
    """
    Check that there is all that rules name.

    @raise EntryError: an upstream is missing, or the file of countries.
    """
    names = upstreamNames(settings)
    for number, rule in enumerate(settings.rules):
        if rule.to not in names:
            raise EntryError(noUpstream(names, rule.to), number, "to", key="rules")
        for conditions, path in ((rule.wants, ()), (rule.never, ("not",))):
            if conditions.countries and not settings.countryFile:
                raise EntryError(
                    "needs countryFile, the path of a MaxMind DB such as "
                    "/var/lib/GeoIP/GeoLite2-Country.mmdb; set it, or remove countries",
                    *(number, *path, "countries"),
                    key="rules",
                )
    if settings.default not in names:
        raise EntryError(noUpstream(names, settings.default), key="default")


def neverMatch(settings: Settings, inRun: bool = False) -> tuple[str, ...]:
    """
    Sentences about rules that can never match, or not where one would expect it.

    Only what is certain is said: a rule that is not named may still never match.

    @param inRun: whether these are the settings of C{nanotun run}.
    """
    return _some(_unmatched(settings, inRun))


def _unmatched(settings: Settings, inRun: bool) -> Iterator[str]:
    earlier = _Earlier()
    for number, rule in enumerate(settings.rules):
        why = _why(rule, inRun, settings.dnsMode == "fake-ip")
        before = "" if why else earlier.of(rule, "rule")
        earlier.add(number, rule)
        if before:
            why = (
                f"can never match, because {before} takes all that it would; move it up, or "
                "remove it"
            )
        if why:
            yield f"Rule {number + 1} ({rule.where}) {why}."


def neverUsed(settings: Settings) -> tuple[str, ...]:
    """
    Sentences about entries of C{dnsRules} that no name gets to, as far as that is certain.
    """
    return _some(_unused(settings))


def _unused(settings: Settings) -> Iterator[str]:
    earlier = _Earlier()
    for number, entry in enumerate(settings.dnsRules):
        rule = FlowRule("", Conditions(entry.domains), where=entry.where)
        before = earlier.of(rule, "dnsRules")
        earlier.add(number, rule)
        if before:
            yield (
                f"dnsRules {number + 1} ({rule.where}) is never used, because {before} has all of "
                "its names; move it up, or remove it."
            )


def _some(sentences: Iterable[str]) -> tuple[str, ...]:
    """Not more sentences than anybody reads at once, and how many are left."""
    found = list(sentences)
    more = len(found) - SENTENCE_LIMIT
    if more > 0:
        rest = "is one more such rule" if more == 1 else f"are {more} more"
        found[SENTENCE_LIMIT:] = [f"There {rest}."]
    return tuple(found)


def _why(rule: FlowRule, inRun: bool, fakes: bool) -> str:
    """What is wrong with a rule by itself; empty if nothing is."""
    wants, never = rule.wants, rule.never
    if inRun and (wants.processes or _onlyKey(never) == "processes"):
        return "never matches in 'nanotun run', where no process is looked for"
    if inRun and wants.sources:
        return "never matches in 'nanotun run', where no flow is another machine's"
    if wants.sources and (wants.processes or _onlyKey(never) == "processes"):
        return (
            "can never match, because only flows of other machines have sources, and those have "
            "no processes; make it two rules"
        )
    key = _onlyKey(never)
    if key and _contradicts(wants, never, key):
        return (
            "can never match, because its not excludes all that it asks for; remove one of the two"
        )
    if fakes and (wants.networks or wants.countries) and not wants.domains:
        return (
            "is about addresses, and with dnsMode: fake-ip a flow to a name has none, so such "
            "flows pass it by; add domains, or put the names into fakeIpExclude"
        )
    return ""


def _onlyKey(conditions: Conditions) -> str:
    """The name of the only condition that is there; empty if there are none or several."""
    given = [name for name in Conditions._fields if getattr(conditions, name)]
    return given[0] if len(given) == 1 else ""


_DESTINATION = ("domains", "networks", "countries")


def _contradicts(wants: Conditions, never: Conditions, key: str) -> bool:
    # One of several kinds of destination is enough, so the others may still hold.
    others = [each for each in _DESTINATION if each != key] if key in _DESTINATION else []
    return (
        bool(getattr(wants, key))
        and not any(getattr(wants, each) for each in others)
        and _Covering(never).takes(key, wants)
    )


class _Covering:
    """
    Compares conditions with those of other rules.

    @param conditions: the ones that may take all that the others ask for.
    """

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._below = {each.value for each in conditions.domains if each.kind is PatternKind.BELOW}
        self._patterns = {each[:2] for each in conditions.domains}

    def takesAll(self, others: Conditions) -> bool:
        """Whether these conditions, but for the destination, hold wherever the others do."""
        return all(self.takes(key, others) for key in ("ports", "processes", "sources", "times"))

    def takes(self, key: str, others: Conditions) -> bool:
        """Whether one condition holds wherever the others' one of the same name does."""
        mine, theirs = getattr(self._conditions, key), getattr(others, key)
        if not mine:
            return True
        if not theirs:
            return False
        return self._inside(key, mine, theirs)

    def takesDestination(self, others: Conditions) -> bool:
        """
        Whether these conditions' destination has all of the others'.  Each must have one.
        """
        return all(
            self._inside(key, getattr(self._conditions, key), getattr(others, key))
            for key in _DESTINATION
        )

    def _inside(self, key: str, mine: Sequence[Any], theirs: Sequence[Any]) -> bool:
        if key == "domains":
            return all(self._takesNames(each) for each in theirs)
        if key in ("networks", "sources"):
            return _networksInside(theirs, mine)
        if key == "ports":
            return all(any(_spanInside(each, one) for one in mine) for each in theirs)
        return set(mine) >= set(theirs)

    def _takesNames(self, other: Pattern) -> bool:
        if other[:2] in self._patterns or (PatternKind.LIKE, "*") in self._patterns:
            return True
        if other.kind in (PatternKind.BELOW, PatternKind.EXACTLY):
            if (PatternKind.EXACTLY, other.value) in self._patterns:
                return other.kind is PatternKind.EXACTLY
            return any(each in self._below for each in parents(other.value))
        if other.kind is PatternKind.LIKE:
            # What follows the last star is the end of each name, from its first dot on whole.
            tail = other.value.rpartition("*")[2].partition(".")[2]
            return any(each in self._below for each in parents(tail))
        return False


def parents(name: str) -> Iterator[str]:
    """A name, and all names that it is below."""
    while name:
        yield name
        name = name.partition(".")[2]


def _spanInside(one: PortSpan, other: PortSpan) -> bool:
    return (
        other.protocol in (None, one.protocol)
        and other.first <= one.first
        and one.last <= other.last
    )


def _networksInside(
    theirs: Iterable[Network | ListFile], mine: Collection[Network | ListFile]
) -> bool:
    known = set(mine)
    lengths = {each.prefixlen for each in mine if not isinstance(each, ListFile)}
    return all(
        each in known
        or (
            not isinstance(each, ListFile)
            and any(
                each.supernet(new_prefix=length) in known
                for length in lengths
                if length < each.prefixlen
            )
        )
        for each in theirs
    )


class _Earlier:
    """
    The rules before one, found by what they may take away from it.

    Rules without C{not} only: another one may leave something over.
    """

    def __init__(self) -> None:
        self._rules: dict[int, tuple[FlowRule, _Covering]] = {}
        self._numbers: dict[Hashable, list[int]] = {}
        #: The lengths of the prefixes of all networks, by version.
        self._lengths: dict[int, set[int]] = {4: set(), 6: set()}

    def add(self, number: int, rule: FlowRule) -> None:
        """Add the next rule."""
        if rule.never != NONE:
            return
        self._rules[number] = rule, _Covering(rule.wants)
        wants = rule.wants
        keys: Iterable[Hashable] = wants.processes
        if not keys:
            keys = (*map(_keyOf, wants.domains), *wants.networks, *wants.countries)
        for each in wants.networks:
            if not isinstance(each, ListFile):
                self._lengths[each.version].add(each.prefixlen)
        for key in keys or (None,):
            self._numbers.setdefault(key, []).append(number)

    def of(self, rule: FlowRule, called: str) -> str:
        """
        The rule among these that takes all that a later one would.

        @param called: what comes before its number.
        @return: words for it; empty if there is none.
        """
        found = [self._numbers.get(key, ()) for key in self._keys(rule.wants)]
        for number in sorted({number for numbers in found for number in numbers}):
            before, covering = self._rules[number]
            if _takes(before, covering, rule):
                line = before.where.rpartition(", line ")[2] if ", line " in before.where else ""
                return f"{called} {number + 1}{f' (line {line})' if line else ''}"
        return ""

    def _keys(self, wants: Conditions) -> Iterator[Hashable]:
        """
        The keys of all rules that may take what these conditions ask for: they have to take the
        first value of each condition that they have.
        """
        yield None
        yield from wants.processes[:1]
        if wants.domains:
            first = wants.domains[0]
            yield _keyOf(first)
            yield PatternKind.LIKE, "*"
            yield from parents(first.value.rpartition("*")[2])
        elif wants.networks:
            network = wants.networks[0]
            yield network
            if not isinstance(network, ListFile):
                for length in self._lengths[network.version]:
                    if length < network.prefixlen:
                        yield network.supernet(new_prefix=length)
        else:
            yield from wants.countries[:1]


def _keyOf(pattern: Pattern) -> Hashable:
    if pattern.kind in (PatternKind.BELOW, PatternKind.EXACTLY):
        return pattern.value
    return pattern[:2]


def _takes(before: FlowRule, covering: _Covering, rule: FlowRule) -> bool:
    """Whether an earlier rule, which has no C{not}, holds wherever a later one does."""
    if _hasDestination(before.wants):
        if not _hasDestination(rule.wants) or not covering.takesDestination(rule.wants):
            return False
    elif not before.lan and (rule.lan or _hasDestination(rule.wants)):
        return False  # It leaves out local and reserved destinations.
    return covering.takesAll(rule.wants)


def _hasDestination(conditions: Conditions) -> bool:
    return any(getattr(conditions, each) for each in _DESTINATION)
