"""What is timed is the real thing: stages give what `infer` gives, and `infer` gives what `queryseg predict` gives.

Shape legend: H×W pixels of a frame, h×w as shown to the model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml

from queryseg.benchmarking import Workload
from queryseg.benchmarking.hugging_face import FAMILIES, HuggingFaceCandidate
from queryseg.benchmarking.ladder import ladder
from queryseg.benchmarking.light_network import LightHead, LightNetwork
from queryseg.benchmarking.segmenter_candidate import BareBackbone, SegmenterCandidate, bare_network
from queryseg.benchmarking.stage_cost import stage_costs
from queryseg.data.class_table import class_table
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.predictor import Predictor
from queryseg.recipe_file import build_untrained, read_recipe

CPU = torch.device("cpu")
CLASSES = class_table(["road", "building", "sky", "car"])
WORKLOAD = Workload((64, 96), 2, (100, 150))
ARMS = ("Mask2Former", "− pixel decoder", "− multi-scale", "MLP head", "EoMT", "QPrompt")
LADDER = ("mask2former", "without_pixel_decoder", "without_multi_scale", "mlp_head", "eomt")


def frames():
    return [torch.randint(0, 256, (3, 100, 150), dtype=torch.uint8) for _ in range(2)]


def segmenter(recipe):
    torch.manual_seed(1)
    model = build_untrained(recipe)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.normal_(std=0.5)
    return SegmenterCandidate("model", model, CLASSES, recipe, CPU)


def count_flops(work, images):
    return {name: cost.flops for name, cost in stage_costs(work, images, CPU).items()}


def check(candidate, workload=WORKLOAD):
    """Labels of `infer` and of the stages, which must be the same, several classes among them."""
    work, images = candidate.work(workload), frames()
    with candidate.context():
        labels, again = work.infer(images), work.run_stages(images)
    assert labels.shape == (2, 100, 150)
    assert labels.dtype == np.uint8
    assert (labels == again).all()
    return images, labels, work


@pytest.mark.parametrize("arm", ARMS)
def test_segmenters_and_the_ladder(recipe_path, arm):
    """All six arms on a tiny ViT: the stages' labels are those of the engine's one graph, at the frame's size, and
    those of `queryseg predict` with the protocol that shows frames at the same size."""
    recipe = ladder(read_recipe(recipe_path), depth=3)[arm]
    candidate = segmenter(recipe)
    images, labels, work = check(candidate)
    assert [stage.name for stage in work.stages] == ["preprocess", "backbone", "head", "readout"]
    with candidate.context():
        counted = count_flops(work, images)
    assert counted["head"] > 0
    assert counted["preprocess"] == 0
    assert sum(stage.parameters for stage in work.stages) == candidate.parameters
    predictor = Predictor(candidate.model, CLASSES, Protocol(short_side=64), "cpu")
    assert (predictor.predict(images[1]).labels == labels[1]).mean() > 0.999
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("name", LADDER)
def test_ladder_is_that_of_the_recipes(name):
    """Arms made from the main recipe equal the shipped recipes of the ladder, part by part."""
    folder = Path(__file__).parents[2] / "recipes" / "qprompt_r1"
    arms = ladder(yaml.safe_load((folder / "gtav.yaml").read_text()), depth=24)
    arm = dict(zip(LADDER, ARMS, strict=False))[name]
    shipped = yaml.safe_load((folder / f"ladder_{name}.yaml").read_text())["model"]
    assert arms[arm]["model"] == shipped


def test_qprompt_of_the_ladder_is_the_main_recipe():
    """The sixth arm is the model of gtav.yaml."""
    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes" / "qprompt_r1" / "gtav.yaml").read_text())
    assert ladder(recipe, depth=24)["QPrompt"]["model"] == recipe["model"]


def test_bare_backbone(recipe_path):
    """timm's own network: as many parameters, and the FLOPs of three blocks over 25 tokens (24 patches and the class
    token) by hand; another size shares its weights."""
    recipe = read_recipe(recipe_path)
    bare = BareBackbone(segmenter(recipe), (64, 96))
    own = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=32, depth=3, num_heads=2, img_size=(64, 96), num_classes=0
    )
    assert bare.parameters == sum(p.numel() for p in own.parameters())
    work = bare.work(Workload((64, 96)))
    with bare.context():
        assert work.infer([]).shape == (1, 25, 32)
        found = count_flops(work, [])
    tokens, width = 25, 32
    block = tokens * width * (3 * width + width + 8 * width) + 2 * tokens * tokens * width
    assert found == {"backbone": 2 * (24 * 3 * 16 * 16 * width + 3 * block)}
    before = bare.work(Workload((64, 96))).infer([]).shape
    larger = bare.work(Workload((128, 96))).infer([])
    assert (before[1], larger.shape[1]) == (25, 49)
    first, second = bare._networks.values()
    tables = [network.blocks[0].attn.qkv.weight.data_ptr() for network in (first, second)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(("remainder", "patches"), [("pad", 5 * 7), ("cut", 4 * 6)])
def test_bare_backbone_of_images_with_a_remainder(recipe_path, remainder, patches):
    """70×100 pixels are 5×7 patches where the backbone pads and 4×6 where it cuts."""
    recipe = read_recipe(recipe_path, [f"model.backbone.remainder={remainder}"])
    bare = BareBackbone(segmenter(recipe), (70, 100))
    assert bare.work(Workload((70, 100))).infer([]).shape == (1, 1 + patches, 32)


def test_bare_backbone_of_a_pyramid(recipe_path):
    """ResNets are timm's features_only with four maps; a backbone of another package has no bare one."""
    recipe = read_recipe(recipe_path)
    recipe["model"]["backbone"] = {
        "class_path": "queryseg.backbones.PyramidBackbone",
        "init_args": {"name": "resnet10t"},
    }
    recipe["model"]["pixel_decoder"] = "queryseg.pixel_decoders.Projected"
    recipe["model"]["queries"]["init_args"]["position"] = True
    recipe["model"]["decoder"] = "queryseg.decoders.CrossAttention"
    candidate = segmenter(recipe)
    maps = BareBackbone(candidate, (64, 96)).work(Workload((64, 96))).infer([])
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    candidate.recipe = {"model": {"backbone": {"class_path": "elsewhere.Trunk", "init_args": {}}}}
    with pytest.raises(InputError, match=r"no bare backbone of elsewhere\.Trunk"):
        BareBackbone(candidate, (64, 96))


