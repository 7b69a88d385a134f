"""All that the page is made of, put together; this is where its libraries are first needed."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

from DB import open_database
from MessageBroker import Message, MessageBrokerFactory
from MessageBroker.broker_interface import dead_letter_topic
from MessageBroker.configuration import read_broker_config
from Pipeline.page.board import Board
from Pipeline.page.broker_link import BrokerLink
from Pipeline.page.journeys import Journeys
from Pipeline.page.letters import LetterDesk
from Pipeline.page.live import Live
from Pipeline.page.pictures import Pictures
from Pipeline.page.results import Results
from Pipeline.page.routes import PageParts, application
from Pipeline.page.server import PageServer, address_of, listen
from Pipeline.stop import Stop

# The broker's end, at the page's (s).
CLOSE_SECONDS = 3.0


def serve(
    options: argparse.Namespace, token: str | None, stop: Stop, ready: Callable[[int], None]
) -> None:
    """Serve the page until it is told to stop.

    Args:
        options: the command line.
        token: what has to be known; None where only this machine reaches the page.
        stop: tells when to end.
        ready: is told the port.

    Raises:
        ScriptError: the port cannot be had.
        ConfigurationError, DatabaseConfigurationError: a setting is missing or wrong.
    """
    with contextlib.closing(listen(options.host, options.port)) as listening:
        port = address_of(listening)[1]
        with parts_of(options, port) as parts:
            server = PageServer(application(parts, port, token), parts.board, stop)
            ready(port)
            server.serve_on(listening)


@contextlib.contextmanager
def parts_of(options: argparse.Namespace, port: int) -> Iterator[PageParts]:
    """Open all that the page shows; none of it needs to be there yet."""
    topics = read_broker_config(options.config_dir).topics
    both = (topics.images, topics.inferences)
    get_handler = functools.partial(
        MessageBrokerFactory.get_handler, options.broker, config_dir=options.config_dir
    )
    board = Board()
    with contextlib.ExitStack() as opened:
        db = opened.enter_context(open_database(options.db, read_only=True))
        broker = get_handler()
        opened.callback(broker.close, CLOSE_SECONDS)
        pictures = opened.enter_context(
            contextlib.closing(Pictures(broker.name, options.checkpoint))
        )
        journeys = Journeys(broker, topics.images, db, board)
        letters = LetterDesk(
            broker.name,
            lambda delivery: get_handler(delivery=delivery),
            both,
            board,
            journeys,
        )

        def take_letters(messages: Sequence[Message]) -> None:
            journeys.take_letters(messages)
            letters.take_letters(messages)

        link = BrokerLink(
            broker,
            both,
            {
                topics.images: pictures.take_images,
                topics.inferences: journeys.take_inferences,
                dead_letter_topic(topics.images): take_letters,
                dead_letter_topic(topics.inferences): take_letters,
            },
            board,
            port,
        )
        opened.callback(link.close)
        live = Live(options.targets, db, board, journeys, pictures)
        opened.callback(live.close)
        yield PageParts(board, journeys, letters, live, pictures, Results(db, pictures))
