"""Faults on purpose: which there are, where they can happen, and how a plan of them is carried out."""
