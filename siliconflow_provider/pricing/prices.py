"""Prices of models, as the user gives them, and the cost of a usage."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from siliconflow_provider.api.limits import shortened
from siliconflow_provider.api.redaction import shown_path
from siliconflow_provider.api.service_texts import cut, first_names
from siliconflow_provider.pricing.amounts import EXACT, plain

EXAMPLE = '{"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}}'
# Prices are integers of the smallest price that can be given, so that the cost of a row is cheap and exact.
DECIMAL_PLACES = 9
HIGHEST_PRICE = 10**9
_PER_TOKEN = -(DECIMAL_PLACES + 6)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_BYTE_ORDER_MARK = "\ufeff"
_BEGINS_JSON = ("{", "[", '"', _BYTE_ORDER_MARK)
LONGEST_REASON = 300
_CURRENCY = re.compile("[A-Z]{3}")


class InvalidPricesError(ValueError):
    """Prices that cannot be used. The message names the place and the remedy."""


class UnreadablePricesError(InvalidPricesError):
    """The file of prices in an object storage cannot be read now. A later attempt may read it."""


@dataclass(frozen=True)
class ModelPrices:
    """Prices of a model per million tokens, in units of 10**-9 of the currency."""

    input: int
    output: int
    cached_input: int


@dataclass(frozen=True)
class Prices:
    """Prices of models. `read_prices` makes them.

    :ivar currency: ISO 4217 code, such as CNY
    """

    currency: str
    models: Mapping[str, ModelPrices]

    def cost(
        self, model: str | None, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
    ) -> Decimal | None:
        """Return the exact cost of a usage, or None if the model has no price.

        :param prompt_tokens: all tokens of the prompt
        :param cached_tokens: those of them that the service took from its cache
        """
        price = self.models.get(model or "")
        if price is None:
            return None
        cached = min(cached_tokens, prompt_tokens)
        return _amount(
            (prompt_tokens - cached) * price.input + cached * price.cached_input + completion_tokens * price.output
        )

    def highest_cost(self, model: str | None, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the cost of a usage whatever share of its prompt is cached, or None if the model has no price."""
        price = self.models.get(model or "")
        if price is None:
            return None
        return _amount(prompt_tokens * max(price.input, price.cached_input) + completion_tokens * price.output)

    def why_no_price(self, model: str | None) -> str | None:
        """Return a sentence that says that a model has no price, and the remedy; None if it has one."""
        if model in self.models:
            return None
        if model is None:
            return "the requests name no model: set the model"
        lower = {name.lower(): name for name in self.models}
        nearest = get_close_matches(model.lower(), lower, n=1)
        known = f"they have {first_names(self.models)}" if self.models else "they are empty"
        hint = f"did you mean {shortened(repr(lower[nearest[0]]))}?" if nearest else known
        return f"model {model!r} has no price: add it to prices ({hint})"

    def to_json(self) -> dict[str, Any]:
        """Return a mapping that `read_prices` accepts. Prices are texts."""
        models = {
            name: {kind: f"{_decimal(units, -DECIMAL_PLACES):f}" for kind, units in vars(price).items()}
            for name, price in self.models.items()
        }
        return {"currency": self.currency, "models": models}


def read_local_file(path: str) -> bytes:
    """Return the content of a local file."""
    return Path(path).read_bytes()


def read_prices(
    value: Any, *, name: str = "prices", read_file: Callable[[str], str | bytes] = read_local_file
) -> Prices:
    """Return checked prices.

    :param value: a mapping as in `EXAMPLE`, a JSON text of it, or the path of a file with such a text. `cached_input`
        is optional: without it, cached tokens cost as much as others
    :param name: of the value, for messages
    :param read_file: returns the content of a path that is not local; its OSErrors are reported
    :raises InvalidPricesError: if something is missing, unknown, twice there, or not a price
    """
    if isinstance(value, os.PathLike) or (isinstance(value, str) and not value.lstrip().startswith(_BEGINS_JSON)):
        path = os.fspath(value)
        if not path.strip():
            raise InvalidPricesError(f"{name} are empty: give them as in {EXAMPLE}")
        name = f"{name} {shown_path(path)}"
        value = _content_of(path, name, read_file)
    if isinstance(value, (str, bytes)):
        value = _decoded(value, name)
    data = _checked_mapping(value, name, required=("currency", "models"))
    currency, models = data["currency"], data["models"]
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise InvalidPricesError(f"{name} have the currency {_shown(currency)}: give its code, such as CNY or USD")
    if not isinstance(models, Mapping) or not models:
        raise InvalidPricesError(f"{name} have no models: give them as in {EXAMPLE}")
    return Prices(currency, {str(model): _model_prices(price, name, model) for model, price in models.items()})


