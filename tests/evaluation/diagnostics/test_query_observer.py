from dataclasses import replace

import pytest
import torch

from queryseg.backbones import PlainViT
from queryseg.data.protocol import Protocol
from queryseg.decoders import PixelClassifier
from queryseg.errors import RecipeError
from queryseg.evaluation.diagnostics import QueryObserver, has_queries
from queryseg.evaluation.evaluator import evaluate
from queryseg.evaluation.observation import Observation
from queryseg.metrics.mask_overlaps import mask_overlaps
from queryseg.metrics.query_activity import overlap_sums
from queryseg.objectives.group_alignment import class_means
from queryseg.pixel_decoders import Identity
from queryseg.queries import NoQueries
from queryseg.readouts import PerPixel
from queryseg.segmenter import Parts, build_segmenter

WHOLE = Protocol()


def watch(model, dataset, protocol=WHOLE, space="mask"):
    """What an observer collected, and the observations that it was shown."""
    observer, shown = QueryObserver(model, space), []

    def both(observation: Observation) -> None:
        shown.append(observation)
        observer(observation)

    evaluate(model, dataset, protocol, observer=both)
    return observer.observed(), shown


@pytest.mark.parametrize("space", ["mask", "token"])
def test_what_is_collected_is_what_the_model_said(model, pictures, space) -> None:
    found, shown = watch(model, pictures(), space=space)
    assert (found.num_images, found.num_queries, found.num_classes) == (5, 6, 4)
    wanted = torch.zeros(2, 2)
    for i, (output, label_maps, _) in enumerate((o.output, o.label_maps, o.size) for o in shown):
        reading = output.final
        active = reading.class_logits[0].argmax(-1) < 4
        assert torch.equal(found.classes[i] >= 0, active)
        assert torch.equal(found.classes[i][active], reading.class_logits[0, active].argmax(-1))
        queries, pixels = reading.mask_embeddings, reading.mask_features
        if space == "token":
            queries, pixels = reading.content, reading.tokens
        torch.testing.assert_close(found.embeddings[i], queries[0] / queries[0].norm(dim=-1, keepdim=True))
        means, measured = class_means(pixels, label_maps, 4, 16)
        torch.testing.assert_close(found.class_means[i], means[0])
        assert torch.equal(found.measured[i], measured[0])
        assert found.present[i].tolist() == [bool((label_maps == k).any()) for k in range(4)]
        masks = reading.mask_logits[0, active] > 0
        rows = pictures()[i].image.shape[1] // 4, pictures()[i].image.shape[2] // 4  # stride 4, padding left out
        inside = masks[:, : rows[0], : rows[1]]
        wanted += overlap_sums(mask_overlaps(inside, inside), found.classes[i][active])
    torch.testing.assert_close(found.overlaps.float(), wanted)
    assert (found.classes >= 0).any(), "some query must be active for this test to mean anything"


def test_every_window_counts_as_an_image(model, pictures) -> None:
    found, shown = watch(model, pictures(2), Protocol(window=16, stride=10))
    assert found.num_images == sum(len(o.label_maps) for o in shown) > 2


def test_images_without_a_label_have_no_class(model, pictures) -> None:
    found, _ = watch(model, pictures(2, ignored=(1,)))
    assert found.present.any(1).tolist() == [True, False]
    assert not found.measured[1].any()
    assert found.class_means.isfinite().all()


def test_a_model_without_queries_is_told_in_one_sentence() -> None:
    backbone = PlainViT("vit_tiny_patch16_224", image_size=32, options={"embed_dim": 32, "depth": 2, "num_heads": 2})
    model = build_segmenter(("a", "b"), Parts(backbone, Identity, NoQueries, PixelClassifier, PerPixel))
    assert not has_queries(model)
    with pytest.raises(RecipeError, match="PixelClassifier classifies pixels without queries"):
        QueryObserver(model)


def test_tokens_are_needed_for_their_space(model, monkeypatch) -> None:
    monkeypatch.setattr(type(model.decoder), "provides", frozenset())
    QueryObserver(model)
    with pytest.raises(RecipeError, match="compare in the space 'mask'"):
        QueryObserver(model, "token")


def test_a_changing_number_of_queries_is_refused(model, pictures) -> None:
    observer = QueryObserver(model)
    part = slice(3)

    def fewer(observation: Observation) -> None:
        output = observation.output
        observer(observation)
        observer(replace(observation, output=replace(output, predictions=[output.final.rows(part)])))

    evaluate(model, pictures(1), Protocol(), observer=fewer)
    with pytest.raises(RecipeError, match="3 to 6 queries, depending on the image"):
        observer.observed()
