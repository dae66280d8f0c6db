"""The corpus: the graph of each program gives what NumPy gives, dtype and shape included."""

import numpy as np
import pytest
from programs import PROGRAMS
from trace_helpers import assert_like_numpy, trace_like

from graphc.ir.parser import parse
from graphc.ir.printer import print_graph

CASES = [(p, d) for p in PROGRAMS for d in p.dtypes]


@pytest.mark.parametrize(("program", "dtype"), CASES, ids=lambda v: str(v))
def test_values_dtypes_and_shapes_are_numpys(program, dtype):
    assert_like_numpy(program.fn, program.args(dtype), dtype)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_graph_text_reads_back_and_is_deterministic(program):
    text = print_graph(trace_like(program.fn, *program.args()).graph, sources=False)
    assert print_graph(parse(text), sources=False) == text
    again = trace_like(program.fn, *program.args()).graph
    assert print_graph(again, sources=False) == text


def test_the_corpus_is_wide():
    assert len(PROGRAMS) >= 60
    assert len({p.name for p in PROGRAMS}) == len(PROGRAMS)


def test_arguments_are_left_alone():
    for program in PROGRAMS:
        args, untouched = program.args(), program.args()
        trace_like(program.fn, *args)
        for a, b in zip(args, untouched):
            if isinstance(a, np.ndarray):
                np.testing.assert_array_equal(a, b)
