"""See the module that is imported; a module of its own, so that processes can share the suite."""

from MessageBroker.conformance.timeouts import *  # noqa: F403
