from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from queryseg.backbones import PlainViT, PyramidBackbone
from queryseg.decoders import PixelClassifier
from queryseg.errors import RecipeError
from queryseg.inference.engine import Engine
from queryseg.objectives import PixelCrossEntropy, SetCriterion
from queryseg.pixel_decoders import Identity
from queryseg.queries import NoQueries
from queryseg.readouts import PerPixel
from queryseg.segmenter import Parts, Segmenter, build_segmenter
from queryseg.training.step import build_objectives
from queryseg.types import Target

NAMES = ("road", "building", "sky", "car")


@pytest.fixture
def model() -> Segmenter:
    backbone = PlainViT("vit_tiny_patch16_224", image_size=32, options={"embed_dim": 32, "depth": 2, "num_heads": 2})
    return build_segmenter(NAMES, Parts(backbone, Identity, NoQueries, PixelClassifier, PerPixel))


def images(model: Segmenter, height: int = 32, width: int = 48) -> torch.Tensor:
    return model.normalise(torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8))


def test_it_is_a_one_by_one_convolution_on_the_upsampled_last_tokens(model: Segmenter) -> None:
    batch = images(model)
    final = model(batch).final
    trunk = model.backbone.finish(model.backbone.advance(model.backbone.begin(batch), 2))
    decoder = model.decoder
    assert isinstance(decoder, PixelClassifier)
    convolution = nn.Conv2d(32, 4, 1)
    convolution.weight.data = decoder.heads.vectors.weight.data[..., None, None]
    convolution.bias = decoder.heads.vectors.bias
    logits = convolution(decoder.upsampler(trunk.patches.permute(0, 3, 1, 2)))
    assert logits.shape == (2, 4, 8, 12)
    torch.testing.assert_close(final.mask_logits, logits, rtol=1e-5, atol=1e-5)


def test_labels_are_the_best_class_at_every_pixel(model: Segmenter) -> None:
    raw = torch.randint(0, 256, (1, 3, 30, 41), dtype=torch.uint8)
    labels = Engine(model.eval())(raw)
    logits = model(model.normalise(raw)).final.mask_logits
    wanted = F.interpolate(logits, size=(32, 48), mode="bilinear")[..., :30, :41].argmax(1)
    assert torch.equal(labels.long(), wanted)


def test_the_loss_is_the_mean_over_labelled_pixels(model: Segmenter) -> None:
    output = model(images(model))
    labels = torch.randint(0, 4, (2, 32, 48))
    labels[0, :20] = 255
    objective = build_objectives(model, {"pixel": PixelCrossEntropy})["pixel"]
    found = objective.losses(output, [Target.semantic(m) for m in labels], None)["pixel"]  # type: ignore[arg-type]
    logits = F.interpolate(output.final.mask_logits, size=(32, 48), mode="bilinear")
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, ignore_index=255))
    labels[:] = 255
    nothing = objective.losses(output, [Target.semantic(m) for m in labels], None)  # type: ignore[arg-type]
    assert nothing["pixel"] == 0


def test_every_parameter_learns(model: Segmenter) -> None:
    output = model(images(model))
    targets = [Target.semantic(m) for m in torch.randint(0, 4, (2, 32, 48))]
    PixelCrossEntropy(model.dims).losses(output, targets, None)["pixel"].backward()  # type: ignore[arg-type]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_what_does_not_fit_is_refused(model: Segmenter) -> None:
    with pytest.raises(RecipeError, match="requires 'no_object'"):
        build_objectives(model, {"criterion": SetCriterion})
    parts = Parts(PyramidBackbone("resnet18"), Identity, NoQueries, PixelClassifier, PerPixel)
    with pytest.raises(RecipeError, match="PixelClassifier reads the trunk's own tokens"):
        build_segmenter(NAMES, parts)
