"""Pytrees: flatten, unflatten and the names of leaves."""

import dataclasses
from collections import OrderedDict, namedtuple  # noqa: F401 - in the texts of TREES

import pytest

from graphc.trace.tree import flatten, leaf_paths, unflatten

Layer = namedtuple("Layer", "w b")


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: object
    rest: object = None

    def __post_init__(self):
        if isinstance(self.w, str):
            raise ValueError("checked by the user's class")


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x", "y")
    x: object
    y: object


TREES = {
    "1": ([1], ["t"]),
    "None": ([], []),
    "{'b': 1, 'a': 2}": ([2, 1], ["t['a']", "t['b']"]),
    "[1, (2, [3])]": ([1, 2, 3], ["t[0]", "t[1][0]", "t[1][1][0]"]),
    "Layer(1, {'k': 2})": ([1, 2], ["t.w", "t.b['k']"]),
    "Frozen([1, None], Frozen(2))": ([1, 2], ["t.w[0]", "t.rest.w"]),
    "{'m': Slotted(Layer(1, 2), 3)}": ([1, 2, 3], ["t['m'].x.w", "t['m'].x.b", "t['m'].y"]),
    "OrderedDict(z=1, a=2)": ([1, 2], ["t['z']", "t['a']"]),
    "{}": ([], []),
}


@pytest.mark.parametrize("text", TREES)
def test_leaves_paths_and_back(text):
    tree = eval(text)
    leaves, paths = TREES[text]
    found, treedef = flatten(tree)
    assert found == leaves
    assert leaf_paths(tree, "t") == paths
    again = unflatten(treedef, found)
    assert again == tree
    assert flatten(again)[1] == treedef
    assert hash(treedef) == hash(flatten(eval(text))[1])


def test_a_dataclass_is_rebuilt_without_its_checks():
    _, treedef = flatten(Frozen(1))
    assert unflatten(treedef, ["a type, not an array"]).w == "a type, not an array"


def test_structures_differ():
    assert flatten([1, 2])[1] != flatten((1, 2))[1]
    assert flatten({"a": 1})[1] != flatten({"b": 1})[1]
    assert flatten([1, None])[1] != flatten([1, 1])[1]


def test_wrong_number_of_leaves():
    _, treedef = flatten([1, 2])
    with pytest.raises(ValueError):
        unflatten(treedef, [1])
