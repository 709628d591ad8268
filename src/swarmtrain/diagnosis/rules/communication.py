"""Ranks that do not find each other, or not by the way that they should."""

from __future__ import annotations

import re

from swarmtrain.diagnosis.case import Case, said
from swarmtrain.diagnosis.rule import Conclusion, Help, Rule, Words, by_words, facts_of, there, who
from swarmtrain.protocol.evidence.diagnosis import Observation, Remedy

_NO_NAME = re.compile(
    r"Name or service not known|Temporary failure in name resolution|gai error|No address associated with hostname"
)
_CONNECTS = re.compile(
    r"(?:while trying to connect to|failed to connect to any network address of) \(?(?P<host>[\w.-]+)",
    re.IGNORECASE,
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
            ),
        ),
        "Each worker connects to the store of rank 0, and then to every other rank. The addresses are those "
        "of the interfaces by which the nodes reach the coordinator.",
        ("refused",),
    ),
)
