"""The arms of the comparison: one recipe, and what each arm changes in it.

Stage one of QPrompt (two thirds of the steps) is trained once per seed, with GRQA's prototype bank filling silently;
the arms marked `forks` go on from its checkpoint, so that they differ in nothing but their objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from queryseg.recipe_file import read_recipe

ROOT = Path(__file__).parents[2]
STAGE_ONE = 2 / 3
"""Share of the steps; GRQA's own default."""

GRQA = "objectives.grqa.class_path=queryseg.objectives.GRQA"
WIDTH = 128
"""Of Mask2Former's pixel decoder and queries; the paper's 256 beside a trunk of 1024 would be narrower still."""


@dataclass(frozen=True)
class Arm:
    """title: a row of the table; changes: overrides of the recipe; forks: from stage one."""

    title: str
    changes: tuple[str, ...] = ()
    forks: bool = False


def _part(path: str, **arguments: Any) -> str:
    listed = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    return f"{{class_path: queryseg.{path}, init_args: {{{listed}}}}}"


_DEFORMABLE = _part("pixel_decoders.Deformable", width=WIDTH, num_layers=3, hidden=2 * WIDTH)
_POSITIONED = _part("queries.LearnableQueries", position="true")
_CROSS = _part("decoders.CrossAttention", hidden=4 * WIDTH)

ARMS: Mapping[str, Arm] = {
    "mlp_head": Arm(
        "MLP head",
        (
            "model.queries=queryseg.queries.NoQueries",
            "model.decoder=queryseg.decoders.PixelClassifier",
            "model.readout=queryseg.readouts.PerPixel",
            "objectives={pixel: queryseg.objectives.PixelCrossEntropy}",
        ),
    ),
    "mask2former": Arm(
        "Mask2Former",
        (
            "model.backbone.pyramid=bilinear",
            f"model.pixel_decoder={_DEFORMABLE}",
            f"model.queries={_POSITIONED}",
            f"model.decoder={_CROSS}",
        ),
    ),
    "eomt": Arm("EoMT", (f"model.decoder={_part('decoders.MaskedInjection', num_blocks=2)}",)),
    "qprompt": Arm("QPrompt", (GRQA, "objectives.grqa.start=1.0"), forks=True),
    "alignment": Arm("+ image alignment", (GRQA, "objectives.grqa.reward=none"), forks=True),
    "reward": Arm("+ reward", (GRQA, "objectives.grqa.kl_weight=0.0"), forks=True),
    "qprompt_r1": Arm("+ KL = QPrompt-R1", (GRQA,), forks=True),
    "scratch": Arm("QPrompt from scratch"),
    "image_1": Arm("QPrompt-R1, λ_img 1 instead of 10", (GRQA, "objectives.grqa.image_weight=1.0"), forks=True),
    "present_only": Arm("QPrompt-R1, present classes only", (GRQA, "objectives.grqa.present_only=true"), forks=True),
    "temperature": Arm("QPrompt-R1, temperature 0.1", (GRQA, "objectives.grqa.temperature=0.1"), forks=True),
}
VARIANTS = ("image_1", "present_only", "temperature")
"""What the paper's own setting was varied in once its results were known; everything else was fixed before."""


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
        return replace(self, arm="qprompt") if ARMS[self.arm].forks else None

    def content(self) -> dict[str, Any]:
        """Its recipe, as plain values."""
        recipe, changes = SETTINGS[self.setting]
        more = () if self.queries is None else (f"model.queries.num_queries={self.queries}",)
        overrides = [*changes, *more, *ARMS[self.arm].changes, f"seed={self.seed}"]
        return read_recipe(ROOT / recipe, overrides)


SETTINGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "streets": ("recipes/qprompt_r1/streets.yaml", ("data.num_workers=0",)),
    "camvid": (
        "recipes/qprompt_r1/camvid.yaml",
        (
            "data.num_workers=0",
            "model.backbone.image_size=[128, 256]",  # the pre-trained table; resampled in the forward pass
            "model.queries.num_queries=100",
            "data.crop=[192, 256]",
            "data.short_sides=[192, 224, 256, 288, 320]",
            "data.protocol.short_side=240",
            "training.steps=1500",
            "training.validate_every=500",
        ),
    ),
}
"""Recipe and what is smaller in it, so that all runs fit into hours on two cores."""


def all_runs() -> list[Run]:
    """Everything that the tables need, the most telling first; runs that share a first stage follow each other."""
    main = [arm for arm in ARMS if arm not in (*VARIANTS, "scratch")]
    runs = [Run("streets", arm, seed) for seed in (0, 1, 2) for arm in main]
    runs.append(Run("streets", "scratch", 0))
    runs += [Run("streets", arm, 0, k) for k in NUM_QUERIES for arm in ("qprompt", "qprompt_r1")]
    runs += [Run("camvid", arm, seed) for seed in (0, 1, 2) for arm in ("mlp_head", "qprompt", "qprompt_r1")]
    runs += [Run("streets", arm, seed) for seed in (0, 1, 2) for arm in VARIANTS]
    return runs
