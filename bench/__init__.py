"""Timings of one training step: graphc beside its peers. Run with ``python -m bench``."""
