"""From graphs to kernels: dependence facts, fusion, loop nests, memory."""

from graphc.schedule.build_schedule import schedule

__all__ = ["schedule"]
