"""Children by every start method, whose work is defined in ``__main__``: DataLoader, Pool, Process."""

import multiprocessing
import pickle
import sys

import helper
import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    """Pickled by name into spawned children, so ``__main__`` must be found there."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor(helper.square(index))


class Point:
    """A class that travels to a child and back."""

    def __init__(self, x):
        self.x = x


def move(point):
    """In a child: receives and returns an object of a class of ``__main__``."""
    return Point(helper.square(point.x))


def report(queue):
    """In a child: what it finds around itself."""
    queue.put([sys.argv, helper.__file__])


def main():
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    loader = DataLoader(Squares(), batch_size=4, num_workers=1, multiprocessing_context=method)
    print("loader", [batch.tolist() for batch in loader])
    with context.Pool(1) as pool:
        print("pool", [point.x for point in pool.map(move, [Point(2), Point(3)])])
    queue = context.Queue()
    child = context.Process(target=report, args=(queue,))
    child.start()
    print("process", queue.get() == [sys.argv, helper.__file__])
    child.join()
    print("pickle", type(pickle.loads(pickle.dumps(Point(1)))) is Point, child.exitcode)


if __name__ == "__main__":
    main()
