"""The values that pass between the parts.

Shape legend: B images, H×W pixels, Q queries, K classes, D query width, C map channels, E mask-embedding width,
J width of an image–text space, h×w a grid of tokens, T tokens, M segments of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

IGNORE = 255
"""The label of pixels that no loss and no metric counts; never a class."""

Task = Literal["semantic", "panoptic", "instance"]
"""What segments are: classes; classes of stuff and objects of things; objects alone."""

ClassVectors = Literal["per_class", "shared"]
"""Whether learned vectors that stand for a class are one per class, or one for all classes, which then differ by their
text alone."""


@dataclass(frozen=True)
class Sample:
    """One labelled image as a data set hands it out.

    image         (3, H, W) uint8, RGB
    label_map     (H, W) uint8: class index, or 255 = ignored
    name          unique in its data set, e.g. "aachen_000001"; errors and reports speak of it
    instance_map  (H, W) int32, or None if the data set tells no objects apart. On pixels of things: the number of the
                  object, 1 …, unique in the image; 0 there is a crowd, objects nobody told apart. 0 everywhere else.
    """

    image: Tensor
    label_map: Tensor
    name: str
    instance_map: Tensor | None = None


@dataclass
class Target:
    """What one training image should become: one segment per class present (semantic), or one per class of stuff and
    per object of things (panoptic; instance: things alone).

    labels (M,) int64, masks (M, H, W) bool, label_map (H, W) int64 with 255 = ignored; the first `num_pseudo` segments
    were found by a model instead of a person. Not frozen, because Lightning moves batches to a device by writing into
    dataclasses.
    """

    labels: Tensor
    masks: Tensor
    label_map: Tensor
    num_pseudo: int = 0

    @classmethod
    def semantic(cls, label_map: Tensor, labels: Tensor | None = None) -> Target:
        """One segment per class present. label_map (H, W), any integer type; labels: the classes present, if known."""
        label_map = label_map.long()
        if labels is None:
            labels = torch.unique(label_map)
            labels = labels[labels != IGNORE]
        return cls(labels, label_map == labels[:, None, None], label_map)

    @classmethod
    def panoptic(cls, label_map: Tensor, index_map: Tensor, labels: Tensor) -> Target:
        """One segment per label. label_map (H, W), any integer type, crowds 255; index_map (H, W): which of the labels
        (M,) a pixel's segment has, −1 = none. Found by `data.segments`, because asking a GPU would cost a wait."""
        every = torch.arange(len(labels), dtype=index_map.dtype, device=index_map.device)
        return cls(labels, index_map == every[:, None, None], label_map.long())


@dataclass(frozen=True)
class Dims:
    """Sizes known once the backbone is built. They flow from left to right: every part receives the Dims of what comes
    before it; backbone, pixel decoder and decoder publish the Dims of what comes after them (`part.dims`).

    class_names    in label order; text queries are built from them
    embed          width of the trunk's tokens
    depth          blocks of the trunk
    channels       of features.levels, coarse → fine
    strides        of features.levels in pixels, coarse → fine
    mask_channels  of features.mask_features; after the decoder: width of the mask embeddings
    width          of query contents
    joinable       how many last blocks accept extra tokens (0: a convolutional or hierarchical trunk)
    joint          width of the image–text space (0: the backbone has none)
    class_vectors  of parts that learn one vector per class (tqdm's positions of texts and queries, and class layer)
    """

    class_names: tuple[str, ...]
    embed: int
    depth: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mask_channels: int
    width: int
    joinable: int = 0
    joint: int = 0
    class_vectors: ClassVectors = "per_class"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class ClassChange:
    """Other classes for a trained model whose queries are texts; what each part makes of it: `Part.change_classes`.

    names       (K) in their new order
    rows        for each of them the row it had when the model was trained, or None
    embeddings  (K, J) of their texts, unconditioned
    """

    names: tuple[str, ...]
    rows: tuple[int | None, ...]
    embeddings: Tensor

    def carried(self, table: Tensor) -> Tensor:
        """Learned vectors (K then, D) or (1, D), one for all classes → (K, D) or (1, D): a known class keeps its own,
        another one takes their mean. Source: ours; tqdm has no other classes than those it was trained on."""
        if len(table) == 1:
            return table
        mean = table.mean(0)
        return torch.stack([mean if row is None else table[row] for row in self.rows])


