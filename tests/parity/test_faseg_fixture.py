"""FASeg equals golden numbers of the authors' modules in float64: decoder, encodings, both together, gradients.

`faseg/dev.json` draws weights and inputs and names every output in `faseg/dev.npz`; keys begin with the case.

Shape legend: B images, Q queries, D width, S cells of a level, h×w a map.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from queryseg.contracts import Backbone
from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.layout import read_layout
from queryseg.decoders import HighResolutionCrossAttention
from queryseg.decoders.cross_attention import CrossAttentionLayer
from queryseg.inference.run_folder import load_weights
from queryseg.pixel_decoders import Deformable
from queryseg.queries import FocusAwareQueries
from queryseg.readouts import Mixture
from queryseg.recipe_file import build_untrained
from queryseg.types import Dims, Features, Prediction, Queries, Round, Trunk

FOLDER = Path(__file__).with_name("faseg")
TOLERANCE = {"rtol": 1e-8, "atol": 1e-8}
NO_BACKBONE = cast(Backbone, None)
CLASSES = tuple("abcdefg")
STRIDES = (32, 16, 8, 4)
_CROSS, _SELF, _FFN = (rf"transformer_{part}_layers\.(\d+)\." for part in ("cross_attention", "self_attention", "ffn"))
NAMES = (
    (r"pixel_decoder\.", ""),
    (r"predictor\.", ""),
    (r"^input_proj", "pixel_decoder.inputs"),
    (r"^pos_linear", "pixel_decoder.encodings"),
    (r"^transformer\.level_embed", "pixel_decoder.encoder_level_embed"),
    (r"^transformer\.encoder\.layers", "pixel_decoder.layers"),
    (r"self_attn\.sampling_offsets", "attention.offsets"),
    (r"self_attn\.attention_weights", "attention.weights"),
    (r"self_attn\.value_proj", "attention.value"),
    (r"self_attn\.output_proj", "attention.out"),
    (r"^(pixel_decoder\.layers\.\d+\.)norm1", r"\1attention_norm"),
    (r"^(pixel_decoder\.layers\.\d+\.)norm2", r"\1feed_forward_norm"),
    (r"^mask_features", "pixel_decoder.mask_projection"),
    (r"^adapter_1\.norm", "pixel_decoder.lateral.1"),
    (r"^adapter_1", "pixel_decoder.lateral.0"),
    (r"^layer_1\.norm", "pixel_decoder.smooth.1"),
    (r"^layer_1", "pixel_decoder.smooth.0"),
    (_CROSS + "multihead_attn", r"decoder.layers.\1.cross_attention"),
    (_CROSS + "norm", r"decoder.layers.\1.cross_attention_norm"),
    (_SELF + "self_attn", r"decoder.layers.\1.self_attention"),
    (_SELF + "norm", r"decoder.layers.\1.self_attention_norm"),
    (_FFN + "norm", r"decoder.layers.\1.feed_forward_norm"),
    (_FFN, r"decoder.layers.\1."),
    (r"linear1", "expand"),
    (r"linear2", "reduce"),
    (r"^decoder_norm", "decoder.heads.norm"),
    (r"^class_embed", "decoder.heads.class_embed"),
    (r"^mask_embed", "decoder.heads.mask_embed"),
    (r"^query_feat\.weight", "queries.content"),
    (r"^query_embed\.weight", "queries.position"),
    (r"^level_embed\.weight", "pixel_decoder.decoder_level_embed"),
    (r"^adapt_pos2d\.0", "queries.adapt.layers.0"),
    (r"^adapt_pos2d\.2", "queries.adapt.layers.1"),
)
"""The authors' names → ours, applied in order."""


def ours(name: str) -> str:
    for pattern, replacement in NAMES:
        name = re.sub(pattern, replacement, name)
    return name


