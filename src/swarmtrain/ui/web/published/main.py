"""The container of a published dashboard: it serves the page of one run until it is told to end.

`payload.dashboard` puts the call of `main` into the archive; variables and the secret are those that
`launchers.swarm.published` names.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from swarmtrain.launchers.base import Run, parse_handle
from swarmtrain.ui.web.app import Api, application
from swarmtrain.ui.web.asking import Runs
from swarmtrain.ui.web.live import Live
from swarmtrain.ui.web.published import ENTER
from swarmtrain.ui.web.published.afterwards import KeptPage
from swarmtrain.ui.web.published.guard import PublishedGuard
from swarmtrain.ui.web.published.reading import PublishedRuns, ReadingLauncher
from swarmtrain.ui.web.serve import run_server
from swarmtrain.wire import names


def main(port: int) -> None:
    """Serve on every address of this container."""
    env = os.environ
    secret: dict[str, str] = json.loads(Path(names.SECRET).read_text())
    job, number = parse_handle(env[names.ENV_RUN])
    run = Run(job, number or 0, "swarm", float(env[names.ENV_CREATED]))
    launcher = ReadingLauncher(run, env[names.ENV_COORDINATOR], secret["key"])
    published = PublishedRuns(launcher)
    runs, streams = Runs(published), Live()
    guard = Middleware(
        PublishedGuard,
        token=secret["token"],
        cookie=f"swarmtrain-{run.stack}",
        hosts=frozenset(env[names.ENV_HOSTS].split(",")),
        afterwards=KeptPage(published.get(run.id)).answer,
    )
    app = application(Api(runs, [run.id], streams), guard, Mount("/enter", StaticFiles(directory=ENTER)))
    with socket.create_server(("", port)) as listening:
        print(f"{names.DASHBOARD_SERVES} {run.id} on port {port}", flush=True)
        try:
            run_server(app, streams, listening)
        finally:
            runs.close()
