"""The rights that the docs name suffice, and each that is missing is named with its principal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from MessageBroker.kafka_handler import KafkaHandler
from tests.brokers.secured_kafka import SecuredKafka
from tests.diagnosis.rights import Right, documented_rights, documented_script, granted
from tests.diagnosis.secured_pipeline import SCRIPTS, TOOLS, SecuredPipeline, secured_pipeline
from tests.diagnosis.walls import AT_ONCE_SECONDS, Ended, run_process
from tests.operations.scripts import get
from tests.waiting import wait_until

# A script that runs says so within this long (s).
MID_RUN_SECONDS = 10.0
# What a process takes to start on a busy machine, beside what it says of itself (s).
PROCESS_SECONDS = 6.0
IMAGES = 40

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def pipeline(
    secured: SecuredKafka, rights: AdminClient, tmp_path: Path
) -> Iterator[SecuredPipeline]:
    with secured_pipeline(secured, tmp_path) as pipeline:
        yield pipeline


def test_all_scripts_and_tools_work_with_the_documented_rights(
    secured: SecuredKafka, pipeline: SecuredPipeline
) -> None:
    consumers = [pipeline.start(script) for script in SCRIPTS[1:]]
    for script in consumers:
        script.ready()
    scraped = [scrape_all(port) for port in pipeline.ports.values()]
    published = pipeline.start("app_1", "--count", str(IMAGES)).end()
    assert published.code == 0, published.output
    wait_until(lambda: pipeline.rows() >= IMAGES, "all are stored")
    for script in consumers:
        ended = script.terminate()
        assert ended.code == 0, ended.output

    shown = [published.output, *scraped, *(script.output for script in consumers)]
    for tool in TOOLS:
        topics = ("inference_topic", "inference_topic-dead-letter")
        ended = pipeline.use(tool, "--json", *(topics if tool == "topics-delete" else ()))
        assert ended.code == 0, (tool, ended.output)
        shown.append(ended.output)
    # `topics-delete` was among them.
    made = pipeline.use("topics-create")
    assert "inference_topic: created" in made.output
    assert all("serving_" in each for each in scraped)
    assert not [name for name, secret in secured.passwords.items() if secret in "".join(shown)]


@pytest.mark.parametrize("commands", [2, pytest.param(None, marks=pytest.mark.soak)])
def test_the_commands_of_the_docs_grant_the_rights(
    secured: SecuredKafka, rights: AdminClient, commands: int | None
) -> None:
    """`kafka-acls.sh` of Kafka's own, on the secured cluster; all of it is for the soak."""
    lines = documented_script().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("allow --"))
    chosen = [*lines[:begin], *[line for line in lines[begin:] if line[:1] != "#"][:commands]]
    expected = set(documented_rights("\n".join(chosen)))
    for right in expected:
        right.revoke(rights)
    assert not expected & granted(rights)

    secured.shell("\n".join(chosen))

    for right in expected:
        right.wait_until(rights, there=True)
    assert granted(rights) == set(documented_rights())


def scrape_all(port: int) -> str:
    """Read all that a script tells by HTTP."""
    return "".join(get(port, path)[1] for path in ("/metrics", "/readyz", "/healthz"))


# Without any right there is an answer all the same; `topics list` shows fewer.
NEVER_REFUSED = ("ping", "topics-list")
NEEDED = [right for right in documented_rights() if right.principal not in NEVER_REFUSED]
# One of each kind: a topic's and a group's, of a script and of a tool.
ONE_OF_EACH = {
    Right("app_1", "WRITE", "topic", "new_image_topic"),
    Right("app_2", "READ", "group", "inference_topic-sub"),
    Right("backlog", "DESCRIBE", "topic", "inference_topic"),
    Right("backlog", "DESCRIBE", "group", "inference_topic-sub"),
    Right("letters-replay", "READ", "group", "inference_topic-dead-letter-sub"),
    Right("topics-delete", "DELETE", "topic", "inference_topic"),
}
# What `topics create` needs to make what is there already is nothing.
WHERE_MISSING = {right for right in NEEDED if right.operation == "CREATE"}
# What these need when there are letters, two of which are to stay.
SOURCE, LETTERS = "inference_topic", "inference_topic-dead-letter"
WITH_LETTERS = [
    Right("letters-replay", "READ", "topic", LETTERS),
    Right("letters-replay", "WRITE", "topic", LETTERS),
    Right("letters-replay", "WRITE", "topic", SOURCE),
    Right("letters-purge", "READ", "topic", LETTERS),
    Right("letters-purge", "WRITE", "topic", LETTERS),
]
NOT_AT_THE_START = {
    right
    for right in NEEDED
    if right.principal in ("letters-replay", "letters-purge") and right.kind == "topic"
}
AT_THE_START = [
    pytest.param(right, marks=() if right in ONE_OF_EACH else pytest.mark.soak)
    for right in NEEDED
    if right not in WHERE_MISSING | NOT_AT_THE_START
]


