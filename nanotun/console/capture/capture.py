"""
Captures: from the device through the hold-back into the file, until a limit is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from nanotun.console.capture.holding import Holding
from nanotun.console.capture.known import KnownFlows
from nanotun.console.capture.packets import CapturedPacket
from nanotun.console.capture.pcapng import (
    interfaceDescription,
    interfaceStatistics,
    sectionHeader,
)
from nanotun.errors import NanotunError

#: Packets of one turn, after which what is known of their flows is looked at.
TURN = 512

#: Seconds that a turn waits for packets at most, by which an end may be late.
TURN_TIME = 0.05

#: Packets that are read at most once it ends: those that have come before.
LAST_TURN = 1 << 16


class Packets(Protocol):
    """See L{nanotun.console.capture.device.PacketDevice}."""

    name: str
    gone: bool

    def wait(self, seconds: float) -> None:
        """Return when there are packets, or after that time."""

    def read(self, limit: int) -> list[CapturedPacket]:
        """The packets that have come since, in their order."""

    def counts(self) -> tuple[int, int]:
        """How many packets the device had, and how many the kernel had no place for."""


class Output(Protocol):
    """See L{nanotun.console.capture.file.CaptureFile}."""

    name: str

    @property
    def size(self) -> int:
        """Bytes that were written."""

    def write(self, data: bytes) -> None:
        """Write some blocks."""


class Limits(NamedTuple):
    """
    When a capture ends by itself.

    @ivar size: bytes of the file at most.
    @ivar seconds: from its beginning.
    @ivar packets: how many of them; 0 for any number.
    """

    size: int
    seconds: float
    packets: int = 0


class Captured(NamedTuple):
    """
    What has become of it.

    @ivar why: the sentence that says why it ended.
    @ivar packets: how many are in the file, and of how many C{flows}.
    @ivar size: the file's bytes.
    @ivar leftOut: packets that the filters left out.
    @ivar dropped: packets that the kernel had no place for.
    @ivar failed: whether it ended because the file cannot be written.
    """

    why: str
    packets: int
    flows: int
    size: int
    leftOut: int
    dropped: int
    failed: bool = False


class Capture:
    """
    One capture.

    @param clock: seconds that only grow.
    @param now: nanoseconds since 1970.
    """

    def __init__(
        self,
        device: Packets,
        known: KnownFlows,
        holding: Holding,
        output: Output,
        limits: Limits,
        clock: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self._device = device
        self._known = known
        self._holding = holding
        self._output = output
        self._limits = limits
        self._clock = clock
        self._now = now
        self._packets = 0
        self._reserve = len(interfaceStatistics(0, 0, 0))

    def run(self, system: str, application: str, stopped: Callable[[], str]) -> Captured:
        """
        Capture until it ends.

        @param system: the operating system, for the file.
        @param application: this program, for the file.
        @param stopped: the sentence that says why it is to end; empty while it is not.
        """
        failed = False
        try:
            head = sectionHeader(system, application) + interfaceDescription(self._device.name)
            self._output.write(head)
            why = self._loop(stopped)
            counts = self._device.counts()
            self._output.write(interfaceStatistics(self._now(), *counts))
        except BrokenPipeError:
            why = "Nobody reads the output any more."
        except NanotunError as error:
            why, failed = str(error), True
        _, dropped = self._device.counts()
        holding = self._holding
        size = self._output.size
        return Captured(why, self._packets, holding.flows, size, holding.leftOut, dropped, failed)

    def _loop(self, stopped: Callable[[], str]) -> str:
        end = self._clock() + self._limits.seconds
        while True:
            packets = self._device.read(TURN)
            why = stopped() or self._over(end)
            if why:
                packets += self._device.read(LAST_TURN)
            self._holding.add(packets)
            self._known.refresh(final=bool(why))
            why = self._write(final=bool(why)) or why
            if why:
                return why
            if not packets:
                self._device.wait(TURN_TIME)

    def _over(self, end: float) -> str:
        if self._device.gone:
            return f"The device {self._device.name} is gone, as it is when nanotun has stopped."
        return "The capture has lasted as long as --time says." if self._clock() >= end else ""

    def _write(self, final: bool) -> str:
        """Write what need not wait; return the sentence that says which limit is reached."""
        limits, why = self._limits, ""
        left = limits.size - self._output.size - self._reserve
        blocks = []
        for block in self._holding.take(final):
            left -= len(block)
            if left < 0:
                why = "The file is as large as --limit says."
                break
            blocks.append(block)
            if self._packets + len(blocks) == limits.packets:
                why = "The file has as many packets as --count says."
                break
        if blocks:
            self._output.write(b"".join(blocks))
            self._packets += len(blocks)
        return why
