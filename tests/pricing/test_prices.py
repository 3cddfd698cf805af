from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.pricing import InvalidPricesError, Prices, read_prices

MODEL = "deepseek-ai/DeepSeek-V3"
GIVEN = {"currency": "CNY", "models": {MODEL: {"input": 1, "output": 4, "cached_input": 0.5}}}
MILLION = 10**6


def prices_with(**changed: Any) -> dict[str, Any]:
    return {"currency": "CNY", "models": {MODEL: {"input": 1, "output": 4, **changed}}}


def price_of_input(given: Any) -> Decimal | None:
    return read_prices(given).cost(MODEL, MILLION, 0)


@pytest.fixture
def prices() -> Prices:
    return read_prices(GIVEN)


def test_prices_are_mapping_text_or_file(tmp_path: Path, prices: Prices) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GIVEN).encode())
    for given in (GIVEN, " " + json.dumps(GIVEN), path, str(path), prices.to_json()):
        assert read_prices(given) == prices


def test_caller_reads_paths_that_are_not_local(prices: Prices) -> None:
    read: list[str] = []
    assert read_prices("s3://b/p.json", read_file=lambda path: read.append(path) or json.dumps(GIVEN)) == prices
    assert read == ["s3://b/p.json"]


@pytest.mark.parametrize("written", ["0.1", '"0.1"', "1e-1", '" 0.10 "', "0.1000000000000000"])
def test_decimal_digits_are_kept(written: str) -> None:
    text = json.dumps(prices_with(input="X")).replace('"X"', written)
    assert price_of_input(text) == Decimal("0.1")


def test_digits_that_no_float_holds_are_kept() -> None:
    text = json.dumps(prices_with(input="X")).replace('"X"', "123456789.123456789")
    assert price_of_input(text) == Decimal("123456789.123456789")


@pytest.mark.parametrize("number", [0.1, Decimal("0.1"), "0.1"])
def test_numbers_of_mappings_keep_their_digits(number: Any) -> None:
    assert price_of_input(prices_with(input=number)) == Decimal("0.1")


def test_cached_tokens_cost_as_others_by_default() -> None:
    prices = read_prices(prices_with())
    assert prices.cost(MODEL, 100, 0, 100) == prices.cost(MODEL, 100, 0) == Decimal("0.0001")


def test_cost_has_three_meters(prices: Prices) -> None:
    assert prices.cost(MODEL, 1_000, 200, 400) == Decimal("0.0016")
    assert prices.cost(MODEL, 10, 0, 400) == Decimal("0.000005")
    assert str(prices.cost(MODEL, 20 * MILLION, 0)) == "20"
    assert prices.highest_cost(MODEL, 1_000, 200) == Decimal("0.0018")
    dear_cache = read_prices(prices_with(cached_input=3))
    assert dear_cache.highest_cost(MODEL, MILLION, 0) == 3


def test_cost_is_exact_for_any_number_of_tokens() -> None:
    prices = read_prices(prices_with(input="0.000000001", output="999999999.999999999"))
    assert prices.cost(MODEL, 1, 10**20) == Decimal("99999999999999999900000.000000000000001")


def test_a_model_without_price_has_no_cost(prices: Prices) -> None:
    assert prices.cost("deepseek-ai/DeepSeek-V", 1, 1) is None
    assert prices.highest_cost(None, 1, 1) is None
    assert prices.why_no_price(MODEL) is None
    assert prices.why_no_price("DeepSeek-AI/deepseek-v3") == (
        f"model 'DeepSeek-AI/deepseek-v3' has no price: add it to prices (did you mean {MODEL!r}?)"
    )
    assert prices.why_no_price("other") == f"model 'other' has no price: add it to prices (they have {MODEL})"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": {}}, r"prices have no currency: add it, as in \{"),
        ({"currency": "CNY"}, "prices have no models: add it"),
        ({"currency": "CNY", "models": {}}, "prices have no models: give them as in"),
        ({"currency": "CNY", "models": []}, "prices have no models: give them as in"),
        ({**GIVEN, "model": 1}, "prices have the unknown key 'model': use currency, models"),
        ({**GIVEN, "currency": "yuan"}, "prices have the currency 'yuan': give its code, such as CNY or USD"),
        ({"currency": "CNY", "models": {MODEL: 1}}, f"prices of model '{MODEL}': expected a mapping, got int"),
        (prices_with(cache=1), f"prices of model '{MODEL}' have the unknown key 'cache': use input"),
        ({"currency": "CNY", "models": {MODEL: {"input": 1}}}, f"prices of model '{MODEL}' have no output: add it"),
        (prices_with(input="0.0000000001"), "input price '0.0000000001': round it to 9 decimal places"),
        ([], "prices: expected a mapping, got list; write it as in"),
        (None, "prices: expected a mapping, got NoneType"),
        ("", "prices are empty: give them as in"),
        ("/no/prices.json", r"prices /no/prices.json cannot be read \(No such file or directory\): give the path"),
        ("{", r"prices are not JSON \("),
        ("[1]", "^prices: expected a mapping, got list"),
        (' "text"', "^prices: expected a mapping, got str"),
        ("\ufefftext", r"^prices are not JSON \("),
        ("sk-" + "a" * 48, r"^prices sk-aaaaa\.\.\. cannot be read \(No such file or directory\)"),
        ("/" + "a" * 5_000, r"^prices /a{199}\.\.\. cannot be read \(File name too long\)"),
        ("a\0b", r"^prices a\\x00b cannot be read \(embedded null byte\)"),
        (f'{{"currency": "CNY", "models": {{"{MODEL}": {{"input": NaN, "output": 1}}}}}}', "the input price 'NaN'"),
        ('{"currency": "CNY", "currency": "USD"}', "prices have the key 'currency' twice: remove one"),
        (f'{{"currency": "CNY", "models": {{"{MODEL}": {{}}, "{MODEL}": {{}}}}}}', f"have the key '{MODEL}' twice"),
    ],
)  # fmt: skip
def test_invalid_prices_are_explained(given: Any, message: str) -> None:
    with pytest.raises(InvalidPricesError, match=message):
        read_prices(given)


@pytest.mark.parametrize(
    "number", [-1, "-0.5", float("nan"), float("inf"), "1,5", "", "1_000", "１", True, None, [1], 10**9 + 1]
)
def test_a_price_is_a_number_from_zero(number: Any) -> None:
    with pytest.raises(InvalidPricesError, match=r"have the output price .*: give a number per million tokens, from 0"):
        read_prices(prices_with(output=number))


def test_errors_name_the_given_place_without_queries() -> None:
    def refuse(path: str) -> bytes:
        raise OSError("no")

    with pytest.raises(InvalidPricesError, match=r"^prices of x s3://b/p.json\S* cannot be read \(no\)") as caught:
        read_prices("s3://b/p.json?Signature=s3cret", name="prices of x", read_file=refuse)
    assert "s3cret" not in str(caught.value)


def test_prices_may_begin_with_a_byte_order_mark() -> None:
    assert read_prices("\ufeff" + json.dumps(GIVEN)) == read_prices(GIVEN)
