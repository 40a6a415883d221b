"""Tests of L{nanotun.console.capture.capture} and of the hold-back."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.capture import holding as holdingModule
from nanotun.console.capture.capture import Capture, Captured, Limits
from nanotun.console.capture.holding import Holding
from nanotun.console.capture.known import HOLD, PROMPT, KnownFlows
from nanotun.console.capture.packets import CapturedPacket
from nanotun.console.flows.filters import Filter, Wanted
from nanotun.errors import NanotunError
from tests.unit.console.capture.made import (
    APP4,
    CURL,
    FAR4,
    SYN,
    Machine,
    captured,
    fromApp,
    ip,
    row,
    toApp,
)

OFFICE = "rule #2, by office"
KIND = {0x0A0D0D0A: "section", 1: "interface", 5: "statistics", 6: "packet"}

#: Seconds of a turn without packets.
TURN = PROMPT

ENDED = "Ctrl-C has ended it."


def blocks(data: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Read a file: the kind of each block, the packet in it, and its comment."""
    while data:
        kind, total = struct.unpack_from("=II", data)
        packet, comment = b"", ""
        if KIND[kind] == "packet":
            (length,) = struct.unpack_from("=I", data, 20)
            packet, rest = data[28 : 28 + length], data[28 + (length + 3) // 4 * 4 : total - 4]
            if rest:
                code, size = struct.unpack_from("=HH", rest)
                comment = rest[4 : 4 + size].decode() if code == 1 else "?"
        yield KIND[kind], packet, comment
        data = data[total:]


class PacketReader:
    """
    A device without packets of its own.

    @ivar steps: what happens at each turn: packets come, or something is called.
    """

    name = "nano0"
    gone = False

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.steps: deque[Sequence[CapturedPacket] | object] = deque()
        self.dropped = 0

    def wait(self, seconds: float) -> None:
        """See L{PacketDevice.wait}."""
        self.machine.clock.advance(TURN)

    def read(self, limit: int) -> list[CapturedPacket]:
        """See L{PacketDevice.read}."""
        step = self.steps.popleft() if self.steps else ()
        if callable(step):
            step()
            return []
        assert isinstance(step, Sequence)
        return list(step)

    def counts(self) -> tuple[int, int]:
        """See L{PacketDevice.counts}."""
        return 9, self.dropped


class WrittenFile:
    """
    A file in memory.

    @ivar error: what writing raises.
    """

    name = "x.pcapng"

    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = None

    @property
    def size(self) -> int:
        """See L{CaptureFile.size}."""
        return len(self.data)

    def write(self, data: bytes) -> None:
        """See L{CaptureFile.write}."""
        if self.error is not None:
            raise self.error
        self.data += data


class CaptureCase(SynchronousTestCase):
    """Runs captures."""

    def setUp(self) -> None:
        self.machine = Machine()
        self.machine.flows = [row(1)]
        self.machine.processes[50000] = CURL
        self.device = PacketReader(self.machine)
        self.output = WrittenFile()
        self.why = ""

    def stop(self) -> None:
        """Ctrl-C."""
        self.why = ENDED

    def capture(
        self,
        *steps: object,
        wanted: Wanted | None = None,
        limits: Limits = Limits(1 << 20, 600.0),  # noqa: B008
    ) -> Captured:
        """Capture until the steps are over, if nothing ends it before."""
        self.device.steps.extend((*steps, self.stop))
        clock = self.machine.clock.seconds
        known = KnownFlows(self.machine.rows, self.machine, clock)
        known.start()
        holding = Holding(known, None if wanted is None else Filter(wanted), clock)
        capture = Capture(self.device, known, holding, self.output, limits, clock, lambda: 1)
        return capture.run("Linux", "nanotun", lambda: self.why)

    def packets(self) -> list[tuple[bytes, str]]:
        """The packets in the file and their comments."""
        return [(data, text) for kind, data, text in blocks(self.output.data) if kind == "packet"]

    def wait(self, seconds: float) -> list[object]:
        """Turns without packets, for so long."""
        return [()] * round(seconds / TURN)


class CaptureTests(CaptureCase):
    """L{Capture}."""

    def test_whole(self) -> None:
        """The packets are in the file in their order, between what describes them."""
        packets = [fromApp(flags=SYN), toApp(), fromApp(payload=b"hello")]
        done = self.capture(packets[:2], packets[2:])
        kinds = [kind for kind, _, _ in blocks(self.output.data)]
        self.assertEqual(kinds, ["section", "interface", *["packet"] * 3, "statistics"])
        self.assertEqual([data for data, _ in self.packets()], [each.data for each in packets])
        self.assertEqual(done, Captured(ENDED, 3, 1, self.output.size, 0, 0))

    def test_firstOnly(self) -> None:
        """The first packet of each flow has the comment, and the others have none."""
        self.machine.flows.append(row(2, 50001, rule="default"))
        self.capture(
            [fromApp(flags=SYN), fromApp(50001, SYN), toApp(), toApp(50001)],
            *self.wait(1),
        )
        program = "program curl (pid 17), "
        self.assertEqual(
            [text for _, text in self.packets()],
            [program + OFFICE, "rule default, by office", "", ""],
        )

    def test_heldBack(self) -> None:
        """The first packet waits until it is known what to say about it."""
        self.machine.flows = [row(1, rule=None, upstream=None, state="waiting")]

        def check() -> None:
            self.assertEqual(self.packets(), [])
            self.machine.flows = [row(1)]

        self.capture([fromApp(flags=SYN)], *self.wait(0.5), check, *self.wait(0.1))
        self.assertEqual([text for _, text in self.packets()], [f"program curl (pid 17), {OFFICE}"])

    def test_notForever(self) -> None:
        """A packet waits for a second at most; the comment comes later if it is known later."""
        self.machine.flows = [row(1, rule=None, upstream=None, state="waiting")]
        counts = []

        def decide() -> None:
            counts.append(len(self.packets()))
            self.machine.flows = [row(1)]

        self.capture(
            [fromApp(flags=SYN)],
            *self.wait(HOLD + 0.1),
            decide,
            *self.wait(1),
            [fromApp()],
            *self.wait(0.1),
        )
        self.assertEqual(counts, [1])
        self.assertEqual(
            [text for _, text in self.packets()],
            ["program curl (pid 17)", f"program curl (pid 17), {OFFICE}"],
        )

    def test_order(self) -> None:
        """What comes after a packet that waits does not overtake it."""
        self.machine.flows = [row(1, 50001)]
        waiting, known = fromApp(50000, SYN), fromApp(50001, SYN)
        self.capture([waiting], [known], *self.wait(HOLD + 0.1))
        self.assertEqual([data for data, _ in self.packets()], [waiting.data, known.data])

    def test_tooMuch(self) -> None:
        """No more is held back than there is memory for."""
        self.machine.flows = []
        self.patch(holdingModule, "HELD_LIMIT", 5000)
        counts: list[int] = []
        self.capture(
            [fromApp(payload=bytes(1000)) for _ in range(8)],
            lambda: counts.append(len(self.packets())),
        )
        self.assertEqual(counts, [4])
        self.assertEqual(len(self.packets()), 8)

    def test_end(self) -> None:
        """At the end nothing is held back any more, and what has come before is read."""
        self.machine.flows = []
        self.why = ENDED
        done = self.capture([fromApp(flags=SYN)], [toApp()])
        self.assertEqual((done.packets, done.why), (2, ENDED))
        self.assertEqual([text for _, text in self.packets()], ["program curl (pid 17)", ""])

    def test_noFlow(self) -> None:
        """What is of no flow is in the file, unless flows are wanted."""
        ping = captured(ip(APP4, FAR4, 1, bytes([8]) + bytes(7)))
        self.assertEqual(self.capture([ping]).packets, 1)
        self.why = ""
        done = self.capture([ping], wanted=Wanted(rules=("#2",)))
        self.assertEqual((done.packets, done.leftOut), (0, 1))


class CaptureFilterTests(CaptureCase):
    """Filters."""

    def test_filters(self) -> None:
        """Only packets of flows that meet the filters are in the file."""
        other = {**CURL, "name": "wget", "path": "/usr/bin/wget", "pid": 18}
        self.machine.flows.append(row(2, 50001, rule="default", upstream="proxy", domain="a.lab"))
        self.machine.processes[50001] = other
        for wanted, ports in (
            (Wanted(), [50000, 50001]),
            (Wanted(processes=("curl",)), [50000]),
            (Wanted(processes=("/usr/bin/wget",)), [50001]),
            (Wanted(processes=("18",)), [50001]),
            (Wanted(processes=("nc",)), []),
            (Wanted(rules=("#2",)), [50000]),
            (Wanted(upstreams=("proxy", "office")), [50000, 50001]),
            (Wanted(upstreams=("proxy",), rules=("#2",)), []),
        ):
            self.why, self.output.data = "", b""
            self.device.steps.clear()
            done = self.capture([toApp(50000), toApp(50001)], *self.wait(0.1), wanted=wanted)
            found = [struct.unpack_from("!H", data, 22)[0] for data, _ in self.packets()]
            self.assertEqual(found, ports, wanted)
            self.assertEqual((done.flows, done.leftOut), (len(ports), 2 - len(ports)))

    def test_names(self) -> None:
        """A program is found by each of its names, as in rules."""
        self.machine.processes[50000] = {**CURL, "names": frozenset({"script.py"})}
        self.assertEqual(
            self.capture([toApp()], wanted=Wanted(processes=("script.py",))).packets, 1
        )

    def test_unlisted(self) -> None:
        """Where a flow goes and whose it is, is known of those that the daemon never lists."""
        self.machine.flows = []
        self.assertEqual(self.capture([toApp()], wanted=Wanted(processes=("curl",))).packets, 1)
        self.why = ""
        done = self.capture([toApp()], wanted=Wanted(rules=("#2",)))
        self.assertEqual((done.packets, done.leftOut), (0, 1))


class CaptureLimitTests(CaptureCase):
    """What ends it."""

    def test_count(self) -> None:
        """It ends with the packet that --count says."""
        done = self.capture([toApp()] * 5, *self.wait(1), limits=Limits(1 << 20, 60, 3))
        self.assertEqual(done.packets, len(self.packets()))
        self.assertEqual((done.packets, "--count" in done.why), (3, True))

    def test_size(self) -> None:
        """The file is no larger than --limit says, and whole to its last block."""
        packets = [toApp(payload=bytes(100))] * 100
        done = self.capture(packets, *self.wait(1), limits=Limits(4096, 60))
        self.assertTrue(4096 - 200 < self.output.size <= 4096, self.output.size)
        self.assertIn("--limit", done.why)
        self.assertEqual([kind for kind, _, _ in blocks(self.output.data)][-1], "statistics")
        self.assertEqual((done.packets, done.size), (len(self.packets()), self.output.size))

    def test_time(self) -> None:
        """It ends when the time is over, however quiet it is."""
        done = self.capture(*self.wait(100), limits=Limits(1 << 20, 60))
        self.assertIn("--time", done.why)
        self.assertEqual(round(self.machine.clock.seconds()), 60)

    def test_gone(self) -> None:
        """It ends when the device is gone, with what it had before."""

        def vanish() -> None:
            self.device.gone = True

        done = self.capture([toApp()], vanish, [toApp()])
        self.assertEqual(done.packets, 2)
        self.assertIn("The device nano0 is gone", done.why)

    def test_unwritable(self) -> None:
        """A full disk ends it with its sentence, and it has failed."""
        self.device.dropped = 4

        def fill() -> None:
            self.output.error = NanotunError("x.pcapng cannot be written any more (full).")

        done = self.capture([toApp()], *self.wait(0.1), fill, [toApp()], *self.wait(1))
        self.assertTrue(done.failed)
        self.assertEqual(done.why, "x.pcapng cannot be written any more (full).")
        self.assertEqual((done.dropped, done.packets, len(self.packets())), (4, 1, 1))

    def test_unread(self) -> None:
        """When the reader of a pipe has ended, it ends, too."""
        self.output.error = BrokenPipeError()
        done = self.capture([toApp()])
        self.assertEqual((done.why, done.failed), ("Nobody reads the output any more.", False))
