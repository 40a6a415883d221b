"""
What the relay does with queries for a name: C{dnsRules}, and names that a rule rejects.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from nanotun.config.dnsrules import DnsAnswer, DnsRule
from nanotun.config.domains import PatternKind
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import upstreamNames
from nanotun.interfaces import DnsServer, IScript
from nanotun.policy.lists import NO_LISTS, Lists
from nanotun.policy.nameindex import NameIndex
from nanotun.policy.namelist import NameList
from nanotun.policy.names import NameSet
from nanotun.policy.ruletable import RuleTable

#: Where a rule sends flows that are refused.
_REFUSING = ("reject", "drop")


class NameVerdict(NamedTuple):
    """
    What the relay does with queries for a name.

    @ivar answer: given at once, whatever the type of the query; L{None} for none.
    @ivar servers: asked instead of those of C{dns}; empty for those.
    @ivar fake: whether the name gets a fake address under fake-ip without being asked for first.
    @ivar rule: the rule that says so, for the user, such as
        C{"dnsRules 2 (/etc/nanotun.yaml, line 14)"}; empty for none.
    @ivar rejected: whether the answer is given because of a rule about flows.
    """

    answer: DnsAnswer | None = None
    servers: tuple[DnsServer, ...] = ()
    fake: bool = False
    rule: str = ""
    rejected: bool = False


#: Stands for all names that no entry is about in particular (RFC 6761, section 6.4).
_ANY = "any.invalid"

_OVERRULED = (
    "dnsRejected does nothing while the script decides about connections, because it may let "
    "through what a rule rejects; have its query function refuse the names, or remove dnsRejected."
)

#: About a name that nothing is said about.
NOTHING = NameVerdict()


class NamePolicy:
    """
    What one configuration says about names.

    Each C{name} is in lower case, ASCII, without a final dot.

    @ivar hasServers: whether any entry of C{dnsRules} has servers of its own.
    @ivar notices: sentences about what is of no effect.
    @param rules: C{dnsRules}.
    @param lists: has every list that they name.
    @param table: the rules about flows; L{None} if there are none.
    @param rejected: the answer for names that a rule refuses flows to; L{None} for none.
    @param anyWay: where a script may send flows to any name, whatever the rules say; empty if
        none decides.
    @param default: where flows go that no rule is about.
    """

    def __init__(
        self,
        rules: Sequence[DnsRule] = (),
        lists: Lists = NO_LISTS,
        table: RuleTable | None = None,
        rejected: DnsAnswer | None = None,
        anyWay: Collection[str] = frozenset(),
        default: str = PROXY,
    ) -> None:
        self.hasServers = any(rule.servers for rule in rules)
        self.notices: tuple[str, ...] = (_OVERRULED,) if anyWay and rejected is not None else ()
        self._said = [_saying(number, rule) for number, rule in enumerate(rules, start=1)]
        self._sets = [NameSet(rule.domains, lists.names) for rule in rules]
        self._index = NameIndex([rule.domains for rule in rules])
        self._table = table
        self._rejected = None if anyWay else rejected
        self._compared = [(rule._replace(where=""), _listsOf(rule, lists)) for rule in rules]
        self._anyWay = frozenset(anyWay)
        self._default = default

    def __bool__(self) -> bool:
        """Whether it says anything about any name."""
        return bool(self._said) or (self._rejected is not None and self._table is not None)

    def of(self, name: str) -> NameVerdict:
        """What is said about a name, by C{dnsRules} and by the rules about flows."""
        said = self._ruled(name)
        if self._rejected is None or said.answer is not None or self._table is None:
            return said
        found = self._table.ofName(name)
        if found is None or found[1].to not in _REFUSING:
            return said
        number, rule = found
        text = _called(f"rule {number}", rule.where)
        return said._replace(answer=self._rejected, rule=text, rejected=True)

    def serversFor(self, name: str) -> tuple[DnsServer, ...]:
        """The servers that C{dnsRules} have for a name; empty for those of C{dns}."""
        return self._ruled(name).servers if self.hasServers else ()

    def ownServersFor(self, name: str) -> tuple[DnsServer, ...]:
        """As L{serversFor}, but not those of an entry that has every other name as well."""
        if not self.hasServers:
            return ()
        said = self._ruled(name)
        return () if said is self._ruled(_ANY) else said.servers

    def waysOf(self, name: str) -> frozenset[str]:
        """
        The names of all upstreams that flows to a name may leave by, for all that is said by the
        rules, the script and C{default}.
        """
        if self._anyWay:
            return self._anyWay
        if self._table is None:
            return frozenset((self._default,))
        return self._table.waysOf(name, self._default)

    def sameServers(self, other: NamePolicy) -> bool:
        """
        Whether each name has the servers that it has by another policy, as far as can be told at
        once: so what was answered before is still good.
        """
        return self._compared == other._compared

    def _ruled(self, name: str) -> NameVerdict:
        """What the first entry of C{dnsRules} says that has a name."""
        for number in self._index.about(name):
            if self._sets[number].find(name):
                return self._said[number]
        return NOTHING


def _saying(number: int, rule: DnsRule) -> NameVerdict:
    text = _called(f"dnsRules {number}", rule.where)
    return NameVerdict(rule.answer, rule.servers, rule.fake, text)


def _listsOf(rule: DnsRule, lists: Lists) -> list[NameList]:
    """The lists that a rule names; each is equal to nothing but itself."""
    return [lists.names[each.value] for each in rule.domains if each.kind is PatternKind.FILE]


def _called(rule: str, where: str) -> str:
    """A rule, for the user."""
    return f"{rule} ({where})" if where else rule


def namePolicy(
    settings: Settings, lists: Lists, table: RuleTable | None, script: IScript | None = None
) -> NamePolicy:
    """
    What some settings say about names.

    @param lists: has every list that they name.
    @param table: their rules; L{None} if there are none.
    @param script: theirs.  If it decides about flows, nobody knows what becomes of those to a
        name, so no rule rejects one.
    """
    decides = script is not None and bool(script.decides)
    return NamePolicy(
        settings.dnsRules,
        lists,
        table,
        settings.dnsRejected,
        upstreamNames(settings) if decides else (),
        settings.default,
    )
