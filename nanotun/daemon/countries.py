"""
Says which country an address is in, by a MaxMind DB that the user names.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from nanotun.errors import ConfigError

#: Bytes.  The largest file that has countries, with all cities, is about half as large.
COUNTRY_BYTES = 128 << 20

#: Bytes that are read at once.
_PIECE = 1 << 20

#: Addresses by which a file is judged: one of each IPv4 network of 24 million.
_SAMPLES = tuple(f"{first}.8.8.8" for first in range(1, 224))


def codeIn(record: Any) -> str:
    """
    The country of one record, however its publisher writes it.

    @return: two capital letters; empty if it names none.
    """
    if not isinstance(record, dict):
        return ""
    country, registered = record.get("country"), record.get("registered_country")
    for code in (
        country.get("iso_code") if isinstance(country, dict) else None,
        record.get("country_code"),
        # Some write the code, and some a name.
        country,
        # Whom it was given to, where nobody knows who uses it.
        registered.get("iso_code") if isinstance(registered, dict) else None,
    ):
        if isinstance(code, str) and len(code) == 2:
            return code.upper()
    return ""


class Countries:
    """
    A copy of one file, in memory that is mapped.  So the file may be written to or cut
    short while it is in use, which would kill a process that has mapped the file itself.

    @param path: the file's, for sentences.
    @param file: open, at its beginning.
    @raise ConfigError: it has no countries.
    @raise OSError: it cannot be read.
    """

    def __init__(self, path: str, file: BinaryIO) -> None:
        import maxminddb  # Only who needs it pays for it.

        copy = os.memfd_create("countries", os.MFD_CLOEXEC)
        try:
            _copy(path, file, copy)
            try:
                self._reader = maxminddb.open_database(f"/proc/self/fd/{copy}")
            except Exception:  # A damaged file can have the library raise anything.
                raise ConfigError(
                    f"The country file {path} is no MaxMind DB, or only a part of one; download "
                    "it again."
                ) from None
        finally:
            os.close(copy)
        found = [record for record in map(self._recordOf, _SAMPLES) if record is not None]
        if found and not any(map(codeIn, found)):
            kind = str(self._reader.metadata().database_type)
            raise ConfigError(
                f"The country file {path} has no countries (it is a {kind[:40]!a}); name one that "
                "has, such as GeoLite2-Country.mmdb."
            )

    def countryOf(self, host: str) -> str:
        """
        The country of an address.  Never raises.

        @param host: a literal address.
        @return: two capital letters; empty if the file does not say.
        """
        return codeIn(self._recordOf(host))

    def _recordOf(self, host: str) -> Any:
        try:
            return self._reader.get(host)
        except Exception:  # An IPv6 address in a file about IPv4, or a damaged record.
            return None


def _copy(path: str, file: BinaryIO, copy: int) -> None:
    size = 0
    while piece := file.read(_PIECE):
        size += len(piece)
        if size > COUNTRY_BYTES:
            raise ConfigError(
                f"The country file {path} is longer than 128 MiB; name one with countries only, "
                "such as GeoLite2-Country.mmdb."
            )
        while piece:
            piece = piece[os.write(copy, piece) :]
