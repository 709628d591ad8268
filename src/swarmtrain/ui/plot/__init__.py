"""Plots of series, for terminals and as files: chart.py says where everything is, terminal and svg draw it. Pure."""
