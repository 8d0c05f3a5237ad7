import json

import pytest

CONFUSION = [[6, 2, 0], [0, 4, 0], [0, 0, 0]]


def test_scores_follow_from_the_pooled_confusion(make_evaluation):
    found = make_evaluation("fog", [CONFUSION, CONFUSION])
    assert found.num_images == 2
    assert found.iou[:2].tolist() == [6 / 8, 4 / 6]
    assert found.mean_iou == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert found.pixel_accuracy == pytest.approx(10 / 12)


def test_json_tells_every_class_apart(make_evaluation):
    content = json.loads(json.dumps(make_evaluation("fog", [CONFUSION, CONFUSION]).to_json(), allow_nan=False))
    assert content["classes"]["road"] == {"iou": 6 / 8, "recall": 6 / 8, "precision": 1.0, "pixels": 16}
    assert content["classes"]["car"] == {"iou": 4 / 6, "recall": 1.0, "precision": 4 / 6, "pixels": 8}
    assert content["classes"]["sky <far>"] == {"iou": None, "recall": None, "precision": None, "pixels": 0}
    assert content["confusion"] == [[12, 4, 0], [0, 8, 0], [0, 0, 0]]
    assert content["protocol"] == "native size, whole image"


def test_an_evaluation_reads_aloud(make_evaluation):
    assert str(make_evaluation("fog", [CONFUSION] * 3)) == "fog: mIoU 70.8 [70.8, 70.8]"
    assert str(make_evaluation("fog", [CONFUSION])) == "fog: mIoU 70.8 [–, –]"
