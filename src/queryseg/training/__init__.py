from queryseg.training.interruption import TrainingInterrupted
from queryseg.training.launch import train
from queryseg.training.trainer import TrainingResult

__all__ = ["TrainingInterrupted", "TrainingResult", "train"]
