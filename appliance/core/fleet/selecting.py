"""Choosing machines by name, group, tag and role."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from appliance.core.fleet.model import Node, Selector
from appliance.errors import InvalidArgumentsError, NotFoundError

Nodes = Mapping[str, Node]
FORMS = 'names, "group:NAME", "tag:KEY=VALUE", "role:NAME", "all", each with "!" before it to leave out'
MOST_TERMS = 1000
"""Terms of a selector."""


def groups(nodes: Nodes) -> dict[str, tuple[str, ...]]:
    """Group → names of its machines, both by name."""
    found: dict[str, list[str]] = {}
    for node in nodes.values():
        for group in node.groups:
            found.setdefault(group, []).append(node.name)
    return {each: tuple(sorted(found[each])) for each in sorted(found)}


def select(nodes: Nodes, selector: Selector) -> tuple[Node, ...]:
    """The machines that are meant, by name.

    Raises:
        NotFoundError: A name, group, tag or role that nothing has; nothing is left.
        InvalidArgumentsError: It is empty, too long, or written otherwise.
    """
    terms = [each.strip() for each in selector]
    if not any(terms) or len(terms) > MOST_TERMS:
        problem = "is empty" if not any(terms) else f"has more than {MOST_TERMS} terms"
        raise InvalidArgumentsError(f"The choice of machines {problem}.", f"name them: {FORMS}.")
    out = [each[1:].strip() for each in terms if each.startswith("!")]
    wanted = [each for each in terms if each and not each.startswith("!")] or ["all"]
    chosen = set().union(*(_meant(nodes, each) for each in wanted))
    left = chosen.difference(*(_meant(nodes, each) for each in out))
    if not left:
        why = "There is no machine yet." if not nodes else f"No machine is left of {', '.join(terms)}."
        raise NotFoundError(why, "`prime-spark fleet nodes` lists them all.")
    return tuple(nodes[each] for each in sorted(left))


def _meant(nodes: Nodes, term: str) -> set[str]:
    if term == "all":
        return set(nodes)
    kind, colon, value = term.partition(":")
    if not colon:
        if term not in nodes:
            raise _none("machine", term, list(nodes))
        return {term}
    if kind == "group":
        return _those("group", value, nodes, lambda node: node.groups)
    if kind == "role":
        return _those("role", value, nodes, lambda node: (node.role,) if node.role else ())
    if kind == "tag" and "=" in value:
        return _those("tag", value, nodes, lambda node: tuple(f"{key}={text}" for key, text in node.tags.items()))
    raise InvalidArgumentsError(f'"{term}" chooses no machine.', f"write {FORMS}.")


def _those(what: str, value: str, nodes: Nodes, has: Callable[[Node], tuple[str, ...]]) -> set[str]:
    found = {name for name, node in nodes.items() if value in has(node)}
    if not found:
        raise _none(what, value, sorted({each for node in nodes.values() for each in has(node)}))
    return found


def _none(what: str, value: str, known: list[str]) -> NotFoundError:
    near = difflib.get_close_matches(value, known, 1)
    what_is = ", ".join(known[:10]) or "none"
    step = f"did you mean {near[0]}?" if near else f"there are: {what_is}{' …' if len(known) > 10 else ''}."
    return NotFoundError(f"There is no {what} {value or '(empty)'}.", step)
