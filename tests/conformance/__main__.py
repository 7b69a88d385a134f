"""Write `docs/behaviours.md`."""

from tests.conformance.behaviours import DOCUMENT, render

DOCUMENT.parent.mkdir(exist_ok=True)
DOCUMENT.write_text(render(), encoding="utf-8")
print(f"wrote {DOCUMENT}")
