"""A frozen text encoder and its tokenizer.

Shape legend: K texts, N tokens of the longest one, m vectors of a prompt, W width of a token, J width of the
image–text space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from queryseg.errors import InputError
from queryseg.full_precision import full_precision
from queryseg.weight_file import weights_hash


class TextTower:
    """open_clip's text transformer, without gradients of its own; those of a prompt pass through it.

    No nn.Module, so that a model which uses it neither stores, counts nor trains it; copies of that model share it.

    transformer  open_clip.transformer.TextTransformer: causal, read at the end token
    tokenizer    open_clip.SimpleTokenizer
    name         for messages
    """

    def __init__(self, transformer: Any, tokenizer: Any, name: str) -> None:
        self.transformer: Any = transformer.eval().requires_grad_(False)
        self.tokenizer, self.name = tokenizer, name

    def __deepcopy__(self, memo: dict[int, Any]) -> TextTower:
        return self

    @property
    def token_width(self) -> int:
        """W"""
        return int(self.transformer.token_embedding.weight.shape[1])

    @property
    def joint_width(self) -> int:
        """J"""
        return int(self.transformer.text_projection.shape[1])

    @cached_property
    def sha256(self) -> str:
        """Of its weights, whichever file they came from."""
        return weights_hash(self.transformer.state_dict())

    def tokenize(self, texts: Sequence[str], prompt_length: int = 0) -> Tensor:
        """(K, N) token numbers: start, text, end, zeros.

        Raises: InputError if a text and a prompt of this length are too long together
        """
        rows = [self.tokenizer.encode(text) for text in texts]
        room = self.transformer.positional_embedding.shape[0] - prompt_length - 2
        for text, row in zip(texts, rows, strict=True):
            if not row:
                raise InputError(f"The class name '{text}' holds no words; give a name that says what is meant.")
            if len(row) > room:
                raise InputError(
                    f"'{text}' is {len(row)} tokens long, but the {self.name} has room for {room}; choose a shorter "
                    "class name."
                )
        ids = torch.zeros(len(rows), max(map(len, rows)) + 2, dtype=torch.int64)
        for target, row in zip(ids, rows, strict=True):
            target[: len(row) + 2] = torch.tensor([self.tokenizer.sot_token_id, *row, self.tokenizer.eot_token_id])
        return ids

    def encode(self, ids: Tensor, prompt: Tensor | None = None) -> Tensor:
        """ids (K, N), prompt (m, W), put behind the start token of every text → (K, J), not normalised; never in half
        precision. Attention is causal, so what follows the end token makes no difference.

        Source: CoOp (IJCV 2022) §3.2 as tqdm uses it, spec §2.
        """
        like = self.transformer.token_embedding.weight if prompt is None else prompt
        return encode_tokens(self._at(like), ids.to(like.device), prompt)

    def _at(self, like: Tensor) -> Any:
        held = self.transformer.token_embedding.weight
        if held.device != like.device or held.dtype != like.dtype:
            self.transformer = self.transformer.to(like.device, like.dtype)
        return self.transformer


def encode_tokens(transformer: Any, ids: Tensor, prompt: Tensor | None) -> Tensor:
    """See `TextTower.encode`."""
    embedded: Tensor = transformer.token_embedding(ids)
    end = ids.argmax(-1)  # the end token has the greatest number
    if prompt is not None:
        repeated = prompt.expand(len(ids), -1, -1)
        embedded = torch.cat((embedded[:, :1], repeated, embedded[:, 1:]), 1)
        end = end + prompt.shape[-2]
    length = embedded.shape[1]
    with full_precision(embedded):
        x = embedded + transformer.positional_embedding[:length]
        x = transformer.transformer(x, attn_mask=transformer.attn_mask[:length, :length])
        x = transformer.ln_final(x)[torch.arange(len(ids), device=ids.device), end]
        return x @ transformer.text_projection  # type: ignore[no-any-return]


def unit_length(x: Tensor) -> Tensor:
    """(…, J) → vectors of length 1"""
    return nn.functional.normalize(x, dim=-1)
