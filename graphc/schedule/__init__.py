"""From graphs to kernels: dependence facts, fusion, loop nests, memory."""

__all__ = ["schedule", "schedule_program"]


def __getattr__(name: str):
    """These load when first used: a process that finds its kernels in the cache needs the memory
    plan alone."""
    if name == "schedule":
        from graphc.schedule.build_schedule import schedule

        return schedule
    if name == "schedule_program":
        from graphc.schedule.recomputed import schedule_program

        return schedule_program
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
