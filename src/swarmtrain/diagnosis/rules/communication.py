"""Ranks that do not find each other, or not by the way that they should."""

from __future__ import annotations

import re

from swarmtrain.diagnosis import measures
from swarmtrain.diagnosis.case import Case, said
from swarmtrain.diagnosis.echoes import is_timeout, waited
from swarmtrain.diagnosis.flight import analyse, carried
from swarmtrain.diagnosis.frames import place
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words, facts_of, seen_at, there, who
from swarmtrain.diagnosis.rules.standstill import standing
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy, Sureness

_NO_NAME = re.compile(
    r"Name or service not known|Temporary failure in name resolution|gai error|No address associated with hostname"
)
_CONNECTS = re.compile(
    r"(?:while trying to connect to|failed to connect to any network address of) \(?(?P<host>[\w.-]+)",
    re.IGNORECASE,
)
# How coordinator/core/hang.py has ranks that all wait in one place; files lie elsewhere on each node.
_ALL_WAIT = re.compile(r"all ranks wait in (?P<what>(?:(?!: )[^;])+?)\.?$")
_WAITS = re.compile(r"(?:rank|ranks) [\d, and]+ waits? in (?P<what>(?:(?!: )[^;])+?)\.?$")
_ONE_PACKET = 1400  # bytes, which any network carries in one packet, the overlay of a Swarm included
DOCTOR = Help(
    "Measure each way between the nodes, ports and packet sizes included, by real traffic.",
    "swarmtrain doctor --image IMAGE",
)


def _not_all_joined(case: Case) -> Conclusion | None:
    first = case.first
    match = first and re.search(
        r"Timed out after (?P<seconds>\d+) seconds waiting for clients\. (?P<here>\d+)/(?P<all>\d+) clients "
        r"joined",
        said(first),
    )
    if first is None or not match:
        return None
    facts = facts_of(case, first)
    return Conclusion(
        verdict=f"{facts['who']} waited {match['seconds']} s for the others, and {match['here']} of "
        f"{match['all']} came",
        cause="a rank did not come to init_process_group in time: it does something long before, has failed, "
        "or cannot reach the master",
        sure="possible",
        failure=first,
        remedies=[
            Remedy("What did the ranks write meanwhile?", f"swarmtrain logs {case.status.run}"),
            Remedy(
                "Prepare data after init_process_group, or give it more time: "
                "init_process_group(timeout=timedelta(hours=1))."
            ),
        ],
        unseen=["Which rank did not come: the store knows their number alone."],
    )


def _no_such_host(case: Case) -> Conclusion | None:
    """Torch itself says that it could not connect; that the name is not known stands among its warnings."""
    failure = case.first
    if failure is None or failure.rank is None:
        return None
    lines = [*failure.log, *case.lines.get(failure.rank, ())]
    warned = next((line for line in lines if _NO_NAME.search(line)), "")
    connects = _CONNECTS.search(said(failure))
    if not _NO_NAME.search(said(failure)) and not (connects and warned):
        return None
    host = f" {connects['host']}" if connects else ""
    return Conclusion(
        verdict=f"{who(failure)} looked for a host{host} by a name that is not known there",
        cause="the resolver does not know the name: it is misspelt, or of another network",
        sure="certain" if _NO_NAME.search(said(failure)) else "likely",
        failure=failure,
        seen=[Observation(f"it warned before: {warned.strip()}", failure.rank, failure.node)]
        if warned
        else [],
        remedies=[
            Remedy("Leave MASTER_ADDR alone: it is set to an address, for which no name is looked up."),
            Remedy(
                "What does the node resolve?",
                f"{there(case, failure)}getent hosts{host or ' NAME'}",
            ),
        ],
    )


