"""The arms of the comparison of ways to learn class by class: one recipe per setting, and what each arm changes in it.

Arms of one architecture go on from one first step per setting and order, so that they differ in nothing but how they
learn later classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from queryseg.recipe_file import read_recipe

ROOT = Path(__file__).parents[2]
ORDERS = (0, 1, 2)
"""0: the class table's order; the others are drawn by this seed."""

Stem = Literal["selected", "learnable", "selected_long"]


@dataclass(frozen=True)
class Arm:
    """title: a row of the table; stem: whose queries it has, and whose first step it goes on from if it is not joint;
    changes: overrides."""

    title: str
    stem: Stem
    changes: Mapping[str, Any] = field(default_factory=dict)
    joint: bool = False


NO_BOXES = {"box_cost": 0, "giou_cost": 0, "num_points": 1024}
LEARNABLE: dict[str, Any] = {
    "model.queries": {
        "class_path": "queryseg.queries.LearnableQueries",
        "init_args": {"num_queries": 40, "position": True},
    },
    "model.decoder.heads": {"class_path": "queryseg.decoders.MaskHeads", "init_args": {"classes": "sigmoid"}},
    "model.decoder.order": "cross_first",
    "objectives.criterion.box_weight": 0,
    "objectives.criterion.giou_weight": 0,
    "objectives.criterion.matcher.init_args": NO_BOXES,
    "objectives.virtual_queries.matcher.init_args": NO_BOXES,
}
"""Mask2Former's queries instead of selected pixels."""

NO_REPLAY = {"objectives.virtual_queries.num_virtual": 0}
LONGER_STEPS = {"continual.steps_per_class": 320}

ARMS: Mapping[str, Arm] = {
    "fine_tuning": Arm("fine-tuning", "selected", {"continual.objectives": {}, **NO_REPLAY}),
    "pseudo_labels": Arm("pseudo-labels, learnable queries", "learnable", NO_REPLAY),
    "without_selection": Arm("SimCIS without pre-alignment (and so without CSL)", "learnable"),
    "without_csl": Arm("SimCIS without CSL", "selected"),
    "without_virtual": Arm("SimCIS without virtual queries", "selected", NO_REPLAY),
    "simcis": Arm("SimCIS", "selected"),
    "simcis_long": Arm("SimCIS after a first step twice as long", "selected_long"),
    "pseudo_labels_longer_steps": Arm(
        "pseudo-labels, learnable queries, later steps four times as long", "learnable", {**NO_REPLAY, **LONGER_STEPS}
    ),
    "simcis_longer_steps": Arm("SimCIS, later steps four times as long", "selected", LONGER_STEPS),
    "joint": Arm("joint training, selected queries", "selected", joint=True),
    "joint_learnable": Arm("joint training, learnable queries", "learnable", joint=True),
}

PRETRAINED = {"model.backbone.image_size": [128, 256], "model.backbone.options": {"depth": 6}}
"""The small trunk of benchmarks/generalization/pretrain.py, whose table of positions the forward pass resamples. All
arms begin with its weights, as the paper's do with ImageNet's."""

STREETS = {
    **PRETRAINED,
    "data.num_workers": 0,
    "data.train.num_images": 300,
    "data.validate.streets.num_images": 30,
    "training.steps": 800,
    "training.save_every": 400,
    "continual.steps_per_class": 80,
}
CAMVID = {
    **PRETRAINED,
    "data.num_workers": 0,
    "data.crop": [96, 128],
    "data.short_sides": [96, 108, 120, 144],
    "data.protocol.short_side": 96,
    "training.steps": 800,
    "training.save_every": 400,
    "continual.steps_per_class": 80,
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "streets_11-2_panoptic": {**STREETS, "training.steps": 1600},
    "streets_11-2_semantic": STREETS,
    "streets_15-4_panoptic": STREETS,
    "streets_15-4_semantic": STREETS,
    "camvid_6-1_semantic": CAMVID,
    "camvid_8-3_semantic": CAMVID,
}
"""Recipe of recipes/simcis, and what is smaller in it. The setting with all arms has a first step twice as long: after
800 steps selected queries are too unsure for pseudo-labels."""

MAIN = "streets_11-2_panoptic"

SOME_ORDERS = {"simcis_long": (0,), "pseudo_labels_longer_steps": (1, 2), "simcis_longer_steps": (1, 2)}
"""Arms that answer a question of their own, and in which orders it is asked."""


@dataclass(frozen=True)
class Run:
    """One arm with one order of the classes; arm "selected", "learnable" or "selected_long": the first step alone."""

    setting: str
    arm: str
    order: int

    @property
    def name(self) -> str:
        return f"{self.setting}/{self.arm}/order_{self.order}"

    @property
    def _arm(self) -> Arm:
        return ARMS.get(self.arm) or Arm("the first step alone", cast(Stem, self.arm))

    @property
    def joint(self) -> bool:
        """All classes at once."""
        return self._arm.joint

    @property
    def stem(self) -> Run | None:
        """Whose first step it goes on from."""
        return None if self.joint or self.arm not in ARMS else Run(self.setting, self._arm.stem, self.order)

    @property
    def shared(self) -> Run:
        """What it has in common with others and is trained once: the first step; of joint training everything, because
        there the order only says which classes are called base and new."""
        return self.stem or Run(self.setting, self.arm, 0)

    def content(self) -> dict[str, Any]:
        """The recipe: plain values, to be resolved."""
        order = {} if self.order == 0 else {"continual.order": "random", "continual.order_seed": self.order}
        values = {**SETTINGS[self.setting], **order}
        if self._arm.stem == "learnable":
            values |= LEARNABLE
        if self._arm.stem == "selected_long":
            values["training.steps"] *= 2
        content = read_recipe(ROOT / "recipes" / "simcis" / f"{self.setting}.yaml", (), values)
        if self._arm.stem == "learnable" or self.arm == "without_csl":
            del content["continual"]["objectives"]["consistent_selection"]
        if self.joint:  # for as many steps as the others take together
            sizes = content["continual"]["classes_per_step"]
            content["training"]["steps"] += sum(sizes[1:]) * content["continual"]["steps_per_class"]
            content["continual"]["joint"] = True
        for key, value in self._arm.changes.items():
            node, *names = content, *key.split(".")
            for name in names[:-1]:
                node = node[name] if "class_path" not in node else node["init_args"][name]
            (node["init_args"] if "class_path" in node else node)[names[-1]] = value
        if self.stem is None:
            content["continual"]["objectives"] = {}  # of later steps, which there are none of
        return content


def all_runs() -> list[Run]:
    """Everything that the tables need, the most telling first."""
    runs = [Run(MAIN, arm, order) for order in ORDERS for arm in ARMS if order in SOME_ORDERS.get(arm, ORDERS)]
    others = [setting for setting in SETTINGS if setting.startswith("streets") and setting != MAIN]
    runs += [Run(setting, arm, order) for order in ORDERS for setting in others for arm in ("simcis", "pseudo_labels")]
    camvid = [setting for setting in SETTINGS if setting.startswith("camvid")]
    arms = ("simcis", "pseudo_labels", "fine_tuning")
    return runs + [Run(setting, arm, order) for order in ORDERS for setting in camvid for arm in arms]
