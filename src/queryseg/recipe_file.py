"""Reads a recipe: YAML → checked → `Recipe`.

A recipe is a function signature (`recipe.py`, and those of the parts it names); jsonargparse compares types and
builds. What is misspelt, unknown or not allowed is found before, to say it in one sentence and before anything is
imported.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from queryseg.contracts import Part
from queryseg.data.class_table import class_table
from queryseg.errors import RecipeError
from queryseg.recipe import Recipe
from queryseg.segmenter import Parts, Segmenter, build_segmenter
from queryseg.spelling import did_you_mean
from queryseg.types import Dims

Resolved = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ModelRecipe:
    """The part of a recipe that inference needs."""

    classes: str | list[str] | dict[str, Any]
    model: Parts


def read_recipe(
    path: str | Path, overrides: Sequence[str] = (), values: Mapping[str, Any] = MappingProxyType({})
) -> Resolved:
    """A recipe file with its overrides applied: plain values, nothing checked or built yet.

    overrides: "training.steps=100" or "--training.steps", "100"; a key inside a part may leave out init_args. Data
    files that lie beside the recipe are named from there. values: further overrides, dotted key → value.

    Raises: RecipeError
    """
    path = Path(path)
    content = read_settings(path, "recipe", "classes, model and data")
    for key, value in [*_pairs(overrides), *copy.deepcopy(dict(values)).items()]:
        _assign(content, key.split("."), value, key)
    _anchor_data_files(content, path.parent)
    return content


def read_settings(path: Path, what: str, keys: str) -> dict[str, Any]:
    """A YAML file that holds a mapping; what it is and which keys it has, for the sentence about one that does not.

    Raises: RecipeError
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"There is no {what} {path}; give the path of a YAML file, e.g. one of recipes/.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"The {what} {path} cannot be read ({error}); give a YAML text file.") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"The {what} {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise RecipeError(f"The {what} {path} holds no settings; it needs keys such as {keys}.")
    return content


def resolve(content: Mapping[str, Any], allow: Iterable[str] | None = None) -> Resolved:
    """Check a recipe and write out every default: what `build` and a run's recipe.yaml hold.

    allow: packages besides queryseg whose classes it may name; None: any.

    Raises: RecipeError
    """
    parser, config = _parse(Recipe, content, allow)
    resolved: Resolved = yaml.safe_load(parser.dump(config, skip_none=False, skip_validation=True))
    return resolved


def build(resolved: Mapping[str, Any], allow: Iterable[str] | None = None) -> Recipe:
    """Instantiate everything a recipe names, from its seed; pretrained weights are loaded here."""
    torch.manual_seed(resolved.get("seed", 0))  # the backbone draws its first weights now
    return _instantiate(Recipe, resolved, allow)  # type: ignore[no-any-return]


def build_untrained(resolved: Mapping[str, Any], allow: Iterable[str] = ()) -> Segmenter:
    """The model of a run's recipe without any weights (they come from the run): a loaded recipe may only name classes
    of queryseg and of the packages in `allow`, so that a checkpoint never executes foreign code."""
    return build_model(without_weights(resolved), allow)


def build_model(resolved: Mapping[str, Any], allow: Iterable[str] = ()) -> Segmenter:
    """The model alone, whose backbone loads what its recipe says; all else that was trained is still to be loaded. See
    `build_untrained`."""
    content = {key: value for key, value in resolved.items() if key in ("classes", "model")}
    recipe: ModelRecipe = _instantiate(ModelRecipe, content, allow)
    return build_segmenter(class_names(recipe.classes), recipe.model, initialise=False)


def without_weights(resolved: Mapping[str, Any]) -> Resolved:
    """The same recipe with a backbone that loads nothing."""
    return with_pretrained(resolved, False)


def with_pretrained(resolved: Mapping[str, Any], source: bool | str) -> Resolved:
    """The same recipe with a backbone that loads something else."""
    backbone = dict(resolved.get("model", {}).get("backbone", {}))
    arguments = backbone.get("init_args") or {}
    if "pretrained" in arguments:  # a resolved recipe names every option, and not every backbone has this one
        backbone["init_args"] = {**arguments, "pretrained": source}
    return {**resolved, "model": {**resolved.get("model", {}), "backbone": backbone}}


def class_names(classes: str | list[str] | dict[str, Any]) -> tuple[str, ...]:
    """Names in label order of a recipe's `classes`."""
    return class_table(classes).names


# ───────────────────────────── parsing ─────────────────────────────


def _parse(kind: type, content: Mapping[str, Any], allow: Iterable[str] | None) -> tuple[ArgumentParser, Namespace]:
    allowed = None if allow is None else {"queryseg", *allow}
    _check_fields(kind, content, "recipe", allowed)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, None)
    try:
        config = parser.parse_object(copy.deepcopy(dict(content)))  # it writes into nested values
    except ArgumentError as error:
        raise RecipeError(_one_sentence(str(error))) from None
    return parser, config


