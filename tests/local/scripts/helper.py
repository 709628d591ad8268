"""A module next to the script, which the script's children must find, too."""


def square(x):
    """The square."""
    return x * x
