"""
Sizes and times for people.
"""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def sizeText(size: float) -> str:
    """A number of bytes, in the unit that keeps it short."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    digits = 0 if unit == 0 or size >= 100 else 1
    return f"{size:.{digits}f} {_UNITS[unit]}"


def timeText(seconds: float) -> str:
    """A number of seconds, in its two largest units."""
    whole = int(seconds)
    for size, unit, less, lessUnit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // less} {lessUnit}"
    return f"{whole} s"
