"""The graph language: typed interned nodes, a text form, and its checks."""
