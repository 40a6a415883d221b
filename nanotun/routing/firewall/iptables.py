"""
The rules of iptables and ip6tables as a change to the machine, where there is no nft.

After a crash they stay until the next start, or C{nanotun recover}, undoes the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.config.selectors import selectors
from nanotun.errors import RoutingError
from nanotun.routing.firewall import iptablestext as text
from nanotun.routing.firewall.cgroups import Cgroups
from nanotun.routing.firewall.chosen import ChosenGroups
from nanotun.routing.firewall.rules import (
    ALONE,
    CHAIN_PREFIX,
    EVERYBODY,
    NO_GROUPS,
    Chosen,
    Exclusions,
    FirewallRules,
    Neighbourhood,
    keyIn,
    keyOf,
)
from nanotun.routing.firewall.tools import ToolError, Tools, firstLine
from nanotun.routing.interfaces import IFollowingChange

#: Seconds to wait for another program that is changing rules.
LOCK_LIMIT = "5"

_NO_GROUPS = NO_GROUPS.format("iptables -m cgroup", "mounted")

#: The commands' names by version of IP, and their variants, appended after a hyphen.
NAMES = {4: "iptables", 6: "ip6tables"}
VARIANTS = ("", "legacy", "nft")


class IptablesTool:
    """
    The commands of one variant.

    @param variant: C{"legacy"}, C{"nft"}, or empty for the commands with the plain names.
    @param prefix: of our chains' names.
    """

    def __init__(self, tools: Tools, variant: str, prefix: str = CHAIN_PREFIX) -> None:
        self._tools = tools
        self._variant = variant
        self._prefix = prefix

    def tables(self, version: int) -> dict[str, str]:
        """
        The tables in force; see L{text.tablesOf}.

        @param version: of IP: 4 or 6.
        @raise ToolError: they cannot be listed.
        """
        name = f"{self.name(version)}-save"
        ran = self._tools.run([self._path(name)])
        if ran.status:
            raise ToolError(f"{name} does not work: {firstLine(ran.error)}")
        return text.tablesOf(ran.output, self._prefix)

    def restore(self, version: int, script: str) -> str:
        """
        Run a script.

        @return: the error; empty if there was none.
        @raise ToolError: the command is not installed.
        """
        name = f"{self.name(version)}-restore"
        ran = self._tools.run([self._path(name), "-w", LOCK_LIMIT, "--noflush"], script)
        return f"{name}: {firstLine(ran.error)}" if ran.status else ""

    def accepts(self, version: int, script: str) -> bool:
        """
        Whether a script would run; nothing is changed.

        @raise ToolError: the command is not installed.
        """
        argv = [self._path(f"{self.name(version)}-restore"), "--test", "--noflush"]
        return not self._tools.run(argv, script).status

    def name(self, version: int) -> str:
        """The command's name, to which C{-save} and C{-restore} may be appended."""
        name = NAMES[version]
        special = f"{name}-{self._variant}"
        return special if self._variant and self._tools.path(special) else name

    def _path(self, name: str) -> str:
        path = self._tools.path(name)
        if not path:
            raise ToolError(f"{name} is not installed; install iptables.")
        return path


