"""
The description of the API, and whether a value is as it says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests import ROOT

DESCRIPTION: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}

#: Whatever else a schema says has to be looked at below.
KNOWN = {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf"}
KNOWN |= {"allOf", "$ref", "description", "minimum", "maximum", "default"}


def schemaOf(name: str) -> dict[str, Any]:
    """One of the schemas that have a name."""
    found: dict[str, Any] = DESCRIPTION["components"]["schemas"][name]
    return found


def answerOf(method: str, path: str) -> dict[str, Any]:
    """The schema of the answer to a call."""
    response = DESCRIPTION["paths"][path][method]["responses"]["200"]
    found: dict[str, Any] = response["content"]["application/json"]["schema"]
    return found


def wrongIn(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """
    What is not as a schema says.  A value may have nothing that the schema does not name, but
    where that names nothing.
    """
    yield from (f"{where}: the test knows no {word}" for word in schema.keys() - KNOWN)
    if "$ref" in schema:
        yield from wrongIn(value, schemaOf(schema["$ref"].rpartition("/")[2]), where)
        return
    if "anyOf" in schema:
        found = [list(wrongIn(value, each, where)) for each in schema["anyOf"]]
        if all(found):
            yield from min(found, key=len)
    if "allOf" in schema:
        yield from wrongIn(value, merged(schema), where)
    types = schema.get("type", [])
    allowed = [
        each for name in ([types] if isinstance(types, str) else types) for each in TYPES[name]
    ]
    if allowed and type(value) not in allowed:
        yield f"{where} is {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}"
    if isinstance(value, dict):
        yield from _wrongFields(value, schema, where)
    for number, each in enumerate(value if isinstance(value, list) else ()):
        yield from wrongIn(each, schema.get("items", {}), f"{where}[{number}]")


def merged(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas of C{allOf}, all objects, as one."""
    made: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    for each in schema["allOf"]:
        one = schemaOf(each["$ref"].rpartition("/")[2]) if "$ref" in each else each
        made["properties"] |= one["properties"]
        made["required"] += one["required"]
    return made


def _wrongFields(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (
        f"{where} has no {name}" for name in schema.get("required", ()) if name not in value
    )
    for name, each in value.items():
        if name in properties:
            yield from wrongIn(each, properties[name], f"{where}.{name}")
        elif isinstance(others, dict):
            yield from wrongIn(each, others, f"{where}.{name}")
        elif others is False:
            yield f"{where} has {name}"
