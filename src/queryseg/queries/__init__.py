"""Query sources: where queries come from and how they move."""

from queryseg.queries.focus_aware import FocusAwareQueries
from queryseg.queries.learnable import LearnableQueries
from queryseg.queries.linked import LinkedQueries
from queryseg.queries.no_queries import NoQueries
from queryseg.queries.pixel_selected import PixelSelectedQueries
from queryseg.queries.staged import StagedQueries
from queryseg.queries.textual import TextualQueries

__all__ = [
    "FocusAwareQueries",
    "LearnableQueries",
    "LinkedQueries",
    "NoQueries",
    "PixelSelectedQueries",
    "StagedQueries",
    "TextualQueries",
]
