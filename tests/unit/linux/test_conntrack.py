"""
Tests for L{nanotun.linux.conntrack}, with bytes that Linux 6.18 understood and sent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.linux import conntrack, netlink
from nanotun.linux.conntrack import ORIGINAL, REPLY, originalOf, packQuestion, readSide

#: As the stack sees it: the app asked 10.9.9.9, and the firewall made that the gateway.
FLOW4 = Flow(7, Protocol.TCP, Endpoint("10.9.9.9", 38532), Endpoint("198.18.0.1", 53))
FLOW6 = Flow(8, Protocol.TCP, Endpoint("fd00::9", 56608), Endpoint("fd00::1", 53))

QUESTION4 = bytes.fromhex(
    "48000000010101000100000000000000"  # struct nlmsghdr
    "02000000"  # struct nfgenmsg
    "34000280"
    "140001800800" + "0100c6120001" + "080002000a090909"
    "1c000280" + "0500010006000000" + "0600020000350000" + "0600030096840000"
)
ANSWER4 = bytes.fromhex(
    "840000000001020001000000383b0000"
    "02000000"
    "34000180"
    "14000180" + "080001000a090909" + "080002000a090909"
    "1c000280" + "0500010006000000" + "0600020096840000" + "0600030000350000"
    "34000280"
    "14000180" + "08000100c6120001" + "080002000a090909"
    "1c000280" + "0500010006000000" + "0600020000350000" + "0600030096840000"
    "08000300000001ae"
)
QUESTION6 = bytes.fromhex(
    "60000000010101000100000000000000"
    "0a000000"
    "4c000280"
    "2c000180"
    "14000300fd000000000000000000000000000001"
    "14000400fd000000000000000000000000000009"
    "1c000280" + "0500010006000000" + "0600020000350000" + "06000300dd200000"
)
ANSWER6 = bytes.fromhex(
    "6000000000010200010000003cddc3a8"
    "0a000000"
    "4c000180"
    "2c000180"
    "14000300fd000000000000000000000000000009"
    "14000400fd000000000000000000000000000009"
    "1c000280" + "0500010006000000" + "06000200dd200000" + "0600030000350000"
)
#: NLMSG_ERROR with ENOENT.
UNKNOWN = bytes.fromhex("24000000020000000100000000000000" + "feffffff" + "00" * 16)


def reversedOf(flow: Flow) -> Flow:
    """The flow of its answers."""
    return flow._replace(source=flow.destination, destination=flow.source)


class FormatTests(SynchronousTestCase):
    """Tests of the formats."""

    if sys.byteorder != "little":
        skip = "the expected bytes are those of a little-endian machine"

    def test_question(self) -> None:
        """The question has the bytes that the kernel understood, for both families."""
        self.assertEqual(packQuestion(REPLY, reversedOf(FLOW4)), QUESTION4)
        self.assertEqual(packQuestion(REPLY, reversedOf(FLOW6)), QUESTION6)

    def test_answer(self) -> None:
        """Either side of the flow is read, for both families."""
        asked4 = FLOW4._replace(destination=Endpoint("10.9.9.9", 53))
        asked6 = FLOW6._replace(destination=Endpoint("fd00::9", 53))
        self.assertEqual(readSide(ANSWER4, ORIGINAL, FLOW4), asked4)
        self.assertEqual(readSide(ANSWER4, REPLY, FLOW4), reversedOf(FLOW4))
        self.assertEqual(readSide(ANSWER6, ORIGINAL, FLOW6), asked6)

    def test_none(self) -> None:
        """An error, and an answer that is cut off anywhere, say nothing."""
        self.assertIsNone(readSide(UNKNOWN, ORIGINAL, FLOW4))
        self.assertIsNone(readSide(ANSWER6, REPLY, FLOW6))
        for length in range(60):
            header = length.to_bytes(4, "little") + ANSWER4[4:length]
            self.assertIsNone(readSide(header[:length], ORIGINAL, FLOW4))


class AskingTests(SynchronousTestCase):
    """Tests for L{originalOf}."""

    def test_noSocket(self) -> None:
        """Where the kernel cannot be asked, there is no answer."""
        with mock.patch.object(netlink, "openNetlink", side_effect=OSError):
            self.assertIsNone(originalOf(FLOW4))

    def test_unchanged(self) -> None:
        """A flow that no firewall changed has no other original."""
        with mock.patch.object(conntrack, "lookUp", return_value=FLOW4):
            self.assertIsNone(originalOf(FLOW4))

    def test_kernel(self) -> None:
        """The kernel tells what an app asked for, in both families, and nothing else."""
        if os.geteuid() or not (shutil.which("nft") and shutil.which("unshare")):
            self.skipTest("needs root, nft and unshare")
        program = [sys.executable, "-m", "tests.unit.linux.redirected"]
        ran = subprocess.run(["unshare", "-n", *program], capture_output=True, text=True)
        if "unshare" in ran.stderr or "Could not process rule" in ran.stderr:
            self.skipTest(f"no network namespace with nft here: {ran.stderr}")
        self.assertEqual((ran.stdout.split(), ran.stderr), (["10.9.9.9:53", "[fd00::9]:53"], ""))
