from queryseg.queries.learnable import LearnableQueries
from queryseg.queries.no_queries import NoQueries

__all__ = ["LearnableQueries", "NoQueries"]
