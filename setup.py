"""Packages: ``graphc``, and the folder ``examples`` as ``graphc.examples`` (the demo trains one).

All else is in pyproject.toml, which cannot say both "find packages" and "map this folder".
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["graphc", "graphc.*"]), "graphc.examples"],
    package_dir={"graphc.examples": "examples"},
)