@dataclass(frozen=True)
class Trunk:
    """A backbone paused between two blocks.

    tokens   (B, extra + prefix + h·w, C): queries that joined, then class and register tokens, then patches row by row
    grid     (h, w)
    depth    blocks already run
    prefix   class and register tokens
    extra    queries that joined
    rotary   rotation table of the patches, private to the backbone's family
    taps     maps (B, C, h, w) kept on the way
    """

    tokens: Tensor
    grid: tuple[int, int]
    depth: int = 0
    prefix: int = 0
    extra: int = 0
    rotary: Tensor | None = None
    taps: tuple[Tensor, ...] = ()

    @property
    def patches(self) -> Tensor:
        """(B, h, w, C)"""
        patches = self.tokens[:, self.extra + self.prefix :]
        return patches.view(patches.shape[0], *self.grid, patches.shape[2])

    def with_patches(self, patches: Tensor) -> Trunk:
        """The same trunk with other patch tokens (B, h, w, C)."""
        kept = self.tokens[:, : self.extra + self.prefix]
        return replace(self, tokens=torch.cat([kept, patches.flatten(1, 2)], 1))

    def join(self, queries: Tensor) -> Trunk:
        """Prepend queries (B, Q, C); prepended, because rotary families rotate the last h·w tokens."""
        return replace(self, tokens=torch.cat([queries, self.tokens], 1), extra=self.extra + queries.shape[1])

    @property
    def queries(self) -> Tensor:
        """(B, extra, C)"""
        return self.tokens[:, : self.extra]


@dataclass(frozen=True)
class Joint:
    """Embeddings in the image–text space of a vision-language backbone: whole (B, J), dense (B, J, h, w)."""

    whole: Tensor
    dense: Tensor


@dataclass(frozen=True)
class Features:
    """What the image looks like to queries. The backbone fills it, the pixel decoder refines it; both are complete, so
    that the identity is a legal pixel decoder.

    trunk          the backbone where it paused
    levels         coarse → fine, each (B, C_l, h_l, w_l), as queries read them (level embedding included)
    mask_features  (B, E, h, w), the finest map: mask logits are ⟨mask embedding, mask feature⟩
    positions      one (1 or B, C_l, h_l, w_l) per level, () if the decoder needs none
    joint          image–text embeddings, if the backbone has them
    context        (B, K, J) text or other side information that the source offers to the pixel decoder
    extras         declared by name in a part's `provides`
    """

    trunk: Trunk
    levels: tuple[Tensor, ...]
    mask_features: Tensor
    positions: tuple[Tensor, ...] = ()
    joint: Joint | None = None
    context: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Queries:
    """content (B, Q, D); position (B, Q, D) or None; boxes (B, Q, 4) logits of the reference box (cx, cy, w, h) or
    None.

    The last `num_isolated` rows never attend and are never attended to: feed-forward layers and heads only.
    """

    content: Tensor
    position: Tensor | None = None
    boxes: Tensor | None = None
    num_isolated: int = 0
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_attending(self) -> int:
        return self.content.shape[1] - self.num_isolated

    def with_isolated(self, content: Tensor) -> Queries:
        """Append isolated rows (B, V, D); their position is zero and their box empty."""

        def pad(x: Tensor | None, value: float) -> Tensor | None:
            return None if x is None else torch.cat([x, x.new_full((*content.shape[:2], x.shape[2]), value)], 1)

        return replace(
            self,
            content=torch.cat([self.content, content], 1),
            position=pad(self.position, 0.0),
            boxes=pad(self.boxes, -torch.inf),
            num_isolated=self.num_isolated + content.shape[1],
        )


