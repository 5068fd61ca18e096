"""One compiled transformer under thousands of shapes: memory stays bounded and results right."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

import taille
from support import missing
from taille import _native

BATCHES, LENGTHS, SHAPES = 8, 64, 10_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def bert() -> taille.CompiledModel:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        missing("transformers is not installed")
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    net = BertModel(BertConfig(**sizes, intermediate_size=64, max_position_embeddings=LENGTHS), add_pooling_layer=False)
    example = {n: torch.ones(2, 8, dtype=torch.int64) for n in ("input_ids", "attention_mask")}
    axes = {n: {0: "batch", 1: "sequence"} for n in example}
    return taille.compile_model(taille.TorchModel(net.eval(), example, dynamic_shapes=axes), threads=2)


def inputs(batch: int, length: int) -> dict[str, np.ndarray]:
    ids = np.arange(batch * length).reshape(batch, length) % 100
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def test_memory_is_bounded_over_ten_thousand_shapes(bert: taille.CompiledModel) -> None:
    rng = random.Random(0)
    shapes = [(rng.randint(1, BATCHES), rng.randint(1, LENGTHS)) for _ in range(SHAPES)]
    largest = inputs(BATCHES, LENGTHS)
    first = bert.predict(largest)["last_hidden_state"]
    arena = bert._model.arena_bytes()
    for shape in shapes[:1000]:  # the allocator settles
        bert.predict(inputs(*shape))
    settled = resident_bytes()
    for shape in shapes[1000:]:
        result = bert.predict(inputs(*shape))["last_hidden_state"]
        assert result.shape == (*shape, 32)
    assert bert._model.arena_bytes() == arena
    assert bert._model.plan_count() == 32
    assert resident_bytes() - settled < 4 << 20
    np.testing.assert_array_equal(bert.predict(largest)["last_hidden_state"], first)


def test_a_plan_says_what_a_run_needs(bert: taille.CompiledModel) -> None:
    bert._model.release()
    needed = bert._model.plan(inputs(3, 5))
    assert (bert._model.plan_count(), bert._model.arena_bytes()) == (1, 0)
    bert.predict(inputs(3, 5))
    assert (bert._model.plan_count(), bert._model.arena_bytes()) == (1, needed)


def place_by_definition(blocks: list[tuple[int, int, int]]) -> list[int]:
    """Greedy by size: each block at the lowest offset where nothing alive at the same time lies."""
    offsets: dict[int, int] = {}
    for i in sorted(range(len(blocks)), key=lambda i: -blocks[i][0]):
        size, first, last = blocks[i]
        near = [(offsets[j], blocks[j][0]) for j in offsets if blocks[j][1] <= last and first <= blocks[j][2]]
        at = 0
        for offset, bytes_there in sorted(near):
            if offset >= at + size:
                break
            at = max(at, offset + bytes_there)
        offsets[i] = at
    return [offsets[i] for i in range(len(blocks))]


def test_placement_is_greedy_by_size() -> None:
    rng = random.Random(1)
    for _ in range(300):
        blocks = []
        for _ in range(rng.randint(0, 40)):
            first = rng.randint(0, 30)
            last = rng.choice([first, first + rng.randint(0, 5), 2**31 - 1])
            blocks.append((64 * rng.randint(1, 9), first, last))
        assert _native.testing.place_blocks(blocks)[0] == place_by_definition(blocks)
