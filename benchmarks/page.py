"""What the page costs: 200 images a second go through while a browser shows it.

    python -m benchmarks.page
    python -m benchmarks.page --seconds 300 --rate 500

The CPU time and the memory of the page's process (and of the one that decodes its pictures), and
how far the browser is behind: of each second's news, the time from its making to its being shown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from tests.brokers.harness import LocalUnderTest
from tests.page.chromium import find
from tests.page.site import PagePipeline, Site

RESULTS = Path(__file__).resolve().parent / "results" / "page.json"
# What the first seconds cost is not what it costs: the pools are filled, the browser has loaded.
WARM_UP_SECONDS = 15.0
# In the browser: how far behind each second's news is when it comes.
LISTEN = """() => {
  window.behind = [];
  new EventSource("/api/stream").addEventListener("live", (event) =>
    window.behind.push(Date.now() / 1000 - JSON.parse(event.data).at));
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    with (
        LocalUnderTest() as broker,
        tempfile.TemporaryDirectory() as folder,
        PagePipeline(broker, Path(folder)) as pipeline,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"]) as browser,
    ):
        measured = measure(Site(pipeline, browser), options.rate, options.seconds)
    for name, value in measured.items():
        print(f"{name:28} {value:,.3f}" if value < 10 else f"{name:28} {value:,.0f}")
    RESULTS.write_text(json.dumps(measured, indent=2) + "\n")


def measure(site: Site, rate: float, seconds: float) -> dict[str, float]:
    """Let images through for a while, and look at the page's process."""
    site.start_scripts()
    site.start()
    count = int(rate * (seconds + WARM_UP_SECONDS))
    app_1 = site.start_script("app_1", "--rate", rate, "--count", count)
    page = site.open("live")
    page.wait_for_timeout(1000 * WARM_UP_SECONDS)
    page.evaluate(LISTEN)
    process = psutil.Process(site.server.process.pid)
    before, began = cpu_seconds(process), time.monotonic()
    memory = [process.memory_info().rss]
    while time.monotonic() - began < seconds:
        page.wait_for_timeout(1000)
        memory.append(process.memory_info().rss)
    spent = [after - was for after, was in zip(cpu_seconds(process), before, strict=True)]
    took = time.monotonic() - began
    behind = page.evaluate("window.behind")[1:]  # the first was there before
    app_1.end()
    site.pipeline.wait_for_rows(count)
    site.pipeline.assert_each_stored_once()
    tenth = max(1, len(memory) // 10)
    return {
        "images a second": rate,
        "seconds": took,
        "stored": site.pipeline.stored(),
        "page, of a core": spent[0] / took,
        "its decoder, of a core": spent[1] / took,
        "memory at first (MB)": sum(memory[:tenth]) / tenth / 1e6,
        "memory at last (MB)": sum(memory[-tenth:]) / tenth / 1e6,
        "news": len(behind),
        "most behind (s)": max(behind),
    }


def cpu_seconds(process: psutil.Process) -> tuple[float, float]:
    """Return the CPU time of a process, and of its children."""
    own = process.cpu_times()
    children = [child.cpu_times() for child in process.children(recursive=True)]
    return own.user + own.system, sum(each.user + each.system for each in children)


if __name__ == "__main__":
    main()
