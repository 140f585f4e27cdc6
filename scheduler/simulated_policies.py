"""The policies that a simulation can play, ours and others', by the names people give them."""

from collections.abc import Iterator, Mapping, Sequence

from policies import POLICIES
from scheduler.core import messages as m
from scheduler.core.machine import Machine as Core
from scheduler.settings import Settings
from scheduler.settings_keys import nearest_name
from scheduler.simulated_host import Machine, NoHost
from scheduler.simulator import baselines
from scheduler.simulator.measures import Result
from scheduler.simulator.run import Witness
from scheduler.simulator.watch_bound import observed
from scheduler.simulator.workload import Job

RENAMED = {"ollama": "fifo", "llama-swap": "sets"}
OTHERS = RENAMED | {name: name for name in baselines.NAMES if name not in RENAMED.values()}
"""What others do, by the names they have here, and the baselines that play them: plain `fifo` is a policy of ours."""
BESIDE = ("ollama", "llama-swap")  # what the configured policy is compared with where none is named


def usual(settings: Settings) -> list[str]:
    """The policies played where none is named."""
    return [settings.policy, *BESIDE]


def checked_policies(names: Sequence[str]) -> list[str]:
    """The names, each once. Raises NoHost where one is unknown."""
    known = [*POLICIES, *OTHERS]
    for name in names:
        if name not in known:
            advice = dict.fromkeys([nearest_name(name, known), f"known are {', '.join(known)}"])
            raise NoHost("; ".join([f"--policy {name!r} is unknown", *advice]))
    return list(dict.fromkeys(names))


def run(
    name: str,
    jobs: Sequence[Job],
    stage: Machine,
    events: Sequence[m.Fact] = (),
    witness: Witness | None = None,
) -> Result:
    """Play the jobs under the policy of that name, its waits held to the bound where it states one; who is not served
    is noted. What others do hears of no `events` and has no `witness`."""
    if name in POLICIES:
        refused: dict[str, str] = {}

        def seen(fact: m.Fact, orders: Sequence[m.Order], core: Core) -> None:
            refused.update({order.id: order.message for order in orders if isinstance(order, m.Refuse)})
            if witness is not None:
                witness(fact, orders, core)

        result = observed(jobs, stage.host, name, config=stage.under(name), events=events, witness=seen)
        result.notes += _not_served(jobs, result, refused)
        return result
    result = baselines.run(OTHERS[name], jobs, stage.host)
    result.policy = name
    if name == "ollama" and not stage.host.gates:
        result.notes.append("Ollama's 80 % rule for a load beside others holds for it all the same")
    allowed = {member for members in stage.host.sets for member in members}
    if any(job.model not in allowed for job in jobs):
        result.notes.append(f"it knows no phases, so it serves what phase {stage.config.phase} leaves out, too")
    result.notes += _not_served(jobs, result, {})
    return result


def _not_served(jobs: Sequence[Job], result: Result, refused: Mapping[str, str]) -> Iterator[str]:
    """For which models nobody was served, how many, and the words with which the first was refused."""
    served = {each.job.id for each in result.served}
    lost: dict[str, list[str]] = {}
    for job in jobs:
        if job.id not in served:
            lost.setdefault(job.model, []).append(job.id)
    for model, ids in lost.items():
        words = next((refused[ident] for ident in ids if ident in refused), "it never got a slot")
        yield f"not served, {len(ids)} for {model}: {words}"
