"""Make a checkpoint the served one, in one step, and keep the one before.

    python -m Modelling.promote new.h5
    python -m Modelling.promote --back

The new files are copied beside the served ones under names of their own; then one file is renamed,
`<served file>.json`, the side file that says which weights are served. Before that rename the old
model is served, after it the new one, whenever the copying is killed; a running server swaps. What
the old one was stands in the same file, so `--back` is one rename, too.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import json
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from DurableText.files.syncing import sync_path
from DurableText.installation.command_line import command_parser
from DurableText.program.interrupts import BROKEN_OFF, Interrupts
from DurableText.program.option_types import path_name
from Modelling.errors import CheckpointError, refusal_of, shortened
from Modelling.network.checkpoint import (
    DEFAULT_CHECKPOINT,
    Checkpoint,
    EngineFile,
    SideFile,
    open_checkpoint,
    read_side_file,
    require_kind,
    sha256_of,
)
from Modelling.network.declared_size import DEFAULT_MAX_MODEL_BYTES, add_max_model_bytes
from Modelling.network.replacing import write_atomically
from Modelling.network.side_file import entries_of
from Modelling.network.side_file_place import json_of, named, own_side_file_path
from Modelling.network.side_file_values import is_file_name
from Modelling.predictors.trial import Opening, Tried, try_out

PROMOTED = "promoted"

logger = logging.getLogger(__name__)


def promote(new: Path, served: Path, max_bytes: int = DEFAULT_MAX_MODEL_BYTES) -> Checkpoint:
    """Make a checkpoint the served one.

    Args:
        new: Its file; forms and side file lie beside it, as always.
        served: What the servers are given as `--checkpoint`.
        max_bytes: That the new one may take; see `load_classifier`.

    Returns:
        What is served now.

    Raises:
        CheckpointError: The new one cannot be used, or nothing can be served there: the old one
            stays.
        OSError: A file cannot be written: the old one stays.
    """
    served = named(served)
    require_kind(served)  # else all would be in its place before anybody found that out
    found, before = open_checkpoint(new, max_bytes=max_bytes), _labels_of(served)
    if found.side is None and f".{PROMOTED}-" in new.name:
        raise CheckpointError(
            f"{new}: a copy that was promoted has no side file of its own, so its labels and "
            "preprocessing would be lost: promote what it was copied from, or go back with --back"
        )
    tried = try_out(new, Opening(max_bytes=max_bytes))
    found.require_unchanged()
    switch(found, tried, served)
    if before not in (None, tried.labels):
        logger.warning("%s has other labels than what was served before", found.version)
    return open_checkpoint(served)


def _labels_of(served: Path) -> tuple[str, ...] | None:
    """Return the names that a side file gives; None where there is none, or nothing yet."""
    try:
        side = read_side_file(served)
    except CheckpointError:
        return None
    return side.labels if side else None


def switch(found: Checkpoint, tried: Tried, served: Path) -> None:
    """Copy the files, each whole before the next, and rename the side file last."""
    if found.beside:
        # Their names stand in the file: beside the served ones they could be those of another.
        names = ", ".join(file.name for file, _ in found.beside)
        raise CheckpointError(
            f"{found.path}: its weights lie in further files, {shortened(names)}: save it as one, "
            "with onnx.save(onnx.load(FILE), NEW), and promote that"
        )
    stem = f"{served.stem}.{PROMOTED}-{found.sha256[:12]}"
    weights = served.with_name(stem + found.weights.suffix)
    _copy(found.weights, weights, found.sha256)
    side = found.side or SideFile(found.sha256, tried.labels, tried.input_shape)
    engines = {}
    for name, form in side.engines.items():
        target = served.with_name(f"{stem}.{name}{Path(form.file).suffix}")
        _copy(found.path.with_name(Path(form.file).name), target, form.sha256)
        engines[name] = EngineFile(target.name, form.sha256, form.test_accuracy)
    side = replace(side, file=weights.name, engines=engines, previous=None)
    now, entries = _own_side_file(served) or {}, entries_of(side)
    # Promoted again, perhaps after a kill that came when all was done: the way back stays.
    if not _is_same(entries, now):
        _write(served, {**entries, "previous": now})


def _is_same(entries: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether a side file, as it would be read back, is the one that there is."""
    there = {key: value for key, value in now.items() if key != "previous"}
    same: bool = json.loads(json.dumps(entries)) == there
    return same


