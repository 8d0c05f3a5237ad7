import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from queryseg.errors import InputError
from queryseg.metrics import (
    confusion_matrix,
    frequency_weighted_iou,
    iou,
    margins,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
    precision,
    recall,
)
from queryseg.metrics.confusion import class_counts, margins_iou

K = 4


def pairs():
    def maps(shape):
        label = arrays(np.uint8, shape, elements=st.sampled_from([*range(K), 255]))
        return st.tuples(arrays(np.uint8, shape, elements=st.integers(0, K - 1)), label)

    return st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(maps)


def tensors(pair):
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1])


@given(pairs())
def test_counts_equal_a_naive_loop(pair):
    naive = torch.zeros(K, K, dtype=torch.int64)
    for predicted, label in zip(pair[0].flat, pair[1].flat, strict=True):
        if label != 255:
            naive[int(label), int(predicted)] += 1
    assert torch.equal(confusion_matrix(*tensors(pair), K), naive)


@given(pairs())
def test_scores_equal_their_definitions_on_sets_of_pixels(pair):
    prediction, label = pair
    confusion = confusion_matrix(*tensors(pair), K)
    valid = label != 255
    ious = []
    for k in range(K):
        found, wanted = (prediction == k) & valid, label == k
        both, either = (found & wanted).sum(), (found | wanted).sum()
        for score, part, whole in ((iou, both, either), (recall, both, wanted.sum()), (precision, both, found.sum())):
            value = float(score(confusion)[k])
            assert math.isnan(value) if whole == 0 else value == pytest.approx(part / whole)
        if either:
            ious.append(both / either)
    if valid.any():
        assert float(mean_iou(confusion)) == pytest.approx(np.mean(ious))
        assert float(pixel_accuracy(confusion)) == pytest.approx((prediction == label)[valid].mean())
    else:
        assert math.isnan(float(pixel_accuracy(confusion)))
        assert math.isnan(float(mean_iou(confusion)))


@given(pairs(), pairs())
def test_scores_are_pooled(first, second):
    together = [torch.cat([a.flatten(), b.flatten()]) for a, b in zip(tensors(first), tensors(second), strict=True)]
    summed = confusion_matrix(*tensors(first), K) + confusion_matrix(*tensors(second), K)
    assert torch.equal(confusion_matrix(*together, K), summed)


@given(pairs())
def test_scores_equal_cityscapes_pixel_level_evaluation(pair):
    """cityscapesScripts' getIouScoreForLabel and getScoreAverage, over a matrix of all 256 labels: an ignored row
    counts neither as found nor as false; classes without any pixel are left out."""
    prediction, label = pair
    matrix = np.zeros((256, 256), np.int64)
    np.add.at(matrix, (label.ravel(), prediction.ravel()), 1)
    scores = []
    for k in range(K):
        others = [other for other in range(K) if other != k]
        true, missed, false = matrix[k, k], matrix[k, :].sum() - matrix[k, k], matrix[others, k].sum()
        scores.append(true / (true + missed + false) if true + missed + false else math.nan)
    confusion = confusion_matrix(*tensors(pair), K)
    np.testing.assert_allclose(iou(confusion), scores, rtol=1e-12)
    average = np.nanmean(scores) if not np.isnan(scores).all() else math.nan
    assert float(mean_iou(confusion)) == pytest.approx(average, nan_ok=True)


@given(pairs())
def test_counts_and_scores_equal_torchmetrics(pair):
    """Its confusion matrix; its accuracies over labelled classes, macro and weighted."""
    prediction, label = tensors(pair)
    confusion = confusion_matrix(prediction, label, K)
    expected = multiclass_confusion_matrix(prediction.long(), label.long(), K, ignore_index=255)
    assert torch.equal(confusion, expected)
    if (label != 255).any():
        found = float(pixel_accuracy(confusion))
        micro = multiclass_accuracy(prediction.long(), label.long(), K, average="micro", ignore_index=255)
        assert found == pytest.approx(float(micro), abs=1e-6)
        iou_of = multiclass_jaccard_index(prediction.long(), label.long(), K, average="weighted", ignore_index=255)
        assert float(frequency_weighted_iou(confusion)) == pytest.approx(float(iou_of), abs=1e-6)


def test_means_over_classes_by_hand():
    """3 of 4 and 1 of 2 labelled pixels found: mean accuracy 0.625. IoUs 3/5 and 1/3, weighing 4 and 2."""
    confusion = torch.tensor([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert float(mean_accuracy(confusion)) == 0.625
    assert float(frequency_weighted_iou(confusion)) == pytest.approx((4 * 3 / 5 + 2 / 3) / 6)
    assert math.isnan(float(frequency_weighted_iou(torch.zeros(3, 3))))


def test_a_class_that_is_predicted_but_never_labelled_counts_as_zero():
    confusion = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    assert iou(confusion)[:2].tolist() == [0.75, 0.0]
    assert iou(confusion)[2].isnan()
    assert float(mean_iou(confusion)) == 0.375


def test_leading_dimensions_are_kept():
    confusion = torch.randint(0, 9, (5, K, K), generator=torch.Generator().manual_seed(0))
    assert iou(confusion).shape == (5, K)
    assert mean_iou(confusion)[3] == mean_iou(confusion[3])
    assert margins(confusion)[1][2].tolist() == confusion[2].sum(1).tolist()


def test_the_largest_class_table_fits():
    label = torch.tensor([[253, 0, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[253, 253, 7]], dtype=torch.uint8)
    confusion = confusion_matrix(prediction, label, 254)
    assert confusion.sum() == 2
    assert confusion[253, 253] == confusion[0, 253] == 1


def test_labels_without_class_are_refused():
    label = torch.tensor([[0, 6]], dtype=torch.uint8)
    with pytest.raises(InputError, match="holds 6, but there are 4 classes"):
        confusion_matrix(torch.zeros_like(label), label, K)


def test_predictions_without_class_are_refused():
    label = torch.zeros(1, 2, dtype=torch.uint8)
    with pytest.raises(InputError, match="A prediction holds 254, but there are 4 classes"):
        confusion_matrix(torch.tensor([[255, 254]], dtype=torch.uint8), label, K)


def test_pixels_predicted_to_be_nothing_are_missed_and_claimed_by_no_class():
    """Label 0 0 1 255 against 0 nothing nothing nothing: IoU ½ and 0, and no class is predicted too often."""
    label = torch.tensor([[0, 0, 1, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 255, 255, 255]], dtype=torch.uint8)
    counts = class_counts(prediction, label, K)
    assert counts.tolist() == [[1, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5, [0] * 5]
    true, labelled, predicted = margins(counts)
    assert (true.tolist(), labelled.tolist(), predicted.tolist()) == ([1, 0, 0, 0], [2, 1, 0, 0], [1, 0, 0, 0])
    assert margins_iou(true, labelled, predicted)[:2].tolist() == [0.5, 0.0]
    assert confusion_matrix(prediction, label, K).sum() == 1


def test_different_sizes_are_refused():
    with pytest.raises(InputError, match=r"\(2, 3\) but the label map \(3, 2\)"):
        confusion_matrix(torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(3, 2, dtype=torch.uint8), K)


def test_images_of_many_pixels_are_counted_in_parts(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    label, prediction = (torch.randint(0, K, (13, 17), generator=draw).byte() for _ in range(2))
    whole = confusion_matrix(prediction, label, K)
    monkeypatch.setattr("queryseg.metrics.confusion._AT_ONCE", 50)
    assert torch.equal(confusion_matrix(prediction, label, K), whole)
    assert whole.sum() == 13 * 17