@implementer(IFollowingChange)
class IptablesChains:
    """
    See L{nanotun.routing.firewall.rules}.

    L{holds} and L{undo} may be called in any thread, one at a time.

    @param variant: C{"legacy"}, C{"nft"}, or empty for the commands with the plain names.
    @param versions: of IP: 4, and 6 if the kernel has it.
    @param unconditional: whether L{undo} removes the rules no matter which change made them.
    @param chosen: what alone is to enter the tunnel.
    """

    kind = "iptables"

    _log = Logger()

    def __init__(
        self,
        tools: Tools,
        device: str,
        exclusions: Exclusions,
        variant: str,
        versions: Sequence[int],
        cgroups: Cgroups,
        neighbourhood: Neighbourhood = ALONE,
        unconditional: bool = False,
        chosen: Chosen = EVERYBODY,
    ) -> None:
        self.outdated = False
        self._tools = tools
        self._tool = IptablesTool(tools, variant)
        self._device = device
        self._exclusions = exclusions
        self._variant = variant
        self._versions = tuple(versions)
        self._cgroups = cgroups
        self._neighbourhood = neighbourhood
        self._unconditional = unconditional
        self._chosen = chosen
        self._groups = ChosenGroups(cgroups, chosen)
        self._withCgroups = True
        self._withBehind = True
        self._listing: list[str] = []
        self._seen = (0, "")

    def describe(self) -> str:
        """See L{IChange.describe}."""
        usual = self._cgroups.usual()
        rules = self._base()._replace(cgroups=usual, onlyGroups=self._groups.usual())
        empty = dict.fromkeys(text.TABLES, "")
        return "\n".join(
            f"{self._tool.name(version)}-restore --noflush <<'END'\n"
            f"{text.loading(rules, version, empty)}END"
            for version in self._versions
        )

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        rules = FirewallRules(self._device)
        listed = text.loading(rules, 4, dict.fromkeys(text.TABLES, ""))
        undo = text.removing(text.tablesOf(listed.replace("-I ", "-A ")))
        return "\n".join(
            f"{self._tool.name(version)}-restore --noflush <<'END'\n{undo}END"
            for version in self._versions
        )

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return {
            "device": self._device,
            "variant": self._variant,
            "versions": list(self._versions),
            **self._exclusions.record(),
            **self._neighbourhood.record(),
            **self._chosen.record(),
        }

    def apply(self) -> None:
        """
        See L{IChange.apply}.  Replaces all rules of ours, so that it may be called again;
        if that fails, as many of the old rules as possible are kept.
        """
        rules = self._rules(search=True)
        try:
            if self._groups.hidden(""):
                raise RoutingError(_NO_GROUPS)
            loaded = self._loadMost(rules)
            if loaded.behind != rules.behind:
                self._withBehind = False
                self._log.warn(
                    "The kernel's firewall cannot tell this machine's own queries from others' "
                    "(iptables -m owner), so those to other local networks are redirected, too."
                )
            # A group may have been removed before the rules were loaded.
            without = loaded.cgroups != rules.cgroups
            without = without and rules.cgroups == self._rules(search=False).cgroups
            if self._withCgroups and (without or self._cgroups.hidden("")):
                self._withCgroups = False
                self._log.warn(
                    "The kernel's firewall cannot tell control groups apart, so nanotun looks up "
                    "whose each flow is."
                )
            self._listing = self._ours(self._present())
            self.outdated = False
            self._groups.entered(rules.onlyGroups)
        except RoutingError as error:
            if not self._listing:
                self._removeQuietly()
            if str(error) == _NO_GROUPS:
                raise
            raise RoutingError(f"DNS cannot be redirected: {error}") from None

    def undo(self) -> None:
        """
        See L{IChange.undo}.  If another change of ours has replaced this one, there is
        nothing to undo.
        """
        self._listing = []
        for version in self._versions:
            try:
                tables = self._tool.tables(version)
            except ToolError:
                if self._unconditional:
                    # A variant that does not work here has no rules either.
                    continue
                raise
            # The switch table's chains are signed as well.
            key = keyIn("".join(self._ours([tables])))
            if not (self._unconditional or key in (None, self._base().key)):
                continue
            script = text.removing(tables)
            refused = self._tool.restore(version, script) if script else ""
            if refused:
                raise RoutingError(
                    f"The rules of {self._tool.name(version)} cannot be removed: {refused}"
                )

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        rules = self._rules(search=False)
        # The rules of legacy iptables have no generation number.
        number = self._tools.generation() if self._variant == "nft" else 0
        now = number, text.signatureOf(rules)
        if number and now == self._seen:
            return True
        try:
            present = self._present()
        except ToolError:
            # Loading them again would fail as well, and they may well be in force.
            return True
        same = self._listing in ([], self._ours(present))
        whole = all(text.complete(tables, rules) for tables in present)
        self.outdated = bool(self._listing) and same and not whole
        if not (whole and same):
            return False
        self._seen = now
        return True

    def _base(self) -> FirewallRules:
        exclusions, neighbourhood = self._exclusions, self._neighbourhood
        key = keyOf(self._chosen, self._device, self._variant, exclusions, neighbourhood)
        return FirewallRules(
            self._device,
            exclusions.uids,
            (),
            key,
            exclusions.networks,
            *neighbourhood,
            marks=exclusions.marks,
            only=self._chosen != EVERYBODY,
            onlyUids=self._chosen.uids,
        )

    def _rules(self, search: bool) -> FirewallRules:
        rules = self._base()._replace(onlyGroups=self._groups.existing())
        if not self._withBehind:
            rules = rules._replace(behind=())
        if not self._withCgroups:
            return rules
        return rules._replace(cgroups=self._cgroups.existing(search))

    def _loadMost(self, rules: FirewallRules) -> FirewallRules:
        """
        Load as many of the rules as the kernel knows; returns them.

        @raise RoutingError: it takes none.
        """
        attempts = [rules]
        if not self._listing:
            attempts += [rules._replace(cgroups=()), rules._replace(behind=())]
            attempts.append(rules._replace(cgroups=(), behind=()))
        refused = ""
        for attempt in dict.fromkeys(attempts):
            refused = self._load(attempt)
            if not refused:
                return attempt
        if rules.onlyGroups and rules == self._rules(search=False):
            ungrouped = rules._replace(cgroups=(), onlyGroups=(), behind=())
            if all(self._tool.accepts(*each) for each in self._scripts(ungrouped)):
                raise RoutingError(_NO_GROUPS)
        raise RoutingError(refused)

    def _load(self, rules: FirewallRules) -> str:
        """Load the rules; returns an error, or an empty string."""
        for version, script in self._scripts(rules):
            refused = self._tool.restore(version, script)
            if refused:
                return refused
        return ""

    def _scripts(self, rules: FirewallRules) -> Iterator[tuple[int, str]]:
        for version in self._versions:
            yield version, text.loading(rules, version, self._tool.tables(version))

    def _removeQuietly(self) -> None:
        try:
            self.undo()
        except RoutingError as error:
            self._log.error("{error}", error=str(error))

    def _present(self) -> list[dict[str, str]]:
        return [self._tool.tables(version) for version in self._versions]

    def _ours(self, present: list[dict[str, str]]) -> list[str]:
        return [line for tables in present for each in tables.values() for line in text.ours(each)]