@dataclass(frozen=True)
class Prediction:
    """One reading of the queries by the heads.

    class_logits     (B, Q, K or K+1)
    class_scores     (B, Q, K) probabilities of the real classes
    mask_logits      (B, Q, h, w)
    mask_embeddings  (B, Q, E)
    mask_features    (B, E, h, w) that they were compared with; None if masks were made strip by strip
    content          (B, Q, D)
    boxes            (B, Q, 4) in [0, 1] or None
    tokens           (B, D, h', w') image tokens in the space of `content`, or None
    """

    class_logits: Tensor
    class_scores: Tensor
    mask_logits: Tensor
    mask_embeddings: Tensor
    mask_features: Tensor | None
    content: Tensor
    boxes: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def active(self) -> Tensor:
        """(B, Q) bool: the query stands for a class. Its best entry is not "no object" (QPrompt-R1's count of activated
        queries) or, where classes are independent sigmoids, its best score is at least 0.5 (our rule)."""
        num_classes = self.class_scores.shape[-1]
        if self.class_logits.shape[-1] > num_classes:
            return self.class_logits.argmax(-1) < num_classes
        return self.class_scores.amax(-1) >= 0.5

    def rows(self, part: slice) -> Prediction:
        """The same reading of some queries only."""
        names = ("class_logits", "class_scores", "mask_logits", "mask_embeddings", "content", "boxes")
        return replace(self, **{n: v[:, part] for n in names if (v := getattr(self, n)) is not None})


@dataclass(frozen=True)
class Candidates:
    """What queries offer as segments, before their masks compete.

    labels      (B, Q) int64, the best class
    confidence  (B, Q) compared with the readout's threshold; 0 where "no object" is likelier than any class
    scores      (B, Q) weigh the masks
    """

    labels: Tensor
    confidence: Tensor
    scores: Tensor


@dataclass(frozen=True)
class SegmentReading:
    """Segments of one image.

    segment_map  (H, W) int32, 1 … M, 0 = nothing
    labels       (M,) int64
    scores       (M,) 0…1
    masks        (M, H, W) bool where segments may overlap (instances); None: segment i is where the map is i
    """

    segment_map: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor | None = None

    def maps(self, things: frozenset[int]) -> tuple[Tensor, Tensor]:
        """label_map (H, W) uint8, 255 = nothing, and instance_map (H, W) int32, as a `Sample` has them; segments that
        overlap are cut as on the segment map."""
        is_thing = torch.isin(self.labels, self.labels.new_tensor(sorted(things)))
        numbers = torch.arange(1, len(self.labels) + 1, device=self.labels.device) * is_thing
        index = self.segment_map.long()
        label_map = torch.cat([self.labels.new_tensor([IGNORE]), self.labels])[index].byte()
        return label_map, torch.cat([numbers.new_zeros(1), numbers])[index].int()


@dataclass(frozen=True)
class Round:
    """What just happened in the decoder, told to `QuerySource.refine`; layer −1 is the reading before any layer.

    level      that the layer read
    attention  (B, Q, S) averaged over heads, in the graph, or None (not asked for, or there is none to follow)
    positions  (1 or B, S, D) encodings of the cells that `attention` is over
    upcoming   the level at whose size the next layer reads masks; those of `prediction` are exact there in any mode
    """

    layer: int
    prediction: Prediction
    features: Features
    level: int | None = None
    attention: Tensor | None = None
    positions: Tensor | None = None
    upcoming: int = 0


@dataclass(frozen=True)
class Output:
    """What a forward pass gives to objectives and readout.

    predictions  attending rows only, in order of depth; the last one is the answer
    isolated     the isolated rows of the same predictions, () without such rows
    queries      what entered the decoder
    """

    features: Features
    queries: Queries
    predictions: Sequence[Prediction]
    isolated: Sequence[Prediction] = ()

    @property
    def final(self) -> Prediction:
        return self.predictions[-1]
