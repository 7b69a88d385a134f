"""All behaviours in one module, for a test module that imports them: `from … import *`."""

# ruff: noqa: F403

from MessageBroker.conformance.acknowledging import *
from MessageBroker.conformance.chaos import *
from MessageBroker.conformance.consuming import *
from MessageBroker.conformance.dead_letters import *
from MessageBroker.conformance.failover import *
from MessageBroker.conformance.holding import *
from MessageBroker.conformance.life_cycle import *
from MessageBroker.conformance.limits import *
from MessageBroker.conformance.nacks import *
from MessageBroker.conformance.ordering import *
from MessageBroker.conformance.outages import *
from MessageBroker.conformance.publishing import *
from MessageBroker.conformance.timeouts import *
from MessageBroker.conformance.topics import *
