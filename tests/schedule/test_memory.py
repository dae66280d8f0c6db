"""The memory planner: nothing alive at once overlaps, and the arena stays near the live peak."""

from __future__ import annotations

import pytest
import workload_schedules as workloads
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import PROGRAMS

import graphc as gc
from graphc.errors import GraphcError
from graphc.ir.dims import symbol
from graphc.memory import of_schedule, predict
from graphc.schedule.memory import Lifetime, alignment, live_peak, plan

MOST = 1.2  # of the live peak

lives = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 12)).map(
        lambda t: Lifetime(t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(lives)
def test_values_alive_together_never_overlap(lives):
    made = plan(lives, {})
    assert len(made.offsets) == len(lives)
    for i, a in enumerate(lives):
        start = made.offsets[i]
        assert start % alignment(a.nbytes) == 0 and start + a.nbytes <= made.nbytes
        for j, b in enumerate(lives[:i]):
            if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                other = made.offsets[j]
                assert start + a.nbytes <= other or other + b.nbytes <= start


@settings(max_examples=200, deadline=None)
@given(lives)
def test_peak_is_a_lower_bound_and_the_plan_is_deterministic(lives):
    made = plan(lives, {})
    assert made.live_peak <= made.nbytes <= sum(v.nbytes + 63 for v in lives)
    alive = [sum(v.nbytes for v in lives if v.first <= t <= v.last) for t in range(45)]
    assert live_peak(lives, {}) == made.live_peak == max(alive)
    assert made == plan(lives, {})


def test_symbolic_sizes_are_planned_when_they_are_known():
    n = symbol("n")
    lives = [Lifetime(n * 4, 0, 1), Lifetime(n * 8 + 4, 1, 2), Lifetime(n * 4, 2, 3)]
    small, large = plan(lives, {"n": 1}), plan(lives, {"n": 1000})
    assert small.nbytes == 16
    assert large.nbytes == 8064 + 4000  # the third takes the place of the first


def test_nothing_to_plan():
    assert plan([], {}).nbytes == 0


def test_values_are_aligned_where_they_are_large_and_to_their_elements():
    assert [alignment(n) for n in (4, 12, 24, 80, 320, 520, 4096)] == [4, 4, 8, 16, 64, 64, 64]


def test_the_largest_need_not_go_first():
    """By size alone this arena would be a third larger than what is alive."""
    lives = [Lifetime(64 * s, a, b) for s, a, b in ((11, 0, 1), (12, 5, 5), (11, 4, 6), (8, 1, 4))]
    made = plan(lives, {})
    assert made.nbytes == made.live_peak == 64 * 23


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_the_arena_of_a_workload_is_near_what_is_alive(name):
    found = of_schedule(*workloads.schedule_of(name))
    assert found.live <= found.temporaries <= MOST * found.live


def test_the_arenas_of_the_corpus_are_near_what_is_alive():
    counted = 0
    for program in PROGRAMS:
        args = program.args(program.dtypes[0])
        for transform in (gc.compile, gc.value_and_grad):
            try:
                found = predict(transform(program.fn).graph(*args))
            except GraphcError:  # no gradient, of a result that is no scalar
                continue
            counted += found.temporaries > 0
            assert found.temporaries <= MOST * found.live, program.name
    assert counted > 30
