"""
Rules and routes as of one moment: forty changes ask whether they hold, and the
kernel is asked once.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.values import Interface, Route, Rule


@implementer(IKernelRoutes)
class CachedRoutes:
    """
    See L{IKernelRoutes}.  Each change, and L{forget}, makes it ask anew.

    @param kernel: the real thing.
    """

    def __init__(self, kernel: IKernelRoutes) -> None:
        self._kernel = kernel
        self._rules: list[Rule] | None = None
        self._routes: list[Route] | None = None

    def forget(self) -> None:
        """What is known may be old."""
        self._rules = self._routes = None

    def close(self) -> None:
        """See L{IKernelRoutes.close}."""
        self._kernel.close()

    def rules(self) -> list[Rule]:
        """See L{IKernelRoutes.rules}."""
        if self._rules is None:
            self._rules = self._kernel.rules()
        return self._rules

    def addRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.addRule}."""
        self.forget()
        self._kernel.addRule(rule)

    def deleteRule(self, rule: Rule) -> None:
        """See L{IKernelRoutes.deleteRule}."""
        self.forget()
        self._kernel.deleteRule(rule)

    def routes(self) -> list[Route]:
        """See L{IKernelRoutes.routes}."""
        if self._routes is None:
            self._routes = self._kernel.routes()
        return self._routes

    def addRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.addRoute}."""
        self.forget()
        self._kernel.addRoute(route)

    def deleteRoute(self, route: Route) -> None:
        """See L{IKernelRoutes.deleteRoute}."""
        self.forget()
        self._kernel.deleteRoute(route)

    def interfaces(self, probes: tuple[str, ...]) -> list[Interface]:
        """See L{IKernelRoutes.interfaces}."""
        return self._kernel.interfaces(probes)
