"""A pipeline on the embedded broker with its page, and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.brokers.harness import FOREIGN_VARIABLES, BrokerUnderTest
from tests.page.chromium import find_or_skip
from tests.page.site import PagePipeline, Site
from tests.pipeline.conftest import embedded_broker

__all__ = ["embedded_broker"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = find_or_skip()
    with sync_playwright() as playwright:
        # Chromium's own sandbox refuses root, as whom CI runs.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_pipeline(
    embedded_broker: BrokerUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PagePipeline]:
    # The tests reach the broker as the page does, whatever broker a user's terminal names.
    for name in FOREIGN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in embedded_broker.environment.items():
        monkeypatch.setenv(name, value)
    with PagePipeline(embedded_broker, tmp_path) as pipeline:
        yield pipeline
    embedded_broker.end_of_test()


@pytest.fixture
def site(page_pipeline: PagePipeline) -> Site:
    """A page that is asked without a browser. Nothing runs yet."""
    return Site(page_pipeline)


@pytest.fixture
def seen(page_pipeline: PagePipeline, chromium: Browser) -> Iterator[Site]:
    """A page that is seen in a browser. Nothing runs yet."""
    site = Site(page_pipeline, chromium)
    yield site
    for window in chromium.contexts:
        window.close()
    assert site.complaints == [], "the page's scripts complain of nothing"
