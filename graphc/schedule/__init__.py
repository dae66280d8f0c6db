"""From graphs to kernels: dependence facts, fusion, loop nests, memory."""

__all__ = ["schedule"]


def __getattr__(name: str):
    """``schedule`` loads when first used: a process that finds its kernels in the cache needs the
    memory plan alone."""
    if name != "schedule":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from graphc.schedule.build_schedule import schedule

    return schedule
