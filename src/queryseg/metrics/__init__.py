from queryseg.metrics.bootstrap import mean_iou_interval
from queryseg.metrics.confusion import confusion_matrix, iou, margins, mean_iou, pixel_accuracy, precision, recall

__all__ = [
    "confusion_matrix",
    "iou",
    "margins",
    "mean_iou",
    "mean_iou_interval",
    "pixel_accuracy",
    "precision",
    "recall",
]
