"""The small language of rules: arithmetic, comparisons and logic over an event. It calls nothing but a few pure functions.

Names are the envelope's `device_id`, `source`, `type`, `data`, and everything directly in `data`: `metrics.cpu_usage > 80 and
tags.room == 'lab'`. What an event does not have is `None`; None in arithmetic gives None, and a comparison with it is false
(only == and != see it). The interpreter is simpleeval's; what its grammar has beyond that is refused when a rule is checked, so
that an evaluation costs at most NODES steps over the event's own values.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import simpleeval  # type: ignore[import-untyped]

from appliance.core.streams.rules_functions import GREATEST
from appliance.errors import RuleError

NODES = 100
"""Most parts of an expression."""
TEXT = 10_000
"""Most characters of a text that an expression makes."""

ALLOWED = (
    ast.Expression, ast.Expr, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add,
    ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In,
    ast.NotIn, ast.Is, ast.IsNot, ast.IfExp, ast.Call, ast.Attribute, ast.Subscript, ast.Name, ast.Load, ast.Constant,
    ast.Tuple, ast.List,
)  # fmt: skip


def _number(work: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Arithmetic on numbers alone; None where one is missing."""

    def apply(left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        if not _is_number(left) or not _is_number(right):
            raise RuleError(f"arithmetic with {type(left).__name__} and {type(right).__name__}")
        return work(float(left), float(right))

    return apply


def _ordered(work: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def apply(left: Any, right: Any) -> bool:
        return left is not None and right is not None and work(left, right)

    return apply


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _negated(value: Any) -> Any:
    return None if value is None else -value


def _within(left: Any, right: Any) -> bool:
    return right is not None and left in right


OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: _number(operator.add), ast.Sub: _number(operator.sub), ast.Mult: _number(operator.mul),
    ast.Div: _number(operator.truediv), ast.FloorDiv: _number(operator.floordiv), ast.Mod: _number(operator.mod),
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.eq, ast.IsNot: operator.ne,
    ast.Lt: _ordered(operator.lt), ast.LtE: _ordered(operator.le),
    ast.Gt: _ordered(operator.gt), ast.GtE: _ordered(operator.ge),
    ast.In: _within, ast.NotIn: lambda left, right: not _within(left, right),
    ast.USub: _negated, ast.UAdd: lambda value: value, ast.Not: operator.not_,
}  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RuleError(f"a text is wanted, not {type(value).__name__}")
    return value[:TEXT]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "len": len,
    "sqrt": math.sqrt, "lower": lambda text: _text(text).lower(), "upper": lambda text: _text(text).upper(),
    "starts": lambda text, begin: _text(text).startswith(_text(begin)),
    "ends": lambda text, end: _text(text).endswith(_text(end)),
    "contains": lambda text, part: _text(part) in _text(text),
}  # fmt: skip


class _Evaluator(simpleeval.EvalWithCompoundTypes):  # type: ignore[misc]  # it has no types
    """Attributes and indices look into JSON alone; nothing of Python's objects can be reached."""

    def __init__(self) -> None:
        super().__init__(operators=dict(OPERATORS), functions=dict(FUNCTIONS), names={})
        for node in (ast.Dict, ast.ListComp, ast.GeneratorExp, ast.JoinedStr, ast.FormattedValue, ast.Slice):
            self.nodes.pop(node, None)
        self.nodes[ast.Attribute] = lambda node: _member(self._eval(node.value), node.attr)
        self.nodes[ast.Subscript] = lambda node: _member(self._eval(node.value), self._eval(node.slice))
        self.nodes[ast.Name] = lambda node: self.names.get(node.id)


def _member(value: Any, name: Any) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list) and isinstance(name, int) and -len(value) <= name < len(value):
        return value[name]
    return None


class Expression:
    """A checked expression.

    Args:
        text: As it was written.
        tree: Its syntax, with nothing in it that is not allowed.
    """

    def __init__(self, text: str, tree: ast.expr) -> None:
        self.text = text
        self._tree = tree
        self._evaluator = _Evaluator()

    def __call__(self, envelope: Mapping[str, Any]) -> Any:
        """Its value for an event.

        Raises:
            RuleError: It cannot be worked out for this event, such as a division by zero.
        """
        evaluator = self._evaluator
        data = envelope.get("data")
        names = dict(data) if isinstance(data, dict) else {}
        evaluator.names = {**names, **{name: envelope.get(name) for name in ("device_id", "source", "type", "data")}}
        try:
            return evaluator.eval(self.text, previously_parsed=self._tree)
        except ZeroDivisionError:
            raise RuleError("division by zero") from None
        except RuleError:
            raise
        except RecursionError:
            raise RuleError("nested too deeply") from None
        except (ArithmeticError, TypeError, ValueError, KeyError, IndexError, simpleeval.InvalidExpression) as error:
            raise RuleError(str(error) or type(error).__name__) from error

    def number(self, envelope: Mapping[str, Any]) -> float | None:
        """Its value as a number that can be added up (below GREATEST); None where the event does not have it.

        Raises:
            RuleError: It is something else.
        """
        value = self(envelope)
        if value is None:
            return None
        if not _is_number(value):
            raise RuleError(f"{self.text} is no number but {type(value).__name__}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise RuleError(f"{self.text} is not finite")
        if not -GREATEST < number < GREATEST:
            raise RuleError(f"{self.text} is beyond what can be added up, {GREATEST:g}")
        return number


def compile_expression(text: str) -> Expression:
    """Check an expression.

    Raises:
        ValueError: It is no expression of this language.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text!r} is no expression: {getattr(error, 'msg', error)}") from error
    nodes = list(ast.walk(tree))
    if len(nodes) > NODES:
        raise ValueError(f"the expression has {len(nodes)} parts, {NODES} at most")
    for node in nodes:
        _allow(node)
    return Expression(text, tree.body)


@functools.singledispatch
def _allow(node: ast.AST) -> None:
    if not isinstance(node, ALLOWED):
        raise ValueError(f"the language of rules has no {type(node).__name__}")


@_allow.register
def _(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
        raise ValueError(f"only these can be called: {', '.join(sorted(FUNCTIONS))}")


@_allow.register
def _(node: ast.Attribute) -> None:
    if node.attr.startswith("__"):
        raise ValueError(f"no event has {node.attr}")


@_allow.register
def _(node: ast.Constant) -> None:
    if not isinstance(node.value, (str, int, float, bool, type(None))):
        raise ValueError(f"{node.value!r} is neither number, text, True, False nor None")
