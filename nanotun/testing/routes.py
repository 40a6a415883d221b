"""
A fake of the kernel's rules and routes.
"""

from __future__ import annotations

import errno
import os

from zope.interface import implementer

from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.values import Interface, Others, Route, Rule


@implementer(IKernelRoutes)
class MemoryRoutes:
    """
    Rules and routes in memory.

    @ivar devices: the interfaces that exist, by name.
    @ivar log: the changes made, as commands.
    @ivar fails: the errno with which a command fails, by command.
    @ivar ignores: whether added rules are silently dropped.
    @ivar foreignDefault: families in whose table another program has a default route.
    @ivar foreign: what L{others} returns.
    @ivar leading: what L{uplinks} returns.
    @ivar marks: with which L{interfaces} was asked last, and for which C{destinations}.
    @ivar asked: how often rules or routes were listed.
    @ivar closed: whether it was closed.
    """

    def __init__(self, *devices: Interface) -> None:
        self.devices = {each.name: each for each in devices}
        self.log: list[str] = []
        self.fails: dict[str, int] = {}
        self.ignores = False
        self.foreignDefault: set[int] = set()
        self.foreign = Others()
        self.leading: tuple[str, ...] = ()
        self.marks: tuple[int, ...] = ()
        self.destinations: tuple[str, ...] = ()
        self.asked = 0
        self.closed = False
        self._rules: list[Rule] = []
        self._routes: list[Route] = []

    def flush(self) -> None:
        """Let another program remove everything."""
        self._rules.clear()
        self._routes.clear()

    def removeDevice(self, name: str) -> None:
        """Remove an interface, and its routes with it."""
        self.devices.pop(name, None)
        self._routes = [route for route in self._routes if route.device != name]

    def rules(self) -> list[Rule]:
        """See L{IKernelRoutes.rules}."""
        self.asked += 1
        return list(self._rules)

    def addRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.addRule}."""
        self._note(rule.command("add"))
        if rule in self._rules:
            raise _error(errno.EEXIST)
        if not self.ignores:
            self._rules.append(rule)

    def deleteRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.deleteRule}."""
        self._note(rule.command("del"))
        if rule not in self._rules:
            raise _error(errno.ENOENT)
        self._rules.remove(rule)

    def routes(self) -> list[Route]:
        """See L{IKernelRoutes.routes}."""
        self.asked += 1
        return list(self._routes)

    def addRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.addRoute}."""
        self._note(route.command("add"))
        if route.device not in self.devices:
            raise _error(errno.ENODEV)
        taken = {each.family for each in self._routes} | self.foreignDefault
        if route.family in taken:
            raise _error(errno.EEXIST)
        self._routes.append(route)

    def deleteRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.deleteRoute}."""
        self._note(route.command("del"))
        if route.device not in self.devices:
            raise _error(errno.ENODEV)
        if route not in self._routes:
            raise _error(errno.ESRCH)
        self._routes.remove(route)

    def interfaces(
        self, destinations: tuple[str, ...], marks: tuple[int, ...] = ()
    ) -> list[Interface]:
        """See L{IKernelRoutes.interfaces}."""
        self.marks, self.destinations = marks, destinations
        return list(self.devices.values())

    def uplinks(self) -> tuple[str, ...]:
        """See L{IKernelRoutes.uplinks}."""
        return self.leading

    def others(self) -> Others:
        """See L{IKernelRoutes.others}."""
        return self.foreign

    def close(self) -> None:
        """See L{IKernelRoutes.close}."""
        self.closed = True

    def _note(self, command: str) -> None:
        if command in self.fails:
            raise _error(self.fails[command])
        self.log.append(command)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
