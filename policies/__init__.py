"""Opinion: which step next? A policy is one module with `decide(world, memo) -> Verdict`; this page names them all."""

from collections.abc import Callable, Mapping

from policies import (  # noqa: F401 - a line here adds a policy: docs/policies.md has a worked example
    default,
    fifo,
)
from policies.verdict import Memo, Verdict
from policies.world import World

Policy = Callable[[World, Memo], Verdict]

POLICIES: Mapping[str, Policy] = {
    name: module.decide for name, module in dict(globals()).items() if hasattr(module, "decide")
}
"""Each module named above, by its name."""
