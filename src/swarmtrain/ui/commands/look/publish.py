"""The flags of `dashboard` that put it into the cluster, and what they do."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from swarmtrain.errors import RequestError
from swarmtrain.ui import terminal

if TYPE_CHECKING:
    from swarmtrain.control.handle import RunHandle
    from swarmtrain.launchers.swarm.publishing import Publisher


_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class PublishFlags:
    """What a person has typed."""

    publish: bool
    unpublish: bool
    dry_run: bool
    host: tuple[str, ...]
    network: str | None
    image: str | None
    python: str | None
    label: tuple[str, ...]

    def check(self, names: Sequence[str], file: str | None) -> None:
        """Refuse what does not go together."""
        if self.publish and self.unpublish:
            raise RequestError("--publish and --unpublish are opposites", "give one of them")
        if not self.publish and (self.dry_run or self.host or self.network or self.image or self.label):
            raise RequestError("these flags say how a dashboard is published", "--publish publishes it")
        for host in self.host:
            if not _HOST.fullmatch(host):
                raise RequestError(f"--host {host} is no name of a host", "--host train.lab.example")
        if self.publish or self.unpublish:
            if file is not None:
                raise RequestError("--export keeps a page, and publishes nothing", "leave out one of them")
            if len(names) > 1:
                raise RequestError("a published dashboard shows one run", "publish each of them by itself")


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The flags on a command, which gets them as one `flags`."""

    @functools.wraps(command)
    def with_flags(**values: Any) -> None:
        flags = PublishFlags(**{each.name: values.pop(each.name) for each in fields(PublishFlags)})
        command(**values, flags=flags)

    for option in (
        click.option("--label", multiple=True, metavar="KEY=VALUE", help="Another label of that service."),
        click.option("--python", metavar="PATH", help="The interpreter in that image."),
        click.option(
            "--image", metavar="IMAGE", help="With Python, starlette and uvicorn; the run's own by default."
        ),
        click.option("--network", metavar="NETWORK", help="The overlay network of your Traefik."),
        click.option("--host", multiple=True, metavar="NAME", help="Under which it is opened; repeatable."),
        click.option("--dry-run", is_flag=True, help="Print the stack that --publish deploys."),
        click.option("--unpublish", is_flag=True, help="Take a published one away."),
        click.option("--publish", is_flag=True, help="Put it into the Swarm, behind a token."),
    ):
        with_flags = option(with_flags)
    return with_flags


def act(handle: RunHandle, flags: PublishFlags, port: int | None) -> None:
    """Publish a run's dashboard, show its stack, or take it away."""
    from swarmtrain.launchers.swarm.launcher import SwarmLauncher
    from swarmtrain.launchers.swarm.publishing import Publisher

    if not isinstance(handle.launcher, SwarmLauncher):
        raise RequestError(
            f"{handle.id} is on {handle.run.on}: only the dashboard of a run on a Swarm can be published",
            f"swarmtrain dashboard {handle.id}",
        )
    publisher = Publisher(handle.launcher, handle.run)
    if flags.unpublish:
        if not publisher.unpublish():
            raise RequestError(f"the dashboard of {handle.id} is not published")
        terminal.words(f"the dashboard of {handle.id} is published no more, and nothing of it is left")
    else:
        _publish(publisher, flags, port)


def _publish(publisher: Publisher, flags: PublishFlags, port: int | None) -> None:
    from swarmtrain.launchers.swarm.published import text_of
    from swarmtrain.launchers.swarm.publishing import PublishWish

    if port == 0:
        raise RequestError("a port that is published has a number", "--port 8080")
    page = publisher.plan(
        PublishWish(
            image=flags.image or "",
            python=flags.python or "",
            hosts=flags.host,
            port=port,
            network=flags.network or "",
            labels=dict(_label(each) for each in flags.label),
        )
    )
    if flags.dry_run:
        terminal.lines(text_of(page).splitlines())
        return
    terminal.say(f"publishing the dashboard of {page.run} from {page.node.hostname}, in {page.image}")
    if port is not None:
        terminal.warn(
            f"port {port} of {page.node.hostname} speaks plain HTTP: who listens on the way learns the token"
        )
    done = publisher.publish(page)
    terminal.lines([f"{done.address}#token={done.token}"])
    terminal.words(
        f"whoever has this address may read {page.run}; `swarmtrain dashboard {page.run} --unpublish` ends it"
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise RequestError(f"--label {text} is no label", "--label KEY=VALUE")
    return key, value
