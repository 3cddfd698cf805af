"""Read a JSON schema: references, alternatives, and the least depth of an instance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
NOTHING: dict[str, Any] = {"enum": []}
MOST_REFERENCES = 50  # of references to references
_TYPE_OF_KEYWORD = {
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties", "propertyNames"), "object"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems"), "array"),
    **dict.fromkeys(("pattern", "format", "minLength", "maxLength", "contentMediaType"), "string"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
}


class SchemaTree:
    """A JSON schema. Whatever has the wrong type in it is ignored."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self._depths = dict.fromkeys(_references(root), math.inf)
        self._find_depths()

    def plain(self, schema: Any) -> dict[str, Any]:
        """Return a schema with its references followed and its `allOf` merged."""
        for _ in range(MOST_REFERENCES):
            if not isinstance(schema, dict):
                return NOTHING if schema is False else {}
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                target = self._target(schema["$ref"])
                schema = _merged(target, rest) if isinstance(target, dict) else target
            elif "allOf" in schema:
                merged = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schemas(schema, "allOf"):
                    merged = _merged(self.plain(part), merged)
                schema = merged
            else:
                return schema
        return NOTHING

    def alternatives(self, plain: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the schemas of which one must match, each whole by itself; none if there is no choice."""
        for keyword in ("anyOf", "oneOf"):
            if branches := schemas(plain, keyword):
                rest = {key: value for key, value in plain.items() if key != keyword}
                return [
                    _merged(rest, branch) if isinstance(branch, dict) else self.plain(branch) for branch in branches
                ]
        if isinstance(plain.get("type"), list):
            return [plain | {"type": kind} for kind in plain["type"]]
        return []

    def depth(self, schema: Any) -> float:
        """Return the number of levels of the least deep instance; infinite if there is none."""
        if not isinstance(schema, dict):
            return math.inf if schema is False else 1
        if "const" in schema or "enum" in schema:
            return 1 if "const" in schema or schema["enum"] else math.inf
        needed = [self._depths.get(str(schema["$ref"]), math.inf)] if "$ref" in schema else []
        needed += [self.depth(part) for part in schemas(schema, "allOf")]
        for keyword in ("anyOf", "oneOf"):
            if branches := schemas(schema, keyword):
                needed.append(min(self.depth(branch) for branch in branches))
        properties = mapping(schema, "properties")
        needed += [self.depth(properties[name]) for name in names(schema, "required") if name in properties]
        least = whole_number(schema, "minItems")
        first = schemas(schema, "prefixItems")
        needed += [self.depth(part) for part in first[:least]]
        if least > len(first):
            needed.append(self.depth(schema.get("items", True)))
        if whole_number(schema, "minProperties") > len(properties):
            needed.append(self.depth(schema.get("additionalProperties", True)))
        return 1 + max(needed, default=0)

    def _find_depths(self) -> None:
        """Find the depths behind all references, starting with those that refer to nothing endless."""
        for _ in range(len(self._depths) + 1):
            found = {reference: self.depth(self._target(reference)) for reference in self._depths}
            if found == self._depths:
                return
            self._depths = found

    def _target(self, reference: Any) -> Any:
        """Return the schema at a reference such as `#/$defs/City`; one without an instance if there is none."""
        found: Any = self.root
        address, *steps = str(reference).split("/")
        for step in steps:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, dict) else None
        return found if address == "#" and isinstance(found, (dict, bool)) else NOTHING


def type_of(plain: dict[str, Any]) -> str | None:
    """Return the type of a schema without alternatives; None if it takes every type."""
    kind = plain.get("type")
    if isinstance(kind, str):
        return kind
    return next((_TYPE_OF_KEYWORD[keyword] for keyword in plain if keyword in _TYPE_OF_KEYWORD), None)


def mapping(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    """Return the object at a keyword; an empty one if there is none."""
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def schemas(schema: dict[str, Any], keyword: str) -> list[Any]:
    """Return the list of schemas at a keyword; an empty one if there is none."""
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def names(schema: dict[str, Any], keyword: str) -> list[str]:
    """Return the list of names at a keyword; an empty one if there is none."""
    return [name for name in schemas(schema, keyword) if isinstance(name, str)]


def whole_number(schema: dict[str, Any], keyword: str, default: int = 0) -> int:
    """Return the integer at a keyword, or the default."""
    value = schema.get(keyword)
    return value if type(value) is int else default


def _references(schema: Any) -> Iterator[str]:
    """Yield all references in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that demands both; where they differ, the second one's word."""
    merged = one | other
    if "properties" in one and "properties" in other:
        merged["properties"] = mapping(one, "properties") | mapping(other, "properties")
    if "required" in one and "required" in other:
        merged["required"] = [*dict.fromkeys(names(one, "required") + names(other, "required"))]
    return merged
