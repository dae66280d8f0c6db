"""Pytrees: any nesting of dict, list, tuple, NamedTuple and dataclass, with None as no leaf."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from graphc import forks
from graphc.trace.openshape import OpenShape

_NAMESPACE = "graphc"
_registering = forks.lock()
_registered: set[type] = set()

_leaf_types: set[type] = set()  # seen, and not dataclasses


@cache
def _optree():
    with forks.waited_for(), _registering:  # two threads may both be here
        import optree  # 20 ms: only when the first tree is met

        if OpenShape not in _registered:
            optree.register_pytree_node(
                OpenShape, lambda shape: (tuple(shape), None), lambda _, sizes: tuple(sizes),
                namespace=_NAMESPACE,
            )  # fmt: skip
            _registered.add(OpenShape)
        return optree


def flatten(tree: Any) -> tuple[list, Any]:
    """The leaves of ``tree`` in a fixed order (dict keys sorted) and its structure.

    >>> flatten({"b": 1, "a": (2, None)})[0]
    [2, 1]
    """
    optree = _optree()
    while True:
        leaves, treedef = optree.tree_flatten(tree, namespace=_NAMESPACE)
        if _leaf_types.issuperset(map(type, leaves)):
            return leaves, treedef
        found = {type(leaf) for leaf in leaves}
        new = {cls for cls in found if _is_dataclass(cls)}
        _leaf_types.update(found - new)
        for cls in sorted(new, key=lambda c: (c.__module__, c.__qualname__)):
            with _registering:
                if cls not in _registered:
                    _register_dataclass(cls)
                    _registered.add(cls)


def unflatten(treedef: Any, leaves) -> Any:
    """The inverse of :func:`flatten`."""
    return _optree().tree_unflatten(treedef, leaves)


def map_instances(fn: Callable, kind: type, tree: Any) -> Any:
    """``tree`` with ``fn(x)`` in place of each ``x`` of class ``kind``.

    >>> map_instances(len, str, {"a": ["xy", 1]})
    {'a': [2, 1]}
    """

    def is_leaf(x):
        return isinstance(x, kind)

    flatten(tree)  # registers the dataclasses in it
    return _optree().tree_map(
        lambda x: fn(x) if is_leaf(x) else x, tree, is_leaf=is_leaf, namespace=_NAMESPACE
    )


def flatten_prefix(prefix: Any, tree: Any) -> list:
    """One value for each leaf of ``tree``, from a tree like its front (None is a value).

    Raises ValueError where ``prefix`` branches otherwise than ``tree``.

    >>> flatten_prefix((0, {"a": None, "b": 1}), ((7, 8), {"a": 9, "b": 10}))
    [0, 0, None, 1]
    """
    flatten(tree)  # registers the dataclasses in it
    optree = _optree()
    values, treedef = optree.tree_flatten(prefix, none_is_leaf=True, namespace=_NAMESPACE)
    parts = treedef.flatten_up_to(tree)
    return [v for v, part in zip(values, parts, strict=True) for _ in flatten(part)[0]]


def leaf_paths(tree: Any, name: str) -> list[str]:
    """How a user writes each leaf, in flatten order.

    >>> leaf_paths({"W": 1, "b": [2, 3]}, "params")
    ["params['W']", "params['b'][0]", "params['b'][1]"]
    """
    return list(_paths(flatten(tree)[1], name))


@lru_cache(maxsize=16)  # a trace asks some times for those of its arguments
def _paths(treedef: Any, name: str) -> tuple[str, ...]:
    return tuple([a.codify(name) for a in _optree().treespec_accessors(treedef)])


def difference(one: Any, other: Any, name: str) -> tuple[str, str, str]:
    """The first place where two trees branch otherwise, and what each has there, in words.

    >>> difference({"a": 1, "b": 2}, {"a": 1, "b": (2, 3)}, "carry")
    ("carry['b']", 'a number or array', 'a tuple of 2')
    """
    pending = [(name, one, other)]
    while pending:
        path, a, b = pending.pop()
        here = path, _branching(a), _branching(b)
        if type(a) is not type(b) and here[1] != here[2]:
            return here
        if isinstance(a, dict):
            if a.keys() != b.keys():
                return here
            pending += reversed([(f"{path}[{k!r}]", a[k], b[k]) for k in a])
        elif isinstance(a, list | tuple):
            if len(a) != len(b):
                return here
            names = getattr(a, "_fields", None)
            ends = [f".{n}" for n in names] if names else [f"[{k}]" for k in range(len(a))]
            parts = zip(ends, a, b, strict=True)
            pending += reversed([(path + end, x, y) for end, x, y in parts])
        elif dataclasses.is_dataclass(a):
            names = [f.name for f in dataclasses.fields(a)]
            pending += reversed([(f"{path}.{n}", getattr(a, n), getattr(b, n)) for n in names])
    return name, _branching(one), _branching(other)


def _branching(value: Any) -> str:
    kind = type(value).__name__
    if value is None:
        return "None"
    if isinstance(value, dict):
        keys = ", ".join(map(repr, list(value)[:4])) + ", ..." * (len(value) > 4)
        return f"a dict with {keys}" if value else "an empty dict"
    if isinstance(value, list | tuple):
        return f"a {kind}" if hasattr(value, "_fields") else f"a {kind} of {len(value)}"
    return f"a {kind}" if _is_dataclass(type(value)) else "a number or array"


def _is_dataclass(cls: type) -> bool:
    return hasattr(cls, "__dataclass_fields__") and not getattr(cls, "__graphc_leaf__", False)


def _register_dataclass(cls: type) -> None:
    optree = _optree()
    names = tuple(f.name for f in dataclasses.fields(cls))

    def flatten_fields(instance):
        return tuple(getattr(instance, n) for n in names), None, names

    def unflatten_fields(_, children):
        # Not through __init__: leaves may be types or tracers, which __post_init__ may reject.
        instance = object.__new__(cls)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(instance, name, child)
        return instance

    optree.register_pytree_node(
        cls,
        flatten_fields,
        unflatten_fields,
        path_entry_type=optree.GetAttrEntry,
        namespace=_NAMESPACE,
    )
