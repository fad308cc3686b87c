from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from swarm.checkpoint import open_checkpoint
from swarm.client import Finish, Piece, RemoteModel, Reply, SamplingConfig, SpeculationConfig
from swarm.client.config import SessionConfig
from swarm.client.head import Head
from swarm.client.route import Hop
from swarm.client.tally import ClientTally
from swarm.client.timing import Passage
from swarm.errors import ConfigError, RequestError
from swarm.wire.messages import DType, HopTime, Want

TEMPLATE = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"


class LocalSession:
    """A session whose blocks are transformers' own, here."""

    route = ()
    num_recoveries = 0
    num_recalled = 16
    num_handovers = 0
    distrusted: tuple[str, ...] = ()
    last_times = (HopTime(0, 2, 1000, 3000, 1),)
    passage = Passage((Hop("peer", 0, 2),), ("ann",), (HopTime(0, 2, 1, 3, 1),), 0.0)

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self._hidden = torch.zeros(0, 32)
        self.open = False

    def tell(self, passage: Passage, seconds: float) -> None:
        """Nobody watches."""

    async def __aenter__(self) -> LocalSession:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def step(self, rows: Any, want: Want = Want.LAST) -> list[torch.Tensor]:
        assert self.open
        (row,) = rows
        self._hidden = torch.cat([self._hidden[: row.position], row.hidden])
        seen = []
        norm = self._reference.model.norm
        hook = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.no_grad():
            self._reference(inputs_embeds=self._hidden[None])
        hook.remove()
        num_wanted = len(row.hidden) if want is Want.ALL else 1
        return [seen[0][0, -num_wanted:]]


class LocalModel(RemoteModel):
    """A model without a swarm; `sessions` are those it has made."""

    def __init__(self, checkpoint: Any, reference: Any, speculate: str = "auto") -> None:
        head = Head.load(checkpoint, torch.float32)
        nobody: Any = SimpleNamespace(
            tally=ClientTally(), router=SimpleNamespace(announced=lambda _: ())
        )
        super().__init__(checkpoint, head, nobody)
        self.reference = reference
        self.sessions: list[LocalSession] = []
        self.speculation = SpeculationConfig.parse(speculate)

    def reply(self, reply: Reply, sampling: SamplingConfig, speculation: Any = None) -> Any:
        return super().reply(reply, sampling, speculation or self.speculation)

    def session(self, num_rows: int = 1, dtype: DType | None = None) -> Any:
        self.sessions.append(LocalSession(self.reference))
        return self.sessions[-1]

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """transformers' own tokens."""
        given = torch.tensor([ids])
        with torch.no_grad():
            out = self.reference.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=count,
                do_sample=False,
            )
        return out[0, len(ids) :].tolist()


@pytest.fixture(params=["off", "auto", "5"])
async def model(make_model: Any, request: pytest.FixtureRequest) -> AsyncIterator[LocalModel]:
    """However it guesses ahead, nothing else about a reply is to change."""
    folder, reference = make_model("llama")
    with open_checkpoint(str(folder)) as checkpoint:
        yield LocalModel(checkpoint, reference, request.param)


