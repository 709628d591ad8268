"""What the scripts of the corpus share: a text to learn, a small model of it, and what they tell the test.

`saved` and the `resumed` of a report count in what the script counts its checkpoints in, epochs or steps. A test breaks
a training between two checkpoints, which it sets apart for that by CORPUS_HOLDS: for how many seconds a rank waits when
it has written its first, its second, ... ("0 6 600"), and, after a semicolon each, the same for later attempts.
"""

import hashlib
import json
import os
import time
from itertools import chain, repeat
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

# This file a few times, by its bytes: the same wherever it runs.
TEXT = torch.frombuffer(bytearray(Path(__file__).read_bytes() * 4), dtype=torch.uint8).long()
LENGTH, BATCH, EPOCHS = 32, 8, 8

_attempts = os.environ.get("CORPUS_HOLDS", "").split(";")
_attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
_holds = chain(map(float, _attempts[_attempt].split() if _attempt < len(_attempts) else ()), repeat(0.0))


class Text(Dataset):
    """Pieces of the text, and the same shifted by a byte."""

    def __len__(self):
        return 160

    def __getitem__(self, index):
        piece = TEXT[index * LENGTH : (index + 1) * LENGTH + 1]
        return piece[:-1], piece[1:]


class TinyGPT(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.embedding = nn.Embedding(256, width)
        self.block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, 256)

    def forward(self, tokens):
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.block(self.embedding(tokens), mask, is_causal=True))


def loss_of(logits, targets):
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def saved(mark):
    """The call that writes a checkpoint has returned."""
    print("saved", mark, flush=True)
    time.sleep(next(_holds))


def report(resumed, losses, weights):
    """The end. `losses` are this rank's own, of each step since it began or resumed."""
    digest = hashlib.sha256()
    for tensor in weights:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    told = {"rank": int(os.environ["RANK"]), "world": int(os.environ["WORLD_SIZE"]), "resumed": resumed}
    print("report", json.dumps(told | {"losses": losses, "weights": digest.hexdigest()}), flush=True)
