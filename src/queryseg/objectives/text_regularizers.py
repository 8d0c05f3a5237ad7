"""What keeps a fine-tuned vision-language model's texts and pixels where pre-training put them.

Shape legend: B images, K classes, J width of the image–text space, h×w the grid of patches, H×W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.errors import RecipeError
from queryseg.full_precision import at_least_float32, full_precision
from queryseg.types import IGNORE, Dims, Joint, Output, Target


class TextRegularizers(Objective):
    """Three ties to pre-training, each a term of its own: of the class texts to their frozen encodings, of patches to
    the texts of their classes, and of the whole image's embedding to what the initial backbone says of it.

    template     sentence that the class names are encoded in for (a)
    temperature  τ of the patches' cosines
    *_weight     of `language` (L^L), `vision_language` (L^VL) and `vision` (L^V); a term of weight 0 is left out, and
                 what it costs: `vision` runs a second, frozen backbone

    Source: tqdm (ECCV 2024), its regularization losses (a), (b), (c); spec §5: no temperature in (a), ignored pixels
    count as zeros in the mean of (b), (c) compares embeddings that are not normalised. Deviation: the frozen copy is in
    eval mode; the authors' copy is put back into training mode after the first validation, so that the drop path of
    CLIP-B's blocks adds noise to what it says.
    """

    def __init__(
        self,
        dims: Dims,
        template: str = "a clean origami of a {class}",
        temperature: float = 0.07,
        language_weight: float = 1.0,
        vision_language_weight: float = 1.0,
        vision_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = {"language": language_weight, "vision_language": vision_language_weight, "vision": vision_weight}
        if temperature <= 0:
            raise RecipeError(f"The temperature of TextRegularizers is {temperature}; give a number above 0.")
        if min(weights.values()) < 0:
            raise RecipeError(f"The weights of TextRegularizers are {weights}; give numbers of at least 0.")
        if "{class}" not in template:
            raise RecipeError(f"The template of TextRegularizers is '{template}'; say where the name goes: {{class}}.")
        self.template, self.temperature = template, temperature
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.references = frozenset({"frozen"} if vision_weight else ())
        texts, images = language_weight or vision_language_weight, vision_language_weight or vision_weight
        needs = {"text_context": texts, "joint_embeddings": images, "complete_trunk": images}
        self.requires = frozenset(capability for capability, weight in needs.items() if weight)

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        return {name: getattr(self, name)(output, targets, step) for name in self.weights}

    def language(self, output: Output, targets: list[Target], step: Step) -> Tensor:
        """(a), L^L"""
        texts, encodings = context_of(output), step.model.queries.encode_names(self.template)
        with full_precision(texts):
            return language_loss(texts, encodings.to(texts.dtype))

    def vision_language(self, output: Output, targets: list[Target], step: Step) -> Tensor:
        """(b), L^VL"""
        label_maps = torch.stack([target.label_map for target in targets])
        dense = at_least_float32(embedded(output.features.joint).dense)
        with full_precision(dense):
            return vision_language_loss(dense, context_of(output), label_maps, self.temperature)

    def vision(self, output: Output, targets: list[Target], step: Step) -> Tensor:
        """(c), L^V"""
        now, initial = embedded(output.features.joint), embedded(step.reference("frozen").joint)
        return F.mse_loss(at_least_float32(now.whole), at_least_float32(initial.whole))


def context_of(output: Output) -> Tensor:
    """(B, K, J) texts, at least float32"""
    assert output.features.context is not None, "the query source provides 'text_context'"
    return at_least_float32(output.features.context)


def embedded(joint: Joint | None) -> Joint:
    """Embeddings of the image and of its patches."""
    assert joint is not None, "the backbone provides 'joint_embeddings'"
    return joint


def language_loss(texts: Tensor, encodings: Tensor) -> Tensor:
    """L^L: which class's frozen encoding a text resembles, in every image. texts (B, K, J), encodings (K, J) → scalar,
    the mean cross-entropy of the softmax over encodings of cos(text, encoding)."""
    cosines = F.normalize(texts, dim=-1) @ F.normalize(encodings, dim=-1).mT  # (B, K texts, K encodings)
    own = torch.arange(texts.shape[1], device=texts.device).expand(len(texts), -1)
    return F.cross_entropy(cosines.flatten(0, 1), own.flatten())


def vision_language_loss(dense: Tensor, texts: Tensor, label_maps: Tensor, temperature: float) -> Tensor:
    """L^VL: cross-entropy of pixels whose logits are their patches' cosines with the texts. dense (B, J, h, w), texts
    (B, K, J), label_maps (B, H, W) → scalar, the mean over all pixels, of which ignored ones add 0."""
    logits = text_cosines(dense, texts) / temperature
    logits = F.interpolate(logits, label_maps.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, label_maps, ignore_index=IGNORE, reduction="sum") / label_maps.numel()


def text_cosines(dense: Tensor, texts: Tensor) -> Tensor:
    """dense (B, J, h, w), texts (B, K, J) → (B, K, h, w) in −1 … 1"""
    return torch.einsum("bjhw,bkj->bkhw", F.normalize(dense, dim=1), F.normalize(texts, dim=-1))
