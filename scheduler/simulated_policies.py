"""The policies that a simulation can play, ours and others', by the names people give them."""

from collections.abc import Sequence

from policies import POLICIES
from scheduler.core import messages as m
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
    """Play the jobs under the policy of that name, its waits held to the bound where it states one. What others do
    hears of no `events` and has no `witness`."""
    if name in POLICIES:
        return observed(jobs, stage.host, name, config=stage.under(name), events=events, witness=witness)
    result = baselines.run(OTHERS[name], jobs, stage.host)
    result.policy = name
    if name == "ollama" and not stage.host.gates:
        result.notes.append("Ollama's 80 % rule for a load beside others holds for it all the same")
    return result
