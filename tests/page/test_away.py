"""What is away, is waited for and told; what is started is stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
from playwright.sync_api import expect

from MessageBroker import SubscriptionNotFoundError, TopicNotFoundError
from Pipeline.page.broker_link import own_subscription
from tests.brokers.harness import LocalUnderTest, clean_environment
from tests.page.site import SEVEN, Site, draw
from tests.pipeline.runner import ROOT, wait_until
from tests.servers import free_port


def test_a_broker_that_goes_away_is_told_and_what_was_sent_meanwhile_is_published(
    seen: Site,
) -> None:
    seen.start()
    broker = seen.pipeline.broker
    assert isinstance(broker, LocalUnderTest)
    page = seen.open()
    status = page.locator("#status")
    expect(status).to_contain_text("to look at")  # no script is there, which is another matter
    with broker.outage():
        draw(page, SEVEN)
        page.click("#send")
        expect(page.locator("#waits")).to_contain_text("waits for the broker")
        expect(status).to_have_class("bad")
    expect(page.locator("#journey .steps li.done")).to_have_count(1)
    expect(status).not_to_have_class("bad")


def test_scripts_that_are_not_there_are_told_with_the_option_that_shows_them(seen: Site) -> None:
    seen.start()
    page = seen.open("live")
    expect(page.locator("#problems")).to_contain_text(
        "model_server_sub is not seen anywhere: start it with --metrics-port 9102"
    )
    seen.start_scripts("app_2")
    expect(page.locator("[data-script=app_2] .good")).to_contain_text("ready")
    seen.server.kill()
    expect(page.locator("#status")).to_contain_text("the page's server is away")
    seen.start()
    expect(page.locator("#status")).to_contain_text("to look at")


def test_a_broker_that_never_answers_keeps_neither_the_page_nor_its_end(site: Site) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    site.start("--broker", "kafka", KAFKA_BOOTSTRAP_SERVERS=nowhere)
    wait_until(lambda: nowhere in site.server.output, "it says who does not answer")
    site.server.terminate()


def test_the_subscriptions_of_a_page_end_with_it_or_with_the_next_one(site: Site) -> None:
    site.start()
    broker, topic = site.pipeline.connect(), site.pipeline.images
    name = own_subscription(site.port, topic)

    def backlog() -> int | None:
        try:
            return broker.backlog(topic, name)
        except (SubscriptionNotFoundError, TopicNotFoundError):
            return None

    wait_until(lambda: backlog() == 0, "the page follows the topic")
    site.server.kill()
    broker.publish(topic, b"while it was dead").result()
    assert backlog() == 1
    site.start()
    wait_until(lambda: backlog() == 0, "it begins anew, at the end")
    site.server.terminate()
    assert backlog() is None


def test_make_page_starts_all_and_ctrl_c_stops_all(tmp_path: Path) -> None:
    together = subprocess.Popen(
        [sys.executable, "-m", "Pipeline.page.together", "--port", "0", "--folder", str(tmp_path)],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert together.stdout is not None
    try:
        assert re.match(r"draw a digit:  http://127\.0\.0\.1:\d+/", together.stdout.readline())
        db = tmp_path / "DB" / "db_for_app_2.txt"
        wait_until(lambda: db.exists() and b"mnist-test/0" in db.read_bytes(), "one is stored")
        children = psutil.Process(together.pid).children(recursive=True)
        assert len(children) >= 5
        os.killpg(together.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        said, errors = together.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(together.pid, signal.SIGKILL)
    assert together.returncode == 0, errors
    assert "Traceback" not in errors
    assert "app_2: " in said
    assert not any(child.is_running() for child in children)


def test_make_page_tells_that_its_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "Pipeline.page.together", "--port", str(port),
             "--folder", str(tmp_path)],
            cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
