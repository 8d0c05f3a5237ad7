"""What the queries of a model do on one or several data sets: who speaks, for which class, and what a new domain
changes.

    from queryseg.evaluation.diagnostics import diagnose

    diagnosis = diagnose(model, {"clear": clear, "fog": fog}, Protocol())
    diagnosis.domains["fog"].figures["active_queries"]
"""

from queryseg.evaluation.diagnostics.diagnosis import Diagnosis, diagnose
from queryseg.evaluation.diagnostics.domain_queries import FIGURES, DomainQueries
from queryseg.evaluation.diagnostics.query_observer import QueryObserver, has_queries

__all__ = ["FIGURES", "Diagnosis", "DomainQueries", "QueryObserver", "diagnose", "has_queries"]
