"""Alerts of a living run: what is measured is looked at, and whoever is to be told is."""