def _instantiate(kind: type, content: Mapping[str, Any], allow: Iterable[str] | None) -> Any:
    parser, config = _parse(kind, content, allow)
    return kind(**vars(parser.instantiate_classes(config)))


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "collections.abc.Mapping": "a mapping",
    "NoneType": "null",
}


def _one_sentence(message: str) -> str:
    """jsonargparse's several lines about a wrong type, as one sentence: where, the option and the part that has it, the
    value, and the kinds that would do."""
    keys = re.findall(r'Parser key "([^"]+)"', message)
    kinds = re.findall(r"Expected an? (.+?)(?:\. Got value|$)", message, re.MULTILINE)
    given = re.search(r"(?:Got|Given) value: (.*?)(?:\. Got value: |\s*$)", message, re.MULTILINE)
    if not (keys and kinds and given):
        lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
        return f"recipe.{keys[0] if keys else ''}: {' '.join(lines)}"
    part = re.search(r"class_path='([\w.]+)'", message[given.end(1) :])  # the innermost is told first
    part = part or re.search(r"class_path[ =]'([\w.]+)'", message)
    where = f"recipe.{keys[0]}"
    if len(keys) > 1 and part is not None:
        where += f": option '{keys[-1]}' of {part[1].rpartition('.')[2]}"
    return f"{where}: '{given[1]}' is given where {' or '.join(dict.fromkeys(map(_kind, kinds)))} is needed."


def _kind(name: str) -> str:
    """In words: "<class 'int'>" → "a whole number"."""
    if name.startswith("typing.Literal["):
        return "one of " + name.removeprefix("typing.Literal[").removesuffix("]")
    plain = name.removeprefix("<class '").removesuffix("'>")
    return _KINDS.get(plain, plain)


# ───────────────────────────── checking ─────────────────────────────


def _check_fields(kind: type, content: Any, where: str, allowed: set[str] | None) -> None:
    """kind: a dataclass; content: the mapping that will fill it."""
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where} is {content!r}, but must be a mapping of settings.")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    _check_names(content, fields, needed, where, "")
    for key, value in content.items():
        _check_value(hints[key], value, f"{where}.{key}", allowed)


def _check_names(given: Mapping[str, Any], known: Iterable[str], needed: Iterable[str], where: str, owner: str) -> None:
    known = list(known)
    for key in given:
        if key not in known:
            raise RecipeError(f"{where}{owner} has no option '{key}'.{did_you_mean(key, known)}")
    for key in needed:
        if key not in given:
            raise RecipeError(f"{where}{owner} needs '{key}'; add it.")


def _check_value(hint: Any, value: Any, where: str, allowed: set[str] | None) -> None:
    """Descends to whatever a value of this type may name; leaves (numbers, text) are left to jsonargparse."""
    if value is None:
        return
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        for option in arguments:
            _check_value(option, value, where, allowed)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        _check_fields(hint, value, where, allowed)
    elif origin is Callable:
        _check_part(arguments[-1], value, where, allowed)
    elif isinstance(hint, type) and issubclass(hint, Part):
        _check_part(hint, value, where, allowed)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        for key, item in value.items():
            _check_value(arguments[1], item, f"{where}.{key}", allowed)


