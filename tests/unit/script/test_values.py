"""Tests of what a user's script works with."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.script import NOT_LOOKED_UP, Flow, NotLookedUp, Process, Query, Through


class FlowTests(SynchronousTestCase):
    """L{Flow}."""

    def test_defaults(self) -> None:
        """A script's test can make a flow out of what it is about, and nothing else."""
        flow = Flow()
        self.assertEqual((flow.protocol, flow.domain, flow.port), ("tcp", None, 443))
        self.assertTrue(flow.local)
        self.assertIsNone(flow.address)
        self.assertIsNone(flow.process)
        self.assertEqual(flow.id, 0)
        self.assertEqual(Flow("example.org", 25).port, 25)

    def test_host(self) -> None:
        """The host is the domain, or else the address, and the text brackets IPv6."""
        self.assertEqual(Flow("example.org", address="192.0.2.1").host, "example.org")
        self.assertEqual(str(Flow("example.org")), "tcp example.org:443")
        flow = Flow(None, 53, address="2001:db8::1", protocol="udp", id=4711)
        self.assertEqual(flow.host, "2001:db8::1")
        self.assertEqual(str(flow), "udp [2001:db8::1]:53")
        self.assertEqual(repr(flow), "<Flow 4711: udp [2001:db8::1]:53>")

    def test_isBelow(self) -> None:
        """A name is below itself and its parents, but not below what only ends alike."""
        for domain, expected in (
            ("example.org", True),
            ("www.example.org", True),
            ("a.b.example.org", True),
            ("notexample.org", False),
            ("example.org.test", False),
            ("org", False),
            (None, False),
        ):
            self.assertEqual(Flow(domain).isBelow("example.net", "example.org"), expected, domain)
        self.assertFalse(Flow("example.org").isBelow())

    def test_process(self) -> None:
        """A process that was not looked up raises: None would look like one that has none."""
        process = Process(4711, 1000, "ann", "curl", "/usr/bin/curl", "/user.slice")
        self.assertIs(Flow(process=process).process, process)
        error = self.assertRaises(NotLookedUp, getattr, Flow(process=NOT_LOOKED_UP), "process")
        self.assertIn("needsProcess = True", str(error))
        self.assertRaises(NotLookedUp, getattr, Flow(process=NOT_LOOKED_UP), "process", None)

    def test_closed(self) -> None:
        """A misspelt attribute is an error, also where it is set."""
        self.assertRaises(AttributeError, setattr, Flow(), "domian", "example.org")


class ProcessTests(SynchronousTestCase):
    """L{Process}."""

    def test_unit(self) -> None:
        """The unit is the innermost one of the control group."""
        for cgroup, unit in (
            ("/system.slice/cron.service", "cron.service"),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.scope", "web.scope"),
            ("/system.slice/cron.service/worker", "cron.service"),
            ("/user.slice", "user.slice"),
            ("/lxc/one", ""),
            ("", ""),
        ):
            self.assertEqual(Process(cgroup=cgroup).unit, unit, cgroup)


class AnswerTests(SynchronousTestCase):
    """L{Through} and L{Query}."""

    def test_through(self) -> None:
        """Equal answers are equal, so that a script's test can compare them."""
        self.assertEqual(Through("tor", session="a"), Through("tor", session="a"))
        self.assertEqual(len({Through("tor", a="1", b="2"), Through("tor", b="2", a="1")}), 1)
        self.assertNotEqual(Through("tor", session="a"), Through("tor", session="b"))
        self.assertNotEqual(Through("tor"), "tor")
        self.assertEqual(repr(Through("tor", session="a")), "Through('tor', session='a')")

    def test_query(self) -> None:
        """A query is one for an address unless a test says otherwise."""
        self.assertEqual(Query("example.org").type, "A")
