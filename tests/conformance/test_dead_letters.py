"""See the module that is imported; a module of its own, so that processes can share the suite."""

from MessageBroker.conformance.dead_letters import *  # noqa: F403