class Case:
    """One case of the fixture, its weights and inputs redrawn as the manifest says."""

    def __init__(self, name: str) -> None:
        manifest: dict[str, Any] = json.loads((FOLDER / "dev.json").read_text())
        case = manifest["cases"][name]
        with np.load(FOLDER / "dev.npz") as stored:
            self.gold = {k.removeprefix(f"{name}."): stored[k] for k in stored.files if k.startswith(f"{name}.")}
        self.settings = case["constructor"]
        draw = np.random.Generator(np.random.PCG64(manifest["seed"]))
        self.leaves: dict[str, Tensor] = {}
        for entry in case["weights"] + case["inputs"]:
            value = draw.standard_normal(entry["shape"]) * entry["scale"] + entry["offset"]
            assert abs(value.sum() - entry["sum"]) < 1e-8 * max(1, abs(entry["sum"])), entry["name"]
            self.leaves[entry["name"]] = torch.from_numpy(value).requires_grad_()
        self.weights = {entry["name"]: self.leaves[entry["name"]] for entry in case["weights"]}

    def load(self, **parts: nn.Module) -> nn.ModuleDict:
        """All weights into the parts; gradients are read from `gradients`."""
        modules = nn.ModuleDict(parts).double().train()
        self.named = dict(modules.named_parameters())
        state = {ours(name): weight.detach() for name, weight in self.weights.items()}
        missing, unexpected = modules.load_state_dict(state, strict=False)
        assert not unexpected
        assert [name for name in missing if name not in self.expected_missing] == []
        return modules

    expected_missing: frozenset[str] = frozenset()

    def gradients(self, scalar: Tensor, inputs: dict[str, Tensor] | None = None) -> Tensor:
        """(tensors, 3) sum, sum of absolute values, greatest absolute value, in the manifest's order"""
        scalar.backward()
        rows = []
        for name, leaf in self.leaves.items():
            parameter = self.named.get(ours(name), leaf)
            gradient = torch.zeros_like(leaf) if parameter.grad is None else parameter.grad
            rows.append(torch.stack((gradient.sum(), gradient.abs().sum(), gradient.abs().max())))
        return torch.stack(rows)

    def check(self, name: str, value: Tensor) -> None:
        gold = torch.from_numpy(self.gold[name])
        value = value.detach()
        if gold.dtype in (torch.bool, torch.int64):
            assert torch.equal(value.to(gold.dtype), gold), name
        else:
            torch.testing.assert_close(value, gold, **TOLERANCE, msg=lambda text: f"{name}: {text}")


def stats(x: Tensor, *, axes: tuple[int, ...], last: str = "abs") -> Tensor:
    """mean, population deviation, sum (of absolute values)"""
    total = (x.abs() if last == "abs" else x).sum(axes)
    return torch.stack((x.mean(axes), x.std(axes, correction=0), total), -1)


class Told(FocusAwareQueries):
    """Keeps what it is told and the positions that it makes."""

    def __init__(self, dims: Dims, num_queries: int) -> None:
        super().__init__(dims, num_queries)
        self.rounds: list[Round] = []
        self.positions: list[Tensor] = []

    def refine(self, queries: Queries, round: Round) -> Queries:
        moved = super().refine(queries, round)
        self.rounds.append(round)
        assert moved.position is not None
        self.positions.append(moved.position)
        return moved


