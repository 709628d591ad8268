"""torch's profiler on ranks of a live run: asked for, waited for, and their traces brought here."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from swarmtrain.control.files.transfer import check_free, receive, umask
from swarmtrain.control.views import format
from swarmtrain.errors import ChannelError, ClusterError, RequestError
from swarmtrain.protocol.ask import ask
from swarmtrain.protocol.codec import dump
from swarmtrain.protocol.evidence.profile import ProfileNews, ProfileSummary
from swarmtrain.protocol.requests import ProfileRequest

if TYPE_CHECKING:
    from swarmtrain.launchers.base import Launcher, Run
    from swarmtrain.wire.link import Link

AT_ONCE = 16  # ranks that are asked together

# of a rank: how far it is, or how many bytes of its trace have come
News = Callable[[int, ProfileNews | int], None]


@dataclass(frozen=True)
class RankProfile:
    """What came of one rank.

    Attributes:
        path: the trace, in Chrome's format, compressed by gzip.
        bytes: its size.
    """

    rank: int
    node: str
    path: Path
    bytes: int
    summary: ProfileSummary

    def dump(self) -> dict[str, object]:
        """As JSON, as `swarmtrain profile --json` prints it."""
        return {
            "rank": self.rank,
            "node": self.node,
            "path": str(self.path),
            "bytes": self.bytes,
            "summary": {
                **dump(self.summary),
                "operators": [each._asdict() for each in self.summary.operators],
            },
        }


def trace_name(run: str, rank: int) -> str:
    """What the trace of a rank is called here."""
    return f"{run}-profile-rank{rank}.json.gz"


class ProfileSession:
    """One profile of some ranks together; hanging up takes back what is under way.

    Args:
        request: what is to be recorded, of whatever rank.
        to: the directory for the traces.
    """

    def __init__(
        self, launcher: Launcher, run: Run, request: ProfileRequest, to: Path, tell: News, *, overwrite: bool
    ) -> None:
        self._launcher, self._run, self._request = launcher, run, request
        self._to, self._tell, self._overwrite = to, tell, overwrite
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._over = False

    def record(self, ranks: Sequence[int]) -> list[RankProfile]:
        """Record the next steps of these ranks, at the same time.

        Raises:
            RequestError: there is no such rank, or a file of that name here. ClusterError: one cannot be recorded; what
                others have recorded has been brought all the same.
        """
        if len(ranks) > AT_ONCE:
            raise RequestError(
                f"{len(ranks)} ranks are more than can be profiled at once", f"name {AT_ONCE} at most"
            )
        for rank in ranks:
            check_free(self._to / trace_name(self._run.id, rank), overwrite=self._overwrite)
        if not self._to.is_dir():
            raise RequestError(f"{format.name(self._to)} is no directory for the traces")
        with ThreadPoolExecutor(len(ranks)) as pool:
            coming = [pool.submit(self._rank, rank) for rank in ranks]
            try:
                for each in coming:
                    each.exception()
            finally:  # also where a person has had enough
                self._hang_up()
        return [each.result() for each in coming]

    def _hang_up(self) -> None:
        with self._lock:
            self._over = True
            for link in self._links:
                link.close()

    def _rank(self, rank: int) -> RankProfile:
        with self._launcher.connect(self._run) as link:
            with self._lock:
                if self._over:
                    raise ClusterError(f"the profile of rank {rank} was taken back")
                self._links.append(link)
            return self._recorded(link, rank)

    def _recorded(self, link: Link, rank: int) -> RankProfile:
        replies = ask(link, replace(self._request, rank=rank))
        summary: ProfileSummary | None = None
        for reply in replies:
            if reply.file is not None:
                break
            if reply.profile is not None:
                summary = reply.profile.summary or summary
                self._tell(rank, reply.profile)
        else:
            raise ChannelError("the node sent no trace", "try again")
        if summary is None:
            raise ChannelError("the node did not say what it has recorded", "try again")
        target = self._to / trace_name(self._run.id, rank)
        handle, part = tempfile.mkstemp(dir=self._to, prefix=".fetch-")
        try:
            with open(handle, "wb") as file:
                size = receive(replies, file, lambda size: self._tell(rank, size))
            Path(part).chmod(0o666 & ~umask())
            Path(part).replace(target)
        finally:
            Path(part).unlink(missing_ok=True)
        return RankProfile(rank, reply.file.node, target, size, summary)
