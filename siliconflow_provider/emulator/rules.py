"""Rules that tests add to a running emulator: plans for batches, and faults at endpoints."""

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
    """Selects the matches that a rule applies to. Matches are counted from 1, from when the rule was added.

    By default, a rule applies once, to the next match. `nth`: not before the n-th match. `every`: to every k-th match,
    without end. `times`: at most this number of times, in a row.
    """

    nth: Number | None = None
    every: Number | None = None
    times: Number | None = None

    def applies(self, seen: int, used: int) -> bool:
        """Return True if the rule applies to the last of `seen` matches, after it was used `used` times."""
        first = self.nth or self.every or 1
        most = self.times or (math.inf if self.every else 1)
        return seen >= first and (seen - first) % (self.every or 1) == 0 and used < most


RuleT = TypeVar("RuleT", bound=Rule)
StructT = TypeVar("StructT", bound=msgspec.Struct)


class Rules(Generic[RuleT]):
    """Rules in the order in which they were added. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: list[_Counted[RuleT]] = []

    def add(self, rule: RuleT) -> None:
        """Add a rule."""
        with self._lock:
            self._counted.append(_Counted(rule))

    def clear(self) -> None:
        """Delete all rules."""
        with self._lock:
            self._counted.clear()

    def take(self, matches: Callable[[RuleT], bool]) -> RuleT | None:
        """Return the first rule that applies, or None. Other matching rules count the match, but stay unused."""
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
        """Return the rules, each with `seen` and `used`: the counts of matches and of uses."""
        with self._lock:
            return [
                msgspec.to_builtins(counted.rule, enc_hook=_name_of) | {"seen": counted.seen, "used": counted.used}
                for counted in self._counted
            ]


class _Counted(Generic[RuleT]):
    def __init__(self, rule: RuleT) -> None:
        self.rule = rule
        self.seen = 0
        self.used = 0


def read(what: str, fields: Mapping[str, Any], kind: type[StructT]) -> StructT:
    """Return a struct of the fields, or raise a ControlError with the invalid field and the allowed values."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        path = path.strip(".`")
        if "unknown field" in message:
            names = ", ".join(field.name for field in msgspec.structs.fields(_struct_at(path, kind)))
            message += f"; there are {names}"
        raise ControlError(f"{what}: {path + ': ' if path else ''}{message}") from None


def _name_of(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function))


def _struct_at(path: str, kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the struct at a path such as `failing` below another struct."""
    for name in re.findall(r"[A-Za-z_]\w*", path):
        kind = next(part for part in get_args(get_type_hints(kind)[name]) if issubclass(part, msgspec.Struct))
    return kind
