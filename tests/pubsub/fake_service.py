"""A gRPC server in this process that speaks for Pub/Sub what the emulator never says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.pubsub_v1 import PublishResponse, Subscription, Topic

Answer = Callable[[bytes, grpc.ServicerContext], bytes]
# Gets the requests as they come, and yields answers; when it returns the stream ends.
StreamAnswer = Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]


class FakeService:
    """Answers each method as told; a method that nothing was said about is UNIMPLEMENTED."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._stream_answer: StreamAnswer = self._answer_once
        self.requests: list[tuple[str, bytes]] = []
        self._server = grpc.server(ThreadPoolExecutor(16))  # a stream occupies one
        self._server.add_generic_rpc_handlers((_AnyMethod(self),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.host = f"127.0.0.1:{port}"
        self._server.start()

    def answer(self, method: str, answer: Answer) -> None:
        """Answer `method` (`Publish`, `GetTopic`, ...; `*` for all others) by a function."""
        self._answers[method] = answer

    def answer_streams(self, answer: StreamAnswer) -> None:
        """Answer `StreamingPull` by a generator."""
        self._stream_answer = answer

    def refuse(self, method: str, code: grpc.StatusCode, details: str) -> None:
        """Answer `method` with an error."""

        def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(code, details)
            raise AssertionError("abort raises")

        self.answer(method, refuse)

    def have_topics(self, retention: str | None = "604800s") -> None:
        """Say that every topic exists, and keeps for so long what was acknowledged."""
        found = Topic({"name": "any", "message_retention_duration": retention})
        self.answer("GetTopic", lambda _request, _context: Topic.serialize(found))

    def have_subscription(self, topic: str, **settings: Any) -> None:
        """Say that every topic exists, and every subscription, which is of `topic`."""
        self.have_topics()
        path = f"projects/some-project/topics/{topic}"
        found = Subscription({"name": "any", "topic": path, "ack_deadline_seconds": 12, **settings})
        self.answer("GetSubscription", lambda _request, _context: Subscription.serialize(found))

    def confirm(self, count: int) -> bytes:
        """Return the answer to a publication of `count` messages."""
        ids = [str(number) for number in range(count)]
        return PublishResponse.serialize(PublishResponse(message_ids=ids))

    def stop(self) -> None:
        self._server.stop(None).wait()

    def handle(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.requests.append((method, request))
        answer = self._answers.get(method) or self._answers.get("*")
        if answer is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} was not expected")
            raise AssertionError("abort raises")
        return answer(request, context)

    def handle_stream(
        self, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        yield from self._stream_answer(requests, context)

    def _answer_once(
        self, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        yield self.handle("StreamingPull", next(requests), context)


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, service: FakeService) -> None:
        self._service = service

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method.rpartition("/")[2]
        if method == "StreamingPull":
            return grpc.stream_stream_rpc_method_handler(self._service.handle_stream)
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._service.handle(method, request, context)
        )