def _messages_lost(case: Case) -> Conclusion | None:
    """All ranks are in the same collective, so it is not a rank that is missing."""
    first = case.first
    known = _all_there(case)
    on_gloo = case.backend == "gloo"
    # On NCCL a rank waits for its GPU, wherever it stands: its stack alone does not tell for what.
    where = _waits_at(case) if on_gloo and not known else ""
    if not known and not where:
        return None
    hang = standing(case)
    failure = first or hang
    sizes = carried(case.flights) if known else None
    is_large = sizes is not None and sizes.carried <= _ONE_PACKET < sizes.stuck
    cause = "nobody is missing, so what the ranks send each other does not arrive, or very slowly"
    if sizes is not None and is_large:
        cause = (
            f"collectives of up to {sizes.carried} bytes came through and one of {sizes.stuck} bytes does not, as "
            "where a network drops large packets: the MTU of an interface or of the overlay is more than the way "
            "between two nodes carries"
        )
    sure: Sureness = "likely" if known and on_gloo and not is_large else "possible"
    timeouts = [each for each in case.causes if place(each.traceback)]
    bad = measures.bad_links(case.measures)
    return Conclusion(
        verdict=known or f"all ranks wait in {where}, and it does not complete",
        cause=cause,
        sure=sure,
        failure=failure,
        seen=[
            *([Observation(hang.summary, time=hang.time)] if hang is not None and known else []),
            *bad,
            *(seen_at(each, "waited in a collective") for each in timeouts),
        ],
        remedies=[
            DOCTOR.filled({}),
            Remedy(
                "Is anything sent still, and to whom? Look at what each node sends the others.",
                f"swarmtrain metrics {case.status.run} 'link/*' --since 10m",
            ),
            Remedy(
                "If large packets are lost, make a network with a smaller MTU and train in it; docs/troubleshooting.md "
                "has how to name it.",
                "docker network create -d overlay --attachable -o com.docker.network.driver.mtu=1300 NAME",
            ),
        ],
        unseen=[
            *(
                []
                if bad
                else [
                    "Which way between two nodes it is: a collective does not tell whose message is missing."
                ]
            ),
            *(
                []
                if on_gloo
                else ["Whether each GPU has come to it: what was recorded is what they were told to do."]
            ),
            *(
                []
                if known
                else ["Whether all are in the same turn of the loop: no flight records were kept of this."]
            ),
        ],
        knows_who=False,
    )


def _all_there(case: Case) -> str:
    """What flight records say that were taken while the ranks waited, where nobody is missing by them."""
    begun = [each.time - seconds for each in case.causes if (seconds := waited(each)) is not None]
    hang = standing(case)
    if hang.rank is not None if hang is not None else not any(case.looked >= time for time in begun):
        return ""
    if len(case.flights) < len(case.status.workers) or any(each.reason for each in case.flights.values()):
        return ""
    found = analyse(case.flights)
    return (
        found[0].text if found and all(each.kind == "together" and not each.ranks for each in found) else ""
    )


def _waits_at(case: Case) -> str:
    """The collective that every rank waits in, by what was seen of their stacks or by where their timeouts are."""
    hang = standing(case)
    if hang is not None:
        text = hang.summary.partition(". The ")[0].partition(": ")[2]
        if hang.rank is not None:
            return ""
        if match := _ALL_WAIT.fullmatch(text):
            return match["what"]
        waits = [_WAITS.fullmatch(each) for each in text.split("; ")]
        places = {match["what"] if match is not None else "" for match in waits}
        return places.pop() if len(places) == 1 else ""
    timeouts = {each.rank for each in case.causes if is_timeout(each)}
    if len(timeouts) < len(case.causes) or timeouts != {each.rank for each in case.status.workers}:
        return ""
    places = {place(each.traceback) for each in case.causes}
    return f"a collective ({places.pop()})" if len(places) == 1 and "" not in places else ""


