"""
The nft table as a change to the machine.

nanotun's own C{nft -i} process owns it, and the kernel removes it when that process ends
(owner flag, Linux 5.12): after a SIGKILL there is nothing left to undo, and another
program's C{nft flush ruleset} does not remove it.  With a kill switch, and if the kernel
or nft do not know the flag, it has no owner and stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.config.selectors import selectors
from nanotun.errors import RoutingError
from nanotun.routing.firewall.cgroups import SYSTEM_FOLDER, Cgroups
from nanotun.routing.firewall.chosen import ChosenGroups
from nanotun.routing.firewall.nfttext import OWNER, deletion, oneLine, signatureOf, tableText
from nanotun.routing.firewall.rules import (
    ALONE,
    EVERYBODY,
    NO_GROUPS,
    TABLE,
    Chosen,
    Exclusions,
    FirewallRules,
    Neighbourhood,
    keyIn,
    keyOf,
    signatureIn,
)
from nanotun.routing.firewall.switchtext import SWITCH, nftText
from nanotun.routing.firewall.tools import Held, ToolError, Tools, firstLine
from nanotun.routing.interfaces import IFollowingChange

#: What C{nft -i} is asked after a script, and a text that only the answer contains.
QUESTION = "describe meta mark"
ANSWER = "packet mark"

#: The name of a table that is never made.
_TRIAL = f"{TABLE}-trial"

_NO_GROUPS = NO_GROUPS.format("nft: Linux 5.13", f"below {SYSTEM_FOLDER}")

#: How often, and after how many seconds, to try again to remove a table whose owner is
#: just ending.
_TRIES = 20
_PAUSE = 0.05


class _Attempt(NamedTuple):
    """How to load the table: with an owner or not, with cgroups or not."""

    owner: bool
    cgroups: bool


class NftLoader:
    """
    Loads the table, and keeps the process that owns it.  Only the owner may replace the
    table, so all changes of one daemon that may replace each other share one loader.

    @param name: the table's.
    """

    def __init__(self, tools: Tools, name: str = TABLE) -> None:
        self._tools = tools
        self._name = name
        self._held: Held | None = None

    def holds(self) -> bool:
        """Whether the owner of the table was started by this loader and runs."""
        return self._held is not None and self._held.isRunning()

    def isOrphaned(self) -> bool:
        """Whether the owner has ended on its own."""
        return self._held is not None and not self._held.isRunning()

    def load(self, table: str, owner: bool) -> str:
        """
        Load C{table}, replacing the one in force in the same transaction.

        @return: nft's error; empty if the table is loaded.
        """
        if self.isOrphaned():
            self.release()
        script = f"{deletion(self._name) if self.list() else ''}{table}"
        if not owner and self._held is None:
            return self._run(script)
        fresh = self._held is None
        try:
            if self._held is None:
                self._held = self._tools.hold([self._nft(), "-i"])
            refused = firstLine(self._held.ask(oneLine(script), QUESTION, ANSWER))
        except RoutingError as error:
            self.release()
            return str(error)
        if (fresh and refused) or (not owner and not refused):
            # The process owns nothing.
            self.release()
        return refused

    def delete(self) -> str:
        """
        Remove the table.

        @return: nft's error; empty if the table is removed.
        """
        self.release()
        return self._run(deletion(self._name)) if self.list() else ""

    def refuses(self, table: str) -> bool:
        """Whether nft and the kernel would not load C{table}; nothing is changed."""
        return bool(self._tools.run([self._nft(), "-c", "-f", "-"], table).status)

    def release(self) -> None:
        """End the owner, and with it the table that it owns."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def generation(self) -> int:
        """See L{Tools.generation}."""
        return self._tools.generation()

    def list(self) -> str:
        """
        The table as nft lists it, without counters; empty if there is none.

        @raise ToolError: nft cannot list it.
        """
        ran = self._tools.run([self._nft(), "-s", "list", "table", "inet", self._name])
        if ran.status and "No such file" not in ran.error:
            raise ToolError(f"nft cannot list the table inet {self._name}: {firstLine(ran.error)}.")
        return ran.output

    def _run(self, script: str) -> str:
        ran = self._tools.run([self._nft(), "-f", "-"], script)
        return firstLine(ran.error or f"status {ran.status}") if ran.status else ""

    def _nft(self) -> str:
        path = self._tools.path("nft")
        if not path:
            raise RoutingError("nft is not installed any more; install nftables.")
        return path


