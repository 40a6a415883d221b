"""
What pyproject.toml cannot say: which files are installed, and the commands
that build the native library.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

from nanotun_build import BuildPy, PlatformDistribution, PlatformWheel

setup(
    # twisted.plugins has no __init__.py on purpose: its one file joins
    # Twisted's own.  The explicit package_dir makes an editable install put the
    # project's directory on sys.path, where Twisted looks for plugins; the
    # finder hook that setuptools would use instead hides them.
    package_dir={"": "."},
    packages=[*find_packages(include=["nanotun", "nanotun.*"]), "twisted.plugins"],
    package_data={"nanotun": ["py.typed"], "nanotun.web": ["static/*"]},
    include_package_data=False,
    distclass=PlatformDistribution,
    cmdclass={"bdist_wheel": PlatformWheel, "build_py": BuildPy},
    zip_safe=False,
)
