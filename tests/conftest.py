"""Makes ``tests/`` importable (``from helpers import ...``) for the tests in its folders."""
