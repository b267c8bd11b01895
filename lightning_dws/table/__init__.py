"""The experiment table: a grid of runs, each of which can also be run alone, and its report."""