def _check_part(seam: Any, value: Any, where: str, allowed: set[str] | None) -> None:
    """value: "package.module.Class" or {class_path, init_args}."""
    spec: Any = {"class_path": value} if isinstance(value, str) else value
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise RecipeError(f"{where} needs a class, e.g. class_path: queryseg.…; given is {value!r}.")
    _check_names(spec, ("class_path", "init_args"), (), where, ": a part")
    found = find_class(spec["class_path"], where, allowed)
    if isinstance(seam, type) and not issubclass(found, seam):
        raise RecipeError(f"{where}: {found.__name__} is not a {seam.__name__}; name a class of that kind.")
    known = options_of(found)
    given = spec.get("init_args") or {}
    if not isinstance(given, Mapping):
        raise RecipeError(f"{where}.init_args is {given!r}, but must be a mapping of options.")
    needed = [n for n, option in known.items() if option.default is option.empty]
    _check_names(given, known, needed, where, f": {found.__name__}")
    for key, item in given.items():
        _check_value(known[key].annotation, item, f"{where}.{key}", allowed)


def options_of(part: type) -> dict[str, inspect.Parameter]:
    """What a recipe may set of a class, annotations resolved; `**arguments` stand for those of the base class. Sizes
    (`Dims`) come from the model."""
    options: dict[str, inspect.Parameter] = {}
    for owner in part.__mro__:
        if "__init__" not in vars(owner):
            continue
        made_by = vars(owner)["__init__"]
        hints = typing.get_type_hints(made_by)
        parameters = list(inspect.signature(made_by).parameters.values())[1:]
        for parameter in parameters:
            named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if named and hints.get(parameter.name) is not Dims:
                options.setdefault(parameter.name, parameter.replace(annotation=hints.get(parameter.name, Any)))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return options


def find_class(path: str, where: str, allowed: set[str] | None = None) -> type:
    """The class at a dotted path; its package is compared with `allowed` before anything is imported.

    Raises: RecipeError
    """
    module_name, _, name = path.rpartition(".")
    package = path.partition(".")[0]
    if not module_name:
        raise RecipeError(
            f"{where} names '{path}', but needs a whole path, as in queryseg.queries.LearnableQueries; add its module."
        )
    if allowed is not None and package not in allowed:
        raise RecipeError(
            f"{where} names {path}, which is code outside queryseg; if you trust it, opt in with "
            f"--allow-code {package} (in Python: allow=['{package}'])."
        )
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        raise RecipeError(f"{where} names {path}, but there is no module to import it from ({error}).") from None
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and not n.startswith("_")]
        raise RecipeError(f"{where}: {module_name} has no class '{name}'.{did_you_mean(name, classes)}")
    if allowed is not None and found.__module__.partition(".")[0] not in allowed:
        raise RecipeError(f"{where} names {path}, which is {found.__module__}.{name}, code outside queryseg.")
    return found


# ───────────────────────────── overrides and paths ─────────────────────────────


def _pairs(overrides: Sequence[str]) -> Iterable[tuple[str, Any]]:
    words = iter(overrides)
    for word in words:
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals:
            text = next(words, "")
            if not text:
                raise RecipeError(f"The option --{key} has no value; write --{key} VALUE.")
        try:
            yield key, yaml.safe_load(text)
        except yaml.YAMLError:
            yield key, text


def _assign(content: dict[str, Any], keys: list[str], value: Any, key: str) -> None:
    """Set a dotted key, descending into init_args of parts by itself."""
    node = content
    for step, name in enumerate(keys):
        if "class_path" in node and name not in ("class_path", "init_args"):
            node = node.setdefault("init_args", {})
        if step == len(keys) - 1:
            node[name] = value
            return
        child = node.setdefault(name, {})
        if isinstance(child, str) and "." in child and not child.endswith((".yaml", ".yml")):
            child = node[name] = {"class_path": child}
        if not isinstance(child, dict):
            raise RecipeError(f"The option --{key} goes into '{name}', which is {child!r} and has no options.")
        node = child


def _anchor_data_files(content: Mapping[str, Any], folder: Path) -> None:
    """Data files beside the recipe are found from anywhere."""
    data = content.get("data")
    if not isinstance(data, dict):
        return

    def anchored(source: Any) -> Any:
        return str((folder / source).resolve()) if isinstance(source, str) and (folder / source).is_file() else source

    if "train" in data:
        data["train"] = anchored(data["train"])
    if isinstance(data.get("validate"), dict):
        data["validate"] = {name: anchored(source) for name, source in data["validate"].items()}
