"""Hugging Face's Trainer with a GPT-2 made from its configuration; checkpoint-N in the middle of an epoch, too.

Rank 0 writes the model, the optimizer and the state, each rank its random state; two checkpoints are kept.
"""

import os

from common import BATCH, LENGTH, Text, report, saved
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

FOLDER = "output"


class Tokens(Text):
    def __getitem__(self, index):
        tokens, _ = super().__getitem__(index)
        return {"input_ids": tokens, "labels": tokens}


class Tell(TrainerCallback):
    first = 0

    def on_train_begin(self, args, state, control, **others):
        self.first = state.global_step

    def on_save(self, args, state, control, **others):
        saved(state.global_step)


class Noting(Trainer):
    def training_step(self, *args, **others):
        loss = super().training_step(*args, **others)
        self.losses.append(loss.item())
        return loss


def main():
    set_seed(0)
    size = {"vocab_size": 256, "n_positions": LENGTH, "n_embd": 64, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**size, resid_pdrop=0.1, bos_token_id=0, eos_token_id=0))
    arguments = TrainingArguments(
        output_dir=FOLDER,
        max_steps=80,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        save_steps=8,
        save_total_limit=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    tell = Tell()
    trainer = Noting(model, arguments, train_dataset=Tokens(), callbacks=[tell])
    trainer.losses = []
    last = get_last_checkpoint(FOLDER) if os.path.isdir(FOLDER) else None
    trainer.train(resume_from_checkpoint=last)
    report(tell.first, trainer.losses, model.parameters())


if __name__ == "__main__":
    main()
