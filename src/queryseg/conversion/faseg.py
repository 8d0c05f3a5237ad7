"""FASeg as its authors train it, on detectron2: Mask2Former's names, and those of its own parts.

Their code was not read: names and shapes are those of the golden numbers that queryseg is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, known_classes, required, run_recipe
from queryseg.conversion.mask2former_detectron2 import HEAD, PIXELS, PREDICTOR, renamed
from queryseg.conversion.mask2former_model import mask2former_model, num_classes

_OWN: Rules = (
    (PREDICTOR + r"adapt_pos2d\.0\.(.+)", r"queries.adapt.layers.0.\1"),
    (PREDICTOR + r"adapt_pos2d\.2\.(.+)", r"queries.adapt.layers.1.\1"),
    (PIXELS + r"pos_linear\.(\d)\.(.+)", r"pixel_decoder.encodings.\1.\2"),
)


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PyramidBackbone, Deformable, FocusAwareQueries and HighResolutionCrossAttention. What weights
    do not tell is as published: rounds of strides 32, 16, 8 and 4, masks that block below 0.15, one cell in 32.

    config: as in `PublishedCheckpoint`; only names of classes are read.

    Raises: CheckpointError for missing tensors
    """
    weights, backbone, left_over = renamed(tensors, (*_OWN, *HEAD))
    arguments = {"num_queries": len(required(weights, "queries.content"))}
    model = mask2former_model(
        weights,
        backbone,
        queries={"class_path": "queryseg.queries.FocusAwareQueries", "init_args": arguments},
        levels={"positions": "conditional", "num_levels": len(required(weights, "pixel_decoder.decoder_level_embed"))},
        decoder="queryseg.decoders.HighResolutionCrossAttention",
    )
    classes, task = known_classes(config, num_classes(weights))
    return Converted(run_recipe(model, classes, task), weights, left_over)
