"""Write `schemas/`, `docs/asyncapi.yaml` and `docs/events.md`."""

from tests.contract.documents import ROOT, documents

for path, text in documents().items():
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
