"""The memory planner: nothing alive at once overlaps, and the arena stays near the live peak."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.ir.dims import symbol
from graphc.schedule.memory import ALIGNMENT, Lifetime, plan

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
        assert start % ALIGNMENT == 0 and start + a.nbytes <= made.nbytes
        for j, b in enumerate(lives[:i]):
            if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                other = made.offsets[j]
                assert start + a.nbytes <= other or other + b.nbytes <= start


@settings(max_examples=200, deadline=None)
@given(lives)
def test_peak_is_a_lower_bound_and_the_plan_is_deterministic(lives):
    made = plan(lives, {})
    assert made.live_peak <= made.nbytes <= sum(-(-v.nbytes // 64) * 64 for v in lives)
    assert made == plan(lives, {})


def test_symbolic_sizes_are_planned_when_they_are_known():
    n = symbol("n")
    lives = [Lifetime(n * 4, 0, 1), Lifetime(n * 8 + 4, 1, 2), Lifetime(n * 4, 2, 3)]
    small, large = plan(lives, {"n": 1}), plan(lives, {"n": 1000})
    assert small.nbytes == 128
    assert large.nbytes == 4032 + 8064  # the third takes the place of the first


def test_nothing_to_plan():
    assert plan([], {}).nbytes == 0
