"""What can go wrong in a training, said so that it can be mended."""

from __future__ import annotations


def shown(text: str) -> str:
    """A text of unknown origin for a terminal: control and invisible characters as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class TrainError(Exception):
    """A fault that the user can mend.

    Args:
        what: what was wrong.
        where: the file and line, the step, or the key of the recipe.
        hint: what to do next.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        # What a file or a server said must not look like a line of ours.
        said = " ".join((place + self.what).splitlines())
        return said + (f"\n  hint: {self.hint}" if self.hint else "")


class BadRecipe(TrainError):
    """The recipe asks for something that does not exist or does not fit."""


class BadData(TrainError):
    """A data file is missing, empty or in another format than expected."""


class GateClosed(TrainError):
    """A stage was asked for before the one below it reached its bar."""


class Diverged(TrainError):
    """The loss is not a number, or spiked again and again after rolling back."""
