"""The dashboard's server and those who connect and ask nothing, with real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from starlette.types import Receive, Scope, Send

from swarmtrain.ui.web import impatience
from swarmtrain.ui.web.live import Live
from swarmtrain.ui.web.serve import server_of

QUESTION = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Something that takes its time to say, as what happens to a run."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"beg", "more_body": True})
    await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": b"end", "more_body": False})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where a server is that waits for nobody longer than a tenth of a second."""
    monkeypatch.setattr(impatience, "_SECONDS", 0.1)
    server = server_of(slow, Live())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield int(listening.getsockname()[1])
        server.should_exit = True
        thread.join()


def heard(port: int, said: bytes) -> bytes:
    """All that somebody hears who says this, until he is hung up on."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(4)
        connection.sendall(said)
        found = b""
        while piece := connection.recv(1 << 16):
            found += piece
        return found


@pytest.mark.parametrize("said", [b"", b"GET", QUESTION])
def test_who_does_not_come_to_the_end_of_a_question_is_hung_up_on(port: int, said: bytes) -> None:
    assert heard(port, said) == b""


def test_an_answer_takes_as_long_as_it_takes_and_another_question_does_not(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(4)
        connection.sendall(QUESTION + b"\r\n")
        found = b""
        while not found.endswith(b"begend"):
            piece = connection.recv(1 << 16)
            assert piece, "it was hung up on"
            found += piece
        connection.sendall(QUESTION)
        assert connection.recv(1) == b""


def test_what_makes_no_sense_is_no_word_in_a_log(capfd: pytest.CaptureFixture[str], port: int) -> None:
    assert heard(port, b"no question\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert capfd.readouterr().err == ""
