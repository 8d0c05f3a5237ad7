"""Models whose random weights show what a converter did with them, and models made of what it wrote."""

from __future__ import annotations

import torch

from queryseg.conversion import Converted, convert_checkpoint
from queryseg.conversion.published_checkpoint import PublishedCheckpoint
from queryseg.inference.run_folder import load_weights
from queryseg.recipe_file import build_untrained
from queryseg.segmenter import Segmenter


def randomised(model: Segmenter) -> Segmenter:
    """Every tensor drawn, vectors around 0.5, so that none equals what it was made with; in float64."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif tensor.is_floating_point():
                scale = min(0.3, 2 * tensor[0].numel() ** -0.5)
                tensor.normal_(0.0 if tensor.ndim > 1 else 0.5, scale, generator=generator)
    return model.double()


def rebuilt(checkpoint: PublishedCheckpoint) -> tuple[Segmenter, Converted]:
    """The model of a converted checkpoint, in float64, and what was converted."""
    converted = convert_checkpoint(checkpoint)
    model = build_untrained(converted.recipe)
    load_weights(model, converted.weights, "converted")
    return model.double().eval(), converted
