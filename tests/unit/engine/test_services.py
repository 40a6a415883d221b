"""
Tests for L{nanotun.engine.services}, by way of the engine.
"""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, inet_pton

from nanotun.engine import abi, services
from nanotun.flow import Datagram, Endpoint
from tests.unit.engine.engine_cases import HANDLE, EngineCase

APP = Endpoint("198.18.0.2", 40000)
APP6 = Endpoint("fdfe:dcba:9876::2", 40001)
DNS = Endpoint("198.18.0.1", 53)
DNS6 = Endpoint("fdfe:dcba:9876::1", 53)

DATAGRAMS = [
    Datagram(APP, DNS, b"query"),
    Datagram(APP6, DNS6, b""),
    Datagram(APP, Endpoint("192.0.2.53", 53), b"x" * 65507),
]


def packed(datagram: Datagram) -> bytes:
    """A datagram as in netstack.h, made with the structure instead of the format."""
    source, destination, payload = datagram
    family = AF_INET6 if ":" in source.host else AF_INET
    header = abi.ns_datagram(
        length=len(payload),
        source_port=source.port,
        destination_port=destination.port,
        family=6 if family == AF_INET6 else 4,
    )
    for field, host in ((header.source, source.host), (header.destination, destination.host)):
        address = inet_pton(family, host)
        field[: len(address)] = address
    return bytes(header) + payload


class ServiceCase(EngineCase):
    """An engine with a receiver."""

    #: Whether there is one.
    receives = True

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.batches: list[list[Datagram]] = []
        if self.receives:
            self.engine.receiveDatagrams(self.batches.append)

    def arrive(self, *batches: bytes) -> None:
        """The library has batches of datagrams."""
        self.library.received += batches
        self.readEvents({"kind": abi.NS_EVENT_DATAGRAMS})


class ReceiveTests(ServiceCase):
    """
    Tests for datagrams from apps.
    """

    def test_batch(self) -> None:
        """
        One call gives many datagrams, of both families and any length, aligned or
        not.
        """
        self.arrive(b"".join(packed(each) for each in DATAGRAMS))
        self.assertEqual(self.batches, [DATAGRAMS])
        for each in self.batches[0]:
            self.assertIsInstance(each.payload, bytes)

    def test_flood(self) -> None:
        """
        However many there are, the reactor gets its turn.
        """
        count = services.BATCH_LIMIT * 2 + 1
        self.arrive(*[packed(DATAGRAMS[0])] * count)
        self.assertEqual(len(self.batches), services.BATCH_LIMIT)
        # A further event changes nothing.
        self.arrive()
        self.assertEqual(len(self.batches), services.BATCH_LIMIT)
        self.reactor.advance(0)
        self.reactor.advance(0)
        self.assertEqual(len(self.batches), count)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """
        The stop cancels the rest of a flood.
        """
        self.arrive(*[packed(DATAGRAMS[0])] * services.BATCH_LIMIT)
        self.successResultOf(self.engine.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """
        A service that fails costs one batch.
        """
        fail = [True, False]

        def receiver(datagrams: list[Datagram]) -> None:
            if fail.pop(0):
                raise ZeroDivisionError
            self.batches.append(datagrams)

        self.engine.receiveDatagrams(receiver)
        self.arrive(packed(DATAGRAMS[0]), packed(DATAGRAMS[1]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.batches, [[DATAGRAMS[1]]])

    def test_error(self) -> None:
        """
        A library that fails costs one batch too, and is reported.
        """
        self.library.results["ns_receive"] = -errno.ENOTRECOVERABLE
        self.arrive()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_addresses(self) -> None:
        """
        More addresses than the limit for remembered ones are still right, in both
        directions.
        """
        self.patch(services, "ADDRESS_LIMIT", 2)
        many = [
            Datagram(Endpoint(f"192.0.2.{n}", n), Endpoint(f"198.51.100.{n}", 9), b"")
            for n in (1, 2, 3, 1, 2, 3)
        ]
        data = b"".join(packed(each) for each in many)
        self.arrive(data)
        self.assertEqual(self.batches, [many])
        self.engine.sendDatagrams(many)
        self.assertEqual(self.library.named("ns_send"), [(HANDLE, data, len(data))])

    def test_room(self) -> None:
        """
        The largest datagram fits the buffer.
        """
        self.assertGreaterEqual(services.BUFFER_SIZE, 65_579)


class NoReceiverTests(ServiceCase):
    """
    Tests for the time before a service listens.
    """

    receives = False

    def test_dropped(self) -> None:
        """
        Datagrams are dropped.
        """
        self.arrive(packed(DATAGRAMS[0]))
        self.assertEqual((self.library.received, self.batches), ([], []))


class SendTests(ServiceCase):
    """
    Tests for datagrams to apps.
    """

    def test_batch(self) -> None:
        """
        A batch is one call.
        """
        self.engine.sendDatagrams(DATAGRAMS)
        data = b"".join(packed(each) for each in DATAGRAMS)
        self.assertEqual(self.library.named("ns_send"), [(HANDLE, data, len(data))])

    def test_error(self) -> None:
        """
        An error is raised.
        """
        self.library.results["ns_send"] = -errno.EINVAL
        self.assertRaises(OSError, self.engine.sendDatagrams, DATAGRAMS)

    def test_notRunning(self) -> None:
        """
        Before the start and after the stop nothing is sent.
        """
        self.successResultOf(self.engine.stop())
        self.engine.sendDatagrams(DATAGRAMS)
        self.assertEqual(self.library.named("ns_send"), [])
