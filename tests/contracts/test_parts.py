"""Every part that a recipe may name keeps the promises of `contracts.py`, found without being listed here."""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from queryseg.cli.list import SEAMS, find_parts
from queryseg.contracts import CAPABILITIES, Backbone, Heads, Objective, Part, PixelDecoder, QuerySource, Step
from queryseg.decoders import BoxHeads, MaskHeads
from queryseg.types import Dims, Features, Joint, Output, Prediction, Queries, Target, Trunk

DIMS = Dims(("a", "b", "c"), 16, 2, (16,), (16,), 16, 16, joinable=2, joint=512)
PYRAMID = Dims(("a", "b", "c"), 16, 2, (16, 12, 8, 4), (32, 16, 8, 4), 4, 16, joinable=2, joint=512)
FOUR_LEVELS = replace(DIMS, channels=(16,) * 4, strides=(32, 16, 8, 4))
PARTS = {path: (seam, part) for seam in SEAMS for path, part in find_parts(seam).items()}
SIZED = {path: (seam, part) for path, (seam, part) in PARTS.items() if seam not in ("backbones", "readouts")}


def sizes(path: str) -> Dims:
    """What a part of this seam receives: pixel decoders may read a pyramid, some decoders all levels of one."""
    seam, part = SIZED[path]
    return PYRAMID if seam == "pixel_decoders" else FOUR_LEVELS if "level_positions" in part.requires else DIMS


def paths(seam: str) -> list[str]:
    return [path for path, (own, _) in PARTS.items() if own == seam]


def features(batch: int = 2, height: int = 3, width: int = 5) -> Features:
    tokens = torch.randn(batch, 1 + height * width, 16)
    level = tokens[:, 1:].unflatten(1, (height, width)).permute(0, 3, 1, 2)
    joint = Joint(torch.randn(batch, DIMS.joint), torch.randn(batch, DIMS.joint, height, width))
    texts = torch.randn(batch, DIMS.num_classes, DIMS.joint)
    return Features(Trunk(tokens, (height, width), depth=1, prefix=1), (level,), level, joint=joint, context=texts)


@pytest.mark.parametrize("path", PARTS)
def test_a_part_is_documented_and_speaks_the_common_vocabulary(path):
    part = PARTS[path][1]
    assert inspect.getdoc(part), f"{path} has no docstring"
    assert part.__doc__ is not None, f"{path} inherits its docstring"
    assert (part.provides | part.requires) <= CAPABILITIES.keys()


