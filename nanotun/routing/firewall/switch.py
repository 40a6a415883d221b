"""
The switch table as a change to the machine: with nft, or with iptables where there is no
nft.

It has no owner and needs neither the routing rules nor the other table, and it outlives the
daemon.  Loading it replaces the one in force in one transaction, so that there is no gap
when the exceptions change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from zope.interface import implementer

from nanotun.errors import RoutingError
from nanotun.routing.firewall import iptablestext as text
from nanotun.routing.firewall.iptables import NAMES, VARIANTS, IptablesTool
from nanotun.routing.firewall.nft import NftLoader
from nanotun.routing.firewall.rules import signatureIn
from nanotun.routing.firewall.switchtext import JUMPS, PREFIX, SWITCH
from nanotun.routing.firewall.tools import ToolError, Tools
from nanotun.routing.interfaces import IChange, ISwitchChange


@implementer(ISwitchChange)
class SwitchTable:
    """
    The switch table in nft.

    L{holds} and L{undo} may be called in any thread, one at a time.

    @param loader: of the table L{SWITCH}.
    @param script: as from L{nanotun.routing.firewall.switchtext.nftText}; empty for the
        table in force, to undo, whichever change has made it.
    """

    kind = "switch-nft"

    def __init__(self, loader: NftLoader, script: str) -> None:
        self._loader = loader
        self._script = script
        self._listing = ""
        self._seen = 0

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return f"nft -f - <<'END'\n{self._script}END"

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return f"nft delete table inet {SWITCH}"

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return {"script": self._script}

    def apply(self) -> None:
        """See L{IChange.apply}.  If it fails, the table in force is kept."""
        refused = self._loader.load(self._script, owner=False)
        if refused:
            raise RoutingError(f"nft cannot load the table inet {SWITCH}: {refused}")
        self._listing = self._loader.list()
        self._seen = 0

    def undo(self) -> None:
        """
        See L{IChange.undo}.  If another change of ours has replaced this one, there is
        nothing to undo.
        """
        self._listing, self._seen = "", 0
        if isOthers(self._loader.list(), self._script):
            return
        error = self._loader.delete()
        if error:
            raise RoutingError(
                f"The table inet {SWITCH} cannot be removed ({error}); type "
                f"'{self.describeUndo()}'."
            )

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        generation = self._loader.generation()
        if generation and generation == self._seen:
            return True
        try:
            listing = self._loader.list()
        except ToolError:
            # Loading it again would fail as well, and it may well be in force.
            return True
        if not listing or signatureIn(self._script) not in listing:
            return False
        if self._listing not in ("", listing):
            return False
        self._seen = generation
        return True

    def isThere(self) -> bool:
        """See L{ISwitchChange.isThere}."""
        try:
            return bool(self._loader.list())
        except ToolError:
            # A kernel without nftables has no such table either.
            return False


@implementer(ISwitchChange)
class SwitchChains:
    """
    The same in iptables and ip6tables.

    L{holds} and L{undo} may be called in any thread, one at a time.

    @param variant: see L{nanotun.routing.firewall.iptables.IptablesChains}.
    @param lines: by version of IP, as from
        L{nanotun.routing.firewall.switchtext.iptablesLines}; empty lists for the chains in
        force, to undo, whichever change has made them.
    """

    kind = "switch-iptables"

    def __init__(self, tools: Tools, variant: str, lines: Mapping[int, list[str]]) -> None:
        self._tool = IptablesTool(tools, variant, PREFIX)
        self._variant = variant
        self._lines = dict(lines)
        self._generation: Callable[[], int] = tools.generation if variant == "nft" else int
        self._listing: list[str] = []
        self._seen = 0

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return "\n".join(
            f"{self._tool.name(version)}-restore --noflush <<'END'\n"
            f"{self._script(version, dict.fromkeys(text.TABLES, ''))}END"
            for version in self._lines
        )

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        made = [f"-N {chain}" for chain in self._chains()]
        made += [f"-A {hook} -j {chain}" for hook, chain in JUMPS.items()]
        undo = text.removing({"mangle": "\n".join(made), "nat": ""}, PREFIX)
        return "\n".join(
            f"{self._tool.name(version)}-restore --noflush <<'END'\n{undo}END"
            for version in self._lines
        )

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        lines = {str(version): lines for version, lines in self._lines.items()}
        return {"variant": self._variant, "lines": lines}

    def apply(self) -> None:
        """See L{IChange.apply}.  If it fails, as many of the old chains as possible are kept."""
        for version in self._lines:
            script = self._script(version, self._tool.tables(version))
            refused = self._tool.restore(version, script)
            if refused:
                if not self._listing:
                    with contextlib.suppress(RoutingError):
                        self.undo()
                raise RoutingError(f"The kill switch's chains cannot be loaded: {refused}")
        self._listing, self._seen = self._present(), 0

    def undo(self) -> None:
        """
        See L{IChange.undo}.  If another change of ours has replaced this one, there is
        nothing to undo.
        """
        self._listing, self._seen = [], 0
        for version, lines in self._lines.items():
            try:
                tables = self._tool.tables(version)
            except ToolError:
                if not lines:
                    # A variant that does not work here has no rules either.
                    continue
                raise
            if isOthers("".join(text.ours(tables["mangle"], PREFIX)), "".join(lines)):
                continue
            script = text.removing(tables, PREFIX)
            refused = self._tool.restore(version, script) if script else ""
            if refused:
                raise RoutingError(f"The kill switch's chains cannot be removed: {refused}")

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        # The rules of legacy iptables have no generation number.
        generation = self._generation()
        if generation and generation == self._seen:
            return True
        try:
            present = self._present()
        except ToolError:
            # Loading them again would fail as well, and they may well be in force.
            return True
        found = "\n".join(present)
        wanted = [signatureIn("".join(lines)) for lines in self._lines.values()]
        jumps = [f"-A {hook} -j {chain}" for hook, chain in JUMPS.items()]
        holds = (
            all(signed and signed in found for signed in wanted)
            and all(present.count(jump) == len(self._lines) for jump in jumps)
            and self._listing in ([], present)
        )
        self._seen = generation if holds else 0
        return holds

    def isThere(self) -> bool:
        """See L{ISwitchChange.isThere}."""
        try:
            return bool(self._present())
        except ToolError:
            return False

    def _present(self) -> list[str]:
        """
        The lines that are ours.

        @raise ToolError: they cannot be listed.
        """
        found = (self._tool.tables(version)["mangle"] for version in self._lines)
        return [line for each in found for line in text.ours(each, PREFIX)]

    def _chains(self) -> list[str]:
        """Those that are ours: the ones that the kernel's jump to, and any others with lines."""
        filled = (line.split()[1] for lines in self._lines.values() for line in lines)
        return list(dict.fromkeys((*JUMPS.values(), *filled)))

    def _script(self, version: int, present: dict[str, str]) -> str:
        lines = ["*mangle", *(f":{chain} - [0:0]" for chain in self._chains())]
        lines += text.withoutJumps(present["mangle"], PREFIX)
        lines += self._lines[version]
        lines += [f"-I {hook} -j {chain}" for hook, chain in JUMPS.items()]
        return "".join(f"{line}\n" for line in [*lines, "COMMIT"])


