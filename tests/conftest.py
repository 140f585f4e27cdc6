"""What every test file shares: the staged real Ollama, how deep the property tests dig, and `--rewrite`."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.realollama.fixtures"]

# A suite that was started in the background inherits Ctrl-C ignored, and so would every process that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("ci", deadline=None, suppress_health_check=QUIET)
settings.register_profile("long", deadline=None, suppress_health_check=QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rewrite` accepts what the scenarios print now; read the difference before you commit it."""
    parser.addoption("--rewrite", action="store_true", help="rewrite tests/scenarios/*.txt with what happens now")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked `long` runs only where it is asked for."""
    if config.getoption("-m"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if not item.get_closest_marker("long")]
