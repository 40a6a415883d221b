"""
The addresses that stand for names: each name has a number, and with it one address
of either family.

Rules: a name has one number for as long as it has any, and no two names have the
same; a number that is in use is not taken from its name.  In use is what an
answer or the beginning of a flow was about within its time, and what a flow that
is open goes to.  When there is no number left, the one whose name was not heard of
for longest goes to the next name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from nanotun.addresses import FAKE4, FAKE6, isFake
from nanotun.gateway.dns.addresses import checkName

#: Seconds that a number stays its name's after an answer, or the beginning of a
#: flow.  The answer's TTL is less, but browsers keep an address for a minute, and
#: an app takes its time from the answer to the flow.
HOLD = 90.0

_BASE4 = int(IPv4Network(FAKE4).network_address)
_PREFIX6 = IPv6Network(FAKE6).network_address.packed[:8]

#: Numbers: all of L{FAKE4} but the first and the last address.
SIZE = IPv4Network(FAKE4).num_addresses - 2

#: Numbers that are looked at for one that is not in use.
SEARCH_LIMIT = 128


class Fake:
    """
    A name and its number.

    @ivar number: 0 when it is another name's.
    @ivar until: seconds; when it is no longer held.
    @ivar flows: open flows to it.
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
    """A number's addresses, in their canonical text forms."""
    return inet_ntop(AF_INET, packed4(number)), inet_ntop(AF_INET6, packed6(number))


def numberOf(host: str) -> int:
    """
    The number of an address.

    @param host: any literal address in its canonical text form.
    @return: 0 if it has none.
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
    @ivar changed: whether there are new names; cleared by who has saved them.
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
        What a name has, for an answer.

        @param name: was checked.
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
        """Whose an address is."""
        return self._byNumber.get(numberOf(host))

    def hold(self, fake: Fake, now: float, seconds: float = HOLD) -> None:
        """
        It was heard of.

        @param fake: has its number still.
        @param seconds: how long to hold it at least.
        """
        if now + seconds > fake.until:
            fake.until = now + seconds
        self._byName.move_to_end(fake.name)

    def flowJoined(self, host: str) -> None:
        """A flow to an address is open.  Harmless for an address of nobody's."""
        fake = self.find(host)
        if fake is not None:
            fake.flows += 1

    def flowClosed(self, host: str, now: float) -> None:
        """A flow that L{flowJoined} was called for ended."""
        fake = self.find(host)
        if fake is not None and fake.flows:
            fake.flows -= 1
            self.hold(fake, now)

    def saved(self) -> list[tuple[int, str]]:
        """Numbers and names for L{restore}, the name that was heard of last at the end."""
        return [(fake.number, name) for name, fake in self._byName.items()]

    def restore(self, saved: Iterable[tuple[int, str]], now: float) -> None:
        """
        Take up what an earlier run had.  Apps may have its answers still.

        @raise ValueError: it makes no sense; nothing was taken up.
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
        """Take the number of the name that was not heard of for longest."""
        byName = self._byName
        for _ in range(min(SEARCH_LIMIT, len(byName))):
            name, fake = next(iter(byName.items()))
            if not fake.flows and fake.until <= now:
                number, fake.number = fake.number, 0
                del byName[name], self._byNumber[number]
                return number
            # Its flow is older than all that was heard since; it is looked at last.
            byName.move_to_end(name)
        return 0
