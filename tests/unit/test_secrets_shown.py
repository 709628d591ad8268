"""What shows of secrets where a person prints an object: in a notebook, an assertion, a log line."""

from __future__ import annotations

from pathlib import Path

from swarmtrain import Job
from swarmtrain.job import LoadedJob
from swarmtrain.wire.run_spec import RunSecret


def test_no_object_shows_a_value_of_the_environment_or_a_token() -> None:
    job = Job(name="digits", script="train.py", env={"WANDB_API_KEY": "key-of-mine"})
    secret = RunSecret("digits.1", "token-of-mine", {"WANDB_API_KEY": "key-of-mine"})
    for each in (job, LoadedJob(job, Path()), secret):
        assert "digits" in repr(each)
        assert "of-mine" not in repr(each) and "of-mine" not in str(each)
