"""tqdm's model equals golden numbers of the authors' modules in float64: pixel decoder with text-to-pixel attention,
decoder, prompted text encoder, context decoder, and gradients.

`tqdm/dev.json` draws weights and inputs and names every output in `tqdm/dev.npz`; keys begin with the case.

Shape legend: B images, K classes, D width, J width of the image–text space, h×w a map.
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
from queryseg.decoders import CrossAttention
from queryseg.ops.layers import tokens_of
from queryseg.pixel_decoders import TextDeformable
from queryseg.queries import TextualQueries
from queryseg.queries.context_decoder import ContextDecoder
from queryseg.readouts import Mixture
from queryseg.types import Dims, Features, Prediction, Trunk

FOLDER = Path(__file__).with_name("tqdm")
TOLERANCE = {"rtol": 1e-8, "atol": 1e-8}
NO_BACKBONE = cast(Backbone, None)
STRIDES = (32, 16, 8, 4)
NAMES = (
    (r"^pixel_decoder\.input_convs\.(\d)\.conv", r"pixel_decoder.inputs.\1.0"),
    (r"^pixel_decoder\.input_convs\.(\d)\.gn", r"pixel_decoder.inputs.\1.1"),
    (r"^pixel_decoder\.encoder\.post_norm", "pixel_decoder.final_norm"),
    (r"^pixel_decoder\.encoder\.layers", "pixel_decoder.layers"),
    (r"attentions\.0\.sampling_offsets", "attention.offsets"),
    (r"attentions\.0\.attention_weights", "attention.weights"),
    (r"attentions\.0\.value_proj", "attention.value"),
    (r"attentions\.0\.output_proj", "attention.out"),
    (r"^(pixel_decoder.*)attentions\.1\.attn", r"\1text_attention"),
    (r"^(pixel_decoder.*)norms\.0", r"\1attention_norm"),
    (r"^(pixel_decoder.*)norms\.1", r"\1text_attention_norm"),
    (r"norms\.2", "feed_forward_norm"),
    (r"ffns\.0\.layers\.0\.0", "expand"),
    (r"ffns\.0\.layers\.1", "reduce"),
    (r"level_encoding\.weight", "encoder_level_embed"),
    (r"lateral_convs\.0\.conv", "lateral.0"),
    (r"lateral_convs\.0\.gn", "lateral.1"),
    (r"output_convs\.0\.conv", "smooth.0"),
    (r"output_convs\.0\.gn", "smooth.1"),
    (r"mask_feature\.", "mask_projection."),
    (r"^pixel_decoder\.text_proj", "pixel_decoder.text_projection"),
    (r"text_pos_embed\.weight", "text_position"),
    (r"^transformer_decoder\.post_norm", "decoder.heads.norm"),
    (r"^transformer_decoder", "decoder"),
    (r"attentions\.0\.attn", "cross_attention"),
    (r"attentions\.1\.attn", "self_attention"),
    (r"norms\.0", "cross_attention_norm"),
    (r"norms\.1", "self_attention_norm"),
    (r"^query_embed\.weight", "queries.position"),
    (r"^text_proj\.0", "queries.project.layers.0"),
    (r"^text_proj\.2", "queries.project.layers.1"),
    (r"^level_embed\.weight", "pixel_decoder.decoder_level_embed"),
    (r"^cls_embed", "decoder.heads.class_embed"),
    (r"^mask_embed\.0", "decoder.heads.mask_embed.layers.0"),
    (r"^mask_embed\.2", "decoder.heads.mask_embed.layers.1"),
    (r"^mask_embed\.4", "decoder.heads.mask_embed.layers.2"),
)
"""The authors' names → ours, applied in order."""
CONTEXT_NAMES = (
    (r"memory_proj", "memory"),
    (r"text_proj", "texts"),
    (r"^decoder", "layers"),
    (r"self_attn\.proj", "self_attention.out_proj"),
    (r"cross_attn\.proj", "cross_attention.out_proj"),
    (r"(self|cross)_attn\.[qkv]_proj", r"\1_attention.in_proj_"),
    (r"norm1", "self_norm"),
    (r"norm2", "cross_norm"),
    (r"norm3", "feed_forward_norm"),
    (r"mlp\.0", "expand"),
    (r"mlp\.3", "reduce"),
    (r"^out_proj", "out"),
)
"""The same inside the context decoder; three projections are one matrix here."""


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name.replace("in_proj_.weight", "in_proj_weight")


