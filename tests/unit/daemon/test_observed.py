"""Tests of L{nanotun.daemon.observed}."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon.observed import INTEREST, ProgramSearch, ProgramsOnDemand, programSearch
from nanotun.errors import ConfigError
from nanotun.interfaces import IPart
from nanotun.owners.recorder import Recorder
from nanotun.owners.syscalls import LinuxBpf
from nanotun.router.programs import FlowPrograms
from nanotun.testing import FakeOwners

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "h")}, None)


class StartedOwners(FakeOwners):
    """
    Owners that are started and stopped.

    @ivar calls: which were called.
    @ivar error: raised by the start, if set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.error: Exception | None = None

    def start(self) -> None:
        """See L{IPart.start}."""
        self.calls.append("start")
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self.calls.append("stop")


class ProgramSearchTests(SynchronousTestCase):
    """L{ProgramSearch}."""

    def setUp(self) -> None:
        """Owners, and the programs that they find."""
        self.owners = StartedOwners()
        self.programs = FlowPrograms(Clock(), lambda host: True)
        self.search = ProgramSearch(cast(Any, self.owners), self.programs)

    def test_part(self) -> None:
        """Programs are looked up from its start to its stop."""
        verifyObject(IPart, self.search)
        self.search.start()
        self.assertTrue(self.programs.active)
        self.search.stop()
        self.assertFalse(self.programs.active)
        self.assertEqual(self.owners.calls, ["start", "stop"])

    def test_impossible(self) -> None:
        """Where nobody can be asked, that is one warning, and flows are recorded without."""
        self.owners.error = ConfigError("It cannot be found out here.")
        with capturedLogs() as events:
            self.search.start()
        self.assertEqual([each["log_level"] for each in events], [LogLevel.warn])
        self.assertFalse(self.programs.active)
        self.search.stop()
        self.assertEqual(self.owners.calls, ["start"])

    def test_wanted(self) -> None:
        """Only a daemon that records flows has one, which finds every process."""
        recorder = Recorder(LinuxBpf())
        told = replace(SETTINGS, logFlows=True)
        self.assertEqual(programSearch(told, Clock(), recorder, self.programs), ())
        logged = replace(SETTINGS, flowLog="/var/lib/nanotun/flows.db")
        (search,) = programSearch(logged, Clock(), recorder, self.programs)
        self.assertTrue(cast(Any, search)._owners.options.everybody)
        shown = replace(SETTINGS, web="/run/web.sock")
        (demand,) = programSearch(shown, Clock(), recorder, self.programs)
        self.assertIsInstance(demand, ProgramsOnDemand)
        (both,) = programSearch(replace(shown, flowLog="/x.db"), Clock(), recorder, self.programs)
        self.assertIsInstance(both, ProgramSearch)


class ProgramsOnDemandTests(SynchronousTestCase):
    """L{ProgramsOnDemand}."""

    def setUp(self) -> None:
        """A part that is started."""
        self.clock = Clock()
        self.owners = StartedOwners()
        self.programs = FlowPrograms(self.clock, lambda host: True)
        search = ProgramSearch(cast(Any, self.owners), self.programs, everyFlow=False)
        self.demand = ProgramsOnDemand(search, self.clock)
        verifyObject(IPart, self.demand)
        self.demand.start()

    def test_looked(self) -> None:
        """Nobody looks for programs until somebody looks at flows, nor a minute after that."""
        self.assertEqual(self.owners.calls, [])
        self.demand.looked()
        self.clock.advance(INTEREST - 1)
        self.demand.looked()
        self.clock.advance(INTEREST - 1)
        self.assertEqual(self.owners.calls, ["start"])
        self.clock.advance(1)
        self.assertEqual(self.owners.calls, ["start", "stop"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.demand.looked()
        self.assertEqual(self.owners.calls, ["start", "stop", "start"])

    def test_standing(self) -> None:
        """Flows that nobody looks at are not looked up, so that decisions may stand."""
        self.demand.looked()
        self.assertFalse(self.programs.active)

    def test_stop(self) -> None:
        """It ends with the daemon, whether somebody looks or not."""
        self.demand.stop()
        self.demand.looked()
        self.demand.stop()
        self.assertEqual(self.owners.calls, ["start", "stop"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_impossible(self) -> None:
        """Where nobody can be asked, nothing is stopped that was not started."""
        self.owners.error = ConfigError("It cannot be found out here.")
        with capturedLogs() as events:
            self.demand.looked()
        self.assertEqual(len(events), 1)
        self.clock.advance(INTEREST)
        self.assertEqual(self.owners.calls, ["start"])
