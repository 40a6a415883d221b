"""
Digest authentication of a request without a body (RFC 7616).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from nanotun.upstream.handshakes.challenge import Challenge

#: C{algorithm} in lower case to hashlib's name, and whether it is a session's.
ALGORITHMS = {
    b"md5": ("md5", False),
    b"md5-sess": ("md5", True),
    b"sha-256": ("sha256", False),
    b"sha-256-sess": ("sha256", True),
}


class DigestChallenge(NamedTuple):
    """
    A challenge that can be answered.

    @ivar algorithm: as the proxy wrote it; empty if it did not.
    @ivar qop: whether C{qop=auth} is offered; without it, the proxy knows
        RFC 2069 only.
    @ivar stale: whether only the nonce was wrong.
    @ivar userhash: whether the user's name may be hashed.
    """

    realm: bytes
    nonce: bytes
    opaque: bytes | None
    algorithm: bytes
    qop: bool
    stale: bool
    userhash: bool


def digestChallenge(challenges: Iterable[Challenge]) -> DigestChallenge | None:
    """
    The first that can be answered, or L{None}: the proxy prefers the first
    (RFC 7616, section 3.7).
    """
    for scheme, parameters in challenges:
        if scheme != b"digest" or b"nonce" not in parameters:
            continue
        algorithm = parameters.get(b"algorithm", b"")
        offered = [each.strip().lower() for each in parameters.get(b"qop", b"").split(b",")]
        if (algorithm.lower() or b"md5") in ALGORITHMS and (b"auth" in offered or offered == [b""]):
            return DigestChallenge(
                parameters.get(b"realm", b""),
                parameters[b"nonce"],
                parameters.get(b"opaque"),
                algorithm,
                b"auth" in offered,
                parameters.get(b"stale", b"").lower() == b"true",
                parameters.get(b"userhash", b"").lower() == b"true",
            )
    return None


def digestAnswer(
    challenge: DigestChallenge,
    username: bytes,
    password: bytes,
    method: bytes,
    target: bytes,
    cnonce: bytes,
    count: int,
) -> bytes:
    """
    The value of C{Proxy-Authorization}.

    @param target: the request's target as it is sent.
    @param cnonce: a random token, the same for all uses of one challenge: a
        session's key is made with it once (RFC 7616, section 3.4.2).
    @param count: how many times the challenge has been used, this time included.
    """
    name, session = ALGORITHMS[challenge.algorithm.lower() or b"md5"]

    def digest(*parts: bytes) -> bytes:
        # The protocol asks for these; a FIPS build has MD5 for this only.
        return hashlib.new(name, b":".join(parts), usedforsecurity=False).hexdigest().encode()

    realm, nonce = challenge.realm, challenge.nonce
    secret = digest(username, realm, password)
    if session:
        secret = digest(secret, nonce, cnonce)
    request = digest(method, target)
    if challenge.userhash:
        user = b"username=" + _quoted(digest(username, realm))
    elif all(0x20 <= byte < 0x7F for byte in username):
        user = b"username=" + _quoted(username)
    else:
        # RFC 7616, section 3.4.4, with RFC 8187's encoding.
        user = b"username*=UTF-8''" + quote_from_bytes(username, safe="").encode()
    fields = [user, b"realm=" + _quoted(realm), b"nonce=" + _quoted(nonce)]
    fields.append(b"uri=" + _quoted(target))
    if challenge.algorithm:
        fields.append(b"algorithm=" + challenge.algorithm)
    if challenge.opaque is not None:
        fields.append(b"opaque=" + _quoted(challenge.opaque))
    if challenge.qop:
        times = b"%08x" % count
        response = digest(secret, nonce, times, cnonce, b"auth", request)
        fields += (b"qop=auth", b"nc=" + times, b"cnonce=" + _quoted(cnonce))
    else:
        response = digest(secret, nonce, request)
        if session:
            fields.append(b"cnonce=" + _quoted(cnonce))
    fields.append(b"response=" + _quoted(response))
    if challenge.userhash:
        fields.append(b"userhash=true")
    return b"Digest " + b", ".join(fields)


def _quoted(text: bytes) -> bytes:
    return b'"%s"' % text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
