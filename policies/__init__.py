"""Opinion: which step next? A policy is one module with `decide(world, memo) -> Verdict`; this page names them all."""

from collections.abc import Callable, Mapping
from importlib import import_module

from policies.verdict import Memo, Verdict
from policies.world import World

Policy = Callable[[World, Memo], Verdict]

NAMES = (
    "default",
    "fifo",
)
"""One line adds a policy: its name, which is that of its module (docs/policies.md has a worked example)."""

POLICIES: Mapping[str, Policy] = {name: import_module(f"policies.{name}").decide for name in NAMES}
