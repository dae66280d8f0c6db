"""Makes ``tests/`` importable (``from helpers import ...``) and gives a run one kernel cache.

The cache is a folder of this run, shared by its workers: kernels that several tests need are
compiled once, and the user's own cache is neither read nor filled.
"""

from __future__ import annotations

import os
import shutil
import tempfile

_VARIABLE = "GRAPHC_CACHE_DIR"


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # workers inherit the controller's environment
        config.graphc_cache = tempfile.mkdtemp(prefix="graphc-tests-")
        config.graphc_before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = config.graphc_cache
        os.environ.pop("GRAPHC_CACHE", None)


def pytest_unconfigure(config):
    folder = getattr(config, "graphc_cache", None)
    if folder is None:
        return
    if config.graphc_before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = config.graphc_before
    shutil.rmtree(folder, ignore_errors=True)
