"""What each step of a continual run trains on, and with which recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from queryseg.continual.step_arguments import with_arguments
from queryseg.data.class_split import ClassSplit
from queryseg.data.class_subset import ClassSubset, present_classes
from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.file_tree import DataFile
from queryseg.errors import RecipeError, UsageError
from queryseg.objectives import PseudoLabels
from queryseg.objectives.pseudo_distribution import PSEUDO_DISTRIBUTION_FILE
from queryseg.objectives.query_bank import BANK_FILE
from queryseg.recipe import ContinualSettings, DataSource, Recipe
from queryseg.recipe_file import Resolved, build, find_class, resolve, without_weights
from queryseg.spelling import first_of
from queryseg.training.checkpoint import CHECKPOINT
from queryseg.types import Task

ORIGIN = "origin.txt"
"""In the folder of a step that was taken from another run: where from."""


@dataclass(frozen=True)
class ContinualPlan:
    """A continual recipe, cut into steps; steps count from 1.

    recipe    resolved
    settings  its section `continual`
    split     which classes come in which step
    out       the run's folder, absolute
    """

    recipe: Resolved
    settings: ContinualSettings
    classes: ClassTable
    split: ClassSplit
    task: Task
    out: Path

    @classmethod
    def of(cls, resolved: Resolved, out: Path) -> ContinualPlan:
        """Raises: RecipeError if the split does not fit the classes, or a part refuses its options"""
        recipe: Recipe = build(without_weights(resolved))
        assert recipe.continual is not None, "a continual recipe"
        if not recipe.data.validate:
            raise RecipeError("A continual run is measured after every step, but validates nothing; add data.validate.")
        classes = class_table(recipe.classes)
        split = recipe.continual.split(classes, recipe.seed)
        return cls(resolved, recipe.continual, classes, split, recipe.data.task, out.absolute())

    @property
    def trained(self) -> ClassSplit:
        """The steps that are trained: of a joint training a single one."""
        return self.split.joined() if self.settings.joint else self.split

    def __len__(self) -> int:
        return len(self.trained)

    def folder(self, step: int) -> Path:
        return self.out / f"step_{step}"

    def has_begun(self, step: int) -> bool:
        return any((self.folder(step) / file).exists() for file in (CHECKPOINT, ORIGIN))

    @property
    def begun(self) -> list[int]:
        """Steps that were trained, at least in part, or taken from another run."""
        return [step for step in range(1, len(self) + 1) if self.has_begun(step)]

    def chosen(self, steps: tuple[int, int] | None, with_first: bool = False) -> list[int]:
        """Which steps are to be complete at the end. steps: first and last; with_first: the first one, too

        Raises: UsageError
        """
        first, last = steps or (1, len(self))
        if not 1 <= first <= last <= len(self):
            raise UsageError(f"--steps is {first}..{last}, but the recipe has the steps 1 to {len(self)}.")
        chosen = list(range(first, last + 1))
        return [1, *chosen] if with_first and first > 1 else chosen

    def measured(self, step: int) -> list[int]:
        """Label ids that a model is to know after this step."""
        return self.split.seen(len(self.split) if self.settings.joint else step)

    def memory(self, step: int) -> dict[str, int]:
        """What this step keeps for the next one besides its model → bytes."""
        bank = self.folder(step) / BANK_FILE
        found = {"virtual queries": bank.stat().st_size} if bank.exists() else {}
        for source in self.replayed(step + 1):
            kept = open_data(source, relative_to=self.recipe["data"]["root"])
            assert isinstance(kept, ClassSubset)
            size = sum(sample_bytes(kept.dataset, index) for index in kept.indices)
            found["images"] = found.get("images", 0) + size
        return found

    def step_recipe(self, step: int) -> Resolved:
        """The ordinary recipe that this step trains."""
        content = {key: value for key, value in self.recipe.items() if key != "continual"}
        content |= {"data": self._data(step), "training": self._training(step)}
        if step > 1:
            content["objectives"] = {**self.recipe["continual"]["objectives"], **content["objectives"]}
            if content["model"].get("adapter") is None:  # the step before has all weights
                content = without_weights(content)
        arguments = {
            "old_classes": self.trained.old(step),
            "current_classes": self.trained.current(step),
            "learned_classes": [self.trained.current(number) for number in range(1, step + 1)],
            "step_number": step,
            "bank": str(self.folder(step - 1) / BANK_FILE) if step > 1 else None,
            "distribution": None,
        }
        if find_pseudo_labels(content["objectives"]) is not None:
            arguments["distribution"] = str(self.folder(step) / PSEUDO_DISTRIBUTION_FILE)
        parts = {key: with_arguments(content[key], arguments) for key in ("model", "objectives")}
        return resolve({**content, **parts})

    def training_images(self, step: int) -> SegmentationDataset:
        """Raises: RecipeError if there is none"""
        data = self._data(step)
        dataset = open_data(data["train"], relative_to=data["root"])
        if not len(dataset):
            names = first_of([self.classes.names[label] for label in self.trained.current(step)], 4)
            raise RecipeError(
                f"Step {step} has no image: none of '{dataset.name}' shows one of its classes ({names}) as the "
                f"protocol '{self.settings.protocol}' asks; give other images, or put these classes into another step."
            )
        return dataset

    def validation_images(self, step: int) -> dict[str, SegmentationDataset]:
        """By name: the images with a class that was seen, and the labels that scores are taken from. What is predicted
        where segments of later classes were removed counts as wrong if their labels stay and only the seen classes are
        averaged over.

        Raises: RecipeError if a set has none
        """
        stay = self.task != "semantic" and self.settings.unseen_segments == "counted"
        found = {}
        seen = self.measured(step)
        for name, source in self.recipe["data"]["validate"].items():
            dataset = self._open(source, containing=seen, labelled=None if stay else seen)
            if not len(dataset):
                raise RecipeError(f"data.validate.{name} shows no class of the steps up to {step}; give other images.")
            found[name] = dataset
        return found

    def replayed(self, step: int) -> list[dict[str, Any]]:
        """Of every earlier step, the images that are shown again in this one. They share the memory evenly."""
        share = self.settings.replay // max(1, step - 1)
        if not share:
            return []
        kept = {"balanced": share, "seed": self.recipe["seed"]}
        return [self._images(number) | kept for number in range(1, step)]

    def first_validation(self) -> tuple[SegmentationDataset, Tensor]:
        """All its images with all labels, and (N, K) bool: the class has a pixel in the image."""
        source, root = next(iter(self.recipe["data"]["validate"].values())), self.recipe["data"]["root"]
        relative_to = root if isinstance(source, dict) else None
        dataset = open_data(source, relative_to=relative_to)
        return dataset, present_classes(dataset, source, relative_to)

    def find_classes(self) -> None:
        """Look into every label once, on as many processes as the recipe's loaders have; the result is kept."""
        data = self.recipe["data"]
        for source in (data["train"], *data["validate"].values()):
            relative_to = data["root"] if isinstance(source, dict) else None
            place = source if isinstance(source, dict) else Path(source).absolute()
            dataset = open_data(place, relative_to=relative_to)
            present_classes(dataset, place, relative_to, data["num_workers"])

    def _data(self, step: int) -> dict[str, Any]:
        data, seen = dict(self.recipe["data"]), self.trained.seen(step)
        subset = self._images(step)
        if replayed := self.replayed(step):
            subset = {"layout": "joined", "parts": [subset, *replayed]}
        validate = {
            name: self._subset(source, containing=seen, labelled=seen) for name, source in data["validate"].items()
        }
        return data | {"train": subset, "validate": validate if self.recipe["training"]["validate_every"] else {}}

    def _images(self, step: int) -> dict[str, Any]:
        """What is new to train on in this step."""
        future = self.trained.future(step)
        narrow = {"without": future} if self.settings.protocol != "overlapped" and future else {}
        chosen = {"containing": self.trained.current(step), "labelled": self._labelled(step), **narrow}
        return self._subset(self.recipe["data"]["train"], **chosen)

    def _labelled(self, step: int) -> list[int]:
        sequential, future = self.settings.protocol == "sequential", self.trained.future(step)
        labelled = self.trained.seen(step) if sequential else self.trained.current(step)
        return [*labelled, future[0]] if self.settings.label_upper_bound == "leaky" and future else labelled

    def _subset(self, source: DataSource, **options: Any) -> dict[str, Any]:
        # a recipe's data file is found from the current folder, its inline settings from data.root
        data = source if isinstance(source, dict) else str(Path(source).absolute())
        return {"layout": "class_subset", "data": data, **options}

    def _open(self, source: DataSource, **options: Any) -> SegmentationDataset:
        return open_data(self._subset(source, **options), relative_to=self.recipe["data"]["root"])

    def _training(self, step: int) -> dict[str, Any]:
        training = dict(self.recipe["training"])
        if step == 1:
            return training
        training["steps"] = self.settings.steps_per_class * len(self.trained.current(step))
        for name in ("learning_rate", "milestones", "warmup", "trained"):
            if (value := getattr(self.settings, name)) is not None:
                training[name] = value
        return training


def find_pseudo_labels(objectives: Mapping[str, Any]) -> str | None:
    """The name of the objective that adds pseudo-labels; None without one."""
    for name, spec in objectives.items():
        path = spec if isinstance(spec, str) else spec["class_path"]
        if issubclass(find_class(path, f"objectives.{name}"), PseudoLabels):
            return name
    return None


def sample_bytes(dataset: SegmentationDataset, index: int) -> int:
    """What an image and its label take as files; of one that lies in none, as pixels."""
    files = getattr(dataset, "files", None)
    if files is None:
        sample = dataset[index]
        return sample.image.numel() + sample.label_map.numel()
    found: list[DataFile] = files(index)[:2]
    return sum(file.stat().st_size if isinstance(file, Path) else file.location.stored for file in found)
