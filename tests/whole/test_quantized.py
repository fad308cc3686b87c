"""X13: peers in fewer bits: announced, near the plain model, and as hard to kill."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from swarm.cli.demo import demonstration_model
from swarm.client import RowInput
from swarm.client.head import Head
from swarm.errors import ConfigError
from swarm.wire.messages import Want

PROMPT = [1, 17, 250, 33, 4, 99, 180, 7, 64, 12, 5]
TEXT = (
    "The kettle had been singing for some time before anybody noticed that the fire was out. "
    "It was my aunt who said so at last, in the tone of one who has known it all along, and my "
    "uncle put down his paper, looked at the grate over his spectacles, and observed that in his "
    "father's house the fire had never once gone out between October and the end of March."
)


@pytest.mark.simulated_time
@pytest.mark.parametrize("form", ["int8", "int4"])
async def test_x13_a_death_changes_nothing(world, asker, form):
    """The peer that takes over is of the same form: the text is what it would have been."""
    await world.chain(0, 2, 4, quantize=form)
    model = await world.client()
    undisturbed = await asker(model).greedy(PROMPT, 24)
    await world.peer("spare", (2, 4), silent=True, quantize=form)
    asked = asker(model)

    async def kill(count):
        if count == 9:
            await world.kill("peer-1")

    assert await asked.greedy(PROMPT, 24, kill) == undisturbed
    assert asked.reply.num_recoveries == 1


@pytest.mark.simulated_time
async def test_x13_another_form_takes_over(world, asker):
    """Blocks in other bits are the same blocks: the reply goes on, if not with the same words."""
    await world.chain(0, 2, 4, quantize="int4")
    model = await world.client()
    undisturbed = await asker(model).greedy(PROMPT, 24)
    await world.peer("spare", (2, 4), silent=True)
    asked = asker(model)

    async def kill(count):
        if count == 9:
            await world.kill("peer-1")

    tokens = await asked.greedy(PROMPT, 24, kill)
    assert tokens[:9] == undisturbed[:9]
    assert len(tokens) == 24


@pytest.mark.simulated_time
async def test_x13_the_form_is_announced(world):
    plain = await world.peer("plain", (0, 2))
    small = await world.peer("small", (2, 4), quantize="int8")
    found = await plain.member.directory.find()
    assert {entry.name: entry.quantize for entry in found} == {"plain": "none", "small": "int8"}
    assert small.hosting.runner.span.end == 4


@pytest.mark.simulated_time
async def test_x13_fewer_bits_hold_more_blocks(world):
    """With memory for one plain block, and a bit."""
    from swarm.forms import Form
    from swarm.peer.loading import needed_bytes

    memory = int(1.2 * needed_bytes(world.checkpoint, torch.float32, Form.NONE))
    for name, form, blocks in (("plain", "none", 1), ("small", "int8", 4)):
        peer = await world.peer(name, None, memory=memory, quantize=form)
        assert peer.span[1] - peer.span[0] == blocks


@pytest.fixture(scope="module")
def model_file():
    try:
        return demonstration_model()
    except ConfigError as error:
        pytest.skip(str(error))


async def logits(model, ids):
    async with model.session() as session:
        hidden = model.head.embed(ids)
        (out,) = await session.step([RowInput(0, 0, hidden)], Want.ALL)
    return model.head.logits(out).log_softmax(-1)


@pytest.mark.timeout(600)
async def test_x13_a_real_model_stays_near(make_world, model_file):
    """SmolLM2, which is in 4 bits in its file: `file` loses no more than bfloat16 does itself."""
    found = {}
    for form in ("none", "file", "int8"):
        world = make_world(SimpleNamespace(folder=model_file))
        for number, blocks in enumerate(pairwise((0, 14, 30))):
            served = await world.peer(
                f"{form}-{number}",
                blocks,
                dtype="bfloat16",
                kv_memory=64 << 20,
                page_len=32,
                quantize=form,
            )
            assert served.taking.widens == (form == "none")
        model = await world.client(dtype=torch.bfloat16)
        ids = torch.tensor(model.tokenizer(TEXT)["input_ids"])
        found[form] = await logits(model, ids)
    p = found["none"]
    for form, limit, agreement in (("file", 0.003, 0.9), ("int8", 0.012, 0.85)):
        q = found[form]
        assert float((p.exp() * (p - q)).sum(-1).mean()) < limit, form
        assert float((p.argmax(-1) == q.argmax(-1)).float().mean()) > agreement, form


@torch.inference_mode()
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_x13_a_client_head_in_fewer_bits(world, form):
    from swarm.forms import Form

    hidden = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    plain = Head.load(world.checkpoint, torch.float32).logits(hidden)
    ours = Head.load(world.checkpoint, torch.float32, Form(form)).logits(hidden)
    assert 1e-4 < float((ours - plain).norm() / plain.norm()) < 0.1
    with pytest.raises(ConfigError, match="int8 or int4"):
        Head.load(world.checkpoint, torch.float32, Form.FILE)
