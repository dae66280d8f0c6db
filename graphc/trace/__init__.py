"""From a plain NumPy function to a graph, through NumPy's own protocols."""
