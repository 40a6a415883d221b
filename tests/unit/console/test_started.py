"""Tests of L{nanotun.console.started}."""

from __future__ import annotations

import io
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.started import tell
from nanotun.errors import NotRunning, RunningError

OFF = "The proxy socks5://h:1 cannot be reached."


class TellTests(SynchronousTestCase):
    """L{tell}."""

    def told(self, answer: Any) -> tuple[int, str, str]:
        """Status, output and errors for an answer of the daemon, or an error."""

        def ask(runDir: str) -> Any:
            self.assertEqual(runDir, "/run/x")
            if isinstance(answer, Exception):
                raise answer
            return answer

        out, err = io.StringIO(), io.StringIO()
        return tell("nano0", "/run/x", out, err, ask), out.getvalue(), err.getvalue()

    def report(self, *troubles: str) -> dict[str, Any]:
        """A daemon's report about this many proxies."""
        proxies = [{"trouble": trouble} for trouble in troubles]
        return {"daemon": {"pid": 4711}, "upstream": {"proxies": proxies}}

    def test_well(self) -> None:
        """The device and the process are named."""
        up = "nano0 is up, as process 4711.\n"
        self.assertEqual(self.told(self.report("")), (0, up, ""))
        self.assertEqual(self.told({"daemon": {"pid": 4711}, "upstream": None}), (0, up, ""))

    def test_down(self) -> None:
        """A proxy that is down is no failure, and its sentence is on standard error."""
        status, out, err = self.told(self.report(OFF))
        self.assertEqual((status, out), (0, "nano0 is up, as process 4711.\n"))
        self.assertEqual(
            err, f"nanotun: {OFF}\nnanotun: Connections fail until the proxy answers.\n"
        )

    def test_someDown(self) -> None:
        """If another proxy is up, connections do not fail."""
        self.assertEqual(self.told(self.report("", OFF))[2], f"nanotun: {OFF}\n")

    def test_escaped(self) -> None:
        """Text of a proxy cannot control the terminal."""
        self.assertNotIn("\x1b", self.told(self.report("\x1b[2J"))[2])

    def test_notAsked(self) -> None:
        """A daemon that cannot be asked is up all the same; one that has ended is not."""
        self.assertEqual(self.told(RunningError("x")), (0, "nano0 is up.\n", ""))
        status, out, err = self.told(NotRunning("x"))
        self.assertEqual((status, out), (1, ""))
        self.assertIn("ended right after its start", err)