class Decoded:
    """The decoder case, run once, with everything that happened inside."""

    def __init__(self, omega: int | None = None) -> None:
        self.case = case = Case("decoder")
        case.expected_missing = frozenset()
        made = case.settings
        width = made["hidden_dim"]
        dims = Dims(CLASSES, width, 1, (width,) * 4, STRIDES, made["mask_dim"], width)
        layers, hidden = made["dec_layers"], made["dim_feedforward"]
        decoder = HighResolutionCrossAttention(dims, layers, hidden, made["nheads"], omega=omega or made["omega_rate"])
        self.source = Told(dims, made["num_queries"])
        embed = nn.ParameterDict({"decoder_level_embed": nn.Parameter(torch.empty(4, width))})
        modules = case.load(decoder=decoder, queries=self.source, pixel_decoder=embed)
        embed = modules["pixel_decoder"]["decoder_level_embed"]
        leaves = case.leaves
        levels = tuple(leaves[f"feat_{s}"] + e[:, None, None] for s, e in zip(STRIDES, embed, strict=True))
        positions = tuple(leaves[f"pos_{s}"] for s in STRIDES)
        mask_features = leaves["mask_noise"] + leaves["mask_channel"]
        self.features = Features(cast(Trunk, None), levels, mask_features, positions)
        self.blocked: dict[int, Tensor | None] = {}
        self.attention: dict[int, Tensor] = {}
        self.crossed: dict[int, Tensor] = {}
        self.heard: dict[int, Tensor] = {}
        self.content: dict[int, Tensor] = {}
        self.cells: dict[int, Tensor] = {}
        self.scores: dict[int, Tensor] = {}
        for index, layer in enumerate(decoder.layers):
            self._watch(index, cast(CrossAttentionLayer, layer))
        chosen = decoder.chosen

        def watch_cells(index: int, memory: Any, attentions: Any) -> Any:
            pixels, outside = chosen(index, memory, attentions)
            (_, width), (rows, columns) = memory.sizes[3], memory.sizes[0]
            side = memory.sizes[3][0] // rows
            cells = pixels // width // side * columns + pixels % width // side
            self.cells[index] = torch.stack([image.unique() for image in cells])
            self.scores[index] = attentions[decoder.scoring_layer(index)].sum(1)
            return pixels, outside

        decoder.chosen = watch_cells  # type: ignore[method-assign]
        queries = self.source(self.features, decoder.heads)
        self.predictions: list[Prediction] = list(decoder(NO_BACKBONE, self.features, queries, self.source))
        self.masks = torch.stack([p.mask_logits for p in self.predictions])
        self.logits = torch.stack([p.class_logits for p in self.predictions])

    def _watch(self, index: int, layer: CrossAttentionLayer) -> None:
        def keep(into: dict[int, Tensor]) -> Any:
            return lambda module, given, out: into.__setitem__(index, out)

        def looked(module: nn.Module, given: tuple[Any, ...], out: tuple[Tensor, Tensor | None]) -> None:
            self.blocked[index] = given[3]
            if out[1] is not None:
                self.attention[index] = out[1]

        layer.cross_attention.register_forward_hook(looked)
        layer.cross_attention_norm.register_forward_hook(keep(self.crossed))
        layer.self_attention_norm.register_forward_hook(keep(self.heard))
        layer.feed_forward_norm.register_forward_hook(keep(self.content))


@pytest.fixture(scope="module")
def decoded() -> Decoded:
    return Decoded()


def test_all_predictions(decoded: Decoded) -> None:
    case = decoded.case
    case.check("pred_logits", decoded.logits)
    case.check("pred_masks_last", decoded.masks[-1, 0])
    case.check("pred_masks_sample", decoded.masks[..., 3::8, 5::8])
    case.check("pred_masks_stats", stats(decoded.masks, axes=(-2, -1)))


def test_every_layer(decoded: Decoded) -> None:
    case = decoded.case
    for name, found in (("x_cross", decoded.crossed), ("x_self", decoded.heard), ("x", decoded.content)):
        case.check(name, torch.stack([found[i] for i in range(len(case.gold[name]))]))
    case.check("qpos", torch.stack(decoded.source.positions))
    compared = 0
    for index in range(13):
        if f"attn_{index}" in case.gold:
            case.check(f"attn_{index}", decoded.attention[index])
        elif f"attn_{index}_sample" in case.gold:
            case.check(f"attn_{index}_sample", decoded.attention[index][..., 4::11])
        else:
            assert index % 4 == 3
            assert index not in decoded.attention, "HRCA runs fused"
            assert decoded.blocked[index] is None
            case.check(f"hrca_cells_{index}", decoded.cells[index])
            case.check(f"hrca_scores_{index}", decoded.scores[index])
            continue
        gold = torch.from_numpy(case.gold[f"blocked_{index}"])
        assert torch.equal(cast(Tensor, decoded.blocked[index]), gold & ~gold.all(-1, keepdim=True))
        compared += 1
    assert compared == 10
    assert any(case.gold[f"blocked_{i}"].all(-1).any() for i in (0, 1, 2)), "a fully masked row belongs to the case"


