"""
The fake addresses: each name has a number, and with it one address of either family.

Rules: a name keeps the number it has, and no two names have the same.  A number that is in
use is not taken from its name.  It is in use while a flow to it is open, and for a time after
an answer and after the beginning and the end of a flow.  When no number is left, the next
name gets the number that is in no use for longest.

Who asks for a name whose number is in no use is charged with it while it is in use, from then
on and again when a flow to it begins later, and gets no further number while charged with a
whole share.  So no program can take them all.  Each number is in one of these states::

    state                                     charged to a client
    free: never given                         no
    in use for a time                         yes
    in use by a flow, after that time         yes
    spare: in no use, but still with a name   no

What becomes of a number costs O(log n), however many there are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from heapq import heappop, heappush
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

#: Names whose time is over that one query may see to, unless it needs more: all of them at
#: once take a tenth of a second.
EXPIRE_LIMIT = 256


class Fake:
    """
    A name and its number.

    @ivar charged: the clients whose shares it is part of while it is in use.
    @ivar flows: how many flows to its addresses are open.
    @ivar number: 0 once another name has it.
    @ivar queued: whether it waits for the end of its time.
    @ivar until: the time in seconds until which the number is in use, whatever its flows.
    """

    __slots__ = ("charged", "flows", "name", "number", "queued", "until")

    def __init__(self, name: str, number: int, until: float) -> None:
        self.name = name
        self.number = number
        self.until = until
        self.flows = 0
        self.queued = False
        self.charged: tuple[Hashable, ...] = ()


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
    @param shares: how many numbers a client of each kind may have in use, in the order in
        which L{give} is told of clients.
    @param note: told of each number, and its name, that comes into use, before anybody else
        is; a number that was in use by another name before is told of like any other.
    @ivar changed: whether numbers have come into use since the names were saved; cleared by
        L{nanotun.gateway.fakeip.store.FakeStore.save}.
    """

    def __init__(
        self,
        size: int = SIZE,
        shares: tuple[int, ...] = (),
        note: Callable[[int, str], None] = lambda number, name: None,
    ) -> None:
        self._size = size
        self._shares = shares
        self._note = note
        self._byName: dict[str, Fake] = {}
        self._byNumber: dict[int, Fake] = {}
        self._free = list(range(size, 0, -1))
        # In use for a time: a heap of its end, a number that tells equal ones apart, and the
        # name.  Each name is there once at most; its own time may be later than the entry's.
        self._expiring: list[tuple[float, int, Fake]] = []
        self._turn = 0
        # In no use, but still with their names, the one that is so for longest first.
        self._spare: OrderedDict[str, Fake] = OrderedDict()
        self._taken: dict[Hashable, int] = {}
        self.changed = False

    def __len__(self) -> int:
        return len(self._byName)

    def __contains__(self, name: str) -> bool:
        """Whether a name has a number, in use or not."""
        return name in self._byName

    @property
    def inUse(self) -> int:
        """How many numbers are in use, about: the end of a time is noted when it matters."""
        return len(self._byName) - len(self._spare)

    def give(self, name: str, now: float, clients: tuple[Hashable, ...] = ()) -> Fake | None:
        """
        The number of a name, for an answer; a new one if it has none.

        @param name: from L{nanotun.gateway.dns.addresses.nameText}.
        @param now: seconds, of any clock.
        @param clients: who asks, one of each kind that has a share.  They are charged with a
            number that was in no use.
        @return: L{None} if all numbers are in use, or a client has its share.
        """
        fake = self.again(name, now)
        if fake is not None:
            return fake
        fake = self._byName.get(name)
        self._expire(now, clients)
        if self.atShare(clients) is not None:
            return None
        if fake is None:
            number = self._free.pop() if self._free else self._recycle()
            if not number:
                return None
            fake = self._byName[name] = self._byNumber[number] = Fake(name, number, 0.0)
            self._spare[name] = fake
        fake.charged = clients
        self.hold(fake, now)
        return fake

    def again(self, name: str, now: float) -> Fake | None:
        """As L{give}, for a name whose number is in use already; L{None} for any other."""
        fake = self._byName.get(name)
        return fake if fake is not None and self.renew(fake, now) else None

    def renew(self, fake: Fake, now: float) -> bool:
        """
        Note that a name was asked for again.

        @return: false if its number is in no use, so that L{give} has to decide.
        """
        if not fake.number or fake.name in self._spare:
            return False
        self.hold(fake, now)
        return True

    def atShare(self, clients: tuple[Hashable, ...]) -> Hashable | None:
        """The first of these clients that has its share of the numbers, or L{None}."""
        for client, share in zip(clients, self._shares, strict=False):
            if self._taken.get(client, 0) >= share:
                return client
        return None

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
        if not fake.queued:
            self._use(fake)
            self._queue(fake)

    def flowJoined(self, host: str) -> None:
        """Note that a flow to an address was opened.  Harmless for an address without a name."""
        fake = self.find(host)
        if fake is not None:
            fake.flows += 1
            self._use(fake)

    def flowClosed(self, host: str, now: float) -> None:
        """Note that a flow has ended that L{flowJoined} was called for."""
        fake = self.find(host)
        if fake is not None and fake.flows:
            fake.flows -= 1
            self.hold(fake, now)

    def saved(self) -> tuple[int, list[tuple[int, str]]]:
        """
        What L{restore} takes.

        @return: how many numbers are in no use, and all numbers and names: first those, the
            one that is so for longest before the others, then those in use, the one that will
            be so for longest at the end.
        """
        inUse = (fake for fake in self._byName.values() if fake.name not in self._spare)
        last = sorted(inUse, key=lambda fake: (fake.flows > 0, fake.until))
        every = [*self._spare.values(), *last]
        return len(self._spare), [(fake.number, fake.name) for fake in every]

    def restore(self, saved: Iterable[tuple[int, str]], now: float, spare: int) -> None:
        """
        Replace the names by those of an earlier run, in use for L{HOLD} seconds, because apps
        may still have its answers.  If there are so many that fewer than a quarter of the
        numbers would be left for new names, those at the beginning are spare instead.

        @param spare: how many at the beginning were in no use when that run ended, so that no
            app has an answer with them.  No others are made spare.
        @raise ValueError: the numbers or names are not valid; nothing was replaced.
        """
        byName: dict[str, Fake] = {}
        byNumber: dict[int, Fake] = {}
        for number, name in saved:
            if not 1 <= number <= self._size or checkName(name.encode("ascii")) != name or not name:
                raise ValueError(f"no number and name: {number}, {name!r}")
            if name in byName or number in byNumber:
                raise ValueError(f"{name} or {number} is there twice")
            byName[name] = byNumber[number] = Fake(name, number, now + HOLD)
        self._byName, self._byNumber = byName, byNumber
        self._free = [number for number in range(self._size, 0, -1) if number not in byNumber]
        self._expiring = []
        self._spare.clear()
        self._taken.clear()
        left = min(spare, len(byName) - (self._size - self._size // 4))
        for fake in byName.values():
            if left > 0:
                fake.until = now
                self._spare[fake.name] = fake
            else:
                self._queue(fake)
            left -= 1

    def _queue(self, fake: Fake) -> None:
        """Have a name wait for the end of its time."""
        fake.queued = True
        self._turn += 1
        heappush(self._expiring, (fake.until, self._turn, fake))

    def _expire(self, now: float, clients: tuple[Hashable, ...]) -> None:
        """
        Make the numbers spare whose time is over and that have no flow.

        @param clients: those who ask for one.
        """
        left = EXPIRE_LIMIT
        expiring = self._expiring
        while expiring and expiring[0][0] <= now:
            if left <= 0 and (self._free or self._spare) and self.atShare(clients) is None:
                return
            left -= 1
            until, _, fake = heappop(expiring)
            if fake.until > until:
                self._queue(fake)
                continue
            fake.queued = False
            # With a flow it is queued again when that ends.
            if not fake.flows:
                self._release(fake)

    def _use(self, fake: Fake) -> None:
        """A number is in use, and if it was spare, that is noted, and its clients charged."""
        if self._spare.pop(fake.name, None) is not None:
            self.changed = True
            self._note(fake.number, fake.name)
            for client in fake.charged:
                self._taken[client] = self._taken.get(client, 0) + 1

    def _release(self, fake: Fake) -> None:
        """A number is in no use any more, and nobody is charged with it."""
        for client in fake.charged:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]
        self._spare[fake.name] = fake

    def _recycle(self) -> int:
        """Take the number of the name that is spare for longest; 0 if there is none."""
        if not self._spare:
            return 0
        name, fake = self._spare.popitem(last=False)
        number, fake.number = fake.number, 0
        del self._byName[name], self._byNumber[number]
        return number
