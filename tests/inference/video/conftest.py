"""Videos that a test writes itself; needs PyAV (extra `video`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from queryseg.data.class_table import class_table
from queryseg.inference.predictor import Predictor


def street(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3): flat, so that lossy codecs keep it; its grey value tells the index."""
    return np.full((height, width, 3), 20 + 10 * index, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """12 frames at 25 per second."""
    pytest.importorskip("av", reason="needs the extra 'video'")
    from queryseg.inference.video.video_writer import VideoWriter

    path = tmp_path / "street.mp4"
    with VideoWriter(path, 25, codec="mpeg4") as writer:
        for index in range(12):
            writer.write(street(index), index / 25)
    return path


@pytest.fixture
def predictor(tiny_qprompt) -> Predictor:
    model = tiny_qprompt().eval()
    return Predictor(model, class_table(list(model.dims.class_names)), device="cpu")
