from queryseg.queries.learnable import LearnableQueries

__all__ = ["LearnableQueries"]
