"""
Reads lists of names and of networks, whichever of the usual formats they are in.

Names: one on each line, which stands for all below it, too; C{=name} for that name only, a
wildcard, C{~} and a regular expression; and what others publish for a hosts file, for dnsmasq
and for AdGuard.  Networks: one on each line.  C{#} and C{!} begin comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_pton

from nanotun.config.domains import NAME_LIMIT, comparable
from nanotun.errors import ConfigError
from nanotun.policy.namelist import SLOW_LIMIT, NameEntries, NameList
from nanotun.policy.networktable import NetworkTable, Span
from nanotun.policy.wildcard import wildcardOf

#: Bytes.  No line with an entry comes near it, and only a line has to be in memory at once.
LINE_LIMIT = 1 << 16

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Bytes of a usual line, to guess how many names there are.
_USUAL_LINE = 18

#: Characters of a line that are shown.
_SHOWN = 60

#: What stands before the names of a hosts file that are blocked.
_NOWHERE = ("0.0.0.0", "127.0.0.1", "::", "::1")

#: Names that hosts files have for the machine itself and its links.
_OWN_NAMES = frozenset(
    """localhost localhost.localdomain local localdomain broadcasthost 0.0.0.0 ip6-localhost
    ip6-loopback ip6-localnet ip6-mcastprefix ip6-allnodes ip6-allrouters ip6-allhosts
    localhost4 localhost6 localhost4.localdomain4 localhost6.localdomain6""".split()
)


class _Lines:
    """
    Cuts a file into lines and counts them.

    @cvar kind: what the file is a list of, for sentences.
    @cvar formats: what to do about a file that is no such list.
    @param path: the file's, for sentences.
    """

    kind = ""
    formats = ""

    def __init__(self, path: str) -> None:
        self.path = path
        self._rest = b""
        self._lines = 0
        self._used = 0
        self._leftOut = 0
        self._firstLeftOut = (0, "")

    def feed(self, data: bytes) -> None:
        """
        Take the next piece of the file, wherever it was cut.

        @raise ConfigError: this is no list.
        """
        data = self._rest + data
        if not self._lines:
            data = data.removeprefix(_BYTE_ORDER_MARK)
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        if len(self._rest) > LINE_LIMIT:
            raise ConfigError(
                f"{self.path}, line {self._lines + data.count(10, 0, cut) + 1}: this line is "
                f"longer than 64 KiB; {self.formats}."
            )
        if cut:
            self._piece(data[:cut].replace(b"\r\n", b"\n"))

    def _piece(self, piece: bytes) -> None:
        """Take whole lines."""
        for line in piece.split(b"\n")[:-1]:
            self._lines += 1
            text = line.strip()
            if not text or text[0] in b"#!;[":
                continue
            if self._line(text.decode(errors="replace")):
                self._used += 1
            else:
                self._leftOut += 1
                if self._leftOut == 1:
                    self._firstLeftOut = self._lines, ascii(text[:_SHOWN].decode(errors="replace"))

    def _line(self, text: str) -> bool:
        """Take a line that is no comment, and say whether it is of use."""
        raise NotImplementedError

    def _finish(self) -> None:
        """
        Take the last line, and judge the file by what was of use.

        @raise ConfigError: less than half was.
        """
        if self._rest:
            self.feed(b"\n")
        if self._used < self._leftOut:
            lines = self._used + self._leftOut
            useful = f"only {self._used} of {lines} lines have" if self._used else "no line has"
            number, text = self._firstLeftOut
            raise ConfigError(
                f"{self.path} is no list of {self.kind}: {useful} one, and line {number} is "
                f"{text}; {self.formats}."
            )
        if not self._used:
            raise ConfigError(f"{self.path} has no {self.kind}; {self.formats}.")

    @property
    def notice(self) -> str:
        """A sentence about lines that are of no use; empty if there are none."""
        if not self._leftOut:
            return ""
        number, text = self._firstLeftOut
        if self._leftOut == 1:
            return (
                f"{self.path}, line {number} is left out, because it has no usable {self.kind}: "
                f"{text}."
            )
        return (
            f"{self._leftOut} of {self._leftOut + self._used} lines of {self.path} are left out, "
            f"because they have no usable {self.kind}; the first of them is line {number}, {text}."
        )


#: A name as the quick readers take it; other lines are looked at one by one.  Its last letter
#: keeps addresses out.
_QUICK = rb"[a-z0-9_-][a-z0-9_.-]*[a-z]"

_Names = Callable[[bytes], list[bytes]]

#: What a piece of a list may consist of, line by line, how to get its names, and whether they
#: are without what is below them.
_SHAPES: tuple[tuple[re.Pattern[bytes], _Names, bool], ...] = tuple(
    (re.compile(rb"(?:%b\n)+" % line.replace(b"NAME", _QUICK)), names, single)
    for line, names, single in (
        (rb"NAME", bytes.split, False),
        (rb"\*\.NAME", lambda piece: piece.replace(b"*.", b"").split(), False),
        (rb"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)[ \t]+NAME", lambda piece: piece.split()[1::2], True),
        (rb"\|\|NAME\^", lambda piece: piece.translate(None, b"|^").split(), False),
        (
            rb"(?:address|server|local)=/NAME/(?:[0-9a-f.:]+(?:\x23[0-9]+)?)?",
            re.compile(rb"/(%b)/" % _QUICK).findall,
            False,
        ),
    )
)


class NameLines(_Lines):
    """
    Reads a list of names.

    @param size: the file's, in bytes.
    """

    kind = "names"
    formats = "give one name on each line, or a list for a hosts file, for dnsmasq or for AdGuard"

    def __init__(self, path: str, size: int = 0) -> None:
        super().__init__(path)
        self._takes = NameEntries(size // _USUAL_LINE)
        self._excepts = NameEntries()
        self._important: NameList | None = None

    def end(self) -> NameList:
        """
        The list, once the whole file was fed.

        @raise ConfigError: the file is no list of names.
        """
        self._finish()
        found = NameList(self.path, self._takes, self._excepts, self._important)
        if not len(found):
            raise ConfigError(f"{self.path} has no names; {self.formats}.")
        if found.slow > SLOW_LIMIT:
            raise ConfigError(
                f"{self.path} has {found.slow} regular expressions and wildcards that each name "
                f"would have to be compared with, and may have {SLOW_LIMIT}; write names instead."
            )
        return found

    def _piece(self, piece: bytes) -> None:
        # Most lines of most lists have the same shape as those around them, and are read ten
        # times as fast in one go.
        lower, at = piece.lower(), 0
        while at < len(piece):
            end = self._run(lower, at)
            if end == at:
                end = piece.index(b"\n", at) + 1
                super()._piece(piece[at:end])
            at = end

    def _run(self, piece: bytes, at: int) -> int:
        """
        Take the lines of one shape that begin at an offset.

        @return: where they end.
        """
        for shape, namesOf, single in _SHAPES:
            found = shape.match(piece, at)
            if found is None:
                continue
            names = namesOf(found[0])
            self._lines += len(names)
            self._used += len(names)
            if not single:
                self._takes.table.update(names)
            elif _OWN.isdisjoint(names):
                self._takes.addSingles(names)
            else:
                self._takes.addSingles([name for name in names if name not in _OWN])
            return found.end()
        return at

    def _line(self, text: str) -> bool:
        if text.startswith("~"):
            return _addRegex(self._takes, text[1:])
        isException = text.startswith("@@")
        text = text[2:] if isException else text
        if text.startswith("/"):
            body, _, modifiers = text[1:].rpartition("/")
            entries = self._entries(isException, modifiers == "$important")
            return modifiers in ("", "$important") and _addRegex(entries, body)
        text = re.split(r"\s[#;]", text, maxsplit=1)[0].rstrip()
        if text.startswith("|"):
            body, _, modifiers = text.partition("$")
            entries = self._entries(isException, modifiers == "important")
            return modifiers in ("", "important") and _addAnchored(entries, body)
        entries = self._entries(isException, isImportant=False)
        words = text.split()
        if len(words) > 1:
            return _addHosts(entries, words)
        found = re.fullmatch(r"(address|server|local)=/(.+)/([^/]*)", text)
        if found is None:
            return _addPlain(entries, text)
        if found[1] == "server" and found[3] == "#":
            entries = self._excepts  # "Ask whoever is asked for everything else."
        # All of them, though one may be of no use.
        useful = [_addPlain(entries, each) for each in found[2].split("/")]
        return any(useful)

    def _entries(self, isException: bool, isImportant: bool) -> NameEntries:
        """What an entry belongs to."""
        if not isImportant:
            return self._excepts if isException else self._takes
        if self._important is None:
            self._important = NameList(self.path, NameEntries(), NameEntries())
        return self._important.excepts if isException else self._important.takes


_OWN = frozenset(name.encode() for name in _OWN_NAMES)


def _nameIn(text: str) -> bytes:
    """A name as it is compared, or nothing if it is none."""
    try:
        name = comparable(text)
    except ValueError:
        return b""
    if len(name) > NAME_LIMIT or not re.fullmatch(r"[a-z0-9_-][a-z0-9_.-]*[a-z0-9]", name):
        return b""
    # An address, which is no name, ends in a number.
    return b"" if name.rpartition(".")[2].isdigit() else name.encode()


def _addRegex(entries: NameEntries, text: str) -> bool:
    if not text:
        return False
    try:
        entries.addRegex(re.compile(text, re.IGNORECASE))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _addWildcard(entries: NameEntries, text: str, below: bool) -> bool:
    """
    @param below: whether it is AdGuard's, which is about everything below, too, and whose C{*}
        may stand for nothing.
    """
    text = text.lower()
    if not re.fullmatch(r"[a-z0-9_.*-]+", text) or not re.search(r"[a-z0-9]", text):
        return False
    entries.addWildcard(text, wildcardOf(text, least=0 if below else 1, below=below))
    return True


def _addPlain(entries: NameEntries, text: str) -> bool:
    """Take a name with what is below it, C{=} and a single name, or a wildcard."""
    if text.startswith("="):
        name = _nameIn(text[1:])
        entries.addSingles([name] if name else [])
        return bool(name)
    # Whoever publishes a list of "*.name" means the name, too.
    text = text.removeprefix("*.")
    if "*" in text:
        return _addWildcard(entries, text.strip("."), below=False)
    name = _nameIn(text)
    entries.table.update([name] if name else [])
    return bool(name)


def _addHosts(entries: NameEntries, words: list[str]) -> bool:
    """Take a line of a hosts file: an address, and names without what is below them."""
    address, *names = words
    others = [name for name in names if name.lower() not in _OWN_NAMES]
    if not others:
        return True
    found = [_nameIn(name) for name in others] if address in _NOWHERE else []
    entries.addSingles([name for name in found if name])
    return any(found)


def _addAnchored(entries: NameEntries, text: str) -> bool:
    """Take an entry of a list for AdGuard that begins with a bar, without its modifiers."""
    body = text.removesuffix("|")
    if body.startswith("||"):
        body = body[2:].removesuffix("^").removeprefix("*.")
        if "*" in body:
            return _addWildcard(entries, body, below=True)
        return not body.startswith("=") and _addPlain(entries, body)
    name = _nameIn(body[1:-1]) if body.endswith("^") else b""
    entries.addSingles([name] if name else [])
    return bool(name)


class NetworkLines(_Lines):
    """Reads a list of networks."""

    kind = "networks"
    formats = "give one address or network on each line, such as 192.0.2.7 or 2001:db8::/32"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._spans: list[Span] = []

    def end(self) -> NetworkTable:
        """
        The list, once the whole file was fed.

        @raise ConfigError: the file is no list of networks.
        """
        self._finish()
        return NetworkTable(self._spans)

    def _line(self, text: str) -> bool:
        span = spanOf(text.partition("#")[0].partition(";")[0].rstrip())
        if span is not None:
            self._spans.append(span)
        return span is not None


def spanOf(text: str) -> Span | None:
    """
    The addresses of a network, six times as fast as C{ip_network} finds them.

    @param text: an address or a network; bits past its prefix do not matter.
    @return: L{None} if it is neither.
    """
    host, slash, prefix = text.partition("/")
    six = ":" in host
    bits = 128 if six else 32
    try:
        number = int.from_bytes(inet_pton(AF_INET6 if six else AF_INET, host), "big")
    except (OSError, ValueError):
        return None
    if slash and not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 3):
        return _slowSpanOf(text)
    free = bits - int(prefix) if slash else 0
    if free < 0:
        return None
    first = number >> free << free
    return Span(six, first, first | (1 << free) - 1)


def _slowSpanOf(text: str) -> Span | None:
    """The same for an address with a netmask."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return Span(network.version == 6, int(network.network_address), int(network.broadcast_address))
