"""
Both ends of a script that runs in a process of its own, in one process.
"""

from __future__ import annotations

from collections import deque

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from nanotun.scripting.apart import RemoteScript
from nanotun.scripting.script import ScriptOptions
from nanotun.scripting.served import Hello, Lines, ServedScript
from tests.unit.scripting.scripts import NAMES, ScriptCase


class Channel:
    """
    Connects two protocols.

    @ivar open: whether both have it.
    @ivar silent: whether what is sent is kept, as if the other end did not read.
    """

    def __init__(self, step: int) -> None:
        """
        @param step: how many bytes arrive at a time.
        """
        self.open = True
        self.silent = False
        self.ends: list[Lines] = []
        self._step = step
        self._sent: deque[tuple[Lines, bytes]] = deque()
        self._pumping = False

    def connect(self, *ends: Lines) -> None:
        """Connect two protocols."""
        self.ends = list(ends)
        for each in ends:
            each.makeConnection(End(self, each))  # type: ignore[arg-type]

    def send(self, sender: Lines, data: bytes) -> None:
        """Bring what one end sends to the other."""
        self._sent.extend(
            (sender, data[at : at + self._step]) for at in range(0, len(data), self._step)
        )
        if not self._pumping and not self.silent:
            self.pump()

    def pump(self) -> None:
        """Bring everything that was sent."""
        self._pumping, self.silent = True, False
        while self._sent and self.open:
            sender, data = self._sent.popleft()
            (other,) = (each for each in self.ends if each is not sender)
            other.dataReceived(data)
        self._pumping = False

    def close(self) -> None:
        """Tell both that the other one has gone."""
        if self.open:
            self.open = False
            for each in self.ends:
                each.connectionLost(Failure(ConnectionDone()))


class End:
    """A transport at one end."""

    disconnecting = False

    def __init__(self, channel: Channel, whose: Lines) -> None:
        self._channel = channel
        self._whose = whose

    def write(self, data: bytes) -> None:
        """Send something."""
        self._channel.send(self._whose, data)

    def writeSequence(self, data: list[bytes]) -> None:
        """Send several things."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close it."""
        self._channel.close()

    abortConnection = loseConnection


class RemoteCase(ScriptCase):
    """
    A test with a script in a process of its own, which is this one.

    @ivar channel: between the two ends.
    @ivar ended: how often the process would have ended.
    """

    def remote(
        self,
        text: str,
        onError: str = "reject",
        timeout: float = 5.0,
        step: int = 1 << 20,
        childTimeout: float = 0,
    ) -> RemoteScript:
        """Write a script, and have the parent's end of it started."""
        script = self.script(text, onError, childTimeout or timeout)
        self.channel = Channel(step)
        self.ended = 0
        served = ServedScript(script, self._count)
        remote = RemoteScript(
            script.path,
            Hello(script.needsProcess, script.decides, script.followsFlows, script.answersQueries),
            ScriptOptions(timeout, onError, NAMES),
            self.clock,
            lambda lines: self.channel.connect(lines, served),
            lambda: "status 1",
        )
        hellos = self.patch(served, "connectionMade", lambda: None)
        remote.start()
        hellos.restore()
        self.addCleanup(self.channel.close)
        return remote

    def _count(self) -> None:
        self.ended += 1
