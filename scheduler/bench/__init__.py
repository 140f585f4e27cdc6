"""What forwarding, deciding and holding cost: `python -m scheduler.bench` measures and prints, and asserts nothing."""
