"""
Rules, routes and settings as changes that can be undone.

Each undo is harmless if somebody else has already undone the change, and leaves alone
what somebody else has changed since.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zope.interface import implementer

from nanotun.errors import RoutingError
from nanotun.linux.container import inContainer
from nanotun.routing.interfaces import IChange, IKernelRoutes, ISwitchChange
from nanotun.routing.plan import isOurs
from nanotun.routing.values import TABLE, Route, Rule, Sysctl

#: errno of an undo where there is nothing to undo.
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.ENETDOWN, errno.EAFNOSUPPORT)


@implementer(IChange)
class RuleChange:
    """A policy rule."""

    kind = "rule"

    def __init__(self, kernel: IKernelRoutes, rule: Rule) -> None:
        self._kernel = kernel
        self.rule = rule

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return self.rule.command("add")

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return self.rule.command("del")

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return self.rule._asdict()

    def apply(self) -> None:
        """See L{IChange.apply}."""
        try:
            self._kernel.addRule(self.rule)
        except FileExistsError:
            # It has our protocol number, so a crash has left it.
            return
        except OSError as error:
            raise RoutingError(
                f"The rule '{self.describe()}' cannot be set ({error.strerror}); this needs root "
                "and Linux 4.17 or newer."
            ) from None

    def undo(self) -> None:
        """See L{IChange.undo}."""
        try:
            self._kernel.deleteRule(self.rule)
        except OSError as error:
            if error.errno not in _GONE:
                raise RoutingError(
                    f"A rule cannot be removed ({error.strerror}); type '{self.describeUndo()}'."
                ) from None

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        return self.rule in self._kernel.rules()


@implementer(IChange)
class RouteChange:
    """A default route of our own table."""

    kind = "route"

    def __init__(self, kernel: IKernelRoutes, route: Route) -> None:
        self._kernel = kernel
        self.route = route

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return self.route.command("add")

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return self.route.command("del")

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return self.route._asdict()

    def apply(self) -> None:
        """See L{IChange.apply}."""
        try:
            self._kernel.addRoute(self.route)
        except FileExistsError:
            if not self.holds():
                raise RoutingError(
                    f"The routing table {TABLE} is in use by something else; see "
                    f"'ip -{self.route.family} route show table {TABLE}' and remove what is there."
                ) from None
        except OSError as error:
            raise RoutingError(
                f"The route '{self.describe()}' cannot be set: {error.strerror}."
            ) from None

    def undo(self) -> None:
        """See L{IChange.undo}."""
        try:
            self._kernel.deleteRoute(self.route)
        except OSError as error:
            if error.errno not in _GONE:
                raise RoutingError(
                    f"A route cannot be removed ({error.strerror}); type '{self.describeUndo()}'."
                ) from None

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        return self.route in self._kernel.routes()


@implementer(IChange)
class SysctlChange:
    """
    A value below C{/proc/sys}.

    @param root: that folder.
    """

    kind = "sysctl"

    def __init__(self, sysctl: Sysctl, root: str = "/proc/sys") -> None:
        self.sysctl = sysctl
        self._path = os.path.join(root, sysctl.name)

    def describe(self) -> str:
        """See L{IChange.describe}."""
        return self.sysctl.command("add")

    def describeUndo(self) -> str:
        """See L{IChange.describeUndo}."""
        return self.sysctl.command("del")

    def record(self) -> dict[str, Any]:
        """See L{IChange.record}."""
        return self.sysctl._asdict()

    def apply(self) -> None:
        """See L{IChange.apply}."""
        try:
            self._write(self.sysctl.value)
        except FileNotFoundError:
            # The interface has just been removed, and a new plan is under way.
            return
        except OSError as error:
            if error.errno == errno.EROFS and inContainer():
                raise RoutingError(
                    "Answers would be dropped by strict reverse path filters, which a container "
                    "may not change; start it with --sysctl net.ipv4.conf.all.rp_filter=2."
                ) from None
            raise RoutingError(
                f"The setting {self.sysctl.name} cannot be made {self.sysctl.value} "
                f"({error.strerror}); make /proc/sys writable or type '{self.describe()}' before."
            ) from None

    def undo(self) -> None:
        """See L{IChange.undo}."""
        if not self.holds():
            return
        try:
            self._write(self.sysctl.before)
        except OSError as error:
            raise RoutingError(
                f"The setting {self.sysctl.name} cannot be put back ({error.strerror}); type "
                f"'{self.describeUndo()}'."
            ) from None

    def holds(self) -> bool:
        """See L{IChange.holds}."""
        return readSysctl(self._path) == self.sysctl.value

    def _write(self, value: str) -> None:
        with open(self._path, "w") as file:
            file.write(value)


def readSysctl(path: str) -> str:
    """A setting's value; empty if there is no such setting."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


class Changes:
    """
    Makes changes from values, and from the journal's records.

    @param others: for each other kind of change, the function that makes one from its
        record.
    @param leftovers: finds those of the other kinds that are ours even without a journal.
    @param files: likewise, those in files that may outlive the journal; takes a C{runDir}.
    @param root: the folder of sysctls.
    """

    def __init__(
        self,
        kernel: IKernelRoutes,
        others: Mapping[str, Callable[[dict[str, Any]], IChange]],
        leftovers: Callable[[], list[IChange]] = list,
        files: Callable[[str], list[IChange]] = lambda runDir: [],
        root: str = "/proc/sys",
    ) -> None:
        self._kernel = kernel
        self._others = others
        self._leftovers = leftovers
        self.files = files
        self._root = root

    def make(self, value: Rule | Route | Sysctl) -> IChange:
        """The change that sets C{value}."""
        if isinstance(value, Rule):
            return RuleChange(self._kernel, value)
        if isinstance(value, Route):
            return RouteChange(self._kernel, value)
        return SysctlChange(value, self._root)

    def fromRecord(self, kind: str, record: dict[str, Any]) -> IChange:
        """
        The change that a record describes.

        @raise ValueError, TypeError, KeyError: the record is invalid.
        """
        if kind == RuleChange.kind:
            uids = record.get("uids")
            return self.make(Rule(**{**record, "uids": tuple(uids) if uids else None}))
        if kind == RouteChange.kind:
            return self.make(Route(**record))
        if kind == SysctlChange.kind:
            sysctl = Sysctl(**record)
            if not isOurs(sysctl):
                raise ValueError(sysctl.name)
            return self.make(sysctl)
        return self._others[kind](record)

    def tagged(self) -> list[IChange]:
        """
        Everything that has our protocol number or our name, whether the journal names it
        or not, in the order in which to undo it: the rules that catch traffic come first.
        """
        routes = [RouteChange(self._kernel, each) for each in self._kernel.routes()]
        return [*routes, *self.taggedRules(), *self._leftovers()]

    def taggedRules(self) -> list[RuleChange]:
        """The rules of L{tagged}."""
        rules = [RuleChange(self._kernel, each) for each in self._kernel.rules()]
        return sorted(rules, key=lambda change: _undoOrder(change.rule))

    def taggedSwitches(self, known: Iterable[IChange]) -> list[ISwitchChange]:
        """
        The switch tables that are in force.

        @param known: changes in force; where one of the same kind is among them, there can
            be no other.
        """
        kinds = {each.kind for each in known}
        found = (each for each in self._leftovers() if ISwitchChange.providedBy(each))
        return [each for each in found if each.kind not in kinds and each.isThere()]


def _undoOrder(rule: Rule) -> tuple[int, bool, int]:
    return (rule.action == "nop", not rule.invert, -rule.priority)
