"""Query sources: where queries come from and how they move."""

from queryseg.queries.learnable import LearnableQueries
from queryseg.queries.linked import LinkedQueries
from queryseg.queries.no_queries import NoQueries

__all__ = ["LearnableQueries", "LinkedQueries", "NoQueries"]
