"""Find an arithmetic expression in a text and compute its exact value."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

# Signs and digits, with the letters before and after them.
RUN = re.compile(r"([A-Za-z_]?)([0-9.()+\-*/][0-9.()+\-*/ ]{2,})(?=([A-Za-z_]?))")
OPERATION = re.compile(r"[0-9)] *[+\-*/] *[-+(.0-9]")
LONGEST = 200  # limits the size of numbers and the depth of nesting
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,4}/\d{1,2}/\d{1,4}")
SIGNS = str.maketrans({"\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-"})

OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def work_out(text: str) -> str | None:
    """Return the value of the last arithmetic expression in a text, or None if there is none."""
    expression = _last_expression(text.translate(SIGNS))
    if expression is None or len(expression) > LONGEST:
        return None
    try:
        return _written(_value(ast.parse(expression, mode="eval").body, expression))
    except (SyntaxError, ValueError, ArithmeticError):
        return None


def _last_expression(text: str) -> str | None:
    """Return the last expression. Skip parts of words, such as order-12-34, and dates."""
    if not OPERATION.search(text):
        return None
    for before, run, after in reversed(RUN.findall(text)):
        expression: str = run.lstrip(")+*/ ").rstrip("(.+-*/ ")
        in_word = before or (after and not run.endswith(" "))
        if not in_word and OPERATION.search(expression) and not DATE.fullmatch(expression):
            return expression
    return None


def _value(node: ast.expr, source: str) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left, source), _value(node.right, source))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, source)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
        return _value(node.operand, source)
    if isinstance(node, ast.Constant):
        # The source, because the constant of 0.1 is a float.
        return Fraction(source[node.col_offset : node.end_col_offset])
    raise ValueError(f"not arithmetic: {source!r}")


def _written(value: Fraction) -> str:
    """Return an integer or an exact decimal, or the nearest float for an infinite decimal."""
    for digits in range(30):
        if 10**digits % value.denominator == 0:
            whole = value.numerator * (10**digits // value.denominator)
            text = str(abs(whole)).rjust(digits + 1, "0")
            sign = "-" if whole < 0 else ""
            return sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)
    return str(float(value))
