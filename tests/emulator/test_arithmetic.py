from __future__ import annotations

import pytest

from siliconflow_provider.emulator.arithmetic import work_out


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("What is 12 + 30?", "42"),
        ("Compute (3+4)*5.", "35"),
        ("6 × 7", "42"),
        ("84 ÷ 2", "42"),
        ("5 − 8", "-3"),
        ("3 - -4", "7"),
        ("-(3+4)", "-7"),
        ("0.1 + 0.2", "0.3"),
        ("10/4", "2.5"),
        ("-1/8", "-0.125"),
        ("1/3", repr(1 / 3)),
        ("1000000*1000000", "1000000000000"),
        ("99999999999999999999 + 1", "100000000000000000000"),
        ("计算12+30等于多少", "42"),
        ("Row 7 of 2026-11-23, order-12-34: what is 2 + 2?", "4"),
        ("First 1+1, then 2+2!", "4"),
    ],
)
def test_last_expression_is_computed_exactly(text: str, value: str) -> None:
    assert work_out(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello",
        "There are 12 apples",
        "It is -5 outside",
        "2026-11-23",
        "2026/11/23",
        "order-12-34",
        "3+4i",
        "1/0",
        "1 / (2-2)",
        "2**3",
        "7//2",
        "007+1",
        "1.5.2 - 3",
        "2 (3+4)",
        "((((((",
        "-" * 500 + "1+1",
        "+".join("1" * 300),
        "__import__('os').getcwd()",
    ],
)
def test_other_text_has_no_value(text: str) -> None:
    assert work_out(text) is None


def test_difficult_text_does_not_crash() -> None:
    assert work_out("We are open 24/7") is not None
