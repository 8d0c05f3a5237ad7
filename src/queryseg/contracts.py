"""The seams of queryseg: six kinds of parts that learn, one that reads the answer, and what they promise each other.

Order of one forward pass (`segmenter.py` spells it out):

    backbone → queries.context → pixel_decoder → queries → [objectives' prepare] → decoder → readout

Shape legend: see `types.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch import Tensor, nn

from queryseg.errors import InputError, RecipeError
from queryseg.full_precision import full_precision
from queryseg.types import (
    ClassChange,
    Dims,
    Features,
    Joint,
    Output,
    Prediction,
    Queries,
    Round,
    SegmentReading,
    Target,
    Trunk,
)


class Part(nn.Module, ABC):
    """Anything a recipe names. `provides` and `requires` name capabilities (see `CAPABILITIES`), may be set per
    instance, and are compared when the model is built.

    ABC, because nn.Module alone does not enforce abstract methods.
    """

    provides: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()

    def schedule(self, progress: float) -> None:
        """Called before every training step with progress in [0, 1]; replaces hidden step counters (EoMT's
        annealing)."""

    def begin_training(self) -> None:
        """Called once before a model learns, also where a run goes on: load what only training needs."""

    def change_classes(self, change: ClassChange) -> None:
        """Take other classes than those of training, for prediction; see `Segmenter.change_classes`."""

    def undecayed(self) -> frozenset[str]:
        """Names, relative to this part, of tables that weight decay must not shrink (queries, positions, class tokens).
        Biases, norms and every other vector are exempt without being named."""
        return frozenset()


class Projection(NamedTuple):
    """A linear layer of a block's attention or MLP.

    linear   (out, in)
    stacked  matrices on top of each other in it: 3 in a fused qkv, 2 in a gated MLP's first layer
    biases   what is added to its output, wherever the block keeps it
    """

    linear: nn.Linear
    stacked: int
    biases: tuple[nn.Parameter, ...]


class Adapter(Part):
    """Changes a trunk without changing its interface. Image tokens only: queries and class tokens never pass
    `after_block`."""

    starts_at: int = 0
    """First block that it changes; the blocks before run without gradients and can be shared with a reference."""

    def attach(self, backbone: Backbone) -> None:
        """Freeze, wrap or replace; called once."""

    def initialise(self, backbone: Backbone) -> None:
        """First values that depend on the trunk's weights; called before training, never on what was trained."""

    def after_block(self, patches: Tensor, index: int) -> Tensor:
        """(B, h, w, C) → (B, h, w, C); return the argument itself to change nothing."""
        return patches

    def extras(self) -> Mapping[str, Tensor]:
        """Goes to `features.extras`, e.g. Rein's link: query_position (Q, D)."""
        return {}

    def merge(self, backbone: Backbone) -> None:
        """Fold into the trunk's weights where possible and leave it as it came; before prediction and export."""


