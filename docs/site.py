"""What the site needs beside the pages: the README first, links that lead out of docs/ as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)([^)]*)\)")


def on_files(files: Any, config: Any) -> Any:
    """Make the README the first page; its links are seen from there."""
    from mkdocs.structure.files import File

    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Write a link to a file that lies in the repository and not on the site as text.

    One that is nowhere stays a link, which the strict build then refuses.
    """
    docs = ROOT / "docs"
    folder = ROOT if page.file.src_uri == "index.md" else docs

    def as_text(link: re.Match[str]) -> str:
        if "://" in link[3]:
            return link[0]
        is_page = (docs / link[3]).resolve().is_relative_to(docs) and (docs / link[3]).exists()
        is_elsewhere = not is_page and (folder / link[3]).exists()
        if not is_elsewhere:
            return link[0]
        return "" if link[1] else link[2]  # a picture that lies elsewhere is left out

    return _LINK.sub(as_text, markdown)
