"""Credentials for Google Cloud: found within a time limit, and refused ones told as such."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any

import google.auth
from google.auth import exceptions as auth_errors
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from DurableText.program.beside import in_a_thread
from MessageBroker.errors import AuthenticationError, BrokerError, BrokerUnavailableError
from MessageBroker.google_pubsub.key_file import (
    KEY_FILE_VARIABLE,
    check_key_file,
    unusable_credentials,
)

# At DEBUG these write whole requests for tokens: addresses, headers and bodies, which are secrets.
for _name in ("google.auth", "urllib3"):
    logging.getLogger(_name).setLevel(logging.INFO)

SCOPES = ("https://www.googleapis.com/auth/pubsub",)
TOKEN_TIMEOUT_SECONDS = 7.0
# For finding credentials and their first token. google-auth repeats what it asks, and takes no
# limit for all of it.
CREDENTIALS_TIMEOUT_SECONDS = 8.0


class Credentials:
    """The credentials of one connection, once they are needed."""

    def __init__(self, where: str, found: Any = None) -> None:
        """Find nothing yet.

        Args:
            where: what they are for, as it shall stand in errors.
            found: google-auth's object, if it is known.
        """
        self.found = found
        self._where = where
        self._lock = threading.Lock()
        self._asking: Future[None] | None = None

    @property
    def account(self) -> str:
        """Who the calls are made as, for errors: a service account has a name."""
        email = getattr(self.found, "service_account_email", None)
        if isinstance(email, str) and "@" in email:
            return f"the account {email}"
        named = os.environ.get(KEY_FILE_VARIABLE)
        return f"the account that {KEY_FILE_VARIABLE} names" if named else "the ambient account"

    def require(self, timeout: float) -> None:
        """Find credentials that Google takes, unless that was done.

        Args:
            timeout: seconds.

        Raises:
            BrokerUnavailableError: the token service does not answer in time.
            AuthenticationError: there are none, or they are refused.
        """
        if self.found is None and not self._ask(self._find, timeout):
            raise BrokerUnavailableError(
                f"Pub/Sub: no credentials for {self._where} after {timeout:g} seconds: neither the "
                "metadata server nor a token service answers: check the network, or set "
                "GOOGLE_APPLICATION_CREDENTIALS"
            )

    def _find(self) -> None:
        found = _find()
        _check_token(found, TOKEN_TIMEOUT_SECONDS)
        self.found = found

    def check(self, timeout: float) -> None:
        """Fetch a token where one is needed, so that refused credentials are told as such.

        Args:
            timeout: seconds.

        Raises:
            BrokerUnavailableError: the token service does not answer in time.
            AuthenticationError: Google refuses them.
        """
        if _has_its_token(self.found):
            return
        if not self._ask(lambda: _check_token(self.found, timeout), timeout):
            raise BrokerUnavailableError(
                f"Pub/Sub: no token for {self._where} after {timeout:.3g} seconds: the token "
                "service does not answer: check the network"
            )

    def _ask(self, ask: Callable[[], None], timeout: float) -> bool:
        """Ask the token service beside whoever waits; False if it has not answered in time.

        google-auth repeats what it asks, for half a minute perhaps, whatever time it is given. One
        question at a time is enough: whoever comes second waits for the answer to the first.
        """
        with self._lock:
            if self._asking is None or self._asking.done():
                self._asking = in_a_thread("pubsub credentials", ask)
            asking = self._asking
        try:
            asking.result(timeout)
        except FutureTimeoutError:
            if not asking.done():
                return False
            raise  # that of the answer
        return True


def _has_its_token(credentials: Any) -> bool:
    # A service account signs its tokens itself; the service answers UNAUTHENTICATED.
    return (
        credentials is None
        or isinstance(credentials, service_account.Credentials)
        or bool(credentials.valid)
    )


def _check_token(credentials: Any, timeout: float) -> None:
    if _has_its_token(credentials):
        return
    try:
        credentials.refresh(partial(Request(), timeout=min(timeout, TOKEN_TIMEOUT_SECONDS)))
    except auth_errors.GoogleAuthError as error:
        raise _token_error(error) from None


def _find() -> Any:
    check_key_file()
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except Exception as error:  # noqa: BLE001 - it raises whatever its parsers do, keys in the text
        raise unusable_credentials(error) from None
    return credentials


def _token_error(error: Any) -> BrokerError:
    if error.retryable or _is_of_transport(error):
        return BrokerUnavailableError(
            f"Pub/Sub: the token service does not answer ({type(error).__name__}): check the "
            "network"
        )
    return AuthenticationError(
        f"Pub/Sub: Google refuses the credentials ({type(error).__name__}): make a new key, log in "
        "again with `gcloud auth application-default login`, or set this machine's clock right"
    )


def _is_of_transport(error: object) -> bool:
    """Tell whether nobody answered, which refuses nothing.

    The metadata server's credentials wrap that into the error of a refusal, not to be retried.
    """
    if isinstance(error, auth_errors.TransportError):
        return True
    if not isinstance(error, BaseException):
        return False
    return any(_is_of_transport(each) for each in (error.__cause__, *error.args))