@implementer(IFollowingChange)
class NftTable:
    """
    See L{nanotun.routing.firewall.rules}.

    L{holds} and L{undo} may be called in any thread, one at a time.

    @param sleep: waits for some seconds; time.sleep.
    @param unconditional: whether L{undo} removes the table no matter which change made it.
    @param chosen: what alone is to enter the tunnel.
    """

    kind = "nft"

    _log = Logger()

    def __init__(
        self,
        loader: NftLoader,
        device: str,
        exclusions: Exclusions,
        killSwitch: bool,
        cgroups: Cgroups,
        neighbourhood: Neighbourhood = ALONE,
        sleep: Callable[[float], None] = time.sleep,
        unconditional: bool = False,
        chosen: Chosen = EVERYBODY,
    ) -> None:
        self.outdated = False
        self._loader = loader
        self._device = device
        self._exclusions = exclusions
        self._killSwitch = killSwitch
        self._cgroups = cgroups
        # nft asks for the route itself: containers that come and go change nothing.
        self._neighbourhood = neighbourhood._replace(behind=())
        self._sleep = sleep
        self._unconditional = unconditional
        self._chosen = chosen
        self._groups = ChosenGroups(cgroups, chosen)
        self._listing = ""
        self._signed = ""
        self._withCgroups = True
        self._seen = (0, "", False)

    def describe(self) -> str:
        """See L{IChange.describe}."""
        usual = self._cgroups.usual()
        rules = self._base()._replace(cgroups=usual, onlyGroups=self._groups.usual())
        return f"nft -f - <<'END'\n{tableText(rules, not self._killSwitch)}END"

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return f"nft delete table inet {TABLE}"

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return {
            "device": self._device,
            "killSwitch": self._killSwitch,
            **self._exclusions.record(),
            **self._neighbourhood.record(),
            **self._chosen.record(),
        }

    def apply(self) -> None:
        """
        See L{IChange.apply}.  Replaces a table of ours in one transaction, so that it may be
        called again; if that fails, the old table is kept.
        """
        rules = self._rules(search=True)
        if self._groups.hidden(SYSTEM_FOLDER):
            raise RoutingError(_NO_GROUPS)
        refused = ""
        for attempt in self._attempts(rules):
            wanted = rules if attempt.cgroups else rules._replace(cgroups=())
            refused = self._loader.load(tableText(wanted, attempt.owner), attempt.owner)
            if not refused:
                self._loaded(attempt, rules)
                return
        if rules.onlyGroups and rules == self._rules(search=False):
            ungrouped = tableText(rules._replace(cgroups=(), onlyGroups=()), False, _TRIAL)
            if not self._loader.refuses(ungrouped):
                raise RoutingError(_NO_GROUPS)
        raise RoutingError(f"nft cannot load the table inet {TABLE}: {refused}")

    def undo(self) -> None:
        """
        See L{IChange.undo}.  If another change of ours has replaced this one, there is
        nothing to undo.
        """
        self._listing = ""
        error = ""
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(_PAUSE)
            listing = self._loader.list()
            if listing and not (self._unconditional or keyIn(listing) in (None, self._base().key)):
                return
            error = self._loader.delete()
            if not error:
                return
        raise RoutingError(
            f"The table inet {TABLE} cannot be removed, as a process that runs owns it ({error}); "
            f"end that, or type '{self.describeUndo()}'."
        )

    def holds(self) -> bool:
        """
        See L{IChange.holds}.  It does not hold either if a group was removed and created
        again, as a unit's is at each start: the kernel compares the groups' numbers.
        """
        if self._loader.isOrphaned():
            return False
        wanted = signatureOf(self._rules(search=False))
        # If these are the same, nothing has changed.  A table that is removed with its owner
        # makes no new generation.
        now = self._loader.generation(), wanted, self._loader.holds()
        if now[0] and now == self._seen:
            return True
        try:
            listing = self._loader.list()
        except ToolError:
            # Loading it again would fail as well, and it may well be in force.
            return True
        # Not the listing: nft shows a group that was removed in another way.
        self.outdated = wanted not in listing and self._signed != "" and self._signed in listing
        if wanted not in listing or self._listing not in ("", listing):
            return False
        if now[2] or OWNER not in listing:
            self._seen = now
        return True

    def _base(self) -> FirewallRules:
        exclusions, around = self._exclusions, self._neighbourhood
        key = keyOf(self._chosen, self._device, self._killSwitch, exclusions, around)
        return FirewallRules(
            self._device,
            exclusions.uids,
            (),
            key,
            exclusions.networks,
            *self._neighbourhood,
            marks=exclusions.marks,
            only=self._chosen != EVERYBODY,
            onlyUids=self._chosen.uids,
        )

    def _rules(self, search: bool) -> FirewallRules:
        rules = self._base()._replace(
            onlyGroups=tuple(each for each in self._groups.existing() if each.tool)
        )
        if not self._withCgroups:
            return rules
        found = self._cgroups.existing(search)
        return rules._replace(cgroups=tuple(each for each in found if each.tool))

    def _attempts(self, rules: FirewallRules) -> Iterator[_Attempt]:
        owners: tuple[bool, ...] = (True, False)
        if self._killSwitch:
            owners = (False,)
        elif self._loader.holds():
            owners = (True,)
        for owner in owners:
            if rules.cgroups:
                yield _Attempt(owner, True)
            yield _Attempt(owner, False)

    def _loaded(self, attempt: _Attempt, rules: FirewallRules) -> None:
        self._listing = self._loader.list()
        self._signed = signatureIn(self._listing)
        self.outdated = False
        self._groups.entered(rules.onlyGroups)
        if not attempt.owner and not self._killSwitch:
            self._log.info(
                "The table inet {table} has no owner, as kernel or nft know none: it stays after "
                "a crash, until the next start or a recovery.",
                table=TABLE,
            )
        # A group may have been removed before the table was loaded.
        without = rules.cgroups and not attempt.cgroups and rules == self._rules(search=False)
        if self._withCgroups and (without or self._cgroups.hidden(SYSTEM_FOLDER)):
            self._withCgroups = False
            self._log.warn(
                "The kernel's firewall cannot tell control groups apart, so nanotun looks up "
                "whose each flow is."
            )


