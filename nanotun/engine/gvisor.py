"""
The C{gvisor} engine: the whole of gVisor's netstack.
"""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from nanotun.engine import abi
from nanotun.engine.native import NativeEngine
from nanotun.interfaces import IPacketEngine, IPacketEngineFactory


class GVisorEngine(NativeEngine):
    """Fragments, ICMP, loss recovery and window tuning: the choice for coverage."""

    stackMode = "gvisor"
    stack = abi.NS_STACK_GVISOR


@implementer(IPacketEngineFactory, IPlugin)
class GVisorEngineFactory:
    """The plugin for C{stackMode: gvisor}."""

    stackMode = GVisorEngine.stackMode

    def createEngine(self, reactor: Any, udpTimeout: float) -> IPacketEngine:
        """See L{IPacketEngineFactory.createEngine}."""
        return GVisorEngine(reactor, udpTimeout)
