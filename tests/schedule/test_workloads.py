"""Kernels and bytes moved of each workload: a lost fusion fails on the noisiest machine."""

from __future__ import annotations

import pytest
import workload_schedules as workloads

from graphc import passes
from graphc.ir.dims import evaluate
from graphc.schedule import loops as L
from graphc.schedule import schedule, team
from graphc.schedule.fuse import Decision, Fusion

# What a step, or a call, does at most: kernels, and bytes they read from and write to memory.
# Who improves on a row takes over the numbers printed by ``python tests/workload_schedules.py``;
# a row may only become larger for a reason that its commit gives.
AT_MOST = {
    "digits": (6, 330_916),
    "W2a": (2, 172),
    "W2b": (2, 1_240_612),
    "W3": (7, 7_124),
    "W4a": (6, 3_330_468),
    "W4b": (12, 24_060_340),
    "W5": (18, 6_317_580),
    "W6": (20, 9_239_812),
    "W7": (63, 32_730_124),
    "W9": (11, 128_268),
    "W1": (3, 72),
    "W8": (1, 88_000_008),
    "W10a": (2, 22_884),
    "W10b": (3, 164_960),
}


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_no_more_kernels_and_bytes(name):
    kernels, moved = workloads.costs(name)
    assert kernels <= AT_MOST[name][0], f"{name}: {kernels} kernels"
    assert moved <= AT_MOST[name][1], f"{name}: {moved} bytes"


def test_a_lost_fusion_shows(monkeypatch):
    """The counts are not what is left after fusion has done nothing."""
    monkeypatch.setattr(Fusion, "can_fuse", lambda *_: Decision(False, "not today"))
    workloads.schedule_of.cache_clear()
    try:
        for name in ("W1", "W4a", "W9"):
            kernels, moved = workloads.costs(name)
            assert kernels > AT_MOST[name][0] and moved > AT_MOST[name][1]
    finally:
        workloads.schedule_of.cache_clear()


# Kernels of a step that two threads share, and how much of its work (in a thousand) these are: one
# that is left whole is a lane that waits. By Amdahl, 990 allow 1.98 times the speed.
SHARED = {"W4b": (8, 999), "W5": (8, 985), "W7": (49, 990), "W8": (1, 1000)}


@pytest.mark.parametrize("name", SHARED)
def test_what_threads_share(name):
    graph, sizes = workloads.graph_of(name)
    kernels = list(L.leaves(schedule(passes.optimize(graph), team=True).kernels))
    teams = [k for k in kernels if isinstance(k, L.TeamKernel)]
    amounts = [evaluate(team.work(k.body), sizes) for k in kernels if hasattr(k, "body")]
    assert len(amounts) == len(kernels)  # none by OpenBLAS, none by LAPACK
    whole = sum(evaluate(team.work(k.body), sizes) for k in kernels if k not in teams)
    assert len(teams) >= SHARED[name][0]
    assert 1000 * (1 - whole / sum(amounts)) >= SHARED[name][1]


def test_threads_share_the_wide_layers_of_w4b_by_columns():
    """Each packs its own part of a weight: two products forward and one back."""
    graph, _ = workloads.graph_of("W4b")
    teams = schedule(passes.optimize(graph), team=True).kernels
    panels = [k for k in teams if isinstance(k, L.TeamKernel) and k.shared.var == "panel"]
    assert len(panels) == 3 and not any(k.finish for k in panels)
