"""Which text encoder, and where its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from queryseg.errors import RecipeError


class Known(NamedTuple):
    """An architecture of open_clip whose weights tqdm uses: width J of its embeddings, and their place on the hub."""

    width: int
    hub: str


KNOWN: Mapping[str, Known] = {
    "ViT-B-16-quickgelu": Known(512, "timm/vit_base_patch16_clip_224.openai"),
    "EVA02-L-14-336": Known(768, "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k"),
}


@dataclass(frozen=True)
class TowerSettings:
    """architecture  open_clip's name of a model, or what open_clip's configuration files hold: {embed_dim, text_cfg,
                  quick_gelu}
    weights       True: the hub's, for the architectures of `KNOWN`; "hub:ORGANISATION/NAME"; a path: a local file of a
                  whole model or of its text encoder; False: random, the same ones every time
    sha256        what `TextTower.sha256` must be; None: anything

    Raises: RecipeError
    """

    architecture: str | Mapping[str, Any]
    weights: bool | str
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, str) and not {"embed_dim", "text_cfg"} <= self.architecture.keys():
            raise RecipeError(
                f"A text encoder is given as {dict(self.architecture)}, but needs the keys embed_dim and text_cfg of "
                "an open_clip configuration; or give the name of an architecture."
            )
        if self.weights is True and not (isinstance(self.architecture, str) and self.architecture in KNOWN):
            raise RecipeError(
                f"Where the weights of the text encoder {self.name} are on the hub is not known here; give "
                f"tower_weights a path or hub:ORGANISATION/NAME, or choose one of {', '.join(KNOWN)}."
            )

    def joint_width(self, backbone: int) -> int:
        """J. backbone: width of its image–text space, or 0, which is asked where the architecture does not say.

        Raises: RecipeError
        """
        if not isinstance(self.architecture, str):
            return int(self.architecture["embed_dim"])
        if self.architecture in KNOWN:
            return KNOWN[self.architecture].width
        if not backbone:
            raise RecipeError(
                f"How wide the embeddings of the text encoder {self.architecture} are is not known here; give its "
                f"open_clip configuration instead of its name, or choose one of {', '.join(KNOWN)}."
            )
        return backbone

    @property
    def hub(self) -> str | None:
        """The place on the hub, or None for a file and for random weights."""
        if self.weights is True:
            assert isinstance(self.architecture, str), "checked above"
            return KNOWN[self.architecture].hub
        if isinstance(self.weights, str) and self.weights.startswith("hub:"):
            return self.weights.removeprefix("hub:")
        return None

    @property
    def name(self) -> str:
        """Of the architecture, for messages."""
        return self.architecture if isinstance(self.architecture, str) else "of the recipe's own configuration"

    def __str__(self) -> str:
        where = f"hub:{self.hub}" if self.hub else self.weights or "random weights"
        return f"text encoder {self.name} ({where})"
