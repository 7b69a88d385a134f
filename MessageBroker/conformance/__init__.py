"""The conformance suite: what every broker behind `BrokerInterface` does, as tests to be imported.

Whoever writes a handler runs all of it with a module of their own, `test_nats.py`, after
`pip install 'event-driven-model-serving[conformance]'`, by
`python -m pytest -p MessageBroker.conformance.plugin test_nats.py`:

    from MessageBroker.conformance import BrokerUnderTest
    from MessageBroker.conformance.suite import *

    class NatsUnderTest(BrokerUnderTest): ...

    @pytest.fixture(scope="session")
    def running_broker():
        with NatsUnderTest() as broker:
            yield broker

`docs/writing_a_handler.md` says what a `BrokerUnderTest` supplies.
"""

from DurableText.installation.extras import needs

with needs("the conformance suite", ImportError):
    import pytest

# Each states its behaviours; the first line of a test's docstring is the promise.
PARTS = (
    "publishing",
    "consuming",
    "acknowledging",
    "holding",
    "nacks",
    "dead_letters",
    "ordering",
    "topics",
    "life_cycle",
    "failover",
    "outages",
    "timeouts",
    "limits",
    "chaos",
)

# So that an assertion that fails shows its values, as in a test module.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("stories", *PARTS)))

from MessageBroker.conformance.harness import BrokerUnderTest, missing  # noqa: E402
from MessageBroker.conformance.process import Worker  # noqa: E402

__all__ = ["PARTS", "BrokerUnderTest", "Worker", "missing"]
