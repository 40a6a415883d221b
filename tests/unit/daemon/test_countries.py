"""Tests of L{nanotun.daemon.countries}."""

from __future__ import annotations

import io
import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.daemon import countries as module
from nanotun.daemon.countries import Countries, codeIn
from nanotun.errors import ConfigError
from tests.countryfile import countries, mmdb

PATH = "/etc/nanotun/country.mmdb"

NETWORKS = {"93.184.216.0/24": "DE", "2001:db8::/32": "AT", "8.0.0.0/8": "US"}


def opened(data: bytes) -> Countries:
    """What a file says."""
    return Countries(PATH, io.BytesIO(data))


class CountriesTests(SynchronousTestCase):
    """L{Countries}."""

    def test_countries(self) -> None:
        """Addresses of both families are found; what the file does not have is not known."""
        found = opened(countries(NETWORKS))
        for host, expected in (
            ("93.184.216.34", "DE"), ("93.184.217.1", ""), ("2001:db8::1", "AT"),
            ("2001:db9::1", ""), ("fe80::1%lo", ""), ("no address", ""),
        ):  # fmt: skip
            self.assertEqual(found.countryOf(host), expected, host)

    def test_records(self) -> None:
        """The country is found in the records of several publishers."""
        for record, expected in (
            ({"country": {"iso_code": "DE"}, "registered_country": {"iso_code": "US"}}, "DE"),
            ({"registered_country": {"iso_code": "US"}}, "US"),
            ({"country": "de"}, "DE"),
            ({"country": "Germany", "country_code": "DE"}, "DE"),
            ({"country": "Germany"}, ""),
            ({"country": {"geoname_id": 1}}, ""),
            ({}, ""),
            ("DE", ""),
            (None, ""),
        ):
            self.assertEqual(codeIn(record), expected, record)

    def test_noFile(self) -> None:
        """What is no such file, or only a part of one, is refused with a sentence."""
        data = countries(NETWORKS)
        for wrong in (b"", b"x" * 1000, data[:-200], data[:100]):
            error = self.assertRaises(ConfigError, opened, wrong)
            self.assertEqual(
                str(error),
                f"The country file {PATH} is no MaxMind DB, or only a part of one; download it "
                "again.",
            )

    def test_noCountries(self) -> None:
        """A file about something else is refused, because no rule would ever match."""
        about = mmdb({"8.0.0.0/8": {"autonomous_system_number": 15169}}, "Test-ASN")
        self.assertEqual(
            str(self.assertRaises(ConfigError, opened, about)),
            f"The country file {PATH} has no countries (it is a 'Test-ASN'); name one that has, "
            "such as GeoLite2-Country.mmdb.",
        )
        # A file about a few networks may well have none of the addresses that are tried.
        opened(countries({"192.0.2.0/24": "DE"}))

    def test_long(self) -> None:
        """A file that is too long is refused before all of it is in memory."""
        with mock.patch.object(module, "COUNTRY_BYTES", 100):
            error = self.assertRaises(ConfigError, opened, bytes(101))
        self.assertIn(f"The country file {PATH} is longer than 128 MiB; name", str(error))

    def test_cutShort(self) -> None:
        """A file that is emptied while it is in use goes on answering as before."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(countries(NETWORKS))
        with open(path, "rb") as file:
            found = Countries(path, file)
        os.truncate(path, 0)
        self.assertEqual(found.countryOf("93.184.216.34"), "DE")

    def test_damaged(self) -> None:
        """Whichever byte of a file is wrong, it is refused or answers, and does nothing else."""
        data = countries(NETWORKS)
        for at in range(len(data)):
            damaged = data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
            try:
                found = opened(damaged)
            except ConfigError:
                continue
            self.assertIsInstance(found.countryOf("93.184.216.34"), str)

    def test_noDescriptor(self) -> None:
        """No descriptor is kept, however the opening ends."""
        before = len(os.listdir("/proc/self/fd"))
        kept = opened(countries(NETWORKS))
        self.assertRaises(ConfigError, opened, b"x")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        del kept
