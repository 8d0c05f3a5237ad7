"""Frozen text encoders of vision-language models, by open_clip (extra `text`); needed to train and to name new
classes, never to predict."""

from queryseg.text.text_tower import TextTower
from queryseg.text.tower_settings import TowerSettings
from queryseg.text.tower_weights import load_tower

__all__ = ["TextTower", "TowerSettings", "load_tower"]
