"""Errors that a user can cause, each one sentence: what was given, what is needed, what to do."""

from __future__ import annotations

import pickle
import re


class QuerysegError(ValueError):
    """Base of every error that the command line prints as one sentence, with exit code 2."""


class InputError(QuerysegError):
    """An image, label, folder or data file that cannot be used as given."""


class RecipeError(QuerysegError):
    """A recipe that names something unknown, or parts that do not fit together."""


class CheckpointError(QuerysegError):
    """A run or weight file that is missing, damaged, or of another architecture."""


class UsageError(QuerysegError):
    """A command line that cannot be understood."""


def reason_of(error: BaseException) -> str:
    """The first line of another library's message. Of files that torch refuses to unpickle, what it refused instead of
    its advice to run the file's code after all."""
    text = str(error).strip()
    if isinstance(error, pickle.UnpicklingError):
        code = re.search(r"GLOBAL ([\w.]+)", text)
        return f"it holds {code[1]}, and code in files is never run" if code else "it is no file of PyTorch"
    return text.partition("\n")[0]
