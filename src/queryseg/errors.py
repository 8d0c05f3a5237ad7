"""Errors that a user can cause, each one sentence: what was given, what is needed, what to do."""

from __future__ import annotations


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
