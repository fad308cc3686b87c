"""Keys and values come back from the slots where they were put."""

from __future__ import annotations

import torch

from swarm.peer.kv_cache import KVCache, LayerGeometry, page_bytes

LAYERS = (LayerGeometry(2, 4, 4), LayerGeometry(1, 6, 3))  # as in MLA: sizes differ


def _cache() -> KVCache:
    return KVCache(LAYERS, num_pages=6, page_len=4, dtype=torch.float32, device=torch.device("cpu"))


def test_a_page_costs_what_its_numbers_take() -> None:
    assert page_bytes(LAYERS, 4, torch.bfloat16) == 4 * 2 * (2 * 8 + 1 * 9)
    assert page_bytes(LAYERS, 4, torch.float32) == 4 * 4 * (2 * 8 + 1 * 9)


def test_slices_are_read_in_place_and_scattered_slots_gathered() -> None:
    cache = _cache()
    key, value = torch.randn(5, 1, 6), torch.randn(5, 1, 3)
    cache.write(1, slice(7, 12), key, value)
    got_key, got_value = cache.read(1, slice(7, 12))
    assert torch.equal(got_key[0], key.transpose(0, 1))
    assert torch.equal(got_value[0], value.transpose(0, 1))
    cache.write(1, slice(7, 8), key[4:], value[4:])
    assert torch.equal(got_key[0, :, 0], key[4])  # a view: it saw the write

    scattered = torch.tensor([20, 3, 9])
    cache.write(1, scattered, key[:3], value[:3])
    got_key, got_value = cache.read(1, scattered)
    assert torch.equal(got_key[0], key[:3].transpose(0, 1))
    assert torch.equal(got_value[0], value[:3].transpose(0, 1))


def test_pages_are_copied_in_all_layers() -> None:
    cache = _cache()
    for layer, shape in enumerate(LAYERS):
        cache.write(
            layer,
            slice(4, 8),
            torch.randn(4, shape.kv_heads, shape.key_dim),
            torch.randn(4, shape.kv_heads, shape.value_dim),
        )
    cache.copy_pages([(1, 3)])
    for layer in range(len(LAYERS)):
        for source, copy in zip(
            cache.read(layer, slice(4, 8)), cache.read(layer, slice(12, 16)), strict=True
        ):
            assert torch.equal(source, copy)
