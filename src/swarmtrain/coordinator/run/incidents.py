"""What befalls a run: from the end of a generation that another one follows, until the run trains again."""

from __future__ import annotations

from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.active_generation import ActiveGeneration
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.coordinator.store.metrics import MetricsStore
from swarmtrain.protocol.facts import Incident


class Incidents:
    """Writes incidents to the journal; one instance a coordinator. The open one is in the journal's state."""

    def __init__(self, journal: Journal, progress: MetricsStore) -> None:
        self._journal, self._progress = journal, progress

    def generation_ended(self, current: ActiveGeneration, lease: float, wait: float) -> None:
        """A generation is over, and another one is to come.

        Args:
            lease: seconds of silence after which a member counts as lost.
            wait: seconds before it may form.
        """
        number = current.generation.number
        since, attempt = current.stepped() or self._progress.stepped, None
        if current.failures:
            attempt = current.attempt(lease)
            cause = current.causes()[0]
            what, since = cause.sentence(), since or cause.time
            again = f"trying again in {wait:.0f} s" if wait > 0.5 else "trying again"
            text = f"generation {number} failed: {what}; {again}"
        else:
            what = current.pausing.why if current.pausing else "a node has left"
            since = since or self._journal.clock.now()
            done = "has saved its work" if current.paused() else "was stopped"
            text = f"generation {number} {done}: {what}"
        nodes = len(current.generation.parts)
        incident = Incident(since, what, current.step(), nodes, planned=not current.failures)
        self._journal.append(
            incident_log.generation_ended(self._journal.state, incident, text, attempt, wait)
        )

    def look_for_steps(self, current: ActiveGeneration) -> None:
        """Whether the run trains again after an incident, which then is over."""
        state = self._journal.state
        if state.incident is None or state.phase is not Phase.RUNNING:
            return
        begun = current.trains_since()
        if begun is not None:
            self.close(current, self._journal.clock.unix(begun))

    def close(self, current: ActiveGeneration, moment: float) -> None:
        """The run trains again since ``moment``, Unix time, if anything had befallen it."""
        incident, generation = self._journal.state.incident, current.generation
        if incident is not None:
            nodes, step, saves = len(generation.parts), current.heartbeats.resumed(), self._progress.saves
            self._journal.append(
                incident_log.recovered(incident, moment, nodes, step, generation.number, saves)
            )