class Case:
    """One case of the fixture, its weights and inputs redrawn as the manifest says."""

    def __init__(self, name: str) -> None:
        manifest: dict[str, Any] = json.loads((FOLDER / "dev.json").read_text())
        case = manifest["cases"][name]
        with np.load(FOLDER / "dev.npz") as stored:
            self.gold = {k.removeprefix(f"{name}."): stored[k] for k in stored.files if k.startswith(f"{name}.")}
        self.case, self.settings = case, case["constructor"]
        draw = np.random.Generator(np.random.PCG64(manifest["seed"]))
        self.leaves: dict[str, Tensor] = {}
        for entry in case["weights"] + case["inputs"]:
            value = draw.standard_normal(entry["shape"]) * entry["scale"] + entry["offset"]
            assert abs(value.sum() - entry["sum"]) < 1e-8 * max(1, abs(entry["sum"])), entry["name"]
            self.leaves[entry["name"]] = torch.from_numpy(value).requires_grad_()
        self.weights = {entry["name"]: self.leaves[entry["name"]] for entry in case["weights"]}

    def check(self, name: str, value: Tensor) -> None:
        gold, value = torch.from_numpy(self.gold[name]), value.detach()
        if gold.dtype == torch.bool:
            assert torch.equal(value, gold), name
        else:
            torch.testing.assert_close(value, gold, **TOLERANCE, msg=lambda text: f"{name}: {text}")

    def check_gradients(self, gradients: dict[str, Tensor]) -> None:
        """By the authors' names; rows of the fixture in the manifest's order."""
        gold = torch.from_numpy(self.gold["grads"])
        rows = [torch.stack((g.sum(), g.abs().sum(), g.abs().max())) for g in gradients.values()]
        error = (torch.stack(rows) - gold).abs().amax(1)
        worst = int((error / (1 + gold[:, 1])).argmax())
        assert bool((error <= 1e-8 * (1 + gold[:, 1])).all()), list(gradients)[worst]
        assert int((gold[:, 1] > 0).sum()) > 0.9 * len(gold)


def stats(x: Tensor, *, axes: tuple[int, ...], last: str = "abs") -> Tensor:
    """mean, population deviation, sum (of absolute values)"""
    total = (x.abs() if last == "abs" else x).sum(axes)
    return torch.stack((x.mean(axes), x.std(axes, correction=0), total), -1)


# ───────────────────────────── pixel decoder and decoder ─────────────────────────────


class Head:
    """The case "head", run once, with everything that happened inside."""

    def __init__(self) -> None:
        self.case = case = Case("head")
        made = case.settings
        joint, width = made["text_in_dim"], made["feat_channels"]
        names = tuple(map(str, range(made["num_classes"])))
        channels = made["in_channels"][0]
        dims = Dims(names, channels, 1, (channels,) * 4, STRIDES, channels, channels, joint=joint)
        pixel_decoder = TextDeformable(dims, width, made["encoder_layers"], made["ffn"], made["heads"])
        tower = {"embed_dim": joint, "text_cfg": {}}
        source = TextualQueries(pixel_decoder.dims, tower, tower_weights=False, conditioned=False)
        decoder = CrossAttention(pixel_decoder.dims, made["decoder_layers"], made["ffn"], made["heads"])
        parts = nn.ModuleDict({"pixel_decoder": pixel_decoder, "queries": source, "decoder": decoder}).double().train()
        state = {renamed(name, NAMES): weight.detach() for name, weight in case.weights.items()}
        missing, unexpected = parts.load_state_dict(state, strict=False)
        assert (missing, unexpected) == (["queries.embeddings"], [])
        self.parameters = dict(parts.named_parameters())
        self.inner: dict[str, Tensor] = {}
        self.attention: dict[int, Tensor] = {}
        self.blocked: dict[int, Tensor] = {}
        self.content: dict[int, Tensor] = {}
        self._watch(pixel_decoder, decoder)
        levels = tuple(case.leaves[f"feat_{s}"] for s in STRIDES)
        features = Features(cast(Trunk, None), levels, levels[-1], context=case.leaves["texts"])
        self.features: Features = pixel_decoder(features)
        self.levels = [
            level - embed[:, None, None]
            for level, embed in zip(self.features.levels, pixel_decoder.decoder_level_embed, strict=True)
        ]
        self.queries = source(self.features, decoder.heads)
        self.predictions: list[Prediction] = list(decoder(NO_BACKBONE, self.features, self.queries, source))

    def _watch(self, pixel_decoder: TextDeformable, decoder: CrossAttention) -> None:
        def keep(name: str) -> Any:
            return lambda module, given, out: self.inner.__setitem__(name, out)

        def again(index: int) -> Any:
            """Pixel decoder: the fused attention's weights, from the same arguments."""

            def attend(module: Any, given: tuple[Any, ...], out: Any) -> None:
                self.attention[index] = module.forward(*given[:3], weights=True)[1]

            return attend

        pixel_decoder.text_projection.register_forward_hook(keep("text_tokens"))
        for index, layer in enumerate(cast(Any, pixel_decoder.layers)):
            layer.text_attention.register_forward_hook(again(index))
            layer.attention_norm.register_forward_hook(keep(f"enc{index}_norm0"))
            layer.text_attention_norm.register_forward_hook(keep(f"enc{index}_norm1"))
            layer.feed_forward_norm.register_forward_hook(keep(f"enc{index}_norm2"))
        for index, layer in enumerate(cast(Any, decoder.layers)):
            layer.cross_attention.register_forward_hook(
                lambda module, given, out, index=index: self.blocked.__setitem__(index, given[3])
            )
            layer.feed_forward_norm.register_forward_hook(
                lambda module, given, out, index=index: self.content.__setitem__(index, out)
            )