def tableFromRecord(tools: Tools, hierarchy: str, record: dict[str, Any]) -> NftTable:
    """
    Make a change from its record; see L{IChange.record}.

    @param hierarchy: where cgroup version 2 is mounted.
    @raise ValueError, TypeError, KeyError: the record is invalid.
    """
    exclusions = Exclusions.fromRecord(record)
    cgroups = Cgroups(selectors(list(exclusions.selectors)), hierarchy)
    loader = NftLoader(tools)
    device, killSwitch = str(record["device"]), bool(record["killSwitch"])
    neighbourhood = Neighbourhood.fromRecord(record)
    chosen = Chosen.fromRecord(record)
    return NftTable(loader, device, exclusions, killSwitch, cgroups, neighbourhood, chosen=chosen)


def works(tools: Tools) -> bool:
    """Whether nft is installed and the kernel would accept such tables (a dry run)."""
    nft = tools.path("nft")
    if not nft:
        return False
    trial = tableText(FirewallRules("lo", uplinks=("lo",)), False, _TRIAL)
    trial += nftText((), (), "lo", f"{SWITCH}-trial")
    ran = tools.run([nft, "-c", "-f", "-"], trial)
    # Without root not even a dry run is permitted; the caller only wants to describe changes.
    return ran.status == 0 or "Operation not permitted" in ran.error
