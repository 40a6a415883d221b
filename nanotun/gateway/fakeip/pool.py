"""
The fake addresses: each name has a number, and with it one address of either family.

Rules: a name keeps the number it has, and no two names have the same.  A number that is in
use is not taken from its name.  It is in use while a flow to it is open, and for a time after
an answer and after the beginning and the end of a flow.  When no number is left, the next
name gets the number of the name that was not used for longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from nanotun.addresses import FAKE4, FAKE6, isFake
from nanotun.gateway.dns.addresses import checkName

#: Seconds that a name keeps its number after an answer, or after the end of a flow.  The
#: answer's TTL is less, but browsers keep an address for a minute, and some time passes
#: between the answer and the app's flow.
HOLD = 90.0

_BASE4 = int(IPv4Network(FAKE4).network_address)
_PREFIX6 = IPv6Network(FAKE6).network_address.packed[:8]

#: How many numbers there are: all of L{FAKE4} but the first and the last address.
SIZE = IPv4Network(FAKE4).num_addresses - 2

#: Numbers to look at for one that is not in use.
SEARCH_LIMIT = 128


class Fake:
    """
    A name and its number.

    @ivar number: 0 once another name has it.
    @ivar until: the time in seconds until which the number is in use, whatever its flows.
    @ivar flows: how many flows to its addresses are open.
    """

    __slots__ = ("flows", "name", "number", "until")

    def __init__(self, name: str, number: int, until: float) -> None:
        self.name = name
        self.number = number
        self.until = until
        self.flows = 0


def packed4(number: int) -> bytes:
    """A number's IPv4 address, 4 bytes."""
    return (_BASE4 + number).to_bytes(4, "big")


def packed6(number: int) -> bytes:
    """A number's IPv6 address, 16 bytes."""
    return _PREFIX6 + number.to_bytes(8, "big")


def addresses(number: int) -> tuple[str, str]:
    """A number's IPv4 and IPv6 address, in their canonical text forms."""
    return inet_ntop(AF_INET, packed4(number)), inet_ntop(AF_INET6, packed6(number))


def numberOf(host: str) -> int:
    """
    The number of an address.

    @param host: any literal address in its canonical text form.
    @return: 0 if the address is not a fake one.
    """
    if not isFake(host):
        return 0
    if ":" in host:
        return int.from_bytes(inet_pton(AF_INET6, host)[8:], "big")
    return int.from_bytes(inet_pton(AF_INET, host), "big") - _BASE4


class FakePool:
    """
    See the module.

    @param size: how many numbers there are, from 1 on.
    @ivar changed: whether there are names that were not saved; cleared by
        L{nanotun.gateway.fakeip.store.FakeStore.save}.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._byName: OrderedDict[str, Fake] = OrderedDict()
        self._byNumber: dict[int, Fake] = {}
        self._free = list(range(size, 0, -1))
        self.changed = False

    def __len__(self) -> int:
        return len(self._byName)

    def give(self, name: str, now: float) -> Fake | None:
        """
        The number of a name, for an answer; a new one if it has none.

        @param name: from L{nanotun.gateway.dns.addresses.nameText}.
        @param now: seconds, of any clock.
        @return: L{None} if all numbers are in use.
        """
        fake = self._byName.get(name)
        if fake is None:
            number = self._free.pop() if self._free else self._take(now)
            if not number:
                return None
            fake = self._byName[name] = self._byNumber[number] = Fake(name, number, 0.0)
            self.changed = True
        self.hold(fake, now)
        return fake

    def find(self, host: str) -> Fake | None:
        """The name and number that an address belongs to, or L{None}."""
        return self._byNumber.get(numberOf(host))

    def hold(self, fake: Fake, now: float, seconds: float = HOLD) -> None:
        """
        Note that a name is used.

        @param fake: still has its number.
        @param seconds: how long the number is in use from now on, at least.
        """
        if now + seconds > fake.until:
            fake.until = now + seconds
        self._byName.move_to_end(fake.name)

    def flowJoined(self, host: str) -> None:
        """Note that a flow to an address was opened.  Harmless for an address without a name."""
        fake = self.find(host)
        if fake is not None:
            fake.flows += 1

    def flowClosed(self, host: str, now: float) -> None:
        """Note that a flow has ended that L{flowJoined} was called for."""
        fake = self.find(host)
        if fake is not None and fake.flows:
            fake.flows -= 1
            self.hold(fake, now)

    def saved(self) -> list[tuple[int, str]]:
        """Numbers and names for L{restore}, the name that was used last at the end."""
        return [(fake.number, name) for name, fake in self._byName.items()]

    def restore(self, saved: Iterable[tuple[int, str]], now: float) -> None:
        """
        Replace the names by those of an earlier run, all of them in use for L{HOLD} seconds,
        because apps may still have its answers.

        @raise ValueError: the numbers or names are not valid; nothing was replaced.
        """
        byName: OrderedDict[str, Fake] = OrderedDict()
        byNumber: dict[int, Fake] = {}
        for number, name in saved:
            if not 1 <= number <= self._size or checkName(name.encode("ascii")) != name or not name:
                raise ValueError(f"no number and name: {number}, {name!r}")
            if name in byName or number in byNumber:
                raise ValueError(f"{name} or {number} is there twice")
            byName[name] = byNumber[number] = Fake(name, number, now + HOLD)
        self._byName, self._byNumber = byName, byNumber
        self._free = [number for number in range(self._size, 0, -1) if number not in byNumber]

    def _take(self, now: float) -> int:
        """Take the number of the name that was not used for longest; 0 if there is none."""
        byName = self._byName
        for _ in range(min(SEARCH_LIMIT, len(byName))):
            name, fake = next(iter(byName.items()))
            if not fake.flows and fake.until <= now:
                number, fake.number = fake.number, 0
                del byName[name], self._byNumber[number]
                return number
            # It is in use by a flow that began long ago; the next searches look at it last.
            byName.move_to_end(name)
        return 0
