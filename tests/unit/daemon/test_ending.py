"""
Tests of L{nanotun.daemon.ending}.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.daemon.ending import LIMIT, Ending, isRestart, makeEnding
from nanotun.interfaces import End
from nanotun.routing.firewall.tools import TIME_LIMIT, Ran
from nanotun.testing.firewall import FakeTools

#: What systemd 252 prints with C{--no-legend --plain} while the daemon handles SIGTERM.
RESTART = "54 nanotun.service restart running\n"
STOP = "54 nanotun.service stop running\n"
OTHER = "54 other.service restart running\n55 nanotun.service stop waiting\n"
SHUTDOWN = (
    "120 nanotun.service stop running\n"
    "98 shutdown.target start waiting\n"
    "97 systemd-poweroff.service start waiting\n"
)


class FakeSystemd(FakeTools):
    """
    A machine with systemd.

    @ivar jobs: what C{systemctl list-jobs} says.
    @ivar booted: whether it has booted the machine.
    @ivar asked: the commands that were run, with their limits.
    """

    def __init__(self, jobs: str = "") -> None:
        super().__init__("systemctl")
        self.jobs = jobs
        self.booted = True
        self.asked: list[tuple[list[str], float]] = []

    def exists(self, path: str) -> bool:
        """See L{Tools.exists}."""
        return self.booted and path == "/run/systemd/system"

    def run(self, argv: Sequence[str], text: str = "", limit: float = TIME_LIMIT) -> Ran:
        """See L{Tools.run}."""
        self.asked.append((list(argv), limit))
        return Ran(-1, "", self.broken) if self.broken else Ran(0, self.jobs, "")


class EndingTests(SynchronousTestCase):
    """How a daemon ends."""

    def ending(self, tools: FakeTools, cgroup: str = "", **environment: str) -> Ending:
        """The ending of a process in a cgroup."""
        path = Path(self.mktemp())
        path.write_text(cgroup or "0::/system.slice/nanotun.service\n")
        return makeEnding({"INVOCATION_ID": "1", **environment}, tools, str(path))

    def test_jobs(self) -> None:
        """A restart of the daemon's own unit, and a shutdown, are no stop."""
        for jobs, is_ in ((RESTART, True), (STOP, False), (OTHER, False), (SHUTDOWN, True)):
            self.assertEqual(isRestart(jobs, "nanotun.service"), is_, jobs)
        for jobs in ("", "No jobs running.\n", "\n \nx\n"):
            self.assertFalse(isRestart(jobs, "nanotun.service"), jobs)
            self.assertFalse(isRestart(jobs, ""), jobs)

    def test_systemd(self) -> None:
        """systemd is asked, for a second at most, when the daemon ends; not before."""
        systemd = FakeSystemd(RESTART)
        ending = self.ending(systemd)
        self.assertEqual(systemd.asked, [])
        self.assertIs(ending.how(), End.RESTART)
        ((argv, limit),) = systemd.asked
        self.assertEqual(argv[1], "list-jobs")
        self.assertEqual(limit, LIMIT)
        self.assertIs(self.ending(FakeSystemd(STOP)).how(), End.STOP)
        self.assertIs(self.ending(FakeSystemd(OTHER)).how(), End.STOP)

    def test_unit(self) -> None:
        """The unit is found in both hierarchies of control groups, whatever its name is."""
        jobs = "7 vpn@a.service restart running\n"
        for cgroup in (
            "0::/system.slice/system-vpn.slice/vpn@a.service\n",
            "12:pids:/x.service\n1:name=systemd:/system.slice/vpn@a.service\n0::/\n",
        ):
            self.assertIs(self.ending(FakeSystemd(jobs), cgroup).how(), End.RESTART)
        self.assertIs(self.ending(FakeSystemd(jobs), "0::/user.slice/a.scope\n").how(), End.STOP)

    def test_noAnswer(self) -> None:
        """If systemd does not answer, it is a stop: the machine must not be cut off by mistake."""
        systemd = FakeSystemd(RESTART)
        systemd.broken = "it took more than 1 s"
        self.assertIs(self.ending(systemd).how(), End.STOP)

    def test_noSystemd(self) -> None:
        """Where systemd does not run, nobody is asked."""
        systemd = FakeSystemd(RESTART)
        systemd.booted = False
        self.assertIs(self.ending(systemd).how(), End.STOP)
        self.assertEqual(systemd.asked, [])
        self.assertIs(self.ending(FakeTools()).how(), End.STOP)

    def test_terminal(self) -> None:
        """
        A daemon that systemd has not started stays closed while the machine goes down, and is no
        unit that could be started again.
        """
        for jobs, end in ((SHUTDOWN, End.RESTART), (RESTART, End.STOP), (STOP, End.STOP)):
            path = Path(self.mktemp())
            path.write_text("0::/system.slice/nanotun.service\n")
            self.assertIs(makeEnding({}, FakeSystemd(jobs), str(path)).how(), end)
            nowhere = makeEnding({"INVOCATION_ID": "1"}, FakeSystemd(jobs), "/nowhere")
            self.assertIs(nowhere.how(), end)

    def test_said(self) -> None:
        """What the daemon knows about its end itself counts more than systemd's jobs."""
        for say, end in (
            (Ending.fail, End.FAILED),
            (Ending.notStarted, End.NOT_STARTED),
            (Ending.restart, End.RESTART),
        ):
            systemd = FakeSystemd(STOP)
            ending = self.ending(systemd)
            say(ending)
            self.assertIs(ending.how(), end)
            self.assertEqual(systemd.asked, [])