@pytest.mark.parametrize("path", SIZED)
def test_a_part_builds_from_sizes_alone_copies_and_reloads(path):
    part = SIZED[path][1](sizes(path))
    assert isinstance(part, Part)
    other = SIZED[path][1](sizes(path))
    other.load_state_dict(part.state_dict())
    for a, b in zip(part.state_dict().values(), copy.deepcopy(other).state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert part.undecayed() <= {name for name, _ in part.named_parameters()} | {"position", "prompt"}
    part.schedule(0.5)


@pytest.mark.parametrize("path", SIZED)
def test_equal_seeds_give_equal_weights(path):
    torch.manual_seed(3)
    first = SIZED[path][1](sizes(path))
    torch.manual_seed(3)
    second = SIZED[path][1](sizes(path))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("path", paths("queries"))
def test_query_sources(path):
    source = PARTS[path][1](DIMS)
    assert isinstance(source, QuerySource)
    given = replace(features(), extras={"query_position": torch.randn(7, DIMS.width)})  # as an adapter makes them
    texts = source.context(given)
    assert (texts is not None) == ("text_context" in source.provides)
    assert texts is None or texts.shape == (2, DIMS.num_classes, DIMS.joint)
    queries = source(replace(given, context=texts), MaskHeads(DIMS))
    assert queries.content.shape[0] == 2
    assert queries.content.shape[2] == DIMS.width
    assert queries.position is None or queries.position.shape == queries.content.shape
    if queries.content.requires_grad:
        queries.content.square().sum().backward()
    assert all(p.grad is not None for n, p in source.named_parameters() if n == "content")


@pytest.mark.parametrize("path", paths("heads"))
def test_heads(path):
    heads = PARTS[path][1](DIMS)
    assert isinstance(heads, Heads)
    p = heads(Queries(torch.randn(2, 4, 16)), torch.randn(2, 16, 6, 10))
    rows = 3 if "class_rows" in heads.provides else 4
    assert p.mask_logits.shape == (2, rows, 6, 10)
    assert p.class_scores.shape == (2, rows, 3)
    assert heads.embed(p.content).shape == p.mask_embeddings.shape == (2, rows, 16)
    assert bool((p.class_scores >= 0).all() and (p.class_scores <= 1).all())
    assert heads.provides & {"no_object", "sigmoid_classes", "class_rows"}


@pytest.mark.parametrize("path", paths("pixel_decoders"))
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 5)])
def test_pixel_decoders(path, size):
    decoder = PARTS[path][1](PYRAMID)
    assert isinstance(decoder, PixelDecoder)
    height, width = size
    given = features(2, height, width)
    levels = tuple(torch.randn(2, c, height << k, width << k) for k, c in enumerate(PYRAMID.channels))
    out = decoder(replace(given, levels=levels, mask_features=levels[-1]))
    assert out.trunk is given.trunk
    assert tuple(level.shape[1] for level in out.levels) == decoder.dims.channels
    for level, stride in zip(out.levels, decoder.dims.strides, strict=True):
        assert level.shape[-2:] == (height * 32 // stride, width * 32 // stride)
    assert out.mask_features.shape == (2, decoder.dims.mask_channels, 8 * height, 8 * width)
    if "level_positions" in decoder.provides:
        assert [p.shape[1:] for p in out.positions] == [level.shape[1:] for level in out.levels]


class Same:
    """A model that says what it is given, and a reference to it; both classify with heads of their own."""

    def __init__(self, prediction: Prediction, sigmoid: bool, joint: Joint) -> None:
        self.past, self.heads, self.joint = prediction, BoxHeads(DIMS) if sigmoid else MaskHeads(DIMS), joint
        self.model = self.queries = self

    def encode_names(self, template: str) -> Tensor:
        return torch.randn(3, 16)

    def contents(self, like: Queries) -> Tensor:
        return self.past.content.detach()

    def make_queries(self, features: Features, like: Queries | None = None) -> Queries:
        return Queries(self.past.content)

    def decode(self, features: Features, queries: Queries) -> Output:
        return Output(features, queries, [self.past])

    def output(self, like: Queries | None = None) -> Output:
        given = {name: value.detach() for name, value in vars(self.past).items() if value is not None}
        frozen = Prediction(**given)
        return Output(features(), Queries(frozen.content), [frozen])


@pytest.mark.parametrize("progress", [0, 9])
@pytest.mark.parametrize("path", paths("objectives"))
def test_objectives_return_the_terms_they_name(path, progress):
    part = PARTS[path][1]
    later_task = {name: [0, 2] for name in inspect.signature(part).parameters if name == "old_classes"}
    objective = part(DIMS, **later_task)
    assert isinstance(objective, Objective)
    assert not objective.weights.keys() & objective.statistics
    sigmoid = "sigmoid_classes" in objective.requires
    rows = 9 if "isolated_rows" in objective.requires else 4
    logits = torch.randn(2, rows, 3 if sigmoid else 4, requires_grad=True)
    masks = torch.randn(2, rows, 8, 12, requires_grad=True)
    content = torch.randn(2, rows, 16, requires_grad=True)
    pixels = torch.randn(2, 16, 8, 12, requires_grad=True)
    texts = torch.randn(2, 3, 16, requires_grad=True)
    boxes = torch.rand(2, rows, 4) if sigmoid else None
    scores = logits.sigmoid() if sigmoid else logits.softmax(-1)[..., :-1]
    prediction = Prediction(logits, scores, masks, content, pixels, content, boxes)
    labels = torch.randint(0, 3, (2, 32, 48))
    labels[1] = 255  # an image without a single labelled pixel
    given = [Target.semantic(label_map) for label_map in labels]
    seen = replace(features(), joint=Joint(content[:, 0], pixels), context=texts)  # of a vision-language model
    same = Same(prediction, sigmoid, Joint(torch.randn(2, 16), pixels.detach()))
    step = Step(progress, 10, torch.zeros(2, 3, 32, 48), same, lambda name: same)  # type: ignore[arg-type, return-value]
    for _ in range(2):  # what the first step collected counts in the second
        queries, targets = objective.prepare(Queries(content[:, :4]), given, step)
        output = Output(seen, queries, [prediction.rows(slice(4))], [prediction.rows(slice(4, rows))])
        losses = objective.losses(output, targets, step)
        assert losses.keys() <= objective.weights.keys() | objective.statistics
        assert all(losses[name].shape == () and losses[name].isfinite() for name in losses)
        assert not any(losses[name].requires_grad for name in losses.keys() & objective.statistics)
        learned = [objective.weights[name] * losses[name] for name in losses.keys() & objective.weights.keys()]
        if learned:
            torch.stack(learned).sum().backward(retain_graph=True)
        objective.after_step(step)
    assert learned or not progress or not objective.weights
    gradients = [leaf.grad for leaf in (logits, masks, content, pixels, texts) if leaf.grad is not None]
    gradients += [p.grad for p in same.heads.parameters() if p.grad is not None]
    assert bool(gradients) == bool(learned)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(isinstance(line, str) for line in objective.remarks())


@pytest.mark.parametrize("path", paths("readouts"))
def test_readouts_have_no_weights(path):
    assert not list(PARTS[path][1]().parameters())


def test_every_backbone_is_a_backbone():
    assert all(issubclass(part, Backbone) for seam, part in PARTS.values() if seam == "backbones")
    assert len([1 for seam, _ in PARTS.values() if seam == "backbones"]) == 4
