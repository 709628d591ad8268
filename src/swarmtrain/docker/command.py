"""The docker command line: the only module of the client that starts it.

Everything above asks a `Docker`, which points at one engine (a context, a host, or whatever the environment says),
for text or JSON. What docker prints on failure becomes a `ClusterError` with a hint.

A secret never goes into an argument, where every user of the machine can read it: it goes through ``input``
(``docker secret create NAME -``), through ``env`` (``docker run -e NAME``) or through a file.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from swarmtrain.errors import ClusterError

# What `timeout(1)` and a shell report for a command that ran too long and for one that does not exist.
TIMED_OUT = 124
NOT_FOUND = 127

# Commands that are followed by another one.
MANAGEMENT = frozenset(
    [
        *("builder", "config", "container", "context", "image", "network", "node"),
        *("plugin", "secret", "service", "stack", "swarm", "system", "volume"),
    ]
)


class DockerFailed(ClusterError):
    """A docker command failed.

    Args:
        argv: the whole command.
        returncode: its exit status; 124 when it ran past its time, 127 when there is no docker to run.
        stderr: what it printed on the error stream, stripped.
    """

    def __init__(
        self, argv: Sequence[str], returncode: int, stderr: str, message: str = "", hint: str = ""
    ) -> None:
        if not message:
            message, hint = explain(argv, returncode, stderr)
        super().__init__(message, hint)
        self.argv = list(argv)
        self.returncode = returncode
        self.stderr = stderr


# In what docker prints: how the engine's own words begin, and a line that says nothing about what is wrong.
DAEMON = "Error response from daemon: "
ADVERTISED_HELP = re.compile(r"(Run|See) 'docker .*--help'")


class Trouble(NamedTuple):
    """A well-known complaint of docker, and what we say instead."""

    pattern: re.Pattern[str]
    message: str
    hint: str


def _trouble(pattern: str, message: str, hint: str) -> Trouble:
    return Trouble(re.compile(pattern, re.IGNORECASE), message, hint)


NOT_IN_SWARM = "this Docker engine is not in a Swarm"

# In order: the first that matches wins. Matched against the error stream of Docker CLI 20.10 to 29.
TROUBLES = (
    _trouble(
        r"docker system dial-stdio.*stderr=(?P<why>[^\r\n]*[^\r\n.])",
        "the Docker daemon is out of reach by ssh: {why}",
        "mend what ssh says, so that `ssh HOST docker version` answers without a question",
    ),
    _trouble(
        r"permission denied.*(docker daemon|docker\.sock|docker api)",
        "this user may not speak to the Docker daemon",
        "join the docker group (sudo usermod -aG docker $USER, then log in again) or run as root",
    ),
    _trouble(
        r"cannot connect to the docker daemon|failed to connect to the docker api"
        r"|error during connect|dial (unix|tcp) .*(connection refused|no such file|no route|i/o timeout)",
        "the Docker daemon does not answer",
        "start it (sudo systemctl start docker), or point DOCKER_HOST or DOCKER_CONTEXT at one that runs",
    ),
    # Since Docker 29 engines and command lines refuse what is older than API 1.44 (Docker 25), or 1.40 since 29.3.
    _trouble(
        r"client version (?P<ours>[\d.]+) is too old\. Minimum supported API version is (?P<least>[\d.]+)",
        "this docker command line is too old for the engine: it speaks API {ours}, the engine {least} or newer",
        "update the docker command line here, or have the daemon take older ones: min-api-version in its daemon.json",
    ),
    _trouble(
        r"client version (?P<ours>[\d.]+) is too new\. Maximum supported API version is (?P<most>[\d.]+)",
        "this docker command line speaks API {ours}, and the engine {most} at most",
        "unset DOCKER_API_VERSION, so that they agree on one; else update the engine",
    ),
    _trouble(
        r"API version (?P<theirs>[\d.]+) is not supported by this client: the minimum supported API version is "
        r"(?P<least>[\d.]+)",
        "the engine is too old for this docker command line: it speaks API {theirs}, the command line {least} or newer",
        "update the engine (API 1.44 came with Docker 25), or use a command line before 29",
    ),
    _trouble(
        r"context .*(not found|does not exist)|unable to resolve docker endpoint",
        "Docker knows no such context",
        "docker context ls shows the contexts there are",
    ),
    _trouble(
        r"swarm is locked|swarm is encrypted and needs to be unlocked",
        "this Swarm is locked",
        "unlock it with: docker swarm unlock",
    ),
    _trouble(
        r"does not have a leader|swarm lost quorum",
        "this Swarm has no leader: most of its managers are gone",
        "bring managers back, or rebuild on one with: docker swarm init --force-new-cluster",
    ),
    # A worker's complaint holds the words of the next one, so it comes first.
    _trouble(
        r"worker nodes can't be used",
        "this Docker engine is a worker of its Swarm, not a manager",
        "speak to a manager: export DOCKER_HOST=ssh://user@manager, or run docker node promote on one",
    ),
    _trouble(
        r"not a swarm manager|not part of a swarm|swarm is not initialized|use \"docker swarm init\"",
        NOT_IN_SWARM,
        "make it one with: docker swarm init; or try on a pretend one with: swarmtrain lab up",
    ),
)


def explain(argv: Sequence[str], returncode: int, stderr: str) -> tuple[str, str]:
    """What to tell a person about a failed docker command: (message, hint)."""
    for trouble in TROUBLES:
        if match := trouble.pattern.search(stderr):
            return trouble.message.format(**match.groupdict()), trouble.hint
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not ADVERTISED_HELP.match(line)]
    reason = next(
        (line for line in lines if DAEMON in line), lines[-1] if lines else f"exit status {returncode}"
    )
    reason = reason.removeprefix("docker: ").removeprefix(DAEMON)
    return f"docker {_verb(argv)} failed: {reason.rstrip('.')}", f"the command was: {shlex.join(argv)}"


def pointer() -> str:
    """What points docker at an engine, in words; empty where nothing does and docker takes this machine's own."""
    if host := os.environ.get("DOCKER_HOST"):
        return f"DOCKER_HOST is {host}"
    if context := os.environ.get("DOCKER_CONTEXT"):
        return f"DOCKER_CONTEXT is {context}" if context != "default" else ""
    try:
        done = Docker().completed("context", "inspect", "--format", "{{.Name}}")
    except DockerFailed:
        return ""  # no docker, so no context either
    context = _text(done.stdout).strip() or "broken"
    return f"docker's context is {context}" if context != "default" else ""


