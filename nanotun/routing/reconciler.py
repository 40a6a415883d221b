"""
What is set on the machine, and how it is made to match the plan.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from twisted.logger import Logger

from nanotun.addresses import isAddress
from nanotun.errors import RoutingError
from nanotun.routing.alone import checkAlone
from nanotun.routing.applied import Applied
from nanotun.routing.changes import Changes, RuleChange
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.firewall.resolvconf import ResolvConfFile
from nanotun.routing.host import HostReader
from nanotun.routing.interfaces import IChange
from nanotun.routing.netlink import CachedRoutes
from nanotun.routing.plan import BEHIND, plan
from nanotun.routing.values import Earlier, Host, Rule, Wishes


class Reconciler:
    """
    Plans the changes and applies them, again and again.

    @ivar applied: the changes in force.
    @ivar host: the machine as it was at the last L{reconcile}; L{None} before.
    @ivar outlook: what was the same at two of them if the network has not changed: the plan,
        and the links to the Internet.  Containers come and go without changing it.
    @param kernel: told to forget before each L{reconcile}.
    @param firewall: makes the changes that come before the rules that catch traffic; its
        arguments are whether they have to outlive a crash, and the machine.
    @param switch: makes the switch table from all routing rules, and from what other
        programs' rules let past before.
    """

    _log = Logger()

    def __init__(
        self,
        wishes: Wishes,
        kernel: CachedRoutes,
        reader: HostReader,
        exceptions: Exceptions,
        changes: Changes,
        applied: Applied,
        firewall: Callable[[bool, Host], list[IChange]],
        switch: Callable[[Sequence[Rule], Sequence[Earlier]], list[IChange]],
    ) -> None:
        self.applied = applied
        self.host: Host | None = None
        self.outlook: object = None
        self._wishes = wishes
        self._kernel = kernel
        self._reader = reader
        self._exceptions = exceptions
        self._changes = changes
        self._firewall = firewall
        self._switch = switch
        self._unclear: set[int] = set()

    def load(self) -> bool:
        """
        Read the journal, and see that no other daemon has its routes set.

        @return: whether a kill switch is in force, which a daemon that crashed has left.
        @raise RoutingError: the journal is unusable, or another daemon runs.
        """
        self.applied.load()
        try:
            # Two may have started at the same time.
            checkAlone(self._kernel, self._wishes.device)
        except BaseException:
            self._kernel.close()
            raise
        return self.applied.killSwitch

    def adopt(self, mayKillSwitch: bool) -> bool:
        """
        Take over rules of ours, and a switch table, that the journal does not name: nobody
        else would ever undo them.

        @param mayKillSwitch: see L{reconcile}.  If one is put in force, it replaces the table.
        @return: whether a kill switch is among them.
        @raise OSError: the kernel does not list its rules.
        """
        found = self._changes.taggedRules()
        switches = self._changes.taggedSwitches(self.applied.made)
        replaced = self._wishes.killSwitch and mayKillSwitch
        self.applied.adopt([*reversed(found), *([] if replaced else switches)])
        return bool(switches) or any(_isKillSwitch(change.rule) for change in found)

    @contextlib.contextmanager
    def askingAsBefore(self) -> Iterator[None]:
        """
        Let this machine look up the proxies' names as before, if a killed daemon has left its relay
        as the only server: that answers only once we have started.  Afterwards it is the only one
        again, because this start may fail and leave the kill switch closed.
        """
        names = not all(map(isAddress, self._exceptions.hosts))
        files = [each for each in self.applied.made if names and isinstance(each, ResolvConfFile)]
        for file in files:
            file.undo()
        try:
            yield
        finally:
            for file in files:
                file.apply()

    def reconcile(self, starting: bool, mayKillSwitch: bool) -> int:
        """
        Plan again, and apply the plan.

        @param starting: whether this is the daemon's start, which fails where IPv6 cannot
            be captured as the settings demand.
        @param mayKillSwitch: whether the kill switch may be put in force already.
        @return: how many changes of ours had been taken away.
        @raise RoutingError: a change cannot be made.
        """
        try:
            return self._reconcile(starting, mayKillSwitch)
        except OSError as error:
            raise RoutingError(
                f"The kernel does not say what its rules and routes are: {error.strerror}."
            ) from None

    def _reconcile(self, starting: bool, mayKillSwitch: bool) -> int:
        self._kernel.forget()
        applied, exceptions = self.applied, self._exceptions
        host = self._reader.read(
            exceptions.proxies, exceptions.sshPorts, applied.valuesBefore(), exceptions.hops
        )
        wishes = self._wishes
        if not mayKillSwitch:
            wishes = wishes._replace(killSwitch=False)
        if _lacksIPv6(wishes, host):
            if starting:
                raise RoutingError(
                    f"The device {wishes.device} has no IPv6 address; enable IPv6 on this machine "
                    "(net.ipv6.conf.default.disable_ipv6=0) or set ipv6 to auto or block."
                )
            # IPv6 was turned off while we run: block it, so that nothing leaks, and go on
            # with IPv4.
            wishes = wishes._replace(ipv6="block")
        first, last = plan(wishes, host)
        wanted = [
            *map(self._changes.make, first),
            *self._firewall(wishes.killSwitch, host),
            *map(self._changes.make, last),
        ]
        if wishes.killSwitch:
            self._noteUnclear(host.unclear)
            rules = [each for each in (*first, *last) if isinstance(each, Rule)]
            # Last: it must not stop anything that the rules do not catch yet.
            wanted += self._switch(rules, host.earlier)
        _, missing = applied.reconcile(wanted, wishes.killSwitch)
        self._notePlace(host)
        self.host = host
        links = [each for each in host.interfaces if each.gateways]
        self.outlook = first, last, links, host.uplinks
        return missing

    def letsPast(self, host: str) -> bool:
        """Whether a rule for what a proxy behind this machine sends names this address."""
        source = f"{host}/{128 if ':' in host else 32}"
        return any(
            isinstance(each, RuleChange)
            and (each.rule.priority, each.rule.source) == (BEHIND, source)
            for each in self.applied.made
        )

    def _notePlace(self, host: Host) -> None:
        """Log what has changed in the order of our rules and those of others."""
        before = self.host
        if before is not None and host.first < before.first:
            self._log.info(
                "Another program has put routing rules before nanotun's (ip rule); nanotun's are "
                "before them again, from {first} on.",
                first=host.first,
            )
        if host.ahead and (before is None or host.ahead != before.ahead):
            self._log.warn(
                "Routing rules of another VPN stay before nanotun's (ip rule, {priorities}); what "
                "they match goes past the tunnel.",
                priorities=" and ".join(map(str, host.ahead)),
            )

    def _noteUnclear(self, priorities: Sequence[int]) -> None:
        for priority in priorities:
            if priority not in self._unclear:
                self._unclear.add(priority)
                self._log.warn(
                    "The kill switch cannot see what rule {priority} of another program lets past "
                    "(ip rule), and stops it.",
                    priority=priority,
                )

    def checkIPv6(self) -> None:
        """@raise RoutingError: the device had no IPv6 address left at the last L{reconcile}."""
        if self.host is not None and _lacksIPv6(self._wishes, self.host):
            raise RoutingError(
                f"The device {self._wishes.device} has lost its IPv6, so IPv6 is unreachable until "
                f"it has it again (net.ipv6.conf.{self._wishes.device}.disable_ipv6=0)."
            )

    def checkKernel(self) -> None:
        """
        See whether the rules are in force as they were given: an old kernel ignores the
        attributes that it does not know.

        @raise RoutingError: they are not.
        """
        self._kernel.forget()
        broken = [each for each in self.applied.broken() if isinstance(each, RuleChange)]
        if broken:
            raise RoutingError(
                f"The kernel did not do '{broken[0].describe()}' as it was told; nanotun's routes "
                "need Linux 4.17 or newer."
            )

    def close(self) -> None:
        """Close the kernel's socket."""
        self._kernel.close()


def _isKillSwitch(rule: Rule) -> bool:
    """Whether a rule is the kill switch's; in IPv6 a blocked family has the same rule."""
    return rule.action == "unreachable" and rule.family == 4


def _lacksIPv6(wishes: Wishes, host: Host) -> bool:
    """Whether IPv6 has to be captured by a device that has no IPv6 address."""
    return wishes.ipv6 == "capture" and host.hasIPv6 and not host.tunnelHasIPv6