@pytest.fixture(scope="module")
def head() -> Head:
    return Head()


def test_every_layer_of_the_pixel_decoder(head: Head) -> None:
    case = head.case
    case.check("text_tokens", head.inner["text_tokens"])
    names = [name for name in case.gold if re.fullmatch(r"enc\d_norm\d_sample", name)]
    assert len(names) == 4
    for name in names:
        case.check(name, head.inner[name.removesuffix("_sample")][:, ::7, ::3])
    for index in range(case.settings["encoder_layers"]):
        case.check(f"enc{index}_text_attn_sample", head.attention[index][:, ::7])
        assert torch.allclose(head.attention[index].sum(-1), torch.ones(1, dtype=torch.float64))


def test_what_the_decoder_reads(head: Head) -> None:
    case = head.case
    for stride, level in zip(STRIDES, head.levels, strict=False):
        sample = level[:, ::3, 1::2, 0::2] if stride == 8 else level[:, ::3]
        case.check(f"memory_{stride}_sample", sample)
        case.check(f"memory_{stride}_stats", stats(level, axes=(0, 2, 3)))
    case.check("mask_feature_sample", head.features.mask_features[:, ::5, 1::3, 2::3])
    case.check("mask_feature_stats", stats(head.features.mask_features, axes=(0, 2, 3)))


def test_every_layer_of_the_decoder(head: Head) -> None:
    case = head.case
    case.check("q0", head.queries.content)
    case.check("q", torch.stack([head.content[i] for i in range(len(head.content))]))
    opened = 0
    for index in range(case.settings["decoder_layers"]):
        gold = torch.from_numpy(case.gold[f"blocked_{index}"])
        assert torch.equal(head.blocked[index], gold & ~gold.all(-1, keepdim=True))
        opened += int(gold.all(-1).sum())
    assert opened == case.case["health"]["fully_blocked_rows"] == 1


def test_all_predictions(head: Head) -> None:
    case = head.case
    masks = torch.stack([p.mask_logits for p in head.predictions])
    case.check("cls_logits", torch.stack([p.class_logits for p in head.predictions]))
    case.check("mask_logits_last", masks[-1, 0])
    case.check("mask_logits_sample", masks[..., 3::8, 5::8])
    case.check("mask_logits_stats", stats(masks, axes=(-2, -1)))
    size = (int(masks.shape[-2]), int(masks.shape[-1]))
    scores = Mixture().scores(head.predictions[-1], size, size)
    case.check("semantic_sample", scores[..., 1::3, 2::3])
    case.check("semantic_stats", stats(scores, axes=(-2, -1), last="sum"))


