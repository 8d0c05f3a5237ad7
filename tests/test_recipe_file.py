from __future__ import annotations

import sys

import pytest
import yaml

from queryseg.contracts import Decoder
from queryseg.decoders import QueryInjection
from queryseg.errors import RecipeError
from queryseg.recipe_file import build, build_untrained, find_class, options_of, read_recipe, resolve, without_weights


def read(path, *overrides):
    return resolve(read_recipe(path, overrides))


def test_a_resolved_recipe_spells_out_defaults_and_reads_back_identically(recipe_path):
    resolved = read(recipe_path)
    assert resolved["model"]["queries"]["init_args"] == {"num_queries": 6, "position": False, "std": 1.0}
    assert resolved["model"]["decoder"]["init_args"]["heads"]["init_args"]["activation"] == "gelu"
    assert resolved["training"]["power"] == 0.9
    assert resolve(yaml.safe_load(yaml.safe_dump(resolved))) == resolved


def test_build_makes_what_the_recipe_says(recipe_path):
    recipe = build(read(recipe_path, "--training.steps", "7", "--data.crop", "[64, 32]"))
    assert recipe.training.steps == 7
    assert recipe.data.crop == (64, 32)
    assert recipe.class_table.names == ("road", "building", "sky", "car")
    assert recipe.model.backbone.dims.depth == 3


@pytest.mark.parametrize("overrides", [["--model.queries.num_queries", "9"], ["model.queries.init_args.num_queries=9"]])
def test_overrides_reach_into_parts(recipe_path, overrides):
    assert read(recipe_path, *overrides)["model"]["queries"]["init_args"]["num_queries"] == 9


