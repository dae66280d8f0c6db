"""Pytrees: any nesting of dict, list, tuple, NamedTuple and dataclass, with None as no leaf."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

_NAMESPACE = "graphc"
_registering = threading.Lock()
_registered: set[type] = set()

_leaf_types: set[type] = set()  # seen, and not dataclasses


@cache
def _optree():
    import optree  # 20 ms: only when the first tree is met

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


def leaf_taker(treedef: Any) -> Callable[[Any, list], bool]:
    """``take(tree, leaves)`` appends the leaves of a tree of this structure, in flatten order.

    It returns False for another structure; ``leaves`` is then of no use. Several times faster
    than :func:`flatten`. What stands in the place of a leaf is taken as it is, a tree too.

    >>> take, leaves = leaf_taker(flatten({"b": 1, "a": (2, None)})[1]), []
    >>> take({"a": (4, None), "b": 3}, leaves), leaves
    (True, [4, 3])
    >>> take({"a": [4, None], "b": 3}, [])
    False
    """
    cls, names, children = treedef.type, treedef.entries(), treedef.children()
    takers = [leaf_taker(child) for child in children]
    only_leaves = all(child.type is None for child in children)

    def take_leaf(tree, leaves):
        leaves.append(tree)
        return True

    def take_none(tree, leaves):
        return tree is None

    def take_sequence(tree, leaves):
        if type(tree) is not cls or len(tree) != len(takers):
            return False
        if only_leaves:
            leaves += tree
            return True
        return all([take(child, leaves) for take, child in zip(takers, tree)])

    def take_dict(tree, leaves):
        if type(tree) is not dict or tree.keys() != keys:
            return False
        if only_leaves:
            leaves += [tree[name] for name in names]
            return True
        return all([take(tree[name], leaves) for take, name in zip(takers, names)])

    def take_other(tree, leaves):
        found, structure = flatten(tree)
        leaves += found
        return structure == treedef

    if cls is None:
        return take_leaf
    if cls is type(None):
        return take_none
    if cls in (tuple, list) or _optree().is_namedtuple_class(cls):
        return take_sequence
    if cls is dict:
        keys = dict.fromkeys(names).keys()
        return take_dict
    return take_other


def leaf_paths(tree: Any, name: str) -> list[str]:
    """How a user writes each leaf, in flatten order.

    >>> leaf_paths({"W": 1, "b": [2, 3]}, "params")
    ["params['W']", "params['b'][0]", "params['b'][1]"]
    """
    flatten(tree)  # registers the dataclasses in it
    accessors = _optree().tree_accessors(tree, namespace=_NAMESPACE)
    return [accessor.codify(name) for accessor in accessors]


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
