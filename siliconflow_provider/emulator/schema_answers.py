"""Answer with an instance of a JSON schema."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import Any

from siliconflow_provider.emulator.plausible import fits_number, fits_text, number, text
from siliconflow_provider.emulator.schema_tree import SchemaTree, mapping, names, schemas, type_of, whole_number

# Below this, only what is required: a schema may branch at each level.
MOST_REFERENCES = 3
MOST_LEVELS = 12
USUAL_ITEMS = 2
ATTEMPTS = 100
# These fields get the answer itself: the sum, or the prompt.
ANSWER_FIELDS = ("answer", "output")


@dataclass(frozen=True)
class Place:
    """A place in the instance. `is_least`: only what is required goes below it."""

    name: str
    path: str = ""
    references: frozenset[str] = frozenset()
    is_least: bool = False

    def below(self, step: str, name: str | None = None) -> Place:
        """Return the place of a field or an item."""
        path = f"{self.path}/{step}"
        is_least = self.is_least or path.count("/") > MOST_LEVELS
        return replace(self, path=path, name=self.name if name is None else name, is_least=is_least)

    def behind(self, reference: str) -> Place:
        """Return the same place, behind a reference. One that comes again gets the least instance."""
        is_least = self.is_least or reference in self.references or len(self.references) >= MOST_REFERENCES
        return replace(self, references=self.references | {reference}, is_least=is_least)


class SchemaAnswer:
    """Writes the instance of a schema that a request gets: always the same one.

    :param seed: text that identifies the request
    :param answer: the answer to the request without a schema, for fields with the names in ANSWER_FIELDS
    :param value: the number in `answer`, if it is one
    """

    def __init__(self, tree: SchemaTree, seed: str, answer: str, value: Fraction | None) -> None:
        self._tree = tree
        self._seed = seed
        self._answer = answer
        self._sum = value

    def instance(self) -> Any:
        """Return the instance.

        :raises ValueError: if the schema has none
        """
        if self._tree.depth(self._tree.root) == math.inf:
            raise ValueError("the schema has no instance")
        return self._value(self._tree.root, Place("answer"))

    def _value(self, schema: Any, place: Place) -> Any:
        if isinstance(schema, dict) and "$ref" in schema:
            place = place.behind(str(schema["$ref"]))
        plain = self._tree.plain(schema)
        if "const" in plain:
            return plain["const"]
        if isinstance(plain.get("enum"), list):
            return self._member(plain["enum"], place)
        if alternatives := self._tree.alternatives(plain):
            return self._alternative(alternatives, place)
        kinds: dict[str, Callable[[dict[str, Any], Place], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._text,
            "integer": self._number,
            "number": self._number,
            "boolean": lambda plain, place: bool(self._choose(place)(2)),
            "null": lambda plain, place: None,
        }
        return kinds.get(type_of(plain) or "string", self._text)(plain, place)

    def _member(self, members: list[Any], place: Place) -> Any:
        if place.name in ANSWER_FIELDS and self._answer in members:
            return self._answer
        return members[self._choose(place)(len(members))] if members else None

    def _alternative(self, alternatives: list[dict[str, Any]], place: Place) -> Any:
        """Return an instance of one alternative: not null, and the one with the answer if there is one."""
        kinds = {type_of(each): each for each in map(self._tree.plain, alternatives)}
        if {"number", "string"} <= kinds.keys():
            return self._decimal(kinds["number"], kinds["string"], place)
        if place.is_least:
            return self._value(min(alternatives, key=self._tree.depth), place)
        possible = [each for each in alternatives if self._tree.depth(each) < math.inf]
        filled = [each for each in possible if type_of(self._tree.plain(each)) != "null"] or possible
        if place.name in ANSWER_FIELDS and self._sum is not None:
            filled = [each for each in filled if self._takes_sum(self._tree.plain(each))] or filled
        return self._value(filled[self._choose(place)(len(filled))], place)

    def _decimal(self, as_number: dict[str, Any], as_text: dict[str, Any], place: Place) -> Any:
        """Return a value for the form that Pydantic gives to decimals: a number, or a text of one.

        The schema may not tell how many digits it may have, so it is a small integer if it may be.
        """
        is_answer = place.name in ANSWER_FIELDS and self._sum is not None and fits_number(as_number, self._sum)
        if is_answer and fits_text(as_text, self._answer):
            return self._answer
        choose = self._choose(place)
        found = (number(as_number, choose, whole=True) for _ in range(ATTEMPTS))
        return next((each for each in found if fits_text(as_text, str(each))), 0)

    def _object(self, plain: dict[str, Any], place: Place) -> dict[str, Any]:
        properties, required = mapping(plain, "properties"), names(plain, "required")
        made = {
            name: self._value(part, place.below(name, name))
            for name, part in properties.items()
            if name in required or (not place.is_least and self._tree.depth(part) < math.inf)
        }
        for name in required:
            if name not in made:
                made[name] = self._value(plain.get("additionalProperties", True), place.below(name, name))
        least = whole_number(plain, "minProperties")
        if not properties and not made and "additionalProperties" not in plain and "patternProperties" not in plain:
            return {"answer": self._answer}
        usual = 0 if properties or made or place.is_least else USUAL_ITEMS
        wanted = max(least, min(usual, whole_number(plain, "maxProperties", usual)))
        return made | self._further(plain, place, wanted - len(made))

    def _further(self, plain: dict[str, Any], place: Place, wanted: int) -> dict[str, Any]:
        """Return properties with names of their own."""
        patterns, values = mapping(plain, "patternProperties"), plain.get("additionalProperties", True)
        names_schema: Any = plain.get("propertyNames")
        if patterns:
            pattern, values = next(iter(patterns.items()))
            names_schema = {**mapping(plain, "propertyNames"), "type": "string", "pattern": pattern}
        made: dict[str, Any] = {}
        if self._tree.depth(values) == math.inf:
            return made
        for attempt in range(ATTEMPTS + wanted):
            if len(made) >= wanted:
                break
            # A number is a name for keys of most types; a schema does not tell the type of keys.
            name = str(attempt + 1)
            if names_schema is not None:
                name = str(self._value(names_schema, place.below(f"names/{attempt}", "name")))
            made.setdefault(name, self._value(values, place.below(name)))
        return made

    def _array(self, plain: dict[str, Any], place: Place) -> list[Any]:
        first, further = schemas(plain, "prefixItems"), plain.get("items", True)
        least = whole_number(plain, "minItems")
        usual = len(first) or USUAL_ITEMS
        wanted = least if place.is_least else max(least, min(usual, whole_number(plain, "maxItems", usual)))
        if self._tree.depth(further) == math.inf:
            wanted = min(wanted, len(first))
        made: list[Any] = []
        for index in range(wanted):
            part = first[index] if index < len(first) else further
            if not plain.get("uniqueItems"):
                made.append(self._value(part, place.below(str(index))))
                continue
            seen = {json.dumps(item, sort_keys=True) for item in made}
            tries = (self._value(part, place.below(f"{index}.{attempt}")) for attempt in range(ATTEMPTS))
            made.extend(islice((item for item in tries if json.dumps(item, sort_keys=True) not in seen), 1))
        return made

    def _text(self, plain: dict[str, Any], place: Place) -> str:
        if plain.get("contentMediaType") == "application/json":
            return json.dumps(self._value(plain.get("contentSchema", True), place.below("content")))
        if place.name in ANSWER_FIELDS and fits_text(plain, self._answer):
            return self._answer
        return text(plain, place.name, self._choose(place))

    def _number(self, plain: dict[str, Any], place: Place) -> int | float:
        if place.name in ANSWER_FIELDS and self._sum is not None and fits_number(plain, self._sum):
            return int(self._sum) if self._sum.denominator == 1 else float(self._sum)
        return number(plain, self._choose(place), whole=plain.get("type") == "integer")

    def _takes_sum(self, plain: dict[str, Any]) -> bool:
        kind = type_of(plain)
        return kind in ("integer", "number") and self._sum is not None and fits_number(plain, self._sum)

    def _choose(self, place: Place) -> Callable[[int], int]:
        """Return a function that chooses a number below another: the same ones for a request and a place."""
        calls = 0

        def choose(count: int) -> int:
            nonlocal calls
            calls += 1
            digest = hashlib.blake2b(f"{self._seed}\0{place.path}\0{calls}".encode(errors="replace")).digest()
            return int.from_bytes(digest) % count

        return choose
