from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from queryseg.backbones import PlainViT, PyramidBackbone
from queryseg.contracts import CAPABILITIES, check_parts
from queryseg.decoders import CrossAttention, PixelClassifier, QueryInjection
from queryseg.errors import RecipeError
from queryseg.inference.engine import Engine
from queryseg.pixel_decoders import Deformable, Identity, Projected
from queryseg.queries import LearnableQueries, NoQueries, StagedQueries, TextualQueries
from queryseg.readouts import Mixture, PerPixel
from queryseg.segmenter import Parts, build_segmenter


def test_qprompt_of_the_paper_has_315_million_parameters():
    # spec §2: 315 M ± 1 at DINOv2-L/16 with 19 classes; of them 304 M in the backbone
    with torch.device("meta"):
        parts = Parts(
            PlainViT("vit_large_patch14_dinov2", patch_size=16, image_size=512),
            Identity,
            LearnableQueries,
            QueryInjection,
            Mixture,
        )
        model = build_segmenter([f"class {k}" for k in range(19)], parts)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert abs(millions - 315) < 1
    assert abs(sum(p.numel() for p in model.backbone.parameters()) / 1e6 - 304) < 1


def test_the_mlp_head_of_the_paper_has_312_million_parameters():
    with torch.device("meta"):
        backbone = PlainViT("vit_large_patch14_dinov2", patch_size=16, image_size=512)
        parts = Parts(backbone, Identity, NoQueries, PixelClassifier, PerPixel)
        model = build_segmenter([f"class {k}" for k in range(19)], parts)
    assert abs(sum(p.numel() for p in model.parameters()) / 1e6 - 312) < 1


@pytest.mark.parametrize(
    ("pixel_decoder", "expected"),
    [(Deformable, 325), (Projected, 320), (partial(Projected, levels=[1]), 320)],
    ids=["mask2former", "without_pixel_decoder", "without_multi_scale"],
)
def test_the_ladder_of_the_paper_has_325_320_and_320_million_parameters(pixel_decoder, expected):
    # spec §2, from Table 7
    with torch.device("meta"):
        backbone = PlainViT("vit_large_patch14_dinov2", patch_size=16, image_size=512, pyramid="bilinear")
        queries = partial(LearnableQueries, position=True, std=1.0)
        parts = Parts(backbone, pixel_decoder, queries, CrossAttention, Mixture)
        model = build_segmenter([f"class {k}" for k in range(19)], parts)
    assert abs(sum(p.numel() for p in model.parameters()) / 1e6 - expected) < 1


def test_without_multi_scale_every_block_learns_if_the_last_one_is_tapped_twice():
    options = {"embed_dim": 32, "depth": 3, "num_heads": 2}
    for taps, idle in (([0, 1, 2, 2], set()), ([0, 1, 1, 2], {2})):
        backbone = PlainViT("vit_tiny_patch16_224", image_size=32, taps=taps, pyramid="bilinear", options=options)
        parts = Parts(backbone, partial(Projected, width=32, levels=[1]), LearnableQueries, CrossAttention, Mixture)
        final = build_segmenter(["a", "b"], parts)(torch.randn(1, 3, 32, 32)).final
        (final.mask_logits.square().mean() + final.class_logits.square().mean()).backward()
        assert {i for i, block in enumerate(backbone.blocks) if block.mlp.fc1.weight.grad is None} == idle


