"""Tests of L{nanotun.console.capture.known}."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.capture import known as knownModule
from nanotun.console.capture.known import CALM, HOLD, PROMPT, KnownFlow, KnownFlows, describe
from nanotun.console.capture.packets import CapturedPacket, FlowFinder
from nanotun.daemon.lately import INTEREST
from tests.unit.console.capture.made import CURL, SYN, Machine, fromApp, row


class KnownFlowsTests(SynchronousTestCase):
    """L{KnownFlows}."""

    def setUp(self) -> None:
        self.machine = Machine()
        self.known = KnownFlows(self.machine.rows, self.machine, self.machine.clock.seconds)
        self.known.start()
        self.machine.asked.clear()
        self.finder = FlowFinder()

    def see(self, packet: CapturedPacket) -> KnownFlow:
        """A packet comes."""
        key = self.finder.keyOf(packet)
        assert key is not None
        return self.known.see(packet, key)

    def later(self, seconds: float) -> None:
        """Time passes, and it is asked whatever is due."""
        self.machine.clock.advance(seconds)
        self.known.refresh()

    def test_quiet(self) -> None:
        """While no packets of new flows come, the daemon only hears that somebody is here."""
        self.machine.flows = [row(1)]
        self.known.start()
        for _ in range(12):
            self.later(1)
        self.assertEqual((self.machine.asked, self.machine.lookups), ([0, 1, 1], []))
        self.assertLess(knownModule.IDLE, INTEREST)

    def test_ended(self) -> None:
        """A flow that is over when it is asked about is known as well, and hides no others."""
        self.machine.processes[50000] = CURL
        self.machine.flows = [row(9, state="ended")]
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertEqual(flow.comment(), "program curl (pid 17), rule #2, by office")
        self.machine.flows = [row(8, 50001)]
        other = self.see(fromApp(50001, SYN))
        self.later(PROMPT)
        self.assertEqual(other.comment(), "rule #2, by office")

    def test_atOnce(self) -> None:
        """A new flow is asked about at once, and only those that are newer than all known."""
        self.machine.flows = [row(1, 40000), row(5, 40001)]
        self.known.start()
        self.machine.flows.append(row(7))
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.assertFalse(flow.settled)
        self.known.refresh()
        self.assertEqual((self.machine.asked, self.machine.lookups), ([0, 5], [[50000]]))
        self.assertTrue(flow.settled)
        self.assertEqual(flow.comment(), "program curl (pid 17), rule #2, by office")

    def test_old(self) -> None:
        """Of a flow that was open before, the program is looked up when a packet of it comes."""
        self.machine.flows = [row(1)]
        self.machine.processes[50000] = CURL
        self.known.start()
        flow = self.see(fromApp())
        self.known.refresh()
        self.assertTrue(flow.settled)
        self.assertEqual(flow.comment(), "program curl (pid 17), rule #2, by office")

    def test_undecided(self) -> None:
        """A flow that waits for its decision is asked about until it has one."""
        waiting = row(3, state="waiting", rule=None, upstream=None, verdict=None)
        self.machine.flows = [row(2, 40000), waiting]
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertFalse(flow.settled)
        self.machine.flows = [row(2, 40000), row(3), row(4, 40001)]
        self.later(PROMPT)
        self.assertEqual(self.machine.asked, [0, 2])
        self.assertEqual(flow.comment(), "rule #2, by office")
        self.assertTrue(flow.settled)

    def test_refused(self) -> None:
        """A flow that is refused after a while is not waited for, nor listed ever again."""
        self.machine.flows = [row(3, rule=None, upstream=None, state="waiting")]
        self.see(fromApp(flags=SYN))
        self.later(PROMPT)
        self.machine.flows = [row(4, 50001)]
        self.later(PROMPT)
        self.assertEqual(self.machine.asked, [0, 2])
        for _ in range(12):
            self.later(1)
        self.assertEqual(self.machine.asked, [0, 2, 4, 4])

    def test_pace(self) -> None:
        """Nobody is asked too often: first promptly, and after a second now and then."""
        self.machine.processes[50000] = CURL
        self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.later(PROMPT / 2)
        self.assertEqual(len(self.machine.asked), 1)
        self.later(PROMPT / 2)
        self.assertEqual(len(self.machine.asked), 2)
        self.later(HOLD)
        for _ in range(10):
            self.later(CALM / 10)
        self.assertEqual(len(self.machine.asked), 4)

    def test_slow(self) -> None:
        """If the answers take long, the questions are the rarer."""
        clock = self.machine.clock

        def slowly(after: int) -> list[dict[str, object]]:
            clock.advance(0.1)
            return self.machine.rows(after)

        self.known = KnownFlows(slowly, self.machine, clock.seconds)
        self.known.start()
        self.machine.asked.clear()
        self.see(fromApp(flags=SYN))
        self.later(PROMPT)
        self.later(0.3)
        self.assertEqual(len(self.machine.asked), 1)
        self.later(0.11)
        self.assertEqual(len(self.machine.asked), 2)

    def test_unlisted(self) -> None:
        """A flow that the daemon never lists is given up, and is known by its packets."""
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.later(HOLD + knownModule.PATIENCE + 1)
        asked = len(self.machine.asked)
        self.later(CALM)
        self.assertEqual(len(self.machine.asked), asked)
        self.assertEqual(flow.comment(), "program curl (pid 17)")

    def test_noProgram(self) -> None:
        """A program that is not found is not searched for again."""
        self.machine.flows = [row(1, rule=None, upstream=None, state="waiting")]
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.machine.flows = [row(1)]
        self.later(PROMPT)
        self.assertTrue(flow.settled)
        self.assertEqual(self.machine.lookups, [[50000]])

    def test_shortLived(self) -> None:
        """If the kernel has recorded whose it is, that is looked up before anything else."""
        self.machine.isRecorded = True
        self.machine.processes = {50000: CURL, 50001: {**CURL, "pid": 18}}
        flows = [self.see(fromApp(flags=SYN))]
        self.known.refresh()
        flows.append(self.see(fromApp(50001, SYN)))
        self.known.refresh()
        self.machine.processes.clear()
        self.assertEqual(len(self.machine.asked), 1)
        self.machine.flows = [row(1), row(2, 50001)]
        self.later(PROMPT)
        self.assertEqual(
            [each.comment() for each in flows],
            [f"program curl (pid {pid}), rule #2, by office" for pid in (17, 18)],
        )
        self.assertEqual(self.machine.lookups, [])

    def test_daemonKnows(self) -> None:
        """The program that the daemon names stands."""
        self.machine.flows = [row(1, process={**CURL, "name": "wget", "pid": 18})]
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertEqual(flow.comment(), "program wget (pid 18), rule #2, by office")

    def test_onceAndOnChange(self) -> None:
        """A comment is made once, and again when something else is known."""
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertEqual(flow.comment(), "program curl (pid 17)")
        self.assertEqual(flow.comment(), "")
        self.machine.flows = [row(1)]
        self.later(PROMPT)
        self.assertEqual(flow.comment(), "program curl (pid 17), rule #2, by office")
        self.assertEqual(flow.comment(), "")

    def test_portAgain(self) -> None:
        """Another connection from the same port has a comment, a program and a rule of its own."""
        self.machine.flows = [row(1)]
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertTrue(flow.comment())
        self.later(60)
        self.machine.flows = [row(9, rule="default", upstream="direct")]
        self.machine.processes[50000] = {**CURL, "pid": 99}
        self.assertIs(self.see(fromApp(flags=SYN)), flow)
        self.assertFalse(flow.settled)
        self.later(PROMPT)
        self.later(PROMPT)
        self.assertTrue(flow.settled)
        self.assertEqual(flow.comment(), "program curl (pid 99), rule default, by direct")

    def test_portAgainRecorded(self) -> None:
        """The program that was found at the first packet of another connection is its own."""
        self.machine.isRecorded = True
        self.machine.flows = [row(1)]
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.later(60)
        self.machine.flows = [row(9)]
        self.machine.processes[50000] = {**CURL, "pid": 99}
        self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.machine.processes.clear()
        self.later(PROMPT)
        self.assertTrue(flow.settled)
        self.assertEqual(flow.comment(), "program curl (pid 99), rule #2, by office")

    def test_again(self) -> None:
        """A SYN that is sent again changes nothing."""
        self.machine.flows = [row(1)]
        self.machine.processes[50000] = CURL
        flow = self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertTrue(flow.comment())
        self.later(1)
        self.see(fromApp(flags=SYN))
        self.known.refresh()
        self.assertTrue(flow.settled)
        self.assertEqual(flow.comment(), "")

    def test_forgets(self) -> None:
        """Flows that are no more are forgotten, those that are open are not."""
        with mock.patch.object(knownModule, "REMEMBERED", 10):
            self.known = KnownFlows(self.machine.rows, self.machine, self.machine.clock.seconds)
            self.known.start()
            self.machine.flows = [row(1)]
            self.machine.processes[50000] = CURL
            flow = self.see(fromApp())
            for port in range(40000, 40010):
                self.see(fromApp(port))
            self.later(60)
            self.see(fromApp(40011, SYN))
            self.later(60)
            self.assertIs(self.see(fromApp()), flow)
            self.assertTrue(flow.settled)
            self.see(fromApp(40000))
            self.later(1)
            self.assertIn(40000, self.machine.lookups[-1])


class FlowDescriptionTests(SynchronousTestCase):
    """L{describe}."""

    def test_parts(self) -> None:
        """It says what is known, and nothing of what is not."""
        nobody = {**CURL, "pid": 0, "name": ""}
        for fields, process, text in (
            ({}, CURL, "program curl (pid 17), rule #2, by office"),
            ({"domain": "a.lab"}, None, "to a.lab, rule #2, by office"),
            ({"rule": None, "upstream": None}, None, ""),
            ({}, nobody, "rule #2, by office"),
            ({"domain": "a\nb"}, {**CURL, "name": "c\x1b[0m"}, None),
        ):
            said = describe(row(1, **fields), process)
            if text is None:
                self.assertEqual(said, "program c?[0m (pid 17), to a?b, rule #2, by office")
            else:
                self.assertEqual(said, text)
