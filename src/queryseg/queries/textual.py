"""Queries that are the names of the classes.

Shape legend: B images, K classes, m vectors of the prompt, W width of a token, J width of the image–text space, D query
width, h×w the grid of patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from queryseg.contracts import Heads, QuerySource
from queryseg.errors import RecipeError
from queryseg.ops.layers import MLP, tokens_of
from queryseg.queries.context_decoder import ContextDecoder
from queryseg.text import TextTower, TowerSettings, load_tower
from queryseg.text.text_tower import unit_length
from queryseg.types import ClassChange, Dims, Features, Queries


class TextualQueries(QuerySource):
    """tqdm's textual object queries: query k is the name of class k behind a learned prompt, as a frozen text encoder
    reads both, then conditioned on the image.

    tower           the text encoder, see `TowerSettings`: open_clip's name of an architecture, or its configuration
    tower_weights   True: from the hub; hub:ORGANISATION/NAME; a path; False: random
    tower_sha256    of the weights, compared if given; a run remembers it in any case
    prompt_length   m (the authors: 5 with CLIP, 8 with EVA02-CLIP)
    conditioned     texts look at the image by a context decoder. False: the same texts for every image, which decoders
                    inside the trunk need (QueryInjection) and which any backbone may have
    position        also learn a position per query (false for decoders inside the trunk, which read none)
    context_width, context_layers, context_heads, dropout  of the context decoder

    Until `begin_training`, and in a saved model, the encoder and the prompt are not there: what they say of each class
    is the table `embeddings`. With `class_vectors: shared`, one position stands for all classes.
    Source: tqdm (ECCV 2024) §3.1, spec §2. Deviations: class names may be of any length (the authors' code cuts them
    to 5 tokens); `conditioned: false` and shared positions are ours.
    """

    embeddings: Tensor | None
    prompt: nn.Parameter | None
    provides = frozenset({"class_rows", "text_context"})

    def __init__(
        self,
        dims: Dims,
        tower: str | dict[str, Any] = "ViT-B-16-quickgelu",
        tower_weights: bool | str = True,
        tower_sha256: str | None = None,
        prompt_length: int = 5,
        conditioned: bool = True,
        position: bool = True,
        context_width: int = 256,
        context_layers: int = 3,
        context_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        for name, count in (("prompt_length", prompt_length), ("context_layers", context_layers)):
            if count < 1:
                raise RecipeError(f"TextualQueries: {name} is {count}, but must be at least 1.")
        if not 0 <= dropout < 1:
            raise RecipeError(f"TextualQueries: dropout is {dropout}, but is a probability: 0 ≤ dropout < 1.")
        self.settings = TowerSettings(tower, tower_weights, tower_sha256)
        self.class_names, self.prompt_length = dims.class_names, prompt_length
        joint = self.settings.joint_width(dims.joint)
        if dims.joint not in (0, joint):
            raise RecipeError(
                f"TextualQueries: the {self.settings} embeds texts into {joint} numbers, but the backbone images into "
                f"{dims.joint}; choose the text encoder that was trained with the backbone."
            )
        self.register_buffer("embeddings", torch.randn(dims.num_classes, joint))
        self.register_parameter("prompt", None)
        self.conditioner: ContextDecoder | None = None
        self.gamma: nn.Parameter | None = None
        if conditioned:
            self.requires |= {"joint_embeddings", "complete_trunk"}
            self.conditioner = ContextDecoder(joint, context_width, context_layers, context_heads, dropout)
            self.gamma = nn.Parameter(nn.init.trunc_normal_(torch.empty(joint)))
        self.project = MLP(joint, dims.width, dims.width, 2)
        num_rows = 1 if dims.class_vectors == "shared" else dims.num_classes
        self.position = nn.Parameter(torch.randn(num_rows, dims.width)) if position else None
        if position:  # a table that nothing reads would never learn
            self.requires |= {"positions_read"}
        self._tower: TextTower | None = None
        self._tower_sha256 = ""
        self._ids: Tensor | None = None
        self._names_in: dict[str, Tensor] = {}

    def undecayed(self) -> frozenset[str]:
        return frozenset({"position", "prompt"})

    # training

    def begin_training(self) -> None:
        """The encoder is loaded (from the hub, if the recipe says so), and the prompt takes the place of the table.

        Raises: see `load_tower`; InputError for class names that are too long
        """
        if self._tower is None:
            self.use_tower(load_tower(self.settings))

    def use_tower(self, tower: TextTower) -> None:
        """See `begin_training`. Raises: RecipeError if its embeddings have another width"""
        assert self.embeddings is not None, "a source has a table until it has a tower"
        joint = self.embeddings.shape[1]
        if tower.joint_width != joint:
            raise RecipeError(f"The {tower.name} embeds into {tower.joint_width} numbers, but {joint} are needed.")
        self._ids = tower.tokenize(self.class_names, self.prompt_length)
        self._tower, self._tower_sha256 = tower, tower.sha256
        prompt = self.embeddings.new_empty(self.prompt_length, tower.token_width)
        self.prompt, self.embeddings = nn.Parameter(nn.init.trunc_normal_(prompt)), None

    def encode_names(self, template: str) -> Tensor:
        if self._tower is None:
            raise RecipeError("The text encoder is only there while a model learns; call begin_training() first.")
        if "{class}" not in template:
            raise RecipeError(f"The template '{template}' has no place for the name; write {{class}} where it belongs.")
        if template not in self._names_in:
            ids = self._tower.tokenize([template.replace("{class}", name) for name in self.class_names])
            with torch.no_grad():
                self._names_in[template] = unit_length(self._tower.encode(ids))
        assert self.prompt is not None, "it came with the tower"
        return self._names_in[template].to(self.prompt.device)

    def fold(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The prompt becomes the table of what the encoder makes of it."""
        if self._tower is None:
            return dict(weights), {}
        assert self._ids is not None, "it came with the tower"
        prompt = weights["prompt"].detach()
        with torch.no_grad():
            table = self._tower.encode(self._ids, prompt)
        kept = {name: value for name, value in weights.items() if name != "prompt"}
        used = torch.frombuffer(bytearray.fromhex(self._tower_sha256), dtype=torch.uint8)
        return {**kept, "embeddings": table}, {"prompt": prompt, "tower_sha256": used}

    # prediction

    def change_classes(self, change: ClassChange) -> None:
        assert self.embeddings is not None, "classes change in a model that predicts"
        self.class_names = change.names
        self.embeddings = change.embeddings.to(self.embeddings)
        if self.position is not None:
            self.position = nn.Parameter(change.carried(self.position.detach()))

    def texts(self) -> Tensor:
        """(K, J) before the image"""
        if self._tower is None:
            assert self.embeddings is not None
            return self.embeddings
        assert self._ids is not None
        return self._tower.encode(self._ids, self.prompt)

    def context(self, features: Features) -> Tensor:
        """(B, K, J)"""
        texts = self.texts().expand(features.mask_features.shape[0], -1, -1)
        if self.conditioner is None:
            return texts
        joint = features.joint
        assert joint is not None, "the backbone provides 'joint_embeddings'"
        seen = torch.cat((joint.whole[:, None], tokens_of(joint.dense)), 1)
        return texts + self.gamma * self.conditioner(texts, seen)  # type: ignore[no-any-return]

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        assert features.context is not None, "made by `context`"
        content = self.project(features.context)
        return Queries(content, None if self.position is None else self.position.expand_as(content))