FAMILY_OPTIONS = {
    "RotaryViT": {"name": "eva02_tiny_patch14_224", "patch_size": 16, "options": {"depth": 1}},
    "SamViT": {
        "name": "samvit_base_patch16",
        "options": {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": (1,), "window_size": 4},
    },
    "PlainViT": {"name": "vit_tiny_patch16_224", "stem": "convolution", "options": {"depth": 1}},
}


@pytest.mark.parametrize("family", FAMILY_OPTIONS)
def test_bare_networks_of_all_families(family):
    """A canvas that is neither square nor the recipe's size: 5×9 patches, and a class token where there is one."""
    backbone = {"class_path": f"queryseg.backbones.{family}", "init_args": FAMILY_OPTIONS[family] | {"image_size": 64}}
    network = bare_network({"model": {"backbone": backbone}}, (80, 144)).eval()
    with torch.no_grad():
        shape = tuple(network.forward_features(torch.randn(1, 3, 80, 144)).shape)
    assert shape == ((1, 32, 5, 9) if family == "SamViT" else (1, 46, 192))


TINY = {
    "eomt": {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2},
    "mask2former": {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4},
    "segformer": {"hidden_sizes": (8, 8, 16, 16), "num_attention_heads": (1, 1, 2, 2), "decoder_hidden_size": 8},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_hugging_face(name):
    """Each family, tiny: its own processors lead from frames to labels; where the trunk can be run alone, the stages
    give the same labels and the trunk's FLOPs are not counted twice."""
    transformers = pytest.importorskip("transformers")
    family = FAMILIES[name]
    torch.manual_seed(0)
    model = family.build(transformers, TINY[name], dict(enumerate(CLASSES.names)), WORKLOAD.size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.2)
    candidate = HuggingFaceCandidate(name, model, family, WORKLOAD.size, CLASSES, CPU)
    images, labels, work = check(candidate)
    assert labels.max() < len(CLASSES)
    names = [stage.name for stage in work.stages]
    assert names == ["preprocess", *(["backbone", "head"] if family.trunk else ["network"]), "readout"]
    with candidate.context():
        counted = count_flops(work, images)
        whole = work.stages[0].run(images)
        direct = count_flops(type(work)(work.infer, (replace(work.stages[1], run=lambda _: model(**whole)),)), images)
    between = sum(flops for stage, flops in counted.items() if stage in ("backbone", "head", "network"))
    assert between == sum(direct.values())


def test_light_network():
    """A ResNet under 1×1 convolutions: the stages give the labels of the whole; the head adds resized logits."""
    torch.manual_seed(0)
    _, labels, _ = check(LightNetwork("resnet10t", CLASSES, CPU))
    assert len(np.unique(labels)) > 1
    head = LightHead([2, 3], 4)
    fine, coarse = torch.randn(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)
    biases = head.classifiers[1].bias[:, None, None]
    assert torch.allclose(head([fine, coarse]), head.classifiers[0](fine) + biases)


def test_workloads_without_pixels_are_refused():
    """Sizes and batches are positive."""
    with pytest.raises(InputError, match="size 0×4 has no pixels"):
        Workload((0, 4))
    with pytest.raises(InputError, match="batch of 0"):
        Workload((4, 4), 0)
