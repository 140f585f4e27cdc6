"""Opinion: which step next? A policy is one function, `decide(world, memo) -> Verdict`; this page names them all."""

from collections.abc import Callable, Mapping

from policies import default, fifo
from policies.verdict import Memo, Verdict
from policies.world import World

Policy = Callable[[World, Memo], Verdict]

POLICIES: Mapping[str, Policy] = {"default": default.decide, "fifo": fifo.decide}
