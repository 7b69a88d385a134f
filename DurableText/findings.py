"""What a reading of a whole file finds: for the queue and the DB."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from DurableText.program.wording import counted

# Problems listed one by one; the rest is only counted.
MAX_PROBLEMS = 100


@dataclass
class Findings:
    """What was found.

    Attributes:
        problems: what is wrong, in words, at most `MAX_PROBLEMS`.
        problem_count: how many problems there are.
        notes: what is worth knowing and not wrong.
    """

    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    notes: list[str] = field(default_factory=list)

    def report(self, problem: str) -> None:
        """Add a problem."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def lines(self, path: str | Path, counts: str) -> list[str]:
        """Return it all for a terminal.

        Args:
            path: what was read.
            counts: what is in it, in words: "1,000 records".
        """
        untold = self.problem_count - len(self.problems)
        more = [f"and {untold:,} more"] if untold else []
        verdict = counted(self.problem_count, "problem") if self.problem_count else "sound"
        return [*self.problems, *more, *self.notes, f"{path}: {counts}: {verdict}"]
