"""
Asks a question by UDP and waits for the answer, perhaps through a proxy's UDP relay.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.timer import Timer

#: Seconds between two attempts, as datagrams get lost, and how many there are.
RETRY = 1.0
TRIES = 4

SIZE_LIMIT = 4096  #: Bytes of an answer.

NS = 2  #: The record type of name servers (RFC 1035, section 3.2.2).


@implementer(IReadDescriptor)
class DatagramTrial:
    """
    Sends a datagram repeatedly until an answer arrives.

    @param sock: connected or ready to send, and non-blocking; always closed at the end.
    @param payload: the datagram.
    @param isAnswer: whether a received datagram is the answer.
    @param retry: seconds between two attempts.
    @param tries: how many there are.
    """

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        payload: bytes,
        isAnswer: Callable[[bytes], bool],
        retry: float = RETRY,
        tries: int = TRIES,
    ) -> None:
        self._reactor = reactor
        self._socket = sock
        self._payload = payload
        self._isAnswer = isAnswer
        self._retry = retry
        self._left = tries
        self._timer = Timer(reactor, self._send)
        self._deferred: Deferred[bytes] = Deferred(lambda _: self._end(CancelledError()))

    def start(self) -> Deferred[bytes]:
        """
        Send the first datagram.

        @return: fires with the datagram that is the answer; fails with L{TimeoutError} if none
            arrives, or with the kernel's L{OSError}.
        """
        self._reactor.addReader(self)
        self._send()
        return self._deferred

    def giveUp(self) -> None:
        """Fail as if no answer had arrived in time.  Harmless after the end."""
        self._end(TimeoutError())

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "datagrams"

    def doRead(self) -> None:
        """See L{IReadDescriptor.doRead}."""
        try:
            data = self._socket.recv(SIZE_LIMIT)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if self._isAnswer(data):
            self._end(data)

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor.connectionLost}."""
        self._end(reason.value or CancelledError())

    def _send(self) -> None:
        if not self._left:
            self.giveUp()
            return
        self._left -= 1
        self._timer.start(self._retry)
        try:
            self._socket.send(self._payload)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)

    def _end(self, result: bytes | BaseException) -> None:
        if self._socket.fileno() < 0:
            return
        self._timer.cancel()
        self._reactor.removeReader(self)
        self._socket.close()
        if not self._deferred.called:
            if isinstance(result, bytes):
                self._deferred.callback(result)
            else:
                self._deferred.errback(result)


def dnsQuery(ident: int, name: bytes = b"", kind: int = NS) -> bytes:
    """
    A query (RFC 1035, section 4.1); by default for the root's name servers, a question that
    every server has some answer to.

    @param name: with labels of 1 to 63 bytes, and without a dot at its end.
    @param kind: the record type.
    """
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b".") if label)
    header = ident.to_bytes(2, "big") + b"\x01\x00\x00\x01\0\0\0\0\0\0"
    return header + labels + b"\0" + kind.to_bytes(2, "big") + b"\x00\x01"


def isDnsAnswer(ident: int) -> Callable[[bytes], bool]:
    """Recognizes the answer to L{dnsQuery}, by its ID and the QR bit."""
    return lambda data: (
        len(data) >= 12 and data[:2] == ident.to_bytes(2, "big") and bool(data[2] & 0x80)
    )


def payloadOf(datagram: bytes) -> bytes:
    """
    The payload of a datagram from a proxy's UDP relay, whose header may name its sender by
    address or by name; empty if the header is wrong.
    """
    sizes = {1: 4, 4: 16, 3: 1 + (datagram[4] if len(datagram) > 4 else 0)}
    size = sizes.get(datagram[3], 0) if len(datagram) > 3 else 0
    return datagram[4 + size + 2 :] if size else b""
