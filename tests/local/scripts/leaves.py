"""Leaves open, or to a finalizer, whatever a program can; torch is imported first, as in a training."""

import atexit
import csv
import gzip
import logging
import shelve
import sys
import tempfile
import threading
import time
import weakref
import zipfile
from pathlib import Path

import kept  # noqa: F401 - a module of the program's own, which holds things, too
import torch.distributed  # noqa: F401


class Told:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("finalized", self.name, Path is not None)


class Tee:
    """Stands in the place of standard output."""

    def __init__(self):
        self.file = Path("tee.txt").open("w")  # noqa: SIM115

    def write(self, text):
        self.file.write(text)
        return sys.__stdout__.write(text)

    def flush(self):
        self.file.flush()
        sys.__stdout__.flush()


def generate():
    try:
        yield
    finally:
        print("generator closed")


def late():
    time.sleep(0.2)
    print("thread done")


suspended = generate()
next(suspended)
first, second = Told("first"), Told("second")
cycle = [Told("in a cycle")]
cycle.append(cycle)
zipped = gzip.open("text.gz", "wt")  # noqa: SIM115
zipped.write("text " * 1000)
archive = zipfile.ZipFile("archive.zip", "w")
archive.writestr("name", "content")
rows = csv.writer(Path("rows.csv").open("w"))  # noqa: SIM115
rows.writerow([1, 2])
pairs = shelve.open("pairs")  # noqa: SIM115
pairs["key"] = "value"
directory = tempfile.TemporaryDirectory(dir=".")
Path(directory.name, "file").touch()
weakref.finalize(first, print, "weakref.finalize")
atexit.register(print, "registered first")
atexit.register(print, "registered last")
logging.basicConfig(filename="log.txt")
logging.warning("logged")
threading.Thread(target=late).start()
sys.stdout = Tee()
print("last line")
if len(sys.argv) > 1:
    sys.exit(sys.argv[1])
