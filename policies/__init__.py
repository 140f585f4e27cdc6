"""Opinion: which step next? A policy is one function, `decide(world, memo) -> Verdict`; this page names them all."""
