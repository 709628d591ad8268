"""What of the documentation is made of the code: `make docs` writes it, and a test says when it is stale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swarmtrain.job.made.example import init_text
from swarmtrain.job.made.page import with_tables
from swarmtrain.job.made.schema import schema_text
from swarmtrain.ui.made.alerts import with_alerts
from swarmtrain.ui.made.diagnosis import kinds
from swarmtrain.ui.made.doctor import with_checks
from swarmtrain.ui.made.protocol import with_protocol
from swarmtrain.ui.made.reference import reference
from swarmtrain.ui.made.series import with_series

# By the name of a file in docs/: its text as it should be, made of its text as it is.
PAGES: dict[str, Callable[[str], str]] = {
    "alerts.md": with_alerts,
    "architecture.md": with_protocol,
    "doctor.md": with_checks,
    "commands.md": lambda _: reference(),
    "diagnosis.md": lambda _: kinds(),
    "metrics.md": with_series,
    "job-file.md": with_tables,
    "job.schema.json": lambda _: schema_text(),
    "swarmtrain.yaml": lambda _: init_text(),
}


def write(docs: Path) -> None:
    """Make every page anew."""
    for name, made in PAGES.items():
        page = docs / name
        page.write_text(made(page.read_text(encoding="utf-8") if page.exists() else ""), encoding="utf-8")


if __name__ == "__main__":
    write(Path("docs"))
