"""What pruning promises: nothing changes where a weight is zero, little within the tolerance, and it is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from queryseg.data.protocol import Protocol
from queryseg.decoders import PixelClassifier
from queryseg.errors import InputError
from queryseg.inference.engine import Engine
from queryseg.inference.kept_queries import KeptQueries
from queryseg.inference.predictor import Predictor
from queryseg.inference.query_pruning import prune_queries

SILENT = (1, 4)


@pytest.fixture
def images(image):
    return [image, image.flip(2)]


class Silent(KeptQueries):
    """Of all six queries, two give every class a probability of exactly 0."""

    def forward(self, queries, mask_features):
        reading = self.heads(queries, mask_features)
        if queries.content.shape[1] < 6:
            return reading
        scores = reading.class_scores.clone()
        scores[:, SILENT] = 0
        return replace(reading, class_scores=scores)


def scores(model, images):
    with torch.no_grad():
        return torch.cat([Engine(model).find(one[None]).scores() for one in images])


def test_queries_without_weight_are_dropped_exactly(model, images):
    model.decoder.heads = Silent(model.heads, range(6))
    pruned, report = prune_queries(model, images, tolerance=0.0)
    kept = [index for index in range(6) if index not in SILENT]
    assert report.kept == tuple(kept)
    assert (report.bound, report.agreement) == (0.0, 1.0)
    assert report.largest_change < 1e-6, "sums of fewer terms round otherwise"
    with torch.no_grad():
        before, after = (Engine(one).read(images[0][None])[0] for one in (model, pruned))
    assert after.mask_logits.shape[1] == after.class_scores.shape[1] == 4
    torch.testing.assert_close(after.mask_logits, before.mask_logits[:, kept], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tolerance", [0.05, 0.3, 0.8, 1.5])
def test_no_score_changes_by_more_than_the_tolerance(model, images, tolerance):
    """Measured from outside, on masks' own grid and enlarged; a larger tolerance never keeps more."""
    pruned, report = prune_queries(model, images, tolerance)
    change = (scores(model, images) - scores(pruned, images)).abs().max()
    assert change <= report.bound + 1e-6
    assert report.bound <= tolerance
    assert report.largest_change == pytest.approx(float(change), abs=1e-6)
    assert len(prune_queries(model, images, 2 * tolerance)[1].kept) <= len(report.kept)
    assert (report.num_queries, report.num_images) == (6, 2)


def test_one_query_is_always_left_and_the_model_stays_as_it_is(model, images):
    before = scores(model, images)
    pruned, report = prune_queries(model, images, tolerance=100)
    assert len(report.kept) == 1
    assert torch.equal(scores(model, images), before)
    assert report.agreement == pytest.approx(
        float((scores(pruned, images).argmax(1) == before.argmax(1)).float().mean())
    )


def test_a_predictor_is_pruned_in_place(model, classes, images):
    predictor = Predictor(model, classes, Protocol(short_side=24), device="cpu")
    pictures = [image.permute(1, 2, 0).numpy() for image in images]
    before = predictor.labels(np.stack(pictures))
    report = predictor.prune(pictures, tolerance=0.5)
    assert 1 <= len(report.kept) < 6
    agreement = (predictor.labels(np.stack(pictures)) == before).mean()
    assert agreement == pytest.approx(report.agreement, abs=0.05)  # counted at the shown size there
    assert f"{len(report.kept)} of 6 queries are read;" in str(report)


def test_half_precision_is_pruned_as_it_predicts(model, classes, images):
    predictor = Predictor(model, classes, device="cpu", precision="bf16")
    pictures = [image.permute(1, 2, 0).numpy() for image in images]
    report = predictor.prune(pictures, tolerance=0.5)
    assert 1 <= len(report.kept) < 6
    assert predictor.engine.precision == "bf16"
    assert predictor.labels(pictures[0]).shape == images[0].shape[1:]


def test_pruned_models_export_and_compile(model, images):
    pruned, _ = prune_queries(model, images, 0.5)
    engine = Engine(pruned).eval()
    with torch.no_grad():
        program = torch.export.export(engine, (images[0][None],))
        assert torch.equal(program.module()(images[0][None]), engine(images[0][None]))


@pytest.mark.parametrize(
    ("tolerance", "given", "message"), [(-1, 1, "tolerance of pruning is -1"), (0.1, 0, "no images to calibrate")]
)
def test_bad_calibration(model, images, tolerance, given, message):
    with pytest.raises(InputError, match=message):
        prune_queries(model, images[:given], tolerance)


def test_only_queries_that_are_read_once(model, images):
    model.decoder.__class__ = PixelClassifier
    with pytest.raises(InputError, match="Queries of PixelClassifier with Mixture cannot be left out"):
        prune_queries(model, images)


def test_windows_are_not_pruned(model, classes, images):
    with pytest.raises(InputError, match="Pruning shows whole images"):
        Predictor(model, classes, Protocol(window=32, stride=16), device="cpu").prune([images[0]])
