"""
What every change to the firewall does, as a mixin: tests/test_firewall_*.py run it
against the fake tools, tests/e2e/test_firewall_changes.py against the real ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.routing.interfaces import IChange

# What the mixin is mixed into, for mypy.
if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class ChangeContract(Base):
    """What L{IChange} promises, and that a change may be applied again."""

    #: Whether it is there as long as the process that made it only.
    owned = False

    def makeChange(self) -> IChange:
        """A new object for the same change."""
        raise NotImplementedError

    def remake(self, change: IChange) -> IChange:
        """Make the change from its kind and its record, as after a crash."""
        raise NotImplementedError

    def state(self) -> str:
        """The state of all that such a change may modify, without counters."""
        raise NotImplementedError

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(IChange, self.makeChange())

    def test_applyAndUndo(self) -> None:
        """An applied change holds; an undone change leaves no trace."""
        before = self.state()
        change = self.makeChange()
        self.assertFalse(change.holds())
        self.assertEqual(self.state(), before)
        change.apply()
        self.assertTrue(change.holds())
        self.assertNotEqual(self.state(), before)
        change.undo()
        self.assertFalse(change.holds())
        self.assertEqual(self.state(), before)

    def test_applyTwice(self) -> None:
        """Applying a change again changes nothing, and one undo is enough."""
        before = self.state()
        change = self.makeChange()
        change.apply()
        applied = self.state()
        change.apply()
        self.assertEqual(self.state(), applied)
        self.assertTrue(change.holds())
        change.undo()
        self.assertEqual(self.state(), before)

    def test_undoOfNothing(self) -> None:
        """Undoing a change that was never applied, or is already undone, is harmless."""
        before = self.state()
        change = self.makeChange()
        change.undo()
        change.apply()
        change.undo()
        change.undo()
        self.remake(change).undo()
        self.assertEqual(self.state(), before)

    def test_fromRecord(self) -> None:
        """A change made from its record is described alike, sees the change, and undoes it."""
        before = self.state()
        change = self.makeChange()
        again = self.remake(change)
        self.assertEqual(again.describe(), change.describe())
        self.assertEqual(again.describeUndo(), change.describeUndo())
        self.assertEqual(again.record(), change.record())
        change.apply()
        self.assertTrue(again.holds())
        if self.owned:
            change.undo()
        again.undo()
        self.assertFalse(change.holds())
        self.assertEqual(self.state(), before)

    def test_replacesWhatACrashLeft(self) -> None:
        """A new start replaces what the last one has left."""
        before = self.state()
        first = self.makeChange()
        first.apply()
        if self.owned:
            first.undo()
        second = self.makeChange()
        second.apply()
        self.assertTrue(second.holds())
        second.undo()
        self.assertEqual(self.state(), before)