def chainsFromRecord(tools: Tools, hierarchy: str, record: dict[str, Any]) -> IptablesChains:
    """
    Make a change from its record; see L{IChange.record}.

    @param hierarchy: where cgroup version 2 is mounted.
    @raise ValueError, TypeError, KeyError: the record is invalid.
    """
    exclusions = Exclusions.fromRecord(record)
    variant = str(record["variant"])
    versions = tuple(map(int, record["versions"]))
    if variant not in VARIANTS or not set(versions) <= set(NAMES):
        raise ValueError(record)
    cgroups = Cgroups(selectors(list(exclusions.selectors)), hierarchy)
    device, neighbourhood = str(record["device"]), Neighbourhood.fromRecord(record)
    chosen = Chosen.fromRecord(record)
    return IptablesChains(
        tools, device, exclusions, variant, versions, cgroups, neighbourhood, chosen=chosen
    )


def variantOf(tools: Tools) -> str:
    """
    The variant of the iptables with the plain name: C{"legacy"}, C{"nft"}, or empty if it
    does not say (before 1.8, when there was only one).

    @raise RoutingError: iptables is not installed.
    """
    path = tools.path("iptables")
    if not path:
        raise RoutingError(
            "DNS cannot be redirected, as neither nft nor iptables works here; install nftables."
        )
    said = tools.run([path, "--version"]).output
    return "legacy" if "legacy" in said else "nft" if "nf_tables" in said else ""