def test_an_override_may_give_options_to_a_part_named_by_its_path_alone(recipe_path):
    resolved = read(recipe_path, "--model.decoder.num_blocks", "2", "--model.readout.order", "masks_first")
    assert resolved["model"]["decoder"]["init_args"]["num_blocks"] == 2
    assert resolved["model"]["readout"]["init_args"]["order"] == "masks_first"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["--model.queries.num_querys", "9"],
            r"LearnableQueries has no option 'num_querys'. Did you mean 'num_queries'\?",
        ),
        (["--training.stepz", "9"], r"recipe.training has no option 'stepz'. Did you mean 'steps'\?"),
        (["--modle", "9"], r"recipe has no option 'modle'. Did you mean 'model'\?"),
        (["--training.steps", "many"], "recipe.training.steps: 'many' is given where a whole number is needed"),
        (["--training.steps", "0"], "training.steps is 0, but must be at least 1"),
        (["--model.decoder", "queryseg.queries.LearnableQueries"], "LearnableQueries is not a Decoder"),
        (["--model.decoder", "queryseg.decoders.QueryInjektion"], "Did you mean 'QueryInjection'"),
        (["--model.decoder", "queryseg.nowhere.Decoder"], "no module to import"),
        (["--model.decoder", "QueryInjection"], "names 'QueryInjection', but needs a whole path"),
        (["--model.decoder", "3"], "recipe.model.decoder needs a class"),
        (
            ["--model.readout.order", "sideways"],
            "recipe.model.readout: option 'order' of Mixture: 'sideways' is given where one of 'classes_first', 'mask",
        ),
        (
            ["--objectives.criterion.num_points", "x"],
            "recipe.objectives: option 'num_points' of SetCriterion: 'x' is given where a whole number is needed",
        ),
        (
            [
                "--continual",
                '{"classes_per_step": [19], "objectives": {"p": {"class_path": "queryseg.objectives.'
                'PseudoLabels", "init_args": {"threshold": "high"}}}}',
            ],
            "recipe.continual: option 'threshold' of PseudoLabels: 'high' is given where a number or null is needed",
        ),
        (["--training.ema_decay", "x"], "ema_decay: 'x' is given where a number or null is needed"),
        (["--objectives", "3"], "recipe.objectives: '3' is given where a mapping is needed"),
        (["--model.decoder", "{class_path: queryseg.decoders.QueryInjection, init_args: 3}"], "init_args is 3, but"),
        (["--classes", "[a, a]"], "'a' twice"),
        (["--classes", "citiscapes"], "Did you mean 'cityscapes'"),
        (["--data.rare_class_crop_pixels", "9"], "rare_class_crop_pixels is 9, but rare classes are not sampled"),
        (["--training.min_learning_rate", "1"], r"min_learning_rate is 1.0, but is what learning_rate \(0.0001\) fall"),
        (["--seed"], "option --seed has no value"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(recipe_path, overrides, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        _ = build(read(recipe_path, *overrides)).class_table
    assert "\n" not in str(caught.value)


def test_missing_and_malformed_files(tmp_path):
    with pytest.raises(RecipeError, match="There is no recipe"):
        read_recipe(tmp_path / "none.yaml")
    for content, sentence in [("a: [", "not valid YAML"), ("- a", "no settings"), ("", "no settings")]:
        path = tmp_path / "recipe.yaml"
        path.write_text(content)
        with pytest.raises(RecipeError, match=sentence):
            read_recipe(path)


def test_missing_keys_are_named(recipe_path):
    content = yaml.safe_load(recipe_path.read_text())
    del content["model"]["decoder"]
    with pytest.raises(RecipeError, match=r"recipe\.model needs 'decoder'"):
        resolve(content)


def test_data_files_beside_the_recipe_are_found_from_anywhere(recipe_path):
    assert read_recipe(recipe_path)["data"]["train"] == "data.yaml"  # not there: left to be reported when it is opened
    (recipe_path.parent / "data.yaml").write_text("layout: streets")
    assert read_recipe(recipe_path)["data"]["train"] == str(recipe_path.parent / "data.yaml")


def test_a_loaded_recipe_may_only_name_queryseg(recipe_path, tmp_path, monkeypatch):
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text(
        "open(__file__ + '.was_run', 'w').close()\nfrom queryseg.readouts import Mixture\nclass Mine(Mixture): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    resolved = read(recipe_path)
    resolved["model"]["readout"] = "stranger.Mine"
    with pytest.raises(RecipeError, match=r"names stranger.Mine.*--allow-code stranger"):
        build_untrained(resolved)
    assert "stranger" not in sys.modules
    assert not (package / "__init__.py.was_run").exists()
    assert type(build_untrained(resolved, allow=["stranger"]).readout).__name__ == "Mine"


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "queryseg.recipe_file.yaml.YAMLObject", "torch.load"])
def test_nothing_outside_queryseg_is_reachable_through_a_loaded_recipe(recipe_path, path):
    resolved = read(recipe_path)
    resolved["model"]["decoder"]["init_args"]["heads"] = path
    with pytest.raises(RecipeError):
        build_untrained(resolved)


def test_loading_asks_for_no_pretrained_weights(recipe_path):
    resolved = read(recipe_path)
    resolved["model"]["backbone"]["init_args"]["pretrained"] = "/nowhere/weights.pth"
    assert build_untrained(resolved).dims.num_classes == 4


def test_options_of_a_part_include_those_of_its_base_class_but_not_sizes():
    from queryseg.backbones import PlainViT

    options = options_of(PlainViT)
    assert {"name", "stem", "pretrained", "remainder"} <= options.keys()
    assert "dims" not in options_of(QueryInjection)
    assert issubclass(find_class("queryseg.decoders.QueryInjection", "here"), Decoder)


def test_values_come_after_overrides_and_stay_untouched(recipe_path):
    objectives = {"criterion": {"class_path": "queryseg.objectives.SetCriterion"}}
    values = {"training.steps": 9, "objectives": objectives, "objectives.criterion.num_points": 32}
    content = resolve(read_recipe(recipe_path, ["--training.steps", "7", "--seed", "3"], values))
    assert (content["training"]["steps"], content["seed"]) == (9, 3)
    assert content["objectives"]["criterion"]["init_args"]["num_points"] == 32
    assert objectives == {"criterion": {"class_path": "queryseg.objectives.SetCriterion"}}


def test_a_backbone_without_pretrained_weights_is_given_no_such_option():
    def model(**arguments):
        return {"model": {"backbone": {"class_path": "a.B", "init_args": arguments}, "readout": "c.D"}, "seed": 1}

    assert without_weights(model(width=3)) == model(width=3)
    assert without_weights(model(width=3, pretrained="weights.pth")) == model(width=3, pretrained=False)
