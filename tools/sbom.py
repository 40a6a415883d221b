"""
Writes the bill of materials of a release, in CycloneDX's JSON:

    python tools/sbom.py WHEEL...

It goes beside the first wheel, which has to be for this machine; the libraries of all have to
be made of the same.  It has the Python packages that an installation of the wheel consists of
today, the Go modules in the wheel's library, by what the linker noted there, their licences,
and what needs what.  It needs cyclonedx-bom, which finds the packages, and checks the result
against the schema.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import golang

sys.path.insert(0, str(golang.ROOT))

from nanotun import __version__

#: The library in a wheel, and its name in the bill.
LIBRARY = str(golang.LIBRARY)
LIBRARY_REF = f"libnetstack.so=={__version__}"
NANOTUN_REF = f"nanotun=={__version__}"

#: The licences of Go modules, by how their names begin; licenses/ has the texts.
LICENCES = {
    "github.com/google/btree": "Apache-2.0",
    "golang.org/x/": "BSD-3-Clause",
    "gvisor.dev/gvisor": "Apache-2.0",
    "stdlib": "BSD-3-Clause",
}

Component = dict[str, Any]


def module(name: str, version: str, digest: str = "") -> Component:
    """
    A Go module as a component.

    @param digest: what go.sum has for it, such as C{h1:...=}.
    @raise LookupError: its licence is not known.
    """
    licence = next((LICENCES[each] for each in LICENCES if name.startswith(each)), None)
    if licence is None:
        raise LookupError(
            f"The licence of {name} is not known: add it in tools/sbom.py, its text to licenses/."
        )
    component: Component = {
        "bom-ref": f"pkg:golang/{name}@{version}",
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:golang/{name}@{version}",
        "licenses": [{"license": {"id": licence}}],
    }
    if digest.startswith("h1:"):
        content = base64.b64decode(digest.removeprefix("h1:")).hex()
        component["hashes"] = [{"alg": "SHA-256", "content": content}]
    return component


def modules(text: str) -> list[Component]:
    """
    Read what C{go version -m} says of a library.

    @raise LookupError: it says of no Go version, or a licence is not known.
    """
    first, *lines = text.splitlines()
    release = first.rpartition(": go")[2].split()[0] if ": go" in first else ""
    if not release:
        raise LookupError(f"This is no library of Go's: {first}")
    found = [module("stdlib", release)]
    for line in lines:
        words = line.split()
        if words[0] == "dep":
            found.append(module(*words[1:4]))
        elif words[0] == "=>":
            found[-1] = module(*words[1:4])
    return found


def complete(bom: dict[str, Any], native: Sequence[Component], now: float) -> dict[str, Any]:
    """
    Make the bill of an environment that of nanotun.

    @param bom: the bill of the environment, whose component for nanotun is a file of this machine.
    @param native: the Go modules in the library.
    @param now: in seconds since 1970.
    @return: the whole bill; C{bom} is changed.
    """
    own = next(each for each in bom["components"] if each["name"] == "nanotun")
    libraries = [each for each in bom["components"] if each is not own]
    library = {
        "bom-ref": LIBRARY_REF,
        "type": "library",
        "name": "libnetstack.so",
        "version": __version__,
        "licenses": [{"license": {"id": "MIT"}}],
        "description": "nanotun's packet engine; each wheel has one",
    }
    bom["components"] = [*libraries, library, *native]
    needs = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    needs[NANOTUN_REF] = [*needs.pop(own["bom-ref"]), LIBRARY_REF]
    needs[LIBRARY_REF] = [each["bom-ref"] for each in native]
    bom["dependencies"] = [{"ref": ref, "dependsOn": sorted(on)} for ref, on in needs.items()]
    bom["metadata"] = {
        **bom["metadata"],
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "authors": [{"name": "the nanotun authors"}],
        "component": {
            "bom-ref": NANOTUN_REF,
            "type": "application",
            "name": "nanotun",
            "version": __version__,
            "purl": f"pkg:pypi/nanotun@{__version__}",
            "description": own.get("description", ""),
            "licenses": [{"license": {"id": "MIT"}}],
        },
    }
    return bom


def _native(wheel: Path, go: str, folder: Path) -> list[Component]:
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract(LIBRARY, folder / wheel.stem)
    return modules(subprocess.check_output([go, "version", "-m", path], text=True))


def _installed(wheel: Path, folder: Path) -> dict[str, Any]:
    """The bill of a new environment with the wheel."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", wheel], check=True
    )
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    bom: dict[str, Any] = json.loads(subprocess.check_output([*command, python]))
    return bom


def valid(text: str) -> str:
    """
    @return: C{text}, which is a bill by CycloneDX's schema.
    @raise ValueError: it is not.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    if (error := JsonStrictValidator(version).validate_str(text)) is not None:
        raise ValueError(f"The bill of materials is not as CycloneDX's schema has it: {error}")
    return text


def main(*wheels: str) -> None:
    """Write the bill."""
    go = golang.findGo()
    if go is None:
        raise LookupError("Go is missing, which knows what a library is made of; run: make build")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        natives = [_native(Path(wheel), go, folder) for wheel in wheels]
        if any(each != natives[0] for each in natives):
            raise LookupError(f"These are not made of the same Go modules: {', '.join(wheels)}")
        bom = _installed(Path(wheels[0]), folder)
    now = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    whole = complete(bom, natives[0], now)
    output = Path(wheels[0]).with_name(f"nanotun-{__version__}.cdx.json")
    output.write_text(valid(json.dumps(whole, indent=1) + "\n"))
    count = len(whole["components"])
    print(f"{output} is valid CycloneDX {whole['specVersion']} with {count} components")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (LookupError, ValueError) as error:
        sys.exit(str(error))
