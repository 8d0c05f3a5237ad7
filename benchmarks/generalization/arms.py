"""The arms of the comparison: one recipe, and what each arm changes in it.

Stage one of QPrompt (two thirds of the steps) is trained once per seed, with GRQA's prototype bank filling silently;
the arms that name a `stem` go on from its checkpoint, so that they differ in nothing but their objective. Adapters have
a first stage each, from which the arms without and with GRQA fork.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from queryseg.recipe_file import read_recipe

ROOT = Path(__file__).parents[2]
STAGE_ONE = 2 / 3
"""Share of the steps; GRQA's own default."""

GRQA = {"objectives.grqa.class_path": "queryseg.objectives.GRQA"}
SOMA = {"training.adapter_factor": 0.5, "training.backbone_factor": 0.5, "training.final_weight_decay": 1e-5}
"""Its published rates and decay, for LoRA, too; without its moving average, which no other arm has."""
WIDTH = 128
"""Of Mask2Former's pixel decoder and queries; the paper's 256 beside a trunk of 1024 would be narrower still."""

FIXED = "queryseg.objectives.FixedAssignment"
TEXT_TOWER = {
    "embed_dim": 64,
    "quick_gelu": True,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
"""A small CLIP text encoder; its weights are drawn, so what it says of a class is a vector like any other."""


@dataclass(frozen=True)
class Arm:
    """title: a row of the table; changes: overrides of the recipe; stem: the arm from whose first stage it goes on."""

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    stem: str | None = None


def _part(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"queryseg.{path}", "init_args": arguments}


def _grqa(title: str, **options: Any) -> Arm:
    return Arm(title, GRQA | {f"objectives.grqa.{name}": value for name, value in options.items()}, "qprompt")


def _named(title: str, **changes: Any) -> Arm:
    """A query per class: its name behind a learned prompt, as `TEXT_TOWER` reads both."""
    source = _part("queries.TextualQueries", tower=TEXT_TOWER, tower_weights=False, conditioned=False, position=False)
    return Arm(title, {"model.queries": source, **changes})


def _adapted(name: str, title: str, part: dict[str, Any], **changes: Any) -> dict[str, Arm]:
    """An adapter on QPrompt's trunk, without and with GRQA."""
    changes = {"model.adapter": part, **GRQA, **changes}
    without = Arm(title, changes | {"objectives.grqa.start": 1.0}, name)
    return {name: without, f"{name}_grqa": Arm(f"{title}, GRQA", changes, name)}


ARMS: Mapping[str, Arm] = {
    "mlp_head": Arm(
        "MLP head",
        {
            "model.queries": "queryseg.queries.NoQueries",
            "model.decoder": "queryseg.decoders.PixelClassifier",
            "model.readout": "queryseg.readouts.PerPixel",
            "objectives": {"pixel": "queryseg.objectives.PixelCrossEntropy"},
        },
    ),
    "mask2former": Arm(
        "Mask2Former",
        {
            "model.backbone.pyramid": "bilinear",
            "model.pixel_decoder": _part("pixel_decoders.Deformable", width=WIDTH, num_layers=3, hidden=2 * WIDTH),
            "model.queries": _part("queries.LearnableQueries", position=True),
            "model.decoder": _part("decoders.CrossAttention", hidden=4 * WIDTH),
        },
    ),
    "faseg": Arm(
        "FASeg",
        {
            "model.backbone.pyramid": "bilinear",
            "model.pixel_decoder": _part(
                "pixel_decoders.Deformable",
                width=WIDTH,
                num_layers=3,
                hidden=2 * WIDTH,
                positions="conditional",
                num_levels=4,
            ),
            "model.queries": _part("queries.FocusAwareQueries"),
            "model.decoder": _part("decoders.HighResolutionCrossAttention", hidden=4 * WIDTH),
        },
    ),
    "eomt": Arm("EoMT", {"model.decoder": _part("decoders.MaskedInjection", num_blocks=2)}),
    "qprompt": _grqa("QPrompt", start=1.0),
    "alignment": _grqa("+ image alignment", reward="none"),
    "reward": _grqa("+ reward", kl_weight=0.0),
    "qprompt_r1": _grqa("+ KL = QPrompt-R1"),
    "scratch": Arm("QPrompt from scratch"),
    "image_1": _grqa("QPrompt-R1, λ_img 1 instead of 10", image_weight=1.0),
    "present_only": _grqa("QPrompt-R1, present classes only", present_only=True),
    "temperature": _grqa("QPrompt-R1, temperature 0.1", temperature=0.1),
    "learned_19": Arm("19 learned queries, matched", {"model.queries.num_queries": 19}),
    "texts_matched": _named("19 texts, matched"),
    "texts": _named(
        "19 texts, each for its class",
        **{"objectives.criterion": _part("objectives.SetCriterion", num_points=1024, matcher=FIXED)},
    ),
    **_adapted("frozen", "frozen", _part("adapters.Frozen")),
    **_adapted("rein", "Rein", _part("adapters.Rein"), **{"model.queries": _part("queries.LinkedQueries")}),
    **_adapted("soma", "SoMA", _part("adapters.SoMA"), **SOMA),
    **_adapted("fada", "FADA-style", _part("adapters.FADA")),
    **_adapted("lora", "LoRA", _part("adapters.LoRA"), **SOMA),
}
BY_CLASS = ("mask2former", "faseg")
"""Arms that are compared on small and thin classes apart, which is what FASeg is for; their rows tell every class."""

CLASS_GROUPS: Mapping[str, tuple[str, ...]] = {
    "thin": ("fence", "pole"),
    "small": ("traffic light", "traffic sign", "person", "rider", "motorcycle", "bicycle"),
}
"""Chosen before anything was measured; all other classes are the rest."""

VARIANTS = ("image_1", "present_only", "temperature")
"""What the paper's own setting was varied in once its results were known; everything else was fixed before."""

ADAPTERS = ("frozen", "rein", "soma", "fada", "lora")
"""Each with its `_grqa` twin, which forks from the same first stage; full fine-tuning is `qprompt` and `qprompt_r1`."""

TEXTS = ("learned_19", "texts_matched", "texts")
"""What textual queries are without a vision-language model; their table stands in the recipes of tqdm."""

APART = (*(f"{adapter}{twin}" for adapter in ADAPTERS for twin in ("", "_grqa")), *TEXTS)
"""Arms on streets that have tables of their own."""

NUM_QUERIES = (19, 50, 100, 200)


@dataclass(frozen=True)
class Run:
    """One row of the results: a setting, an arm, a seed and further overrides.

    setting  "streets" or "camvid"
    queries  K, None: the recipe's own
    """

    setting: Literal["streets", "camvid"]
    arm: str
    seed: int
    queries: int | None = None

    @property
    def name(self) -> str:
        """Of its folder and its row."""
        many = "" if self.queries is None else f"_{self.queries}_queries"
        return f"{self.setting}{many}/{self.arm}/seed_{self.seed}"

    @property
    def stem(self) -> Run | None:
        """The run whose first stage this one goes on from, None if it begins by itself."""
        stem = ARMS[self.arm].stem
        return None if stem is None else replace(self, arm=stem)

    def content(self) -> dict[str, Any]:
        """Its recipe, as plain values."""
        recipe, changes = SETTINGS[self.setting]
        more = {} if self.queries is None else {"model.queries.num_queries": self.queries}
        return read_recipe(ROOT / recipe, values={**changes, **more, **ARMS[self.arm].changes, "seed": self.seed})


SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "streets": ("recipes/qprompt_r1/streets.yaml", {"data.num_workers": 0}),
    "camvid": (
        "recipes/qprompt_r1/camvid.yaml",
        {
            "data.num_workers": 0,
            "model.backbone.image_size": [128, 256],  # the pre-trained table; resampled in the forward pass
            "model.queries.num_queries": 100,
            "data.crop": [192, 256],
            "data.short_sides": [192, 224, 256, 288, 320],
            "data.protocol.short_side": 240,
            "training.steps": 1500,
            "training.validate_every": 500,
        },
    ),
}
"""Recipe and what is smaller in it, so that all runs fit into hours on two cores."""


def all_runs() -> list[Run]:
    """Everything that the tables need, the most telling first; runs that share a first stage follow each other."""
    main = [arm for arm in ARMS if arm not in (*VARIANTS, *APART, "scratch")]
    runs = [Run("streets", arm, seed) for seed in (0, 1, 2) for arm in main]
    runs.append(Run("streets", "scratch", 0))
    runs += [Run("streets", arm, 0, k) for k in NUM_QUERIES for arm in ("qprompt", "qprompt_r1")]
    runs += [Run("camvid", arm, seed) for seed in (0, 1, 2) for arm in ("mlp_head", "qprompt", "qprompt_r1")]
    runs += [Run("streets", arm, seed) for seed in (0, 1, 2) for arm in VARIANTS]
    runs += [Run("streets", arm, seed) for seed in (0, 1, 2) for arm in APART]
    return runs