def _model_prices(value: Any, name: str, model: Any) -> ModelPrices:
    place = f"{name} of model {_shown(model)}"
    data = _checked_mapping(value, place, required=("input", "output"), optional=("cached_input",))
    data = {**data, "cached_input": data.get("cached_input", data["input"])}
    return ModelPrices(**{kind: _units(number, place, kind) for kind, number in data.items()})


def _checked_mapping(
    value: Any, place: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidPricesError(f"{place}: expected a mapping, got {type(value).__name__}; write it as in {EXAMPLE}")
    names = [*required, *optional]
    unknown = next((key for key in value if key not in names), None)
    if unknown is not None:
        raise InvalidPricesError(f"{place} have the unknown key {_shown(unknown)}: use {', '.join(names)}")
    missing = next((key for key in required if key not in value), None)
    if missing is not None:
        raise InvalidPricesError(f"{place} have no {missing}: add it, as in {EXAMPLE}")
    return value


def _units(value: Any, place: str, kind: str) -> int:
    """Return a price as an integer of its smallest unit."""
    # The text of a float has the digits that were written.
    text = float.__repr__(value) if isinstance(value, float) else str(value).strip()
    is_number = isinstance(value, (int, float, Decimal, str))
    if not is_number or not _NUMBER.fullmatch(text) or (price := Decimal(text)) > HIGHEST_PRICE:
        raise InvalidPricesError(
            f"{place} have the {kind} price {_shown(value)}: give a number per million tokens, from 0 to "
            f"{HIGHEST_PRICE:,}"
        )
    units = price.scaleb(DECIMAL_PLACES)
    if units != units.to_integral_value():
        raise InvalidPricesError(
            f"{place} have the {kind} price {_shown(value)}: round it to {DECIMAL_PLACES} decimal places"
        )
    return int(units)


def _content_of(path: str, name: str, read_file: Callable[[str], str | bytes]) -> str | bytes:
    try:
        return read_file(path) if "://" in path else read_local_file(path)
    except (OSError, ValueError) as error:
        failure = getattr(error, "strerror", None) or str(error)
        may_recover = "://" in path and not isinstance(error, (FileNotFoundError, ValueError))
    kind = UnreadablePricesError if may_recover else InvalidPricesError
    reason = cut(failure, LONGEST_REASON)
    raise kind(f"{name} cannot be read ({reason}): give the path of a JSON file, or the prices themselves")


def _decoded(text: str | bytes, name: str) -> Any:
    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise InvalidPricesError(f"{name} have the key {_shown(twice)} twice: remove one")
        return dict(pairs)

    try:
        text = (text if isinstance(text, str) else text.decode()).lstrip().removeprefix(_BYTE_ORDER_MARK)
        return json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=str, object_pairs_hook=unique_keys
        )
    except InvalidPricesError:
        raise
    except (ValueError, RecursionError) as error:
        failure = error
    raise InvalidPricesError(f"{name} are not JSON ({failure}): write it as in {EXAMPLE}")


def _amount(units: int) -> Decimal:
    return _decimal(units, _PER_TOKEN)


def _decimal(units: int, exponent: int) -> Decimal:
    return plain(Decimal(units).scaleb(exponent, EXACT))


def _shown(value: Any) -> str:
    return shortened(str(value) if isinstance(value, Decimal) else repr(value))
