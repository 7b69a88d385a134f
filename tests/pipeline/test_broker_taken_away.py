"""The embedded broker's files are taken away while the scripts run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.taken_away import TAKEN
from tests.pipeline.runner import Pipeline
from tests.queue.of_dicts import FileQueue


@pytest.mark.parametrize("how", ["deleted", "truncated"])
def test_each_script_ends_with_1_and_one_error_and_the_next_start_goes_on(
    pipeline: Pipeline, how: str
) -> None:
    scripts = [pipeline.sub().ready(), pipeline.pub().ready(), pipeline.app_2().ready()]
    pipeline.app_1("--count", 20).end()
    pipeline.wait_for_rows(20)
    folder = Path(pipeline.broker.environment["LOCAL_BROKER_PATH"])
    for topic in (pipeline.images, pipeline.inferences):
        [path] = folder.glob(f"{topic}.????????????.sqlite")
        TAKEN[how](path, b"")
    with FileQueue(pipeline.queue) as queue:  # an idle publisher has nothing to be confirmed
        queue.put([{"id": "later", "label": "7"}])
    for script in scripts:
        script.end(1)
        assert "nothing more is confirmed" in script.output
        assert script.output.count(" ERROR ") == 1
        assert script.output.count(" WARNING ") == 0

    for script in (pipeline.sub(), pipeline.pub(), pipeline.app_2()):
        script.ready()
    pipeline.app_1("--count", 20).end()
    pipeline.wait_for_rows(41)
