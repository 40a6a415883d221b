"""Tests of L{nanotun.console.flows.close} against a daemon on a real control socket."""

from __future__ import annotations

import os
import pty
import select
import sys
from typing import Any

from nanotun.console.flows import close
from tests.unit.console.flow_cases import AnotherClient, FlowsCase, described


def read(fd: int) -> str:
    """What is there to read of a terminal."""
    said = b""
    while select.select([fd], [], [], 0)[0]:
        said += os.read(fd, 65536)
    return said.decode().replace("\r\n", "\n")


class CloseTests(FlowsCase):
    """C{nanotun close}."""

    def open(self) -> list[int]:
        """The flows that are left."""
        return [flow["id"] for flow in self.daemon.flows]

    def closeHere(self, answer: str, *words: str) -> tuple[int, str]:
        """
        Close on a terminal.

        @param answer: what the user types.
        @return: the status, and what the terminal shows.
        """
        mine, terminal = pty.openpty()
        os.write(mine, answer.encode())
        with os.fdopen(os.dup(terminal), "w") as out, os.fdopen(terminal) as into:
            self.patch(sys, "stdin", into)
            self.patch(sys, "stdout", out)
            try:
                result = close.main([*words, *self.where()])
            finally:
                out.flush()
                sys.stdin, sys.stdout = sys.__stdin__, sys.__stdout__
            # What nobody has read goes with the terminal.
            said = read(mine)
        os.close(mine)
        return result, said

    def test_ids(self) -> None:
        """Flows are closed by their ids, without a listing; those that are gone are counted."""
        result = self.say(close.main, *self.where(), "2", "9", "2")
        self.assertEqual(result, (0, "Closed 2 flows.\n", ""))
        self.assertEqual(self.open(), [1, 5])
        self.assertEqual(self.daemon.asked, [("close", {"ids": [2, 9]})])
        result = self.say(close.main, *self.where(), "1", "2", "9")
        self.assertEqual(result, (0, "Closed 1 flow; 2 were not open any more.\n", ""))

    def test_absent(self) -> None:
        """Where nothing was closed, the status is 1."""
        result = self.say(close.main, *self.where(), "77")
        self.assertEqual(result, (1, "That flow is not open.\n", ""))
        result = self.say(close.main, *self.where(), "77", "78")
        self.assertEqual(result, (1, "None of those flows is open.\n", ""))
        result = self.say(close.main, *self.where(), "--process", "wget", "--yes")
        self.assertEqual(result, (1, "No flow meets the filters; 4 are open.\n", ""))
        self.assertEqual(self.open(), [1, 2, 5, 9])

    def test_filters(self) -> None:
        """What meets the filters is closed; with --yes nobody is asked."""
        result = self.say(close.main, *self.where(), "--process", "curl", "--to", ":443", "--yes")
        self.assertEqual(result, (0, "Closed 2 flows.\n", ""))
        self.assertEqual(self.open(), [2, 5])

    def test_nobody(self) -> None:
        """Without a terminal and without --yes nothing is closed, as nobody can be asked."""
        result = self.say(close.main, *self.where(), "--process", "curl")
        sentence = "3 flows would be closed, and nobody can be asked here; add --yes."
        self.assertEqual(result, (1, "", f"nanotun: {sentence}\n"))
        self.assertEqual(self.open(), [1, 2, 5, 9])

    def test_asked(self) -> None:
        """On a terminal the flows are shown first, and closed if the user agrees."""
        for answer, result, left in (
            ("\n", 1, [1, 2, 5, 9]),
            ("n\n", 1, [1, 2, 5, 9]),
            ("\x04", 1, [1, 2, 5, 9]),
            ("y\n", 0, [1, 2, 5]),
        ):
            status, said = self.closeHere(answer, "--protocol", "udp")
            self.assertEqual((status, self.open()), (result, left), repr(answer))
            self.assertIn("www.example.org:443", said)
            self.assertIn("Close this flow? [y/N]", said)
            self.assertIn("Nothing was closed." if result else "Closed 1 flow.", said)
        _, said = self.closeHere("YES\n", "--protocol", "tcp")
        self.assertIn("Close these 3 flows? [y/N]", said)
        self.assertEqual(self.open(), [])

    def test_later(self) -> None:
        """What began after the flows were shown is not closed, even if it meets the filters."""

        def agreed(look: Any) -> bool:
            self.daemon.flows.append(described(10))
            return True

        self.patch(close, "_agreed", agreed)
        self.say(close.main, *self.where(), "--process", "curl")
        self.assertEqual(self.open(), [5, 10])

    def test_another(self) -> None:
        """Flows of a daemon that was started after they were shown are not closed."""
        self.patch(close, "Client", AnotherClient)
        sentence = "nanotun was started again meanwhile, which has ended these flows; nothing"
        result = self.say(close.main, *self.where(), "--process", "curl", "--yes")
        self.assertEqual(result, (1, "", f"nanotun: {sentence} was closed.\n"))
        self.assertEqual(self.open(), [1, 2, 5, 9])

    def test_many(self) -> None:
        """More flows than one request can name are closed by several."""
        count = 2001
        self.daemon.flows = [described(1 << 63 | each) for each in range(count)]
        _, said, _ = self.say(close.main, *self.where(), "--yes", "--process", "curl")
        self.assertEqual((said, self.open()), (f"Closed {count} flows.\n", []))

    def test_wrong(self) -> None:
        """It needs either ids or filters."""
        for words, sentence in (
            ((), "give ids or filters, such as 17 or --process curl"),
            (("--yes",), "give ids or filters, such as 17 or --process curl"),
            (
                ("7", "--protocol", "udp"),
                "give either ids or filters; 'nanotun flows' shows what is open",
            ),
            (("curl",), "'curl' is no flow's id"),
            (("0",), "'0' is no flow's id"),
            (("-1",), "there is no option -1"),
        ):
            expected = 2, "", f"nanotun close: {sentence}; see 'nanotun close --help'.\n"
            self.assertEqual(self.say(close.main, *words), expected, words)
        self.assertEqual(self.daemon.asked, [])