class Backbone(Part):
    """A trunk of blocks that can be paused between any two of them.

    Families implement `begin`, `block`, `finish`, `levels`, `sections`; everything else is given. Images are
    (B, 3, H, W) float, normalised with `mean` and `std` (RGB, of pixel values in 0…1).
    """

    dims: Dims
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    adapter: Adapter | None
    if TYPE_CHECKING:  # nn.Module's own __call__ returns Any

        def __call__(self, images: Tensor, stop: int, trunk: Trunk | None = None) -> Features: ...

    def __init__(self) -> None:
        super().__init__()
        self.adapter = None  # set here: a class attribute would hide the registered module
        self._given = frozenset[str]()

    @abstractmethod
    def begin(self, images: Tensor) -> Trunk:
        """(B, 3, H, W) → tokens before block 0. H×W is what `canvas` returned."""

    @abstractmethod
    def block(self, index: int, trunk: Trunk, blocked: Tensor | None) -> Tensor:
        """Run one block, return all tokens. blocked (B, extra, h, w) bool: patches that each extra token must not
        see."""

    @abstractmethod
    def finish(self, trunk: Trunk) -> Trunk:
        """The trunk's final norm, on all tokens."""

    @abstractmethod
    def levels(self, trunk: Trunk) -> tuple[Tensor, ...]:
        """Taps → maps, coarse → fine."""

    @abstractmethod
    def sections(self) -> Sequence[nn.Module]:
        """[stem, block 0, …, block depth−1], for freezing, layer-wise learning rates and sharing."""

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Size (pixels) to which an image must be padded at the bottom and right before `begin`; the image's own size
        where the family takes any."""
        return height, width

    def projections(self, index: int) -> Sequence[Projection]:
        """Every linear layer of one block's attention and MLP."""
        raise RecipeError(f"{type(self).__name__} has no linear layers to adapt; use a vision transformer.")

    def joint(self, trunk: Trunk) -> Joint | None:
        """Image–text embeddings of a trunk that ran all its blocks, if the family has them."""
        return None

    def keep(self, trunk: Trunk) -> Trunk:
        """Called after every block; families add taps here."""
        return trunk

    # given for every family

    def attach(self, adapter: Adapter, initialise: bool = True) -> None:
        """Take an adapter; once. initialise: False if trained values will be loaded."""
        self._given = frozenset(name for name, _ in self.named_parameters())
        adapter.attach(self)
        self.adapter = adapter
        if initialise:
            adapter.initialise(self)
        self.train(self.training)

    def merge_adapter(self) -> None:
        """See `Adapter.merge`; nothing without an adapter."""
        if self.adapter is not None:
            self.adapter.merge(self)

    def base(self) -> dict[str, nn.Parameter]:
        """By name: what the adapter left as it was, which a run need not store. Nothing without an adapter."""
        if self.adapter is None:
            return {}
        return {name: p for name, p in self.named_parameters() if name in self._given and not p.requires_grad}

    def brought(self) -> list[nn.Parameter]:
        """What the adapter brought, wherever it sits."""
        return [] if self.adapter is None else [p for name, p in self.named_parameters() if name not in self._given]

    def advance(self, trunk: Trunk, stop: int, blocked: Tensor | None = None) -> Trunk:
        """Run blocks `trunk.depth … stop − 1`. blocked: see `block`."""
        for index in range(trunk.depth, stop):
            trunk = replace(trunk, tokens=self.block(index, trunk, blocked), depth=index + 1)
            if self.adapter is not None:
                patches = trunk.patches
                adapted = self.adapter.after_block(patches, index)
                trunk = trunk if adapted is patches else trunk.with_patches(adapted)
            trunk = self.keep(trunk)
        return trunk

    def forward(self, images: Tensor, stop: int, trunk: Trunk | None = None) -> Features:
        """images (B, 3, H, W); stop: run this many blocks and leave the rest to the decoder; trunk: continue from here
        (shared with a reference) instead of beginning."""
        trunk = self.advance(self.start(images) if trunk is None else trunk, stop)
        levels = self.levels(trunk)
        extras = {} if self.adapter is None else self.adapter.extras()
        return Features(trunk, levels, levels[-1], joint=self.joint(trunk), extras=extras)

    def start(self, images: Tensor) -> Trunk:
        """`begin`, never in half precision: one grey level of a normalised dark image is 0.017, and bfloat16's steps
        there are 0.016."""
        with full_precision(images):
            return self.begin(images)

    def freeze(self, until: int | None = None) -> None:
        """No gradient and eval mode for the stem and the first `until` blocks (None: all blocks)."""
        sections = self.sections()
        for module in sections if until is None else sections[: until + 1]:
            module.requires_grad_(False)
        self.train(self.training)

    def num_frozen(self) -> int:
        """Leading blocks whose result cannot change during training; −1 if not even the stem is frozen."""
        count = -1
        for module in self.sections():
            if any(p.requires_grad for p in module.parameters()):
                break
            count += 1
        return count if self.adapter is None else min(count, self.adapter.starts_at)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for module in self.sections():  # a frozen section stays deterministic: no drop path
            if mode and not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self


class PixelDecoder(Part):
    """features → features with new levels, positions and mask features."""

    dims: Dims
    if TYPE_CHECKING:

        def __call__(self, features: Features) -> Features: ...

    @abstractmethod
    def forward(self, features: Features) -> Features:
        """May read `features.context` (tqdm's texts)."""


class Heads(Part):
    """What a query says: class, mask, box. Belongs to the decoder, is read by sources that rank pixels with it
    (SimCIS).

    Provides "no_object" (softmax over K+1) or "sigmoid_classes" (K independent), and "boxes" if it predicts them.
    """

    if TYPE_CHECKING:

        def __call__(self, queries: Queries, mask_features: Tensor) -> Prediction: ...

    @abstractmethod
    def classify(self, content: Tensor) -> Tensor:
        """(B, N, D) → class logits (B, N, K or K+1)"""

    @abstractmethod
    def embed(self, content: Tensor) -> Tensor:
        """(B, N, D) → mask embeddings (B, N, E)"""

    def boxes(self, content: Tensor, reference: Tensor) -> Tensor:
        """content (B, N, D), reference (B, N, 4) logits → (B, N, 4) in [0, 1]"""
        raise RecipeError(f"{type(self).__name__} predicts no boxes; choose heads that provide 'boxes'.")

    def change_classes(self, change: ClassChange) -> None:
        raise RecipeError(
            f"{type(self).__name__} can only tell the classes that it was trained on; predict without other classes."
        )

    @abstractmethod
    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        """mask_features (B, E, h, w)"""


