"""What is measured of a run: the series that there are, and their points as clients get them."""