def test_more_cells() -> None:
    decoded = Decoded(omega=8)
    decoded.case.check("variant.pred_logits", decoded.logits)
    for index in (3, 7, 11):
        decoded.case.check(f"variant.hrca_cells_{index}", decoded.cells[index])


def test_gradients_of_the_decoder() -> None:
    decoded = Decoded()
    squares = [x.square().mean() for p in decoded.predictions for x in (p.class_logits, p.mask_logits)]
    scalar = torch.stack(squares).sum()
    check_gradients(decoded.case, scalar)


def check_gradients(case: Case, scalar: Tensor) -> None:
    case.check("scalar", scalar)
    found, gold = case.gradients(scalar), torch.from_numpy(case.gold["grads"])
    error = (found - gold).abs().amax(1)
    assert bool((error <= 1e-8 * (1 + gold[:, 1])).all()), list(case.leaves)[int((error / (1 + gold[:, 1])).argmax())]
    assert int((gold[:, 1] > 0).sum()) > 0.9 * len(gold)


def test_coarse_masks_of_eval_mode_give_the_same_answer(decoded: Decoded) -> None:
    """What blocks is then computed at the size of the level; HRCA's reading at the smallest."""
    again = Decoded()
    decoder = again.case.named  # parameters are those of the module below
    assert decoder
    made = again.case.settings
    dims = Dims(CLASSES, 64, 1, (64,) * 4, STRIDES, 64, 64)
    model = HighResolutionCrossAttention(dims, 13, made["dim_feedforward"], 8, omega=32).double()
    model.load_state_dict({k.removeprefix("decoder."): v for k, v in decoder.items() if k.startswith("decoder.")})
    source = FocusAwareQueries(dims, made["num_queries"]).double()
    source.load_state_dict({k.removeprefix("queries."): v for k, v in decoder.items() if k.startswith("queries.")})
    queries = source(again.features, model.heads)
    (final,) = model.eval()(NO_BACKBONE, again.features, queries, source)
    torch.testing.assert_close(final.mask_logits, decoded.masks[-1], **TOLERANCE)


def levels_of(case: Case) -> Features:
    levels = tuple(case.leaves[f"res{i}"] for i in (5, 4, 3, 2))
    return Features(cast(Trunk, None), levels, levels[-1])


def backbone_dims(case: Case) -> Dims:
    channels = tuple(case.leaves[f"res{i}"].shape[1] for i in (5, 4, 3, 2))
    return Dims(CLASSES, channels[0], 1, channels, STRIDES, channels[-1], channels[0])