class QuerySource(Part):
    """Where queries come from and how they move."""

    needs_attention: bool = False
    """True: the decoder computes explicit attention weights for `refine`, not fused ones."""
    if TYPE_CHECKING:

        def __call__(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries: ...

    def context(self, features: Features) -> Tensor | None:
        """(B, K, J) side information for the pixel decoder and for `forward`; stored in `features.context`."""
        return None

    @abstractmethod
    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        """like: queries that another model made for these images. A source that chooses from the image repeats those
        choices with its own features; the others ignore it."""

    def encode_names(self, template: str) -> Tensor:
        """(K, J) unit vectors: every class name in a sentence, e.g. "a photo of a {class}", as a frozen text encoder
        reads it; for objectives, only between `begin_training` and the end of training.

        Raises: RecipeError if the source knows no texts
        """
        raise RecipeError(
            f"{type(self).__name__} makes its queries without texts, which an objective asks for; use "
            "queryseg.queries.TextualQueries."
        )

    def fold(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """weights: those of this source, by their names in it → what prediction reads of them, and what only further
        training reads, which is stored beside the model."""
        return dict(weights), {}

    def change_classes(self, change: ClassChange) -> None:
        raise RecipeError(
            f"{type(self).__name__} makes its queries without texts, so the classes cannot be changed by their names; "
            "predict without other classes, or train with queryseg.queries.TextualQueries."
        )

    def refine(self, queries: Queries, round: Round) -> Queries:
        """Called with the reading before layer 0 (round.layer −1) and after every layer but the last, behind which
        nothing reads queries; isolated rows included. In eval mode the masks of these readings may be coarser, as fine
        as the level `round.upcoming`."""
        return queries


class Decoder(Part):
    """Lets queries meet the image."""

    heads: Heads
    dims: Dims
    late_blocks: int = 0
    """Blocks of the trunk that `forward` runs itself, because queries join there."""
    reads_once: bool = False
    """In eval mode the heads read the queries once, at the end: rows may be left out of that reading."""
    strip_tokens: int | None = None
    """Inference only: decoders that enlarge tokens do it for so many at a time, which bounds memory; None: all."""
    if TYPE_CHECKING:

        def __call__(
            self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource
        ) -> Sequence[Prediction]: ...

    @abstractmethod
    def forward(
        self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource
    ) -> Sequence[Prediction]:
        """All rows (isolated ones last), in order of depth. In eval mode intermediate readings may be left out."""

    def contents(self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource) -> Tensor:
        """(B, Q, D) the final reading's contents; decoders that can do so leave out its masks and pixels."""
        return self(backbone, features, queries, source)[-1].content


class Readout(Part):
    """Prediction → scores per class and pixel, and segments where queries stand for them.

    Has no weights; a recipe names it because methods differ in it."""

    @abstractmethod
    def scores(self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(B, K, H, W) scores of the image, higher is likelier. canvas: pixels that the masks cover; size: H×W of the
        image, which sits in the canvas' upper left corner."""

    def probabilities(self, scores: Tensor) -> Tensor:
        """(B, K, H, W) scores → (B, K, H, W) in 0…1 that sum to at most 1 over classes; what is left stands for none of
        them. The order of a pixel's classes stays. Calibration measures how far they can be taken at their word.

        Raises: RecipeError if the readout states no probabilities
        """
        raise RecipeError(f"{type(self).__name__} says which class is likelier, but not how likely; it states no rule.")

    def labels(self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(B, H, W) uint8 class indices."""
        return self.scores(prediction, canvas, size).permute(0, 2, 3, 1).argmax(-1).byte()

    def panoptic(
        self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int], things: frozenset[int]
    ) -> list[SegmentReading]:
        """B readings: classes of stuff and objects of things (class indices) that share no pixel. Raises: InputError
        if the readout tells no segments apart."""
        raise InputError(self._no_segments())

    def instances(
        self, prediction: Prediction, canvas: tuple[int, int], size: tuple[int, int], things: frozenset[int]
    ) -> list[SegmentReading]:
        """B readings: objects, which may overlap. Raises: see `panoptic`."""
        raise InputError(self._no_segments())

    def _no_segments(self) -> str:
        return (
            f"The readout {type(self).__name__} gives every pixel a class and tells no objects apart; predict with the "
            "task 'semantic', or train queries that are read by queryseg.readouts.Mixture."
        )


class Model(Protocol):
    """What objectives may do with a segmenter besides reading its Output."""

    @property
    def heads(self) -> Heads: ...

    @property
    def queries(self) -> QuerySource: ...

    def make_queries(self, features: Features, like: Queries | None = None) -> Queries: ...

    def decode(self, features: Features, queries: Queries) -> Output: ...


class Reference(Protocol):
    """A frozen model on the images of this step; computed when first asked for, without gradient, in eval mode."""

    @property
    def model(self) -> Model: ...

    @property
    def joint(self) -> Joint | None:
        """See `Backbone.joint`; costs neither pyramid nor pixel decoder."""
        ...

    def contents(self, like: Queries) -> Tensor:
        """(B, Q, D) final contents of the attending rows, without masks where the decoder can leave them out."""
        ...

    def output(self, like: Queries | None = None) -> Output:
        """like: make the image-dependent choices of these queries instead of its own (cached per argument)."""
        ...


@dataclass(frozen=True)
class Step:
    """One optimisation step.

    index      steps already taken, 0 ≤ index < total
    images     (B, 3, H, W) normalised
    reference  reference("ema" | "frozen" | "previous_task")
    """

    index: int
    total: int
    images: Tensor
    model: Model
    reference: Callable[[str], Reference]

    @property
    def progress(self) -> float:
        return self.index / max(1, self.total)


class Objective(Part):
    """Training only; never saved with the model. `weights`, filled by __init__ from typed arguments, names every term
    that `losses` may return; training multiplies, schedules and logs."""

    weights: Mapping[str, float] = {}
    statistics: frozenset[str] = frozenset()
    """Further scalars that `losses` may return, for the log alone."""
    references: frozenset[str] = frozenset()

    def prepare(self, queries: Queries, targets: list[Target], step: Step) -> tuple[Queries, list[Target]]:
        """Between source and decoder: replayed queries, pseudo-labels."""
        return queries, targets

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        """Unweighted scalars; keys are a subset of `weights` and `statistics`. With gradient accumulation, called once
        per micro-batch."""
        return {}

    def after_step(self, step: Step) -> None:
        """After the optimiser moved: commit what `losses` collected."""

    def remarks(self) -> list[str]:
        """What whoever starts the run should know of it, line by line."""
        return []

    def hand_over(self, folder: Path) -> None:
        """Called once the run is complete, in its first process: write what the task after this one begins with."""


CAPABILITIES: Mapping[str, str] = {
    "complete_trunk": "the trunk has run all its blocks before the decoder starts",
    "joint_embeddings": "the backbone projects into an image–text space",
    "text_context": "features.context holds one text embedding per class",
    "level_positions": "features.positions holds one map per level",
    "position_maps": "features.positions are learned maps of all four levels",
    "query_position": "features.extras holds query positions made by the adapter",
    "linked_positions": "queries take their positions from features.extras",
    "positions_read": "the decoder reads queries.position, which `position: false` leaves out",
    "refinement": "the decoder calls refine, with attention maps over whole levels if asked",
    "selected_indices": "queries are pixels chosen from the image",
    "class_rows": "row k of every prediction stands for class k",
    "isolated_rows": "the decoder keeps isolated queries out of attention",
    "no_object": "class logits are a softmax over K+1 entries",
    "sigmoid_classes": "class logits are K independent sigmoids",
    "boxes": "the heads predict boxes",
    "token_space": "prediction.tokens are image tokens in the space of prediction.content",
}
"""One vocabulary with meanings: a misspelt name would never match."""


def check_parts(parts: Mapping[str, Part]) -> None:
    """Fail in one sentence if a part requires what no part provides. parts: role → part.

    Raises: RecipeError
    """
    offered = frozenset[str]().union(*(part.provides for part in parts.values()))
    for role, part in parts.items():
        unknown = (part.provides | part.requires) - CAPABILITIES.keys()
        assert not unknown, f"{type(part).__name__} names unknown capabilities {sorted(unknown)}"
        for need in sorted(part.requires - offered):
            others = ", ".join(f"{r} {type(p).__name__}" for r, p in parts.items() if r != role)
            raise RecipeError(
                f"{role} {type(part).__name__} requires '{need}' ({CAPABILITIES[need]}), which none of these provides: "
                f"{others}. Change {role}, or choose a part that provides '{need}'."
            )
