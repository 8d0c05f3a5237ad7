from queryseg.metrics.bootstrap import mean_iou_interval
from queryseg.metrics.boundary_iou import BoundaryIoU
from queryseg.metrics.calibration import Calibration, ReliabilityDiagram
from queryseg.metrics.confusion import (
    confusion_matrix,
    frequency_weighted_iou,
    iou,
    margins,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    precision,
    recall,
)
from queryseg.metrics.measurement import Measurement
from queryseg.metrics.metric import Metric, PanopticMap, PredictedMaps, gathered
from queryseg.metrics.panoptic_quality import PanopticQuality
from queryseg.metrics.pixel_scores import PixelScores
from queryseg.metrics.retention import Retention, retention
from queryseg.metrics.trimap import Trimap

__all__ = [
    "BoundaryIoU",
    "Calibration",
    "Measurement",
    "Metric",
    "PanopticMap",
    "PanopticQuality",
    "PixelScores",
    "PredictedMaps",
    "ReliabilityDiagram",
    "Retention",
    "Trimap",
    "confusion_matrix",
    "frequency_weighted_iou",
    "gathered",
    "iou",
    "margins",
    "mean_accuracy",
    "mean_iou",
    "mean_iou_interval",
    "pixel_accuracy",
    "precision",
    "recall",
    "retention",
]
