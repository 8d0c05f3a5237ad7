"""Candidates by the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from queryseg.benchmarking.candidate import Candidate
from queryseg.benchmarking.exported_candidate import ExportedCandidate
from queryseg.benchmarking.hugging_face import build_hugging_face
from queryseg.benchmarking.ladder import ladder
from queryseg.benchmarking.light_network import LightNetwork
from queryseg.benchmarking.reshaped import reshaped
from queryseg.benchmarking.segmenter_candidate import BareBackbone, SegmenterCandidate
from queryseg.data.class_table import CITYSCAPES, ClassTable, class_table
from queryseg.errors import InputError
from queryseg.export.exported_engine import suffixes
from queryseg.inference.engine import Size
from queryseg.inference.precision import InferencePrecision
from queryseg.inference.predictor import find_device
from queryseg.inference.run_folder import bases_for, read_model
from queryseg.recipe_file import build_untrained, read_recipe
from queryseg.spelling import did_you_mean

_RECIPES = (".yaml", ".yml")
_BUILT_IN = ("bare", "ladder")
_PREFIXES = ("hf:", "timm:")


@dataclass(frozen=True)
class Options:
    """How candidates are built.

    size       (h, w) shown to the models
    precision  of everything but exported files, which have their own
    compiled   torch.compile of everything but exported files
    allow      packages besides queryseg whose classes a recipe may name
    overrides  of the recipes among the candidates, as for `queryseg train`
    base       where the weights are that the adapters of runs were trained on; None: where they were then
    """

    size: Size
    device: str = "auto"
    precision: InferencePrecision = "fp32"
    compiled: bool = False
    allow: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    base: Path | None = None


def find_candidates(words: Sequence[str], options: Options) -> list[Candidate]:
    """In the order of the words. A word is a run's folder, a recipe (random weights), an exported file, a run or recipe
    in another form (`RUN@openvino:int8`, `RUN@pruned`, see `reshaped`), `hf:MODEL`, `timm:MODEL`, `bare` (the backbone
    alone) or `ladder` (six arms on one backbone), both of the first run or recipe. Where there is one, `bare` is added
    at the end if it is not named: ratios refer to it.

    Raises: InputError, CheckpointError, RecipeError
    """
    twice = [word for word in words if list(words).count(word) > 1]
    if twice:
        raise InputError(f"'{twice[0]}' is given twice; give every candidate once.")
    if options.overrides and not any(Path(word).suffix in _RECIPES for word in words):
        raise InputError(f"The option {options.overrides[0]} changes recipes, but no recipe is given; leave it out.")
    device = find_device(options.device)
    bases = bases_for(sources_of(words), options.base)
    own = {word: _own(word, words, bases, options, device) for word in words if _is_own(word)}
    first = next((one for one in own.values() if isinstance(one, SegmenterCandidate)), None)
    classes = next((one.classes for one in own.values() if one.classes is not None), CITYSCAPES)
    found: list[Candidate] = []
    for word in words:
        if word in own:
            found.append(own[word])
        elif word in _BUILT_IN:
            found += _of_backbone(word, first, options, device)
        else:
            found.append(_rival(word, options, classes, device))
    if first is not None and "bare" not in words and _has_bare(first):
        found.append(BareBackbone(first, options.size))
    return found


def sources_of(words: Sequence[str]) -> list[Path]:
    """Runs, recipes and exported files that the words name, each once."""
    return [Path(source) for source in dict.fromkeys(_split(word)[0] for word in words if _is_own(word))]


def _is_own(word: str) -> bool:
    return word not in _BUILT_IN and not word.startswith(_PREFIXES)


def _own(
    word: str, words: Sequence[str], bases: Mapping[Path, Path | None], options: Options, device: torch.device
) -> Candidate:
    source, form = _split(word)
    if form:
        of = _own(source, words, bases, options, device)
        if not isinstance(of, SegmenterCandidate):
            raise InputError(f"'{source}' is an exported file already; '@{form}' changes runs and recipes.")
        return reshaped(of, form, options.size, options.device)
    path = Path(word)
    names = [Path(other).resolve().name for other in {_split(other)[0] for other in words}]
    name = word if names.count(path.resolve().name) > 1 else path.resolve().name
    if path.is_dir():
        run = read_model(path, options.allow, bases[path])
        run.model.backbone.merge_adapter()
        settings = (run.recipe, device, options.precision, options.compiled, "run")
        return SegmenterCandidate(name, run.model, run.classes, *settings)
    if path.suffix in _RECIPES:
        recipe = read_recipe(path, options.overrides)
        return _untrained(name, recipe, options, device, "recipe, random weights")
    if path.suffix in suffixes():
        return ExportedCandidate(name, path, options.device)
    kinds = f"a run's folder, a recipe ({_RECIPES[0]}), either in another form (RUN@openvino:int8, RUN@pruned)"
    kinds += f", an exported file ({', '.join(suffixes())})"
    hint = did_you_mean(word, _BUILT_IN) if not path.suffix else ""
    near = hint if "Did you mean" in hint else ""
    raise InputError(f"'{word}' is no candidate: give {kinds}, bare, ladder, hf:MODEL or timm:MODEL.{near}")


def _split(word: str) -> tuple[str, str]:
    """ "runs/mine@onnx" → ("runs/mine", "onnx"), without a form ("runs/mine", "")"""
    source, at, form = word.rpartition("@")
    return (source, form) if at and not Path(word).exists() else (word, "")


def _untrained(
    name: str, recipe: dict[str, object], options: Options, device: torch.device, description: str
) -> SegmenterCandidate:
    torch.manual_seed(0)
    model = build_untrained(recipe, options.allow)
    classes = class_table(recipe["classes"])  # type: ignore[arg-type]
    return SegmenterCandidate(name, model, classes, recipe, device, options.precision, options.compiled, description)


def _of_backbone(
    word: str, first: SegmenterCandidate | None, options: Options, device: torch.device
) -> list[Candidate]:
    if first is None:
        raise InputError(f"'{word}' is made of the backbone of a run or recipe, and none is given; add one.")
    if word == "bare":
        return [BareBackbone(first, options.size)]
    arms = ladder(first.recipe, first.model.backbone.dims.depth)
    return [_untrained(f"ladder: {arm}", recipe, options, device, "random weights") for arm, recipe in arms.items()]


def _has_bare(first: SegmenterCandidate) -> bool:
    """Backbones of other packages are not timm's."""
    return type(first.model.backbone).__module__.startswith("queryseg.backbones.")


def _rival(word: str, options: Options, classes: ClassTable, device: torch.device) -> Candidate:
    kind, _, model = word.partition(":")
    settings = (device, options.precision, options.compiled)
    if kind == "hf":
        return build_hugging_face(model, options.size, classes, *settings)
    return LightNetwork(model, classes, *settings)
