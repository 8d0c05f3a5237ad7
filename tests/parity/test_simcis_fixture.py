"""SimCIS equals golden numbers of the authors' modules in float64: selection, decoder, distillation, bank,
pseudo-labels, losses, matching, gradients.

`simcis/dev.json` draws weights and inputs and names every output in `simcis/dev.npz`; names begin with the section.

Shape legend: B images, N queries, V virtual queries, K classes, D width, S pixels, h×w a map.
"""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.contracts import Backbone, Step
from queryseg.decoders import BoxHeads, CrossAttention
from queryseg.objectives import (
    ConsistentSelection,
    FocalHungarian,
    FocalSetCriterion,
    PseudoLabels,
    VirtualQueries,
    matched_criterion,
)
from queryseg.objectives.consistent_selection import divergence
from queryseg.objectives.focal_set_criterion import focal_loss
from queryseg.objectives.matching import Assignment, Segments
from queryseg.objectives.pseudo_distribution import PseudoDistribution
from queryseg.objectives.pseudo_labels import enlarged
from queryseg.objectives.query_bank import QueryBank
from queryseg.ops.boxes import boxes_of_corners, mask_corners
from queryseg.ops.point_sampling import sample_maps, sample_masks
from queryseg.ops.sine_positions import sine_boxes, sine_positions
from queryseg.queries import PixelSelectedQueries
from queryseg.types import Dims, Features, Output, Prediction, Queries, Round, Target, Trunk

FOLDER = Path(__file__).with_name("simcis")
NO_BACKBONE = cast(Backbone, None)
LEVELS = ("stride32", "stride16", "stride8")
NUM_OLD = 100
NAMES = (
    (r"^transformer_self_attention_layers\.(\d+)\.self_attn", r"decoder.layers.\1.self_attention"),
    (r"^transformer_self_attention_layers\.(\d+)\.norm", r"decoder.layers.\1.self_attention_norm"),
    (r"^transformer_cross_attention_layers\.(\d+)\.multihead_attn", r"decoder.layers.\1.cross_attention"),
    (r"^transformer_cross_attention_layers\.(\d+)\.norm", r"decoder.layers.\1.cross_attention_norm"),
    (r"^transformer_ffn_layers\.(\d+)\.norm", r"decoder.layers.\1.feed_forward_norm"),
    (r"^transformer_ffn_layers\.(\d+)\.linear1", r"decoder.layers.\1.expand"),
    (r"^transformer_ffn_layers\.(\d+)\.linear2", r"decoder.layers.\1.reduce"),
    (r"^decoder_norm", "decoder.heads.norm"),
    (r"^class_embed", "decoder.heads.class_embed"),
    (r"^mask_embed", "decoder.heads.mask_embed"),
    (r"^_bbox_embed", "decoder.heads.box_embed"),
    (r"^ref_point_head", "queries.box_position"),
    (r"^query_scale", "queries.position_scale"),
    (r"^enc_output", "queries.project"),
    (r"^encoder_norm", "queries.norm"),
    (r"^level_embed\.weight", "level_embed"),
)
"""The authors' names → ours."""


def ours(name: str) -> str:
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


class Fixture:
    """Weights and inputs, redrawn as the manifest says, and the golden numbers."""

    def __init__(self) -> None:
        self.manifest: dict[str, Any] = json.loads((FOLDER / "dev.json").read_text())
        self.given = self.manifest["given"]
        with np.load(FOLDER / "dev.npz") as stored:
            self.gold = {name: stored[name] for name in stored.files}
        draw = np.random.Generator(np.random.PCG64(self.manifest["seed"]))
        self.weights = {g["model"]: {t["name"]: drawn(draw, t) for t in g["tensors"]} for g in self.manifest["weights"]}
        self.inputs = {t["name"]: drawn(draw, t) for t in self.manifest["inputs"]}
        self.entries = {entry["name"]: entry for entry in self.manifest["outputs"]}
        self.checked: set[str] = set()

    def check(self, name: str, value: Tensor) -> None:
        """Against what is stored of it (every n-th number and checksums of all)."""
        entry, gold = self.entries[name], torch.from_numpy(self.gold[name])
        self.checked.add(name)
        value = value.detach()
        assert list(value.shape) == entry["shape"], name
        kept = value if entry["store"] == "full" else value.flatten()[:: entry["stride"]]
        if entry["kind"] == "exact":
            assert torch.equal(kept.to(gold.dtype), gold), name
            return
        assert value.dtype == torch.float64, name
        tolerance = entry["tol"]
        torch.testing.assert_close(kept, gold, rtol=0, atol=tolerance, msg=lambda text: f"{name}: {text}")
        flat = value.flatten()
        weights = torch.arange(flat.numel(), dtype=torch.float64) % 1009 - 504
        sums, count = entry["checksums"], max(1, flat.numel())
        assert abs(float(flat.sum()) - sums["sum"]) <= tolerance * count, name
        assert abs(float((flat * weights).sum()) - sums["wsum"]) <= 504 * tolerance * count, name


