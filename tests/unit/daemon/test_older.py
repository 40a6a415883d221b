"""Tests of L{nanotun.daemon.older}."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.daemon.older import OlderConnections
from nanotun.interfaces import IPart


class OlderConnectionsTests(SynchronousTestCase):
    """Tests for L{OlderConnections}."""

    def setUp(self) -> None:
        """Owners that note what is asked of them."""
        self.done: list[str] = []
        established = SimpleNamespace(
            keep=lambda: self.done.append("keep"), release=lambda: self.done.append("release")
        )
        owners = SimpleNamespace(established=established)
        self.live = cast(Any, SimpleNamespace(current=SimpleNamespace(owners=owners)))
        self.changes = 0
        self.part = OlderConnections(self.live, lambda: self.changes)

    def test_open(self) -> None:
        """Marks are set at the start, and taken off when the routes are gone."""
        verifyObject(IPart, self.part)
        self.part.start()
        self.part.stop()
        self.assertEqual(self.done, ["keep", "release"])

    def test_closed(self) -> None:
        """While routes or a kill switch are in force they stay."""
        self.part.start()
        self.changes = 1
        self.part.stop()
        self.assertEqual(self.done, ["keep"])

    def test_noOwners(self) -> None:
        """Where no process is excluded nothing is done."""
        self.live.current.owners = None
        self.part.start()
        self.part.stop()
        self.assertEqual(self.done, [])
