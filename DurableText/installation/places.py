"""Where files are: in a checkout as the README shows, else where the platform keeps them.

A package that lies beside a `pyproject.toml` of this project is a checkout, and the checkout is the
root of all that is made at run time. Installed, the code lies where nobody should write: state goes
to the user's state folder (`~/.local/state/…` on Linux), INI files are looked for in the user's
configuration folder (`~/.config/…`). Options, `--config-dir` and the environment win over both.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from DurableText.installation import NAME

# The packages, the four scripts, and, in a checkout, all the rest.
CODE = Path(__file__).resolve().parents[2]

_OURS = re.compile(rf'^name = "{re.escape(NAME)}"$', re.MULTILINE)


@functools.cache
def in_checkout() -> bool:
    """Tell whether this code lies in a checkout of the project."""
    try:
        return _OURS.search((CODE / "pyproject.toml").read_text(encoding="utf-8")) is not None
    except OSError:
        return False


def with_make(target: str, otherwise: str) -> str:
    """Name the command that does something: a checkout has a Makefile, an installation has not.

    Args:
        target: of the Makefile.
        otherwise: what does the same without it.
    """
    return f"`make {target}`" if in_checkout() else f"`{otherwise}`"


def state_folder() -> Path:
    """Return the folder below which files are made whose place nobody named. It may be missing."""
    if in_checkout():
        return CODE
    # Imported late: a checkout has no need of it.
    import platformdirs

    return platformdirs.user_state_path(NAME, appauthor=False)


def user_config_folder() -> Path | None:
    """Return the folder of the user's INI files; None in a checkout, whose own are edited."""
    if in_checkout():
        return None
    import platformdirs

    return platformdirs.user_config_path(NAME, appauthor=False)
