"""The picture of the README: one street in every domain, above what a demo's run says of it.

python docs/picture.py demo/run docs/domains.png
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

import queryseg
from queryseg.data.streets import DOMAINS, render

SEED, INDEX, OTHER_INDEX = 2, 22, 7
"""Test scenes of the demo; `other_city` draws its own scenes."""


def main(run: str, out: str) -> None:
    model = queryseg.load(run, device="cpu")
    columns = []
    for domain in DOMAINS:
        scene = render(domain, SEED, OTHER_INDEX if domain == "other_city" else INDEX, (128, 256))
        said = model.predict(scene.image)
        columns.append(np.concatenate([scene.image, np.asarray(said.color())]))
    rows = [np.concatenate(columns[:3], 1), np.concatenate(columns[3:], 1)]
    Image.fromarray(np.concatenate(rows)).save(out, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