@pytest.mark.parametrize("size", [(32, 32), (48, 80), (33, 61), (7, 100)])
def test_any_image_size_gives_masks_over_its_canvas(tiny_qprompt, size):
    model = tiny_qprompt().eval()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    canvas = model.canvas(*size)
    assert all(c % 16 == 0 and 0 <= c - s < 16 for c, s in zip(canvas, size, strict=True))
    final = model(model.normalise(images)).final
    assert final.class_logits.shape == (2, 6, 5)
    assert final.mask_logits.shape == (2, 6, canvas[0] // 4, canvas[1] // 4)
    labels = Engine(model)(images)
    assert labels.shape == (2, *size)
    assert labels.dtype == torch.uint8
    assert int(labels.max()) < 4


def test_padding_is_zero_after_normalisation_and_the_image_is_untouched(tiny_qprompt):
    model = tiny_qprompt()
    images = torch.randint(0, 256, (1, 3, 20, 30), dtype=torch.uint8)
    normalised = model.normalise(images)
    assert normalised.shape == (1, 3, 32, 32)
    assert not normalised[..., 20:, :].any()
    assert not normalised[..., 30:].any()
    mean, std = torch.tensor(model.backbone.mean), torch.tensor(model.backbone.std)
    expected = (images[0, :, 3, 5] / 255 - mean) / std
    assert torch.allclose(normalised[0, :, 3, 5], expected, atol=1e-5)


def test_every_trainable_parameter_receives_gradient(tiny_qprompt):
    model = tiny_qprompt()
    final = model(torch.randn(2, 3, 32, 48)).final
    (final.mask_logits.square().mean() + final.class_logits.square().mean()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle


def test_queries_change_the_answer_and_training_runs_the_same_graph_as_testing(tiny_qprompt):
    model = tiny_qprompt()
    images = torch.randn(1, 3, 32, 32)
    trained, tested = model.train()(images).final, model.eval()(images).final
    assert torch.equal(trained.mask_logits, tested.mask_logits)
    with torch.no_grad():
        model.queries.content.normal_()  # a constant added to all of them would vanish in the block's LayerNorm
    assert not torch.allclose(model(images).final.mask_features, tested.mask_features)  # patches attend to queries


def test_a_batch_equals_its_images_one_by_one(tiny_qprompt):
    model = tiny_qprompt().double().eval()
    images = torch.randn(3, 3, 32, 48, dtype=torch.float64)
    together = model(images).final.mask_logits
    single = torch.cat([model(image[None]).final.mask_logits for image in images])
    assert torch.allclose(together, single, atol=1e-12)


def test_copies_and_saved_weights_give_the_same_output(tiny_qprompt):
    model = tiny_qprompt().eval()
    images = torch.randn(1, 3, 32, 32)
    other = tiny_qprompt().eval()
    other.load_state_dict(model.state_dict())
    expected = model(images).final.mask_logits
    assert torch.equal(other(images).final.mask_logits, expected)
    assert torch.equal(copy.deepcopy(model)(images).final.mask_logits, expected)


def test_bfloat16_stays_close(tiny_qprompt):
    engine = Engine(tiny_qprompt().eval())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    expected = engine.find(images).scores()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(engine.find(images).scores().float(), expected, atol=0.05)


@pytest.mark.filterwarnings("ignore")
def test_the_whole_path_exports_and_compiles_as_one_graph(tiny_qprompt):
    engine = Engine(tiny_qprompt().eval())
    images = torch.randint(0, 256, (1, 3, 40, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = engine(images)
        exported = torch.export.export(engine, (images,)).module()
        assert torch.equal(exported(images), expected)
        assert torch.equal(torch.compile(engine, fullgraph=True, backend="eager")(images), expected)


def test_parts_that_do_not_fit_are_refused_in_one_sentence():
    with pytest.raises(RecipeError, match="feature levels"):
        build_segmenter(
            ["a"],
            Parts(
                PyramidBackbone("resnet18"),
                Identity,
                LearnableQueries,
                QueryInjection,
                Mixture,
            ),
        )
    vit = PlainViT("vit_tiny_patch16_224", options={"embed_dim": 32, "depth": 2, "num_heads": 2})
    with pytest.raises(RecipeError, match=r"last 3 block.*last 2"):
        build_segmenter(["a"], Parts(vit, Identity, LearnableQueries, partial(QueryInjection, num_blocks=3), Mixture))


@pytest.mark.parametrize("source", [LearnableQueries, StagedQueries, TextualQueries])
def test_positions_that_nothing_reads_are_refused(source):
    """They would never learn; without them the same source joins the trunk."""
    text = {"tower": {"embed_dim": 24, "text_cfg": {}}, "tower_weights": False, "conditioned": False}
    made = partial(source, **(text if source is TextualQueries else {"num_queries": 5}))

    def build(position):
        vit = PlainViT("vit_tiny_patch16_224", options={"embed_dim": 32, "depth": 2, "num_heads": 2})
        return build_segmenter(["a"], Parts(vit, Identity, partial(made, position=position), QueryInjection, Mixture))

    with pytest.raises(RecipeError, match=rf"queries {source.__name__} requires 'positions_read' .*`position: false`"):
        build(True)
    assert build(False).queries.requires == frozenset()


def test_missing_capability_names_both_sides(tiny_qprompt):
    parts = tiny_qprompt().parts()
    parts["queries"].requires = frozenset({"refinement"})
    with pytest.raises(RecipeError, match=r"queries LearnableQueries requires 'refinement'.*decoder QueryInjection"):
        check_parts(parts)
    assert "refinement" in CAPABILITIES
