"""Rules that a caller gives while the emulator runs: plans for batches, faults at endpoints."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, TypeVar, get_args, get_type_hints

import msgspec

from siliconflow_provider.emulator.errors import ControlError

Number = Annotated[int, msgspec.Meta(ge=1)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a rule applies, among all that it matches from when it was given, counted from 1.

    As it stands once, to the next. `nth`: not before the n-th. `every`: to every k-th, without end. `times`:
    at most so many times, one after the other.
    """

    nth: Number | None = None
    every: Number | None = None
    times: Number | None = None

    def applies(self, seen: int, used: int) -> bool:
        """Whether to the last of `seen` matches, when it has been used so often before."""
        first = self.nth or self.every or 1
        most = self.times or (math.inf if self.every else 1)
        return seen >= first and (seen - first) % (self.every or 1) == 0 and used < most


RuleT = TypeVar("RuleT", bound=Rule)
StructT = TypeVar("StructT", bound=msgspec.Struct)


class Rules(Generic[RuleT]):
    """Rules in the order in which they were given; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: list[_Counted[RuleT]] = []

    def add(self, rule: RuleT) -> None:
        """Take in a rule."""
        with self._lock:
            self._counted.append(_Counted(rule))

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._counted.clear()

    def take(self, matches: Callable[[RuleT], bool]) -> RuleT | None:
        """The first rule that applies; the others that match count this one too, but keep for the next."""
        taken: _Counted[RuleT] | None = None
        with self._lock:
            for counted in self._counted:
                if matches(counted.rule):
                    counted.seen += 1
                    if taken is None and counted.rule.applies(counted.seen, counted.used):
                        counted.used += 1
                        taken = counted
        return taken.rule if taken else None

    def listing(self) -> list[dict[str, Any]]:
        """The rules as they were given, each with `seen` and `used`: how often it matched and applied."""
        with self._lock:
            return [
                msgspec.to_builtins(counted.rule) | {"seen": counted.seen, "used": counted.used}
                for counted in self._counted
            ]


class _Counted(Generic[RuleT]):
    def __init__(self, rule: RuleT) -> None:
        self.rule = rule
        self.seen = 0
        self.used = 0


def read(what: str, fields: Mapping[str, Any], kind: type[StructT]) -> StructT:
    """Make a struct of a caller's fields, or raise the ControlError that names the field and what is allowed."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        path = path.strip(".`")
        if "unknown field" in message:
            names = ", ".join(field.name for field in msgspec.structs.fields(_struct_at(path, kind)))
            message += f"; there are {names}"
        raise ControlError(f"{what}: {path + ': ' if path else ''}{message}") from None


def _struct_at(path: str, kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The struct at a path such as `failing`, below the one that was asked for."""
    for name in re.findall(r"\w+", path):
        kind = next(part for part in get_args(get_type_hints(kind)[name]) if issubclass(part, msgspec.Struct))
    return kind
