"""A module that leaves things to finalizers; see leaves.py."""

import gzip


class Told:
    def __del__(self):
        print("finalized in a module")


told = Told()
zipped = gzip.open("kept.gz", "wt")  # noqa: SIM115
zipped.write("kept " * 1000)