RULES = (
    Rule(
        code="not-all-joined",
        title="Not all ranks came to the start",
        about="init_process_group waits for all ranks, for as long as its timeout says. The error is raised "
        "by the rank that keeps the store, rank 0, which is not the one at fault.",
        look=_not_all_joined,
        produced=("not_all_joined",),
    ),
    Rule(
        code="no-such-host",
        title="A name is not known",
        about="In a Swarm a service's name is known in the networks that it is in, once its task runs. On the host's "
        "network (--network host) no service has a name.",
        look=_no_such_host,
        produced=("no_such_host",),
    ),
    by_words(
        "wrong-interface",
        "A network interface does not exist",
        Words(
            pattern=r"Unable to find address for: (?P<name>\S+)|no socket interface found|Unable to find "
            r"interface |Bootstrap : no socket interface",
            verdict="{who} is to talk through an interface that it has not: {name}",
            cause="GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names an interface that this node does not have",
            anyone=True,
            help=(
                Help(
                    "Leave the variable out: the interface that leads to the others is chosen on each node, "
                    "and said."
                ),
                Help("Which are there?", "{there}ls /sys/class/net"),
            ),
        ),
        "Names differ between machines (eth0, enp5s0), and in a container with several networks their order "
        "is chance. `swarmtrain status` shows which one was chosen on each node, `swarmtrain events` why.",
        ("wrong_interface",),
    ),
    by_words(
        "port-in-use",
        "A port is taken",
        Words(
            pattern=r"Address already in use|EADDRINUSE",
            verdict="{who} wants a port that is taken",
            cause="another process on {node} listens there: of another run, of the machine, or an earlier one "
            "of its own",
            anyone=True,
            help=(
                Help(
                    "Do not name a port: MASTER_PORT is chosen anew for each generation. Servers of your own "
                    "may take port 0."
                ),
                Help("Who listens?", "{there}ss -ltnp"),
            ),
        ),
        "On the host's network, and on local, all runs of a machine share its ports.",
        ("port_in_use", "master_port_in_use"),
    ),
    Rule(
        code="messages-lost",
        title="Nobody is missing, and yet a collective does not complete",
        about="All ranks wait at the same collective, so no rank is to blame: what they send does not arrive. A "
        "network that drops large packets only (an MTU black hole) lets ranks find each other and small "
        "collectives pass, and then stands still: an overlay adds 50 bytes to each packet, jumbo frames must be "
        "allowed by every switch, and a tunnel between sites carries less than 1500. Where flight records show "
        "that small ones came through and a larger one does not, it is said. On NCCL a GPU that stands still looks "
        "the same. A rank that is a turn of its loop behind does, too, where no flight record was kept.",
        look=_messages_lost,
        produced=("large_packets_lost", "nothing_arrives"),
    ),
    by_words(
        "port-blocked",
        "Workers get no answer from each other",
        Words(
            pattern=r"connectFullMesh failed with [^\n]*Connect timeout",
            verdict="{who} tried to connect to another worker, and no answer came",
            cause="the ranks have found each other at the store of rank 0, but a connection between two workers got "
            "no answer, nor a refusal: a firewall drops it, or an interface was chosen that does not lead to the other",
            sure="likely",
            anyone=True,
            help=(
                DOCTOR,
                Help("Which addresses do the nodes talk through?", "swarmtrain status {run}"),
                Help(
                    "Leave GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME alone, if the script or the job sets them: "
                    "the interface that leads to the others is chosen on each node."
                ),
                Help(
                    "In a Swarm open 7946/tcp, 7946/udp and 4789/udp between all nodes; on the machines' own network "
                    "(--network host) all ports above 1023, as gloo and NCCL take any."
                ),
            ),
            unseen=("Which of both it is, and between which two: gloo does not say to whom it connected.",),
        ),
        "A closed port refuses at once; where nothing comes back, packets are dropped. Each worker listens on a port "
        "of its own that the kernel chooses, and every other one connects to it.",
        ("blocked_ports", "other_interface"),
    ),
    by_words(
        "no-connection",
        "A rank cannot reach another",
        Words(
            pattern=r"(?:timed out after \d+ms while trying to connect to|failed to connect to any network address of) "
            r"\(?(?P<to>[\w.:-]+(?:, \d+)?)|connectFullMesh failed",
            verdict="{who} could not reach {to}",
            cause="nobody listens there, or a firewall or the network is between them",
            sure="likely",
            help=(
                Help("Which addresses do the nodes have?", "swarmtrain status {run}"),
                Help("Leave MASTER_ADDR and MASTER_PORT alone, if the script sets them."),
                Help(
                    "Between all nodes must be open: 7946/tcp and udp, and 4789/udp; docs/troubleshooting.md "
                    "has more."
                ),
                DOCTOR,
            ),
        ),
        "Each worker connects to the store of rank 0, and then to every other rank. The addresses are those "
        "of the interfaces by which the nodes reach the coordinator.",
        ("refused",),
    ),
)
