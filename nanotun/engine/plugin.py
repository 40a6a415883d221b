"""
The lazy half of the packet engines' plugins.

Twisted imports C{twisted/plugins/nanotun_plugin.py} whenever it looks for any
plugin at all.  This is what that file needs: a factory that knows its name and
imports the real one once an engine is wanted.
"""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

from nanotun.interfaces import IPacketEngine, IPacketEngineFactory


@implementer(IPacketEngineFactory, IPlugin)
class EngineFactory:
    """Stands for the factory whose full name is C{factoryName}."""

    def __init__(self, stackMode: str, factoryName: str) -> None:
        self.stackMode = stackMode
        self._factoryName = factoryName

    def createEngine(self, reactor: Any, udpTimeout: float) -> IPacketEngine:
        """Import the real factory and ask it."""
        factory: IPacketEngineFactory = namedAny(self._factoryName)()
        return factory.createEngine(reactor, udpTimeout)