def back(served: Path) -> Checkpoint:
    """Serve what was served before the last change.

    Raises:
        CheckpointError: Nothing was promoted here, or the files before are gone.
    """
    served = named(served)
    now = _own_side_file(served)
    before = now.pop("previous", None) if now else None
    if before is not None and not isinstance(before, dict):
        raise CheckpointError(f"{own_side_file_path(served)}: previous must be an object")
    if now is None or before is None:
        raise CheckpointError(f"{served}: nothing was promoted here, so there is no way back")
    if not before:  # the file itself, with `<stem>.json` or without
        if not served.exists():
            raise CheckpointError(f"{served}: nothing was served before: there is no way back")
        own_side_file_path(served).unlink()
        return open_checkpoint(served)
    _require_there(served, before)
    _write(served, {**before, "previous": now})
    return open_checkpoint(served)


def _require_there(served: Path, side: dict[str, Any]) -> None:
    file = str(side.get("file", served.name))
    if not is_file_name(file):
        raise CheckpointError(f"{own_side_file_path(served)}: {shortened(file)!r} names no file")
    weights = served.with_name(file)
    if not weights.exists() or sha256_of(weights) != side.get("sha256"):
        raise CheckpointError(f"{weights} is gone, or is another file: there is no way back")


def _own_side_file(served: Path) -> dict[str, Any] | None:
    content = json_of(own_side_file_path(served))
    if content is None:
        return None
    if not isinstance(content, dict):
        raise CheckpointError(f"{own_side_file_path(served)}: no side file: no JSON object")
    return content


def _write(served: Path, entries: dict[str, Any]) -> None:
    """Rename the side file: the one step. Only one model before is remembered."""
    entries["previous"] = {k: v for k, v in entries["previous"].items() if k != "previous"}
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    write_atomically(own_side_file_path(served), text.encode())


def _copy(source: Path, target: Path, sha256: str) -> None:
    """Copy a file or folder whole; one that is there already, from a try before, is enough."""
    if target.exists() and sha256_of(target) == sha256:
        return
    if source.is_dir():
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, partial)
        for each in (*partial.rglob("*"), partial):
            sync_path(each)  # before it has the name that the side file will tell
        partial.rename(target)
        sync_path(target.parent)
    else:
        write_atomically(target, source.read_bytes())
    if sha256_of(target) != sha256:
        raise CheckpointError(f"{source} changed while it was copied: nothing was promoted")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = command_parser("python -m Modelling.promote", description=__doc__)
    parser.add_argument("new", nargs="?", type=path_name, metavar="FILE", help="the checkpoint")
    parser.add_argument("--back", action="store_true", help="serve what was served before")
    parser.add_argument(
        "--served", type=path_name, metavar="FILE", default=DEFAULT_CHECKPOINT,
        help="what the servers are given as --checkpoint; default: the shipped one",
    )  # fmt: skip
    add_max_model_bytes(parser)
    options = parser.parse_args(arguments)
    if options.back == (options.new is not None):
        parser.error("either FILE or --back")
    interrupts = Interrupts()
    try:
        with interrupts:
            if options.back:
                found = back(options.served)
            else:
                found = promote(options.new, options.served, options.max_model_bytes)
    except KeyboardInterrupt:
        print(f"\npromote: {BROKEN_OFF}", file=sys.stderr)
        return interrupts.exit_code
    except CheckpointError as error:
        print(f"promote: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = "" if error.filename else f"{options.served.parent}: "
        print(f"promote: {where}{refusal_of(error)}", file=sys.stderr)
        return 1
    print(f"served: {found.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