def test_gradients_of_the_head() -> None:
    head = Head()
    squares = [x.square().mean() for p in head.predictions for x in (p.class_logits, p.mask_logits)]
    scalar = torch.stack(squares).sum()
    head.case.check("scalar", scalar)
    scalar.backward()
    inputs = [*(f"feat_{s}" for s in reversed(STRIDES)), "texts"]
    leaves = {name: head.parameters[renamed(name, NAMES)] for name in head.case.weights}
    leaves |= {name: head.case.leaves[name] for name in inputs}
    zero = torch.zeros(1, dtype=torch.float64)
    head.case.check_gradients({name: zero if x.grad is None else x.grad for name, x in leaves.items()})


# ───────────────────────────── text encoder and context decoder ─────────────────────────────


def test_prompted_texts_and_what_the_image_adds() -> None:
    pytest.importorskip("open_clip")
    from queryseg.text.text_tower import encode_tokens, unit_length
    from queryseg.text.tower_settings import TowerSettings
    from queryseg.text.tower_weights import load_tower

    case = Case("text")
    made = case.settings
    sizes = {
        "context_length": made["context_length"],
        "vocab_size": made["vocab_size"],
        "width": made["text_width"],
        "heads": made["text_heads"],
        "layers": made["text_layers"],
    }
    architecture = {"embed_dim": made["embed_dim"], "quick_gelu": True, "text_cfg": sizes}
    encoder: Any = load_tower(TowerSettings(architecture, False)).transformer.double().requires_grad_()
    weights = {name: weight.detach() for name, weight in case.weights.items()}
    prefix = "text_encoder."
    encoder.load_state_dict({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})

    conditioner = ContextDecoder(
        made["embed_dim"], made["context_decoder_width"], made["context_decoder_layers"],
        made["context_decoder_heads"], dropout=0.1,
    ).double().eval()  # fmt: skip
    prefix = "context_decoder."
    stacked: dict[str, list[str]] = {}
    for name in weights:
        if name.startswith(prefix):
            stacked.setdefault(renamed(name.removeprefix(prefix), CONTEXT_NAMES), []).append(name)
    conditioner.load_state_dict({ours: torch.cat([weights[name] for name in names]) for ours, names in stacked.items()})

    leaves = case.leaves
    prompted = encode_tokens(encoder, torch.tensor(case.case["token_ids"]), leaves["contexts"])
    case.check("prompted", prompted[None])
    references = unit_length(encode_tokens(encoder, torch.tensor(case.case["reference_token_ids"]), None))
    case.check("t0", references)
    dense, whole = leaves["v"], leaves["g"]
    texts = prompted.expand(len(dense), -1, -1)
    delta = conditioner(texts, torch.cat((whole, tokens_of(dense)), 1))
    case.check("delta", delta)
    conditioned = texts + leaves["gamma"] * delta
    case.check("t", conditioned)

    losses = regularizers(conditioned, references.detach(), dense, whole, leaves["g0"], label_map(case))
    case.check("losses", losses)
    losses.sum().backward()
    found = {name: leaves[name].grad for name in ("contexts", "gamma")}
    for name in weights:
        if name.startswith("text_encoder."):
            found[name] = encoder.get_parameter(name.removeprefix("text_encoder.")).grad
    for ours, names in stacked.items():
        gradient = conditioner.get_parameter(ours).grad
        assert gradient is not None
        found |= dict(zip(names, gradient.chunk(len(names)), strict=True))
    found |= {"v": dense.grad, "g": whole.grad}
    case.check_gradients({name: cast(Tensor, found[name]) for name in [*weights, "v", "g"]})


def label_map(case: Case) -> Tensor:
    labels = (10 * case.leaves["label_noise"].detach().abs()).floor().long()
    labels[labels >= case.settings["num_classes"]] = 255
    block = case.case["label_block"]
    return labels.repeat_interleave(block, 1).repeat_interleave(block, 2)


def regularizers(t: Tensor, t0: Tensor, v: Tensor, g: Tensor, g0: Tensor, labels: Tensor) -> Tensor:
    """(3,) the paper's three regularising losses, so that the model's gradients can be compared."""
    functional = nn.functional
    unit = functional.normalize(t, dim=-1)
    target = torch.arange(t.shape[1]).expand(len(t), -1)
    language = functional.cross_entropy((unit @ t0.T).transpose(1, 2), target)
    scores = torch.einsum("bjhw,bkj->bkhw", functional.normalize(v, dim=1), unit) / 0.07
    scores = functional.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=False)
    dense = functional.cross_entropy(scores, labels, ignore_index=255, reduction="none").mean()
    return torch.stack((language, dense, functional.mse_loss(g, g0)))
