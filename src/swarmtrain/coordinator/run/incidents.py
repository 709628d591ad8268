"""What befalls a run: from the end of a generation that another one follows, until the run trains again."""

from __future__ import annotations

from swarmtrain.coordinator.core import incident_log
from swarmtrain.coordinator.core.model import Phase
from swarmtrain.coordinator.run.active_generation import ActiveGeneration
from swarmtrain.coordinator.store.journal import Journal
from swarmtrain.coordinator.store.metrics import MetricsStore
from swarmtrain.protocol.facts import Incident
from swarmtrain.protocol.journal.remarks import Warned

_ONE_STATE = (
    "Its ranks have loaded different checkpoints, or some of them none: `share: auto` brings what one rank has saved "
    "to every node, but for what is in `per_node`"
)


class Incidents:
    """Writes incidents to the journal; one instance a coordinator. The open one is in the journal's state."""

    def __init__(self, journal: Journal, progress: MetricsStore) -> None:
        self._journal, self._progress = journal, progress
        self._compared = 0  # the newest generation of which it is known whether its ranks began at one point

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

    def look_for_different_starts(self, current: ActiveGeneration) -> None:
        """Whether ranks have gone on from different states of their script's own, once each has made a step."""
        number = current.generation.number
        if self._compared == number or current.heartbeats.begun() is None:
            return
        self._compared = number
        if found := current.heartbeats.different_starts():
            text = f"generation {number} trains out of step: {found}. {_ONE_STATE}"
            if all(text != event.text for event in self._journal.events):
                self._journal.append(Warned(text=text))

    def close(self, current: ActiveGeneration, moment: float) -> None:
        """The run trains again since ``moment``, Unix time, if anything had befallen it."""
        incident, generation = self._journal.state.incident, current.generation
        if incident is not None:
            nodes, step, saves = len(generation.parts), current.heartbeats.resumed(), self._progress.saves
            self._journal.append(
                incident_log.recovered(incident, moment, nodes, step, generation.number, saves)
            )