def drawn(draw: np.random.Generator, entry: dict[str, Any]) -> Tensor:
    x = draw.standard_normal(entry["shape"]) * entry["scale"] + entry["offset"]
    if "frac" in entry:
        low, high = entry["frac"]
        x = low + (high - low) * (x - np.floor(x))
    flat = x.ravel()
    assert [flat[0], flat[flat.size // 2], flat[-1]] == entry["probe"], entry["name"]
    return torch.from_numpy(x)


@cache
def load() -> Fixture:
    return Fixture()


@pytest.fixture(scope="module")
def fixture() -> Fixture:
    return load()


class Network:
    """One of the two models, run on the fixture's features."""

    def __init__(self, name: str, virtual: bool = False) -> None:
        fixture = load()
        made, sizes = fixture.manifest["constructor"], fixture.manifest["spatial"]
        width = made["hidden_dim"]
        classes = tuple(str(k) for k in range(made["num_classes"]))
        dims = Dims(classes, width, 1, (width,) * 3, (32, 16, 8), made["mask_dim"], width)
        source = PixelSelectedQueries(dims, made["num_queries"])
        layers, hidden = made["dec_layers"], made["dim_feedforward"]
        decoder = CrossAttention(dims, layers, hidden, made["nheads"], order="self_first", heads=BoxHeads)
        embed = nn.ParameterDict({"level_embed": nn.Parameter(torch.empty(3, width))})
        self.parts = nn.ModuleDict({"queries": source, "decoder": decoder, "rest": embed}).double().train()
        self.named = {k.removeprefix("rest."): p for k, p in self.parts.named_parameters()}
        weights = {ours(k): w for k, w in fixture.weights[name].items()}
        assert weights.keys() == self.named.keys()
        with torch.no_grad():
            for key, parameter in self.named.items():
                parameter.copy_(weights[key])
        self.source, self.decoder, self.heads = source, decoder, decoder.heads
        self.leaves = {k: fixture.inputs[f"feat.{k}"].clone().requires_grad_() for k in (*LEVELS, "mask")}
        levels = tuple(
            self.leaves[k] + e[:, None, None] for k, e in zip(LEVELS, self.named["level_embed"], strict=True)
        )
        assert [list(level.shape[-2:]) for level in levels] == sizes["feature_sizes_coarse_to_fine"]
        positions = tuple(sine_positions(level) for level in levels)
        self.features = Features(cast(Trunk, None), levels, self.leaves["mask"], positions)
        self.chosen = source(self.features, self.heads)
        queries = self.chosen.with_isolated(fixture.inputs["vq"]) if virtual else self.chosen
        self.output = self.decode(self.features, queries)

    def decode(self, features: Features, queries: Queries) -> Output:
        return Output(features, queries, self.decoder(NO_BACKBONE, features, queries, self.source))

    def make_queries(self, features: Features, like: Queries | None = None) -> Queries:
        return self.source(features, self.heads, like)


@pytest.fixture(scope="module")
def teacher() -> Network:
    return Network("teacher")


@pytest.fixture(scope="module")
def student() -> Network:
    return Network("student")


@pytest.fixture(scope="module")
def replaying() -> Network:
    return Network("student", virtual=True)


def test_anchors(fixture: Fixture, student: Network) -> None:
    anchors, valid = student.source.anchors(student.features.levels)
    fixture.check("a.anchor_valid", valid[:, 0].long())
    fixture.check("a.anchor_logit", anchors.masked_fill(~valid, 0))
    assert bool((anchors[~valid[:, 0]].sigmoid() == 1).all())


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_selection(fixture: Fixture, name: str, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(name)
    seen: list[Tensor] = []
    select = network.source.select
    network.source.select = lambda logits, valid: (seen.append(logits), select(logits, valid))[1]  # type: ignore
    queries = network.make_queries(network.features)
    network.source.select = select  # type: ignore[method-assign]
    stage = network.output.predictions[0]
    assert stage.boxes is not None
    fixture.check(f"a.{name}.selection_logits", seen[0])
    fixture.check(f"a.{name}.topk", queries.extras["selected_indices"])
    fixture.check(f"a.{name}.query_content", queries.content)
    fixture.check(f"a.{name}.ref_boxes", stage.boxes)
    fixture.check(f"a.{name}.stage_logits", stage.class_logits)
    fixture.check(f"a.{name}.stage_masks", stage.mask_logits)


@pytest.mark.parametrize(
    ("run", "name"), [("teacher", "teacher"), ("novq", "student"), ("vq", "replaying")], ids=lambda x: x
)
def test_every_layer(fixture: Fixture, run: str, name: str, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(name)
    for layer, reading in enumerate(network.output.predictions[1:]):
        assert reading.boxes is not None
        fixture.check(f"b.{run}.layer{layer}.logits", reading.class_logits)
        fixture.check(f"b.{run}.layer{layer}.boxes", reading.boxes)
        fixture.check(f"b.{run}.layer{layer}.masks", reading.mask_logits)
        if run != "vq":
            before = network.output.predictions[layer].mask_logits
            size = network.features.levels[layer % 3].shape[-2:]
            blocked = F.interpolate(before, size, mode="bilinear").sigmoid() < 0.5
            fixture.check(f"b.{run}.blocked.layer{layer}", blocked.sum((2, 3)))


def test_positions(fixture: Fixture, student: Network) -> None:
    for name, positions in zip(LEVELS, student.features.positions, strict=True):
        fixture.check(f"b.memory_pos.{name}", positions[0])
    stage = student.output.predictions[0]
    assert stage.boxes is not None
    fixture.check("b.novq.layer0.box_sine", sine_boxes(stage.boxes, 256))
    moved = student.source.refine(student.chosen, Round(-1, stage, student.features))
    assert moved.position is not None
    fixture.check("b.novq.layer0.query_pos", moved.position)


def test_virtual_queries_change_nothing_else(fixture: Fixture, student: Network, replaying: Network) -> None:
    stage = replaying.output.predictions[0]
    assert stage.boxes is not None
    fixture.check("b.vq.query_content", replaying.output.queries.content)
    fixture.check("b.vq.stage_logits", stage.class_logits)
    fixture.check("b.vq.stage_masks", stage.mask_logits)
    fixture.check("b.vq.stage_boxes", stage.boxes)
    for with_, without in zip(replaying.output.predictions, student.output.predictions, strict=True):
        torch.testing.assert_close(with_.class_logits[:, :100], without.class_logits, rtol=0, atol=1e-12)


def scalars(network: Network, teacher: Network) -> dict[str, Tensor]:
    """Section h: of the run with virtual queries."""
    last, stage = network.output.predictions[-1], network.output.predictions[0]
    found = {}
    for name, reading in (("last", last), ("stage", stage)):
        assert reading.boxes is not None
        found[f"{name}_logits"] = reading.class_logits.sigmoid().sum()
        found[f"{name}_boxes"] = reading.boxes.square().sum()
        found[f"{name}_masks"] = reading.mask_logits.sigmoid().mean()
    return found


PROBES = ("class_embed.weight", "enc_output.weight", "_bbox_embed.layers.2.weight", "level_embed.weight")


def gradients(fixture: Fixture, network: Network, name: str, scalar: Tensor) -> None:
    leaves = {k.replace("mask", "mask_features"): leaf for k, leaf in network.leaves.items()}
    leaves |= {probe: network.named[ours(probe)] for probe in PROBES}
    found = torch.autograd.grad(scalar, list(leaves.values()), retain_graph=True, allow_unused=True)
    for (leaf_name, leaf), gradient in zip(leaves.items(), found, strict=True):
        fixture.check(f"h.{name}.{leaf_name}", torch.zeros_like(leaf) if gradient is None else gradient)


def test_gradients_of_the_readings(fixture: Fixture, replaying: Network, teacher: Network) -> None:
    for name, scalar in scalars(replaying, teacher).items():
        gradients(fixture, replaying, name, scalar)


# consistent selection and distillation


class Told:
    """A reference, and the step that names it."""

    def __init__(self, network: Network, student: Network) -> None:
        self.model, self._output = network, network.output
        reading = network.output.predictions[-1]
        assert reading is network.output.final
        self.step = Step(0, 1, torch.zeros(2, 3, 8, 8), student, lambda name: self)  # type: ignore[arg-type, return-value]

    def output(self, like: Queries | None = None) -> Output:
        return self._output


class Watched:
    """A student that keeps what a distilling objective asks of it."""

    def __init__(self, network: Network) -> None:
        self.network, self.heads = network, network.heads
        self.chosen: list[Queries] = []
        self.second: list[Output] = []

    def make_queries(self, features: Features, like: Queries | None = None) -> Queries:
        self.chosen.append(self.network.make_queries(features, like))
        return self.chosen[-1]

    def decode(self, features: Features, queries: Queries) -> Output:
        self.second.append(self.network.decode(features, queries))
        return self.second[-1]


def distilled(teacher: Network, network: Network, **options: Any) -> tuple[dict[str, Tensor], Watched]:
    output = network.output
    if output.queries.num_isolated:
        attending = [p.rows(slice(output.queries.num_attending)) for p in output.predictions]
        output = Output(output.features, output.queries, attending)
    watched = Watched(network)
    objective = ConsistentSelection(network.decoder.dims, range(NUM_OLD), **options)
    return objective.losses(output, [], Told(teacher, cast(Network, watched)).step), watched


@pytest.mark.parametrize(("temperature", "classes"), [(1.0, "all"), (1.0, "old"), (2.0, "all")], ids=lambda x: str(x))
def test_distillation(fixture: Fixture, teacher: Network, student: Network, temperature: float, classes: str) -> None:
    terms, watched = distilled(
        teacher, student, temperature=temperature, decoder_temperature=temperature, csl_classes=classes
    )
    fixture.check(f"c.csl_tau{temperature:g}_{classes}", terms["selection"])
    fixture.check(f"c.kd_tau{temperature:g}_{classes}", terms["decoder"])
    readings = watched.second[0].predictions
    fixture.check("c.csl_student_logits", readings[0].class_logits)
    fixture.check("c.kd_student_logits", readings[-1].class_logits)
    for layer, reading in enumerate(readings[1:-1]):
        assert reading.boxes is not None
        fixture.check(f"c.kd_layer{layer}.logits", reading.class_logits)
        fixture.check(f"c.kd_layer{layer}.boxes", reading.boxes)


def test_distillation_sees_no_virtual_queries(fixture: Fixture, teacher: Network, replaying: Network) -> None:
    _, watched = distilled(teacher, replaying)
    readings = watched.second[0].predictions
    fixture.check("c.vq_run.csl_student_logits", readings[0].class_logits)
    fixture.check("c.vq_run.kd_student_logits", readings[-1].class_logits)
    gradients(fixture, replaying, "csl_logits", replaying.heads.classify(watched.chosen[0].content).sigmoid().sum())
    gradients(fixture, replaying, "kd_logits", readings[-1].class_logits.sigmoid().sum())


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0, 4.0])
def test_divergence(fixture: Fixture, temperature: float) -> None:
    logits = fixture.inputs["c.teacher_logits"], fixture.inputs["c.student_logits"]
    fixture.check(f"c.unit_tau{temperature:g}_all", divergence(*logits, temperature))
    old = (x[..., :NUM_OLD] for x in logits)
    fixture.check(f"c.unit_tau{temperature:g}_old", divergence(*old, temperature))


# virtual queries


@pytest.mark.parametrize("alpha", [0.5, 0.25])
def test_sampling_weights(fixture: Fixture, alpha: float) -> None:
    counts = torch.tensor(fixture.given["d"]["pseudo_label_counts"])
    weights = PseudoDistribution(counts).weights(range(NUM_OLD), alpha)
    fixture.check(f"d.sampling_weights_alpha{alpha:g}", weights[:NUM_OLD])
    assert not weights[NUM_OLD:].any()


class Banks:
    """The stream of matches of two processes, and where in it a bank's entries come from."""

    def __init__(self, fixture: Fixture) -> None:
        self.given = fixture.given["d"]
        self.features = fixture.inputs["d.features"]  # (ranks, iterations, images, queries, D)

    def bank(self, length: int) -> QueryBank:
        return QueryBank(5, length, self.features.shape[-1])

    def feed(self, bank: QueryBank, rank: int, iterations: range) -> None:
        for i in iterations:
            images = self.given["sequence"][rank][i]
            labels = [image["labels"][target] for image in images for target in image["targets"]]
            rows = [self.features[rank, i, b, image["queries"]] for b, image in enumerate(images)]
            bank.append(torch.tensor(labels), torch.cat(rows))

    def merged(self, banks: list[QueryBank]) -> QueryBank:
        merged = self.bank(self.given["lib_size"])
        for bank in banks:
            for label in range(5):
                rows = bank.entries(label)
                merged.append(torch.full((len(rows),), label), rows)
        return merged

    def table(self, bank: QueryBank) -> Tensor:
        """(entries, 6) class, slot, rank, iteration, image, query"""
        known = self.features.half()
        rows = []
        for label in range(5):
            for slot, entry in enumerate(bank.entries(label)):
                (place,) = (known == entry).all(-1).nonzero().tolist()
                rows.append([label, slot, *place])
        return torch.tensor(rows)


def test_bank_of_one_process(fixture: Fixture) -> None:
    banks = Banks(fixture)
    bank = banks.bank(banks.given["lib_size"])
    for i in range(6):
        banks.feed(bank, 0, range(i, i + 1))
        if (name := f"d.bank.one_process.after{i + 1}") in fixture.entries:
            fixture.check(name, banks.table(bank))


def test_banks_of_two_processes_as_the_authors_join_them(fixture: Fixture) -> None:
    banks, first = Banks(fixture), fixture.given["d"]["first_step_iterations"]
    length = banks.given["lib_size"]
    ranks = [banks.bank(length // 2) for _ in range(2)]
    for rank, bank in enumerate(ranks):
        banks.feed(bank, rank, range(first))
        fixture.check(f"d.bank.first_step.rank{rank}", banks.table(bank))
    merged = banks.merged(ranks)
    fixture.check("d.bank.first_step.merged", banks.table(merged))
    ranks = [copy.deepcopy(merged) for _ in range(2)]
    for rank, bank in enumerate(ranks):
        banks.feed(bank, rank, range(first, 6))
        fixture.check(f"d.bank.second_step.rank{rank}", banks.table(bank))
    fixture.check("d.bank.second_step.merged", banks.table(banks.merged(ranks)))


# pseudo-labels


def box_mask(rectangle: list[int], size: tuple[int, int]) -> Tensor:
    top, bottom, left, right = rectangle
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def pseudo_case(fixture: Fixture) -> tuple[Tensor, Tensor, list[Tensor]]:
    """class logits (B, Q, K), mask logits (B, Q, h, w), ground-truth masks (M, H, W) of every image"""
    given = fixture.given["e"]
    logits, masks = fixture.inputs["e.cls_noise"].clone(), fixture.inputs["e.mask_noise"].clone()
    for image, query, label, value in given["boost"]:
        logits[image, query, label] += value
    grid = (masks.shape[-2], masks.shape[-1])
    for image, rectangles in enumerate(given["rects"]):
        for query, rectangle in enumerate(rectangles):
            masks[image, query] += given["amplitude"] * (2.0 * box_mask(rectangle, grid) - 1)
    truth = [torch.stack([box_mask(r, (96, 160)) for r in one["rects"]]) for one in given["gt"]]
    return logits, masks, truth


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
@pytest.mark.parametrize("image", [0, 1])
def test_pseudo_labels(fixture: Fixture, task: Any, image: int) -> None:
    given = fixture.given["e"]
    logits, mask_logits, truth = pseudo_case(fixture)
    dims = Dims(tuple(str(k) for k in range(150)), 0, 0, (), (), 0, 0)
    objective = PseudoLabels(dims, given["current_ids"], task)
    assert objective.threshold == given[task]["label_threshold"]
    assert objective.overlap == given["overlap_threshold"]
    name, scores = f"e.{task}.image{image}", logits[image].sigmoid()
    rows, offered = objective.candidates(scores)
    fixture.check(f"{name}.candidate_queries", rows)
    fixture.check(f"{name}.candidate_scores", offered.scores)
    fixture.check(f"{name}.candidate_labels", offered.labels)
    fixture.check(f"{name}.candidate_masks", enlarged(mask_logits[image, rows], (96, 160)))
    labels, masks = objective.segments(scores, mask_logits[image], truth[image].any(0))
    fixture.check(f"{name}.labels", labels)
    fixture.check(f"{name}.masks", torch.from_numpy(np.packbits(masks.numpy().ravel())))
    fixture.check(f"{name}.areas", masks.sum((1, 2)))
    height, width = given["gt"][image]["image_size"]
    for key, found in ((f"{name}.boxes", masks), (f"e.gt.image{image}.boxes", truth[image])):
        boxes = boxes_of_corners(mask_corners(found), (height, width), torch.float64)
        fixture.check(key, boxes)
    fixture.check(f"e.gt.image{image}.areas", truth[image].sum((1, 2)))


@pytest.mark.parametrize("image", [0, 1])
def test_images_with_foreign_labels_get_no_pseudo_labels(fixture: Fixture, image: int) -> None:
    given = fixture.given["f"]
    composed = given["composition"][image]
    dims = Dims(tuple(str(k) for k in range(150)), 0, 0, (), (), 0, 0)
    objective = PseudoLabels(dims, given["current_ids"])
    scores = torch.zeros(1, 2, 150, dtype=torch.float64)
    scores[0, range(2), composed["pseudo_labels"]] = torch.tensor([0.9, 0.8], dtype=torch.float64)
    masks = torch.full((1, 2, 4, 8), -9.0, dtype=torch.float64)
    masks[0, 0, :2, :4], masks[0, 1, 2:, :4] = 9, 9
    truth = torch.zeros(2, 16, 32, dtype=torch.bool)
    truth[0, :8, 20:], truth[1, 8:, 20:] = True, True
    target = Target(torch.tensor(composed["gt_labels"]), truth, torch.full((16, 32), 255))
    nothing = torch.zeros(1, 2, 0)
    (added,) = objective.added(Prediction(scores, scores, masks, nothing, None, nothing), [target])
    fixture.check(f"f.composition.image{image}", added.labels)


# losses and matching


class Losses:
    """Section f: targets, readings and the matches that are given."""

    def __init__(self, fixture: Fixture) -> None:
        self.fixture, self.given = fixture, fixture.given["f"]
        size = tuple(self.given["mask_size"])
        self.targets = []
        for one in self.given["targets"]:
            labels = torch.tensor(one["pseudo_labels"] + one["gt_labels"])
            masks = torch.stack([box_mask(r, size) for r in one["pseudo_rects"] + one["gt_rects"]])
            self.targets.append(Target(labels, masks, torch.zeros(size, dtype=torch.int64)))
        self.segments = Segments.of(self.targets)
        self.drawn = torch.tensor(self.given["vq_labels"])
        self.dims = Dims(tuple(str(k) for k in range(150)), 0, 0, (), (), 0, 0)

    def reading(self, stage: str) -> Prediction:
        logits, masks, boxes = (self.fixture.inputs[f"f.{stage}.{x}"] for x in ("logits", "masks", "boxes"))
        nothing = logits.new_zeros(*logits.shape[:2], 0)
        return Prediction(logits, logits.sigmoid(), masks, nothing, None, nothing, boxes)

    def pairs(self, stage: str) -> Assignment:
        first, parts = 0, []
        for image, (rows, columns) in enumerate(self.given["matches"][stage]):
            parts.append(torch.tensor([[image] * len(rows), rows, [c + first for c in columns]]))
            first += len(self.targets[image].labels)
        return Assignment(*torch.cat(parts, 1))


class Given(FocalHungarian):
    """Matches as the fixture has them."""

    def __init__(self, pairs: Assignment) -> None:
        super().__init__()
        self.pairs = pairs

    def match(self, predictions: Any, segments: Segments) -> list[Assignment]:
        return [self.pairs] * len(predictions)


@pytest.mark.parametrize("stage", ["final", "aux0", "interm"])
def test_losses(fixture: Fixture, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Losses(fixture)
    reading, pairs = case.reading(stage), case.pairs(stage)
    points = fixture.inputs[f"f.{stage}.points"]
    monkeypatch.setattr(matched_criterion, "importance_points", lambda *_: points)
    criterion = FocalSetCriterion(case.dims, lambda: Given(pairs))
    virtual = VirtualQueries(case.dims, range(NUM_OLD), matcher=lambda: Given(pairs))
    assert criterion.weights == {k: case.given["weights"][v] for k, v in NAMES_OF_WEIGHTS.items()}
    assert virtual.weights == {"class": case.given["weights"]["class"]}
    content = torch.zeros(2, 105, 0, dtype=torch.float64)
    output = Output(
        cast(Features, None),
        Queries(content, num_isolated=5),
        [reading.rows(slice(100))],
        [reading.rows(slice(100, None))],
    )
    virtual.drawn = case.drawn
    terms = criterion.losses(output, case.targets, cast(Step, None))
    shown = virtual.losses(output, case.targets, cast(Step, None))
    fixture.check("f.normaliser", torch.tensor(float(len(case.segments.labels)), dtype=torch.float64))
    fixture.check(f"f.{stage}.loss_ce", terms["class"] + shown["class"])
    fixture.check(f"f.{stage}.loss_mask", terms["mask"])
    fixture.check(f"f.{stage}.loss_dice", terms["dice"])
    fixture.check(f"f.{stage}.loss_bbox", terms["box"])
    fixture.check(f"f.{stage}.loss_giou", terms["giou"])
    if stage == "final":
        fixture.check("f.final.loss_ce_without_vq", terms["class"])
        bce, dice = criterion.mask_losses(output.final, pairs, case.segments)
        distances, overlaps = criterion.box_losses(output.final, pairs, case.segments)
        fixture.check("f.final.loss_mask_per_pair", bce)
        fixture.check("f.final.loss_dice_per_pair", dice)
        fixture.check("f.final.loss_bbox_per_pair", distances)
        fixture.check("f.final.loss_giou_per_pair", overlaps)
        matched = matched_criterion.matched_rows(output.final.mask_logits, pairs)
        fixture.check("f.final.point_logits", sample_maps(matched[:, None], points)[:, 0])
        fixture.check("f.final.point_labels", sample_masks(case.segments.masks[pairs.target][:, None], points)[:, 0])
    if stage != "aux0":
        logits = fixture.inputs["c.teacher_logits"], fixture.inputs["c.student_logits"]
        fixture.check(f"f.{stage}.kl_loss", divergence(*logits, 2.0 if stage == "final" else 1.0))


NAMES_OF_WEIGHTS = {"class": "class", "mask": "mask", "dice": "dice", "box": "bbox", "giou": "giou"}


def test_which_cells_are_positive(fixture: Fixture) -> None:
    """They alone gain from a higher logit."""
    case = Losses(fixture)
    pairs = case.pairs("final")
    logits = case.reading("final").class_logits.clone().requires_grad_()
    virtual = torch.arange(2).repeat_interleave(5), torch.arange(5).repeat(2) + 100, case.drawn.flatten()
    places = pairs.image, pairs.row, case.segments.labels[pairs.target]
    focal_loss(logits, *(torch.cat(both) for both in zip(places, virtual, strict=True))).backward()
    assert logits.grad is not None
    fixture.check("f.final.positive_cells", (logits.grad < 0).nonzero())


@pytest.mark.parametrize("image", [0, 1])
def test_matching(fixture: Fixture, image: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Losses(fixture)
    reading = case.reading("final").rows(slice(100))
    points = fixture.inputs["g.points"]
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: points)
    wanted = case.segments.padded(torch.float64)
    options = ("class_cost", "mask_cost", "dice_cost", "box_cost", "giou_cost")
    count = case.segments.counts[image]
    for option in options:
        matcher = FocalHungarian(**(dict.fromkeys(options, 0.0) | {option: 1.0}))
        costs = matcher.costs(reading, *wanted)[image, :, :count]
        fixture.check(f"g.{option.removesuffix('_cost')}.image{image}", costs)
    matcher = FocalHungarian()
    fixture.check(f"g.total.image{image}", matcher.costs(reading, *wanted)[image, :, :count])
    (pairs,) = matcher.match([reading], case.segments)
    own = pairs.image == image
    first = sum(case.segments.counts[:image])
    fixture.check(f"g.assignment.image{image}", torch.stack((pairs.row[own], pairs.target[own] - first)))


def test_nothing_of_the_fixture_was_left_out(fixture: Fixture) -> None:
    """After all others of this file."""
    informative = {name for name, entry in fixture.entries.items() if entry.get("informative")}
    if len(fixture.checked) < 100:
        pytest.skip("the tests before this one were not run")
    assert fixture.entries.keys() - fixture.checked - informative == set()