def _verb(argv: Sequence[str]) -> str:
    """The subcommand of a docker command line: ``stack deploy`` of ``docker --context c stack deploy -c f x``."""
    words: list[str] = []
    skip = False
    for word in argv[1:]:
        if skip:
            skip = False
        elif word.startswith("-"):
            if words:
                break
            skip = word in ("--context", "--host", "--config", "--log-level", "-c", "-H", "-l")
        else:
            words.append(word)
            if words[0] not in MANAGEMENT or len(words) == 2:
                break
    return " ".join(words)


class Docker:
    """One Docker engine, spoken to through the docker command line.

    Args:
        context: the docker context to use.
        host: the engine's address, as in DOCKER_HOST; not together with ``context``.
        env: environment variables to set on top of this process's own.

    With neither, the environment decides (DOCKER_HOST, DOCKER_CONTEXT, the current context), as for docker itself.
    """

    def __init__(
        self, context: str | None = None, host: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        assert not (context and host), "docker takes a context or a host, not both"
        self.context = context
        self.host = host
        self.env = dict(env or {})

    def argv(self, *args: str) -> list[str]:
        """The command line of ``docker ARGS...`` for this engine."""
        where: list[str] = []
        if self.context:
            where = ["--context", self.context]
        elif self.host:
            where = ["--host", self.host]
        return ["docker", *where, *args]

    def environment(self) -> dict[str, str]:
        """The environment that docker is started in."""
        return {**os.environ, "DOCKER_CLI_HINTS": "false", **self.env}

    def run(
        self, *args: str, input: bytes | None = None, timeout: float | None = None, check: bool = True
    ) -> str:
        """Run ``docker ARGS...`` to its end and return what it printed.

        Args:
            args: the command line after ``docker``; no secrets.
            input: what it reads on its standard input; nothing by default.
            timeout: seconds after which it is killed.
            check: raise when it exits with another status than 0.

        Raises:
            DockerFailed: it failed, ran past its time, or there is no docker to run.
        """
        done = self.completed(*args, input=input, timeout=timeout)
        if check and done.returncode != 0:
            raise DockerFailed(done.args, done.returncode, _text(done.stderr).strip())
        return _text(done.stdout)

    def completed(
        self, *args: str, input: bytes | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``docker ARGS...`` to its end; status and both streams as bytes, whatever the status."""
        argv = self.argv(*args)
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        try:
            return subprocess.run(argv, capture_output=True, timeout=timeout, env=self.environment(), **stdin)
        except FileNotFoundError as error:
            raise _not_installed(argv) from error
        except subprocess.TimeoutExpired as error:
            stderr = _text(error.stderr or b"").strip()
            raise DockerFailed(
                argv,
                TIMED_OUT,
                stderr,
                f"docker {_verb(argv)} did not finish in {timeout:g} s",
                f"the command was: {shlex.join(argv)}",
            ) from error

    def json(self, *args: str, timeout: float | None = None) -> Any:
        """The one JSON document that ``docker ARGS...`` prints, as ``docker inspect`` does."""
        return _parsed(self.argv(*args), self.run(*args, timeout=timeout))

    def json_lines(self, *args: str, timeout: float | None = None) -> list[dict[str, Any]]:
        """The rows of a listing (``docker ps -a``) or the document of ``docker info``, as dictionaries."""
        args = (*args, "--format", "{{json .}}")
        lines = self.run(*args, timeout=timeout).splitlines()
        return [_parsed(self.argv(*args), line) for line in lines if line.strip()]

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start ``docker ARGS...`` and return its process; ``options`` are those of `subprocess.Popen`."""
        argv = self.argv(*args)
        options.setdefault("env", self.environment())
        try:
            return subprocess.Popen(argv, **options)
        except FileNotFoundError as error:
            raise _not_installed(argv) from error

    def __repr__(self) -> str:
        return f"Docker(context={self.context!r}, host={self.host!r})"


def _not_installed(argv: Sequence[str]) -> DockerFailed:
    return DockerFailed(
        argv,
        NOT_FOUND,
        "",
        "the docker command is not installed",
        "install Docker Engine (https://docs.docker.com/engine/install/), or run without it: --on local",
    )


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _parsed(argv: Sequence[str], text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        shown = text.strip()[:200] or "nothing"
        raise DockerFailed(
            argv, 0, "", f"docker {_verb(argv)} printed something that is not JSON: {shown}"
        ) from error
