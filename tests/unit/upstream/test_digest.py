"""
Tests of HTTP's digest log-in, with the examples of RFC 7616.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from nanotun.upstream.handshakes.httplogin import (
    Challenge,
    DigestChallenge,
    HttpLogin,
    digestAnswer,
    digestChallenge,
    parseChallenges,
)

# RFC 7616, section 3.9.1.
REALM = b"http-auth@example.org"
NONCE = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE = b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
CNONCE = b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
FIELD = (
    b'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=%s, '
    b'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    b'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
RESPONSES = {
    b"MD5": b"8ca523f5e9506fed4657c9700eebdbec",
    b"SHA-256": b"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
}


def answer(
    challenge: DigestChallenge, user: bytes = b"Mufasa", count: int = 1
) -> dict[bytes, bytes]:
    """The fields of the answer in the RFC's example."""
    value = digestAnswer(
        challenge, user, b"Circle of Life", b"GET", b"/dir/index.html", CNONCE, count
    )
    return parseChallenges([value])[0].parameters


class ParseChallengesTests(SynchronousTestCase):
    """L{parseChallenges}."""

    def test_accepted(self) -> None:
        """Lists, spaces, quotes and empty elements are read as RFC 9110 says."""
        for fields, expected in (
            ([], []),
            ([b""], []),
            ([b"Basic"], [(b"basic", {})]),
            ([b'Basic realm="a, b=\\"c\\""'], [(b"basic", {b"realm": b'a, b="c"'})]),
            (
                [b"bAsIc REALM = x ,charset=UTF-8"],
                [(b"basic", {b"realm": b"x", b"charset": b"UTF-8"})],
            ),
            ([b", ,Negotiate, Basic realm=x,"], [(b"negotiate", {}), (b"basic", {b"realm": b"x"})]),
            (
                [b'Digest nonce="1", qop="auth", Basic realm="2"', b"NTLM"],
                [
                    (b"digest", {b"nonce": b"1", b"qop": b"auth"}),
                    (b"basic", {b"realm": b"2"}),
                    (b"ntlm", {}),
                ],
            ),
            # RFC 9110, section 11.6.1.
            (
                [
                    b'Basic realm="simple", Newauth realm="apps", type=1, '
                    b'title="Login to \\"apps\\""'
                ],
                [
                    (b"basic", {b"realm": b"simple"}),
                    (b"newauth", {b"realm": b"apps", b"type": b"1", b"title": b'Login to "apps"'}),
                ],
            ),
            ([b"a=b, Basic realm="], [(b"basic", {b"realm": b""})]),
        ):
            self.assertEqual(
                parseChallenges(fields), [Challenge(*each) for each in expected], fields
            )

    def test_time(self) -> None:
        """The longest field that h11 lets through is parsed quickly, whatever it holds."""
        for piece in (b'"', b'a="', b"a=", b'a="\\', b"a ", b", ", b"\\", b"a \t"):
            parseChallenges([piece * (65536 // len(piece))])


class DigestChallengeTests(SynchronousTestCase):
    """L{digestChallenge}."""

    def choose(self, *fields: bytes) -> DigestChallenge | None:
        """The challenge that is chosen from C{fields}."""
        return digestChallenge(parseChallenges(fields))

    def test_first(self) -> None:
        """The first challenge that is understood is taken, as the proxy prefers it."""
        chosen = self.choose(
            FIELD % b"SHA-512-256", b"Basic realm=x", FIELD % b"SHA-256", FIELD % b"MD5"
        )
        self.assertEqual(
            chosen, DigestChallenge(REALM, NONCE, OPAQUE, b"SHA-256", True, False, False)
        )

    def test_none(self) -> None:
        """A challenge that cannot be answered is not taken."""
        for field in (
            b"",
            b"Basic realm=x",
            b"Digest realm=x",
            b"Digest nonce=x, algorithm=SHA-1",
            b"Digest nonce=x, qop=auth-int",
        ):
            self.assertIdentical(self.choose(field), None, field)

    def test_flags(self) -> None:
        """Flags are read in upper and lower case."""
        chosen = self.choose(b'Digest nonce=x, stale=TRUE, userhash="True", qop="Auth-Int,AUTH"')
        assert chosen is not None
        self.assertTrue(chosen.stale and chosen.userhash and chosen.qop)


class DigestAnswerTests(SynchronousTestCase):
    """L{digestAnswer}."""

    def test_golden(self) -> None:
        """The answers are those of the RFC's two examples."""
        for algorithm, response in RESPONSES.items():
            challenge = digestChallenge(parseChallenges([FIELD % algorithm]))
            assert challenge is not None
            value = digestAnswer(
                challenge, b"Mufasa", b"Circle of Life", b"GET", b"/dir/index.html", CNONCE, 1
            )
            self.assertEqual(
                value,
                b'Digest username="Mufasa", realm="http-auth@example.org", '
                b'nonce="%s", uri="/dir/index.html", algorithm=%s, opaque="%s", '
                b'qop=auth, nc=00000001, cnonce="%s", response="%s"'
                % (NONCE, algorithm, OPAQUE, CNONCE, response),
            )

    def test_oldest(self) -> None:
        """
        Without qop the answer is that of RFC 2069, here with the hashes of RFC 2617's
        example.
        """
        challenge = DigestChallenge(
            b"testrealm@host.com",
            b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            None,
            b"",
            False,
            False,
            False,
        )
        value = digestAnswer(
            challenge, b"Mufasa", b"Circle Of Life", b"GET", b"/dir/index.html", CNONCE, 1
        )
        # RFC 2617's H(A1) and H(A2).
        expected = hashlib.md5(
            b"939e7578ed9e3c518a452acee763bce9:dcd98b7102dd2f0e8b11d0f600bfb0c093:"
            b"39aff3a2bab6126f332b942af96d3366"
        ).hexdigest()
        fields = parseChallenges([value])[0].parameters
        self.assertEqual(fields[b"response"], expected.encode())
        for absent in (b"qop", b"nc", b"cnonce", b"algorithm", b"opaque"):
            self.assertNotIn(absent, fields)

    def test_session(self) -> None:
        """A session's key has both nonces in it (RFC 7616, section 3.4.2)."""
        for algorithm, function in ((b"MD5-sess", hashlib.md5), (b"SHA-256-sess", hashlib.sha256)):

            def digest(text: bytes) -> bytes:
                return function(text).hexdigest().encode()  # noqa: B023

            challenge = DigestChallenge(REALM, NONCE, OPAQUE, algorithm, True, False, False)
            secret = digest(
                digest(b"Mufasa:" + REALM + b":Circle of Life") + b":" + NONCE + b":" + CNONCE
            )
            response = digest(
                b":".join(
                    (secret, NONCE, b"0000000a", CNONCE, b"auth", digest(b"GET:/dir/index.html"))
                )
            )
            fields = answer(challenge, count=10)
            self.assertEqual(fields[b"response"], response)
            self.assertEqual(fields[b"nc"], b"0000000a")
            self.assertEqual(fields[b"algorithm"], algorithm)

    def test_userhash(self) -> None:
        """The user's name is sent hashed if the proxy accepts that."""
        challenge = DigestChallenge(REALM, NONCE, None, b"SHA-256", True, False, True)
        fields = answer(challenge)
        expected = hashlib.sha256(b"Mufasa:" + REALM).hexdigest().encode()
        self.assertEqual(fields[b"username"], expected)
        self.assertEqual(fields[b"userhash"], b"true")
        self.assertEqual(fields[b"response"], RESPONSES[b"SHA-256"])

    def test_names(self) -> None:
        """A name with quotes is quoted, and one beyond ASCII is encoded (RFC 8187)."""
        challenge = DigestChallenge(REALM, NONCE, None, b"SHA-256", True, False, False)
        self.assertEqual(answer(challenge, b'a"b\\')[b"username"], b'a"b\\')
        # RFC 7616, section 3.9.2.
        name = "J\N{LATIN SMALL LETTER A WITH DIAERESIS}s\N{LATIN SMALL LETTER O WITH STROKE}n Doe"
        fields = answer(challenge, name.encode())
        self.assertEqual(fields[b"username*"], b"UTF-8''J%C3%A4s%C3%B8n%20Doe")
        self.assertNotIn(b"username", fields)
        self.assertEqual(answer(challenge, b"a\r\nb")[b"username*"], b"UTF-8''a%0D%0Ab")


class RevealTests(SynchronousTestCase):
    """L{HttpLogin.reveals}."""

    def test_secrets(self) -> None:
        """The password is found in a text, and so is all that a request had for it."""
        login = HttpLogin(b"Mufasa", b"Circle of Life", lambda: CNONCE)
        self.assertFalse(login.reveals(b"Forbidden for Mufasa"))
        self.assertTrue(login.reveals(b"not with Circle of Life, please"))
        self.assertTrue(login.reveals(b64encode(b"Mufasa:Circle of Life")))
        method = login.choose(parseChallenges([b'Digest realm="x", nonce="y"']))
        assert method is not None
        self.assertFalse(login.reveals(b"Forbidden"))
        self.assertTrue(login.reveals(b"no: " + method.authorize(b"CONNECT", b"example.org:22")))

    def test_empty(self) -> None:
        """A log-in without a password reveals nothing by every text."""
        self.assertFalse(HttpLogin(b"Mufasa", b"", lambda: CNONCE).reveals(b"Forbidden"))
