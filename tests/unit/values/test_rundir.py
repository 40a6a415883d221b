"""
The commands that messages suggest.
"""

from twisted.trial.unittest import TestCase

from nanotun.rundir import RUN_DIR, command


class CommandTests(TestCase):
    """A suggested command reaches the daemon that the message is about."""

    def test_default(self) -> None:
        """The usual runDir need not be typed."""
        self.assertEqual(command("recover", RUN_DIR), "nanotun recover")

    def test_other(self) -> None:
        """Any other is given, quoted for the shell."""
        self.assertEqual(command("stop", "/srv/x"), "nanotun stop --run-dir /srv/x")
        self.assertEqual(command("stop", "/srv/x y"), "nanotun stop --run-dir '/srv/x y'")