def isOthers(listing: str, script: str) -> bool:
    """
    Whether what is listed was loaded by another change than C{script}'s.

    @param script: empty to mean any change.
    """
    signed, own = signatureIn(listing), signatureIn(script)
    return bool(signed and own) and signed != own


def switchTableFromRecord(tools: Tools, record: dict[str, Any]) -> SwitchTable:
    """
    Make a change from its record; see L{IChange.record}.

    @raise ValueError, TypeError, KeyError: the record is invalid.
    """
    return SwitchTable(NftLoader(tools, SWITCH), str(record["script"]))


def switchChainsFromRecord(tools: Tools, record: dict[str, Any]) -> SwitchChains:
    """
    Make a change from its record; see L{IChange.record}.

    @raise ValueError, TypeError, KeyError: the record is invalid.
    """
    variant = str(record["variant"])
    lines = {int(version): list(map(str, each)) for version, each in record["lines"].items()}
    if variant not in VARIANTS or not set(lines) <= set(NAMES):
        raise ValueError(record)
    return SwitchChains(tools, variant, lines)


def switchLeftovers(tools: Tools) -> list[IChange]:
    """The changes that are ours by their name, as far as the tools are installed: to undo."""
    found: list[IChange] = []
    if tools.path("nft"):
        found.append(SwitchTable(NftLoader(tools, SWITCH), ""))
    for variant in VARIANTS:
        for version, name in NAMES.items():
            if tools.path(f"{name}-{variant}" if variant else name):
                found.append(SwitchChains(tools, variant, {version: []}))
    return found