def test_positional_encodings_and_gradients_of_the_pixel_decoder() -> None:
    case = Case("pixel_decoder")
    made = case.settings
    decoder = Deformable(
        backbone_dims(case),
        num_layers=made["transformer_enc_layers"],
        hidden=made["transformer_dim_feedforward"],
        positions="conditional",
        num_levels=4,
    )
    decoder.mask_projection = nn.Conv2d(256, made["mask_dim"], 1)  # ours are as wide as everything else
    case.expected_missing = frozenset({"pixel_decoder.decoder_level_embed"})
    nn.init.zeros_(decoder.decoder_level_embed)  # not part of their pixel decoder
    modules = case.load(pixel_decoder=decoder)
    decoder = cast(Deformable, modules["pixel_decoder"])
    inner: dict[str, Tensor] = {}
    for name, module in (
        *((f"z_{s}", entrance) for s, entrance in zip(STRIDES, decoder.inputs, strict=True)),
        ("deform0", cast(Any, decoder.layers[0]).attention),
        *((f"enc{i}", layer) for i, layer in enumerate(decoder.layers)),
    ):
        module.register_forward_hook(lambda m, given, out, name=name: inner.__setitem__(name, out))
    features = decoder(levels_of(case))
    grids = {32: (1, 0, 0), 16: (1, 0, 0), 8: (2, 1, 0), 4: (3, 1, 2)}
    for s, position, level in zip(STRIDES, features.positions, features.levels, strict=True):
        step, row, column = grids[s]
        for name, found in ((f"pos_{s}", position), (f"feat_{s}", level)):
            case.check(f"{name}_sample", found[:, ::17, row::step, column::step])
            case.check(f"{name}_stats", stats(found, axes=(0, 2, 3)))
        case.check(f"z_{s}_stats", stats(inner[f"z_{s}"], axes=(0, 2, 3)))
    case.check("mask_features_sample", features.mask_features[:, ::5, 1::3, 2::3])
    case.check("mask_features_stats", stats(features.mask_features, axes=(0, 2, 3)))
    case.check("deform0_sample", inner["deform0"][:, ::9, ::17])
    case.check("enc_sample", torch.stack([inner["enc0"], inner["enc1"]])[:, :, ::9, ::17])
    found = (features.mask_features, *features.levels, *features.positions)
    check_gradients(case, torch.stack([x.square().mean() for x in found]).sum())


def check_head(case: Case, pixel_decoder: nn.Module, decoder: Any, source: Any) -> list[Prediction]:
    """Both together, from the case's backbone maps."""
    features = pixel_decoder(levels_of(case))
    queries = source(features, decoder.heads)
    predictions: list[Prediction] = list(decoder(NO_BACKBONE, features, queries, source))
    masks = torch.stack([p.mask_logits for p in predictions])
    case.check("pred_logits", torch.stack([p.class_logits for p in predictions]))
    case.check("pred_masks_sample", masks[..., 3::8, 5::8])
    case.check("pred_masks_stats", stats(masks, axes=(-2, -1)))
    return predictions


def test_pixel_decoder_and_decoder_together() -> None:
    case = Case("head")
    pixel, made = case.settings["pixel_decoder"], case.settings["predictor"]
    pixel_decoder = Deformable(
        backbone_dims(case),
        num_layers=pixel["transformer_enc_layers"],
        hidden=pixel["transformer_dim_feedforward"],
        positions="conditional",
        num_levels=4,
    )
    dims = pixel_decoder.dims
    decoder = HighResolutionCrossAttention(dims, made["dec_layers"], made["dim_feedforward"], made["nheads"])
    source = FocusAwareQueries(dims, made["num_queries"])
    case.load(pixel_decoder=pixel_decoder, decoder=decoder, queries=source)
    final = check_head(case, pixel_decoder, decoder, source)[-1]
    size = (int(final.mask_logits.shape[-2]), int(final.mask_logits.shape[-1]))
    scores = Mixture().scores(final, size, size)
    case.check("semantic_stats", stats(scores, axes=(-2, -1), last="sum"))


def test_a_converted_file_gives_the_golden_numbers() -> None:
    """The head's weights, below the prefix of an official file and beside any trunk, pass through the converter."""
    case = Case("head")
    weights = {f"sem_seg_head.{name}": weight.detach() for name, weight in case.weights.items()}
    trunk = read_layout("swin_detectron2").expected({"C": 8, "H": 1, "T": 49, "B": {0: 1, 1: 1, 2: 1, 3: 1}})
    zeros = {name: torch.zeros(shape) for name, shape in trunk.items()}
    converted = convert_checkpoint(PublishedCheckpoint("x", {**weights, **zeros}, {}))
    assert converted.layout.startswith("FASeg with Swin")
    assert converted.left_over == converted.unexpected == ()
    model = build_untrained(converted.recipe).double()
    load_weights(model, converted.weights, "converted")
    check_head(case, model.pixel_decoder, model.decoder, model.queries)
