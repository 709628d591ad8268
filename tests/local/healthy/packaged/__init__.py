"""A package that is run with -m, whose modules import each other relatively."""