@pytest.fixture
def chatty(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> LocalModel:
    """The same with a chat template."""
    tokenizer = model.tokenizer
    tokenizer.chat_template = TEMPLATE
    monkeypatch.setattr(type(model), "tokenizer", tokenizer)
    return model


async def test_text_comes_piece_by_piece_and_is_the_reply(model: LocalModel) -> None:
    pieces = [piece async for piece in model.stream("hello", raw=True, max_new_tokens=12)]
    reply = await model.generate("hello", raw=True, max_new_tokens=12)
    assert "".join(pieces) == reply.text == model.tokenizer.decode(reply.ids)
    assert reply.ids == model.greedy(reply.prompt_ids, 12)
    assert reply.finish is Finish.LENGTH and len(reply.ids) == 12
    assert not any(session.open for session in model.sessions)


async def test_a_reply_knows_its_times(model: LocalModel) -> None:
    reply = await model.generate("hello", raw=True, max_new_tokens=4)
    assert reply.prefill_seconds > 0 and reply.decode_seconds > 0
    assert reply.tokens_per_second == pytest.approx(3 / reply.decode_seconds)
    assert reply.hop_seconds == [pytest.approx((0.001, 0.003))]
    assert reply.num_cached == 16
    (hop,) = reply.timing.hops.values()
    assert (hop.name, hop.num_steps) == ("ann", reply.num_steps)
    assert hop.compute == pytest.approx(3e-6 * reply.num_steps)
    assert reply.timing.head > 0 and reply.timing.sampling > 0
    spent = hop.queue + hop.compute + hop.wire + reply.timing.back
    assert 0 < spent < reply.decode_seconds
    assert Reply([1]).tokens_per_second == 0


async def test_the_end_token_ends_a_reply(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = model.encode("hello", raw=True)
    expected = model.greedy(ids, 12)
    end = expected[5]
    monkeypatch.setattr(LocalModel, "eos_ids", {end})
    reply = await model.generate("hello", raw=True, max_new_tokens=12)
    assert reply.finish is Finish.EOS and reply.ids == expected[: expected.index(end) + 1]
    assert reply.text == model.tokenizer.decode(expected[: expected.index(end)])
    reply = await model.generate("hello", raw=True, max_new_tokens=12, ignore_eos=True)
    assert reply.ids == expected and reply.finish is Finish.LENGTH


async def test_a_stop_string_ends_a_reply(model: LocalModel) -> None:
    whole = await model.generate("hello", raw=True, max_new_tokens=16)
    stop = whole.text[6:8]
    reply = await model.generate("hello", raw=True, max_new_tokens=16, stop=(stop,))
    assert reply.finish is Finish.STOP and reply.text == whole.text[: whole.text.index(stop)]
    assert len(reply.ids) < 16 and not model.sessions[-1].open
    # Not one token more than it takes, also where several came at once.
    assert reply.ids == whole.ids[: len(reply.ids)]
    assert stop in model.tokenizer.decode(reply.ids)
    assert stop not in model.tokenizer.decode(reply.ids[:-1])


async def test_stop_strings_and_ends_within_right_guesses(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply that repeats itself is guessed many tokens ahead; it ends where it does without."""
    unit = "abcdefgh"
    biased = {"max_new_tokens": 40, "ignore_eos": True}

    class Repeats(LocalSession):
        """Blocks whose output is the next letter's, whatever the model's would be."""

        async def step(self, rows: Any, want: Want = Want.LAST) -> list[torch.Tensor]:
            (row,) = rows
            num = len(row.hidden) if want is Want.ALL else 1
            first = row.position + len(row.hidden) - num
            return [torch.arange(first, first + num).float()[:, None].expand(num, 32)]

    async def logits(hidden: torch.Tensor) -> torch.Tensor:
        letters = [model.tokenizer(unit)["input_ids"][int(i + 1) % 8] for i in hidden[:, 0]]
        return torch.nn.functional.one_hot(torch.tensor(letters), 300).float()

    monkeypatch.setattr(model.readout, "logits", logits)
    monkeypatch.setattr(LocalModel, "session", lambda self: Repeats(self.reference))
    reply = await model.generate(unit * 2, raw=True, stop=("habcd",), **biased)
    assert reply.text == "abcdefg" and reply.stopped_by == "habcd"
    assert model.tokenizer.decode(reply.ids) == "abcdefghabcd"
    end = model.tokenizer("e")["input_ids"][0]
    monkeypatch.setattr(LocalModel, "eos_ids", {end})
    reply = await model.generate(unit * 2, raw=True, **(biased | {"ignore_eos": False}))
    assert reply.text == "abcd" and reply.finish is Finish.EOS
    assert model.tokenizer.decode(reply.ids) == "abcde"
    if model.speculation.window == 5:
        assert reply.num_accepted > 0


async def told(model: LocalModel, reply: Reply, **options: Any) -> list[Piece]:
    """All pieces of a reply; those that an error cuts short stay in it."""
    return [
        piece async for piece in model.pieces(reply, SamplingConfig(**options), model.speculation)
    ]


async def test_pieces_are_their_tokens_with_the_models_own_logprobs(model: LocalModel) -> None:
    reply = await model.prepare("hello", raw=True)
    # What bends the choice bends no logprob.
    bent = {"logit_bias": ((70, 4.0),), "frequency_penalty": 1.0, "ignore_eos": True}
    pieces = await told(model, reply, max_new_tokens=16, logprobs=3, **bent)
    tokens = [token for piece in pieces for token in piece.tokens]
    assert [token.id for token in tokens] == reply.ids and 70 in reply.ids
    assert "".join(piece.text for piece in pieces) == reply.text
    for piece in pieces:
        raw = b"".join(token.raw for token in piece.tokens)
        assert raw.decode(errors="replace") == piece.text
    with torch.no_grad():
        logits = model.reference(torch.tensor([reply.prompt_ids + reply.ids])).logits[0]
    expected = torch.log_softmax(logits[len(reply.prompt_ids) - 1 : -1].float(), -1)
    for token, row in zip(tokens, expected, strict=True):
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-3)
        best = row.topk(3)
        assert [other for other, _, _ in token.top] == best.indices.tolist()
        assert [value for *_, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-3)


async def test_logprobs_change_no_reply(model: LocalModel) -> None:
    options = {"max_new_tokens": 12, "temperature": 1.1, "seed": 3, "presence_penalty": 0.7}
    plain = await model.generate("hello", raw=True, **options)
    scored = await model.generate("hello", raw=True, logprobs=2, **options)
    assert plain.ids == scored.ids and plain.scores == {}
    assert sorted(scored.scores) == list(range(len(scored.ids)))


async def test_the_stop_string_that_came_is_told(model: LocalModel) -> None:
    whole = await model.generate("hello", raw=True, max_new_tokens=16)
    stop = whole.text[6:8]
    reply = await model.prepare("hello", raw=True)
    pieces = await told(model, reply, max_new_tokens=16, stop=("never", stop), logprobs=0)
    assert reply.stopped_by == stop and whole.stopped_by is None
    tokens = [token for piece in pieces for token in piece.tokens]
    raw = b"".join(token.raw for token in tokens)
    assert raw.decode(errors="replace") == reply.text == whole.text[: whole.text.index(stop)]
    assert len(tokens) < len(reply.ids) and reply.num_told == len(tokens)


@pytest.mark.parametrize("stop", [(), ("\N{REPLACEMENT CHARACTER}" * 7,)])
@pytest.mark.parametrize("end", [Finish.LENGTH, Finish.EOS])
async def test_a_reply_that_goes_on_after_errors_tells_no_token_twice(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch, end: Finish, stop: tuple[str, ...]
) -> None:
    options = {"max_new_tokens": 14, "temperature": 1.2, "seed": 4, "logprobs": 2, "stop": stop}
    options |= {"frequency_penalty": 0.8, "ignore_eos": end is not Finish.EOS}
    if end is Finish.EOS:
        probe = await model.generate("hello", raw=True, **{**options, "ignore_eos": True})
        monkeypatch.setattr(LocalModel, "eos_ids", {probe.ids[9]})
    whole = await model.prepare("hello", raw=True)
    expected = await told(model, whole, **options)
    assert whole.finish is end

    class Lost(Exception):
        pass

    reply, pieces, steps = Reply(list(whole.prompt_ids)), [], 0
    step = LocalSession.step

    async def breaks(self: LocalSession, rows: Any, want: Want = Want.LAST) -> Any:
        nonlocal steps
        steps += 1
        if steps % 3 == 0:
            raise Lost
        return await step(self, rows, want)

    monkeypatch.setattr(LocalSession, "step", breaks)
    for _ in range(40):
        try:
            async for piece in model.pieces(reply, SamplingConfig(**options), model.speculation):
                pieces.append(piece)
            break
        except Lost:
            continue
    assert steps > 3 and reply.finish is end
    assert reply.ids == whole.ids and reply.text == whole.text
    assert [(piece.text, [token.id for token in piece.tokens]) for piece in pieces] == [
        (piece.text, [token.id for token in piece.tokens]) for piece in expected
    ]
    assert await told(model, reply, **options) == [], "all of it was told"


@pytest.mark.parametrize("count", [0, 1, 6])
async def test_a_prompt_is_scored_with_or_without_a_reply(model: LocalModel, count: int) -> None:
    reply = await model.prepare("hello wörld, and more", raw=True)
    options = {"max_new_tokens": count, "prompt_logprobs": 2, "ignore_eos": True}
    pieces = await told(model, reply, **options)
    assert reply.finish is Finish.LENGTH and len(reply.ids) == count
    assert "".join(piece.text for piece in pieces) == reply.text
    assert reply.ids == (model.greedy(reply.prompt_ids, count) if count else [])
    echo = await model.echo(reply)
    assert echo.text == "hello wörld, and more"
    assert b"".join(token.raw for token in echo.tokens).decode() == echo.text
    assert [token.id for token in echo.tokens] == reply.prompt_ids
    with torch.no_grad():
        logits = model.reference(torch.tensor([reply.prompt_ids])).logits[0]
    expected = torch.log_softmax(logits[:-1].float(), -1)
    assert echo.tokens[0].logprob is None and echo.tokens[0].top == ()
    for token, row in zip(echo.tokens[1:], expected, strict=True):
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-3)
        best = row.topk(2)
        assert [other for other, _, _ in token.top] == best.indices.tolist()
        assert [value for *_, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-3)


async def test_a_prompt_of_one_token_has_nothing_to_score(model: LocalModel) -> None:
    reply = Reply([70])
    await told(model, reply, max_new_tokens=0, prompt_logprobs=2)
    assert reply.prompt_scores == [] and reply.finish is Finish.LENGTH
    (token,) = (await model.echo(reply)).tokens
    assert token.logprob is None


async def test_without_scores_an_echo_is_its_text(model: LocalModel) -> None:
    reply = await model.generate("hello", raw=True, max_new_tokens=2)
    echo = await model.echo(reply)
    assert echo.text == "hello" and [token.logprob for token in echo.tokens] == [None] * 5


async def test_what_the_vocabulary_does_not_have_is_refused_before_anything_is_sent(
    model: LocalModel,
) -> None:
    with pytest.raises(RequestError, match="logit_bias names token 300; the model has 300"):
        await model.generate("hello", raw=True, logit_bias=((300, 1.0),))
    assert model.sessions == []


async def test_who_stops_reading_closes_the_session(model: LocalModel) -> None:
    stream = model.stream("hello", raw=True, max_new_tokens=30)
    await anext(stream)
    assert model.sessions[-1].open
    await stream.aclose()
    assert not model.sessions[-1].open


@pytest.mark.parametrize("prompt", ["", " \n\t", []])
async def test_an_empty_prompt_is_refused(model: LocalModel, prompt: Any) -> None:
    with pytest.raises(RequestError, match="the prompt is empty"):
        await model.generate(prompt)


async def test_spaces_can_be_continued_as_they_are(model: LocalModel) -> None:
    assert (await model.generate(" ", raw=True, max_new_tokens=2)).text


async def test_what_does_not_fit_the_context_is_refused_before_anything_is_sent(
    model: LocalModel,
) -> None:
    with pytest.raises(RequestError, match=r"60 prompt tokens and up to 5 new ones.*of 64"):
        await model.generate("x" * 60, raw=True, max_new_tokens=5)
    assert model.sessions == []
    reply = await model.generate("x" * 60, raw=True, max_new_tokens=4, ignore_eos=True)
    assert len(reply.ids) == 4


async def test_unknown_and_doubled_options_are_refused(model: LocalModel) -> None:
    with pytest.raises(RequestError, match=r"unknown option.*top_q"):
        await model.generate("hello", raw=True, top_q=3)
    with pytest.raises(RequestError, match="either"):
        await model.generate("hello", raw=True, sampling=SamplingConfig(), top_k=3)
    with pytest.raises(RequestError, match="top_p"):
        await model.generate("hello", raw=True, top_p=7)


async def test_a_talk_needs_a_chat_template(model: LocalModel) -> None:
    talk = [{"role": "user", "content": "hello"}]
    with pytest.raises(RequestError, match="no chat template"):
        model.encode(talk)
    assert model.tokenizer.decode(model.encode("hello")) == "hello"


async def test_prompts_go_through_the_chat_template(chatty: LocalModel) -> None:
    decode = chatty.tokenizer.decode
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    assert decode(chatty.encode(talk)) == "user:hi;assistant:yes;"
    assert decode(chatty.encode("hi")) == "user:hi;"
    assert decode(chatty.encode("hi", raw=True)) == "hi"


async def test_the_end_tokens_come_from_the_models_own_settings(model: LocalModel) -> None:
    assert model.eos_ids == {2}


@pytest.mark.parametrize(
    "limits",
    [
        {"chunk_len": 0},
        {"max_attempts": 0},
        {"open_patience": -1},
        {"max_silences": -1},
        {"step_patience": 0},
        {"hold_patience": 0},
    ],
)
def test_patience_is_checked(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SessionConfig(**limits)
