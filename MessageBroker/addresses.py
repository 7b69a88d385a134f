"""Addresses as people write them: `host:port`, with a scheme or a slash around it."""

from __future__ import annotations

import re

_LOCAL = re.compile(r"(localhost|127\.[0-9.]+|\[?::1\]?)(:[0-9]+)?")
_SCHEME = re.compile(r"^[A-Za-z_]+://")
_HTTP = re.compile(r"^http://")


def plain_address(address: str) -> str:
    """Leave out what people write around an address: `http://`, a slash at the end, blanks."""
    return _HTTP.sub("", address.strip().rstrip("/"))


def without_scheme(address: str) -> str:
    """Leave out any `SCHEME://`."""
    return _SCHEME.sub("", address.strip())


def is_local(addresses: str) -> bool:
    """Tell whether all of these are this machine's, where `make` starts a broker."""
    return all(_LOCAL.fullmatch(without_scheme(address)) for address in addresses.split(","))