@pytest.mark.parametrize("right", AT_THE_START, ids=str)
def test_a_right_that_is_missing_at_the_start_is_named(
    pipeline: SecuredPipeline, rights: AdminClient, right: Right
) -> None:
    right.revoke(rights)
    try:
        if right.principal in TOOLS:
            deleted = [right.name] if right.principal == "topics-delete" else []
            ended = pipeline.use(right.principal, *deleted)
        else:
            ended = pipeline.start(right.principal).end()
    finally:
        right.grant(rights)

    assert ended.code == 1, ended.output
    assert ended.seconds < AT_ONCE_SECONDS + PROCESS_SECONDS, ended
    line = next(each for each in ended.output.splitlines() if "User:" in each)
    for words in (right.operation, repr(right.name), f"User:{right.principal}", "docs/kafka.md"):
        assert words in line, ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(right, marks=() if number == 2 else pytest.mark.soak)
        for number, right in enumerate(WITH_LETTERS)
    ],
    ids=str,
)
def test_a_right_that_is_missing_for_letters_is_named_and_none_is_lost(
    secured: SecuredKafka, pipeline: SecuredPipeline, rights: AdminClient, right: Right
) -> None:
    with KafkaHandler({"bootstrap.servers": secured.bootstrap_servers}) as broker:
        for reason in ("ours", "theirs", "theirs"):
            broker.publish_dead_letter(SOURCE, b"body", reason=reason).result(20)
    asked = ("--reason", "ours", LETTERS)  # the others go back to where they were

    right.revoke(rights)
    try:
        ended = _settle_letters(pipeline, right.principal, *asked)
    finally:
        right.grant(rights)

    assert ended.code == 1, ended.output
    line = next(each for each in ended.output.splitlines() if "User:" in each)
    for words in (right.operation, repr(right.name), f"User:{right.principal}"):
        assert words in line, ended.output
    assert "Traceback" not in ended.output
    done = _settle_letters(pipeline, right.principal, *asked)
    assert done.code == 0, done.output
    assert "2 kept" in done.output
    assert pipeline.use("letters-purge").code == 0  # for the next test


def _settle_letters(pipeline: SecuredPipeline, tool: str, *arguments: str) -> Ended:
    action = tool.removeprefix("letters-")
    return run_process(
        *("-m", "MessageBroker", "dead-letters", action, *arguments),
        environment=pipeline.environment_of(tool),
    )


@pytest.mark.soak
def test_the_right_to_create_is_named_where_a_topic_is_missing(
    secured: SecuredKafka, pipeline: SecuredPipeline, rights: AdminClient
) -> None:
    right = Right("topics-create", "CREATE", "topic", SOURCE)
    assert right in WHERE_MISSING
    with KafkaHandler({"bootstrap.servers": secured.bootstrap_servers}) as broker:
        broker.delete_topic(SOURCE)

    right.revoke(rights)
    try:
        ended = pipeline.use("topics-create")
    finally:
        right.grant(rights)

    assert ended.code == 1, ended.output
    assert f"User:topics-create has no right CREATE on the topic {SOURCE!r}" in ended.output
    assert f"{SOURCE}: created" in pipeline.use("topics-create").output


# A script uses them all the time; the others at its start, or when there is a dead letter.
USED_ALL_THE_TIME = [
    Right("app_1", "WRITE", "topic", "new_image_topic"),
    Right("model_server_sub", "READ", "topic", "new_image_topic"),
    Right("model_server_sub", "READ", "group", "new_image_topic-sub"),
    Right("model_server_pub", "WRITE", "topic", "inference_topic"),
    Right("app_2", "READ", "topic", "inference_topic"),
    Right("app_2", "READ", "group", "inference_topic-sub"),
]


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(right, marks=() if number < 2 else pytest.mark.soak)
        for number, right in enumerate(USED_ALL_THE_TIME)
    ],
    ids=str,
)
def test_a_right_that_is_taken_away_in_mid_run_ends_the_script_and_given_back_it_goes_on(
    pipeline: SecuredPipeline, rights: AdminClient, right: Right
) -> None:
    scripts = {name: pipeline.start(name) for name in SCRIPTS[1:]}
    for script in scripts.values():
        script.ready()
    scripts["app_1"] = pipeline.start("app_1")
    wait_until(lambda: pipeline.rows() > 0, "images flow")

    right.revoke(rights)
    try:
        ended = scripts[right.principal].end(MID_RUN_SECONDS)
    finally:
        right.grant(rights)

    assert ended.code == 1, ended.output
    told = [line for line in ended.output.splitlines() if "User:" in line]
    assert len(told) == 1, ended.output
    for words in (right.operation, repr(right.name), f"User:{right.principal}"):
        assert words in told[0]
    before = pipeline.rows()
    again = pipeline.start(right.principal)
    wait_until(lambda: pipeline.rows() > before + 50, "it goes on", 40.0)
    assert again.process.poll() is None, again.output
