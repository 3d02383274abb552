"""The encoder-decoders, transformer and recurrent, held to one set of laws: padding, caches, rows, bad input."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from arlab.decoding import beam_search, greedy, sample
from arlab.nn.attention import record_attention
from arlab.nn.language_model import LanguageModel
from arlab.nn.leaks import find_leaks
from arlab.nn.model_file import load_model, save_model
from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.pairs import PairInputs, pad_sources
from arlab.text.tokenizers import CharTokenizer

BOS, EOS = 11, 12
SIZES = {"source_vocab": 12, "vocab_size": 13, "source_length": 9, "context_length": 10, "d_model": 16}
SOURCES = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]


def transformer(**changes):
    config = Seq2SeqConfig(**{**SIZES, "encoder_layers": 2, "layers": 2, "heads": 4, "bos_id": BOS, **changes})
    return Seq2SeqTransformer(config, seed=0).double().eval()


def recurrent(**options):
    return Seq2SeqRNN(12, 13, 6, 8, bos_id=BOS, seed=0, **{"source_length": 9, **options}).double().eval()


MODELS = {
    "transformer": transformer,
    "transformer, post-LN": lambda: transformer(norm_first=False),
    "transformer, sinusoids": lambda: transformer(positions="sinusoidal", tied=False),
    "transformer, llama's parts": lambda: transformer(positions="rotary", ffn="swiglu", norm="rms", bias=False),
    "transformer, shared": lambda: transformer(source_vocab=13, shared=True, encoder_layers=1, layers=3),
    "fixed context": recurrent,
    "mean context, two layers": lambda: recurrent(context="mean", layers=2),
    "bidirectional lstm": lambda: recurrent(bidirectional=True, kind="lstm", layers=2),
    "attention": lambda: recurrent(attention=True),
    "attention, bidirectional, deep": lambda: recurrent(attention=True, bidirectional=True, layers=2, kind="rnn"),
    "attention, lstm, mean": lambda: recurrent(attention=True, kind="lstm", context="mean"),
}


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


def prefixes(rows, time, seed=0):
    ids = torch.randint(0, 11, (rows, time), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = BOS
    return ids


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@torch.no_grad()
def test_the_training_pass_and_the_language_model_agree(model):
    ids = prefixes(3, 6)
    given = model.given(SOURCES)
    assert isinstance(given, LanguageModel)
    close(given(ids), model(PairInputs(*pad_sources(SOURCES), ids)))
    close(given.last_logits(ids, lengths=[2, 6, 4]), given(ids)[torch.arange(3), torch.tensor([1, 5, 3])])


@torch.no_grad()
@pytest.mark.parametrize("fill", [0, 10])
def test_source_padding_changes_nothing(model, fill):
    ids, full = prefixes(3, 6), model.given(SOURCES)(prefixes(3, 6))
    source, lengths = pad_sources(SOURCES, pad_id=fill)
    wider = F.pad(source, (0, 4), value=fill)
    close(model.given(wider, lengths=lengths)(ids), full)
    cache = model.given(wider, lengths=lengths).new_cache(3, 8)
    close(model.given(wider, lengths=lengths)(ids, cache), full)


def test_source_padding_gets_no_gradient_and_makes_no_nan(model):
    source, lengths = pad_sources(SOURCES)
    x = model.source_embeddings(source).detach().requires_grad_()
    model.forward_embeddings(x, PairInputs(source, lengths, prefixes(3, 4))).sum().backward()
    assert torch.isfinite(x.grad).all()
    for row, n in enumerate(lengths.tolist()):
        assert (x.grad[row, n:] == 0).all()
        assert (x.grad[row, :n].abs().sum(-1) > 0).all(), "every real source token reaches the logits"


@torch.no_grad()
def test_a_row_alone_is_the_row_in_a_batch(model):
    ids = prefixes(3, 6)
    full = model.given(SOURCES)(ids)
    for row, source in enumerate(SOURCES):
        close(model.given(source)(ids[row : row + 1])[0], full[row])
        close(model(PairInputs(*pad_sources([source]), ids[row : row + 1]))[0], full[row])


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1), (2, 1, 3), (6,)])
def test_steps_with_the_cache_are_the_unrolled_pass(model, cuts):
    given, ids = model.given(SOURCES), prefixes(3, 6)
    cache = given.new_cache(3, 8)
    close(torch.cat([given(part, cache) for part in ids.split(cuts, dim=1)], dim=1), given(ids))


@torch.no_grad()
def test_reordered_rows_take_their_sources_along(model):
    given, ids, rows = model.given(SOURCES), prefixes(3, 6), [2, 0, 0, 1, 2]
    full = given(ids)
    cache = given.new_cache(3, 8)
    given(ids[:, :3], cache)
    cache.reorder(rows)
    close(given(ids[rows, 3:5], cache), full[rows, 3:5])
    cache.reorder([4, 1])
    close(given(ids[[2, 0], 5:], cache), full[[2, 0], 5:])


@torch.no_grad()
def test_rows_can_be_rolled_back(model):
    given, ids = model.given(SOURCES), prefixes(3, 6)
    full = given(ids)
    cache = given.new_cache(3, 10)
    given(ids, cache)
    cache.truncate([2, 5, 0])
    again = torch.stack([ids[0, 2], ids[1, 5], ids[2, 0]])[:, None]
    close(given(again, cache)[:, 0], torch.stack([full[0, 2], full[1, 5], full[2, 0]]))


@torch.no_grad()
def test_several_rows_of_one_source_and_of_each_source(model):
    ids = prefixes(6, 4)
    close(model.given(SOURCES[0])(ids)[4], model.given(SOURCES[0])(ids[4:5])[0])
    twice = model.given(SOURCES)(ids)  # rows 2 s and 2 s + 1 are source s
    close(twice[3], model.given(SOURCES[1])(ids[3:4])[0])
    with pytest.raises(ValueError, match="4 rows of ids for 3 sources"):
        model.given(SOURCES)(ids[:4])
    with pytest.raises(ValueError, match="2 rows of ids for 3 sources"):
        model.given(SOURCES).new_cache(2, 4)


def test_the_decoder_sees_no_future(model):
    assert find_leaks(model.given(SOURCES[1]), prefixes(1, 6)) == []


def test_decoders_take_it_unchanged(model):
    given, starts = model.given(SOURCES), [[BOS]] * 3
    written = greedy(given, starts, max_new_tokens=7, eos_id=EOS)
    for row, source in enumerate(SOURCES):
        alone = greedy(model.given(source), [], max_new_tokens=7, eos_id=EOS)  # an empty prompt starts from bos_id
        assert alone.tokens() == written.tokens(row)
        beams = beam_search(model.given(source), [BOS], max_new_tokens=7, beams=3, eos_id=EOS)
        assert beams.tokens() == beam_search(given, starts, max_new_tokens=7, beams=3, eos_id=EOS).tokens(row)
    drawn = sample(given, starts, max_new_tokens=5, n=4, generator=torch.Generator().manual_seed(0))
    for row in range(3):  # each draw's log-probability is that of its own source
        ids = drawn.ids[row]
        full = model.given(SOURCES[row])(torch.cat([torch.full((4, 1), BOS), ids[:, :-1]], dim=1)).log_softmax(-1)
        own = full.gather(-1, ids[..., None])[..., 0]
        torch.testing.assert_close(drawn.logprobs[row].double(), own, rtol=0, atol=1e-5)  # they are kept in float32


@torch.no_grad()
def test_recording_changes_nothing_and_pads_get_no_weight(model):
    given, ids = model.given(SOURCES), prefixes(3, 6)
    full = given(ids)
    if isinstance(model, Seq2SeqRNN) and model.attend is None:
        with pytest.raises(ValueError, match="nothing to record"), record_attention(given):
            pass
        return
    with record_attention(given) as maps:
        close(given(ids), full)
    for map_ in maps.cross:
        assert map_.shape[0] == 3 and map_.shape[2:] == (6, 5)
        torch.testing.assert_close(map_.sum(-1), torch.ones(map_.shape[:3]))
        for row, source in enumerate(SOURCES):
            assert (map_[row, :, :, len(source) :] == 0).all()
    if isinstance(model, Seq2SeqTransformer):
        assert len(maps) == len(maps.cross) == model.config.layers and len(maps.encoder) == model.config.encoder_layers
        assert maps[0].triu(1).abs().max() == 0 and maps.encoder[0][1].triu(1).max() > 0
    else:
        assert len(maps.cross) == 1 and len(maps) == len(maps.encoder) == 0


def test_a_stored_model_is_the_same_model(tmp_path):
    model = transformer().float()
    path = save_model(tmp_path / "model.safetensors", model, CharTokenizer("ab", special=["<bos>", "<eos>"]), note="n")
    again, tokenizer, about = load_model(path)
    assert again.config == model.config and tokenizer.bos_id is not None and about == {"note": "n"}
    assert torch.equal(again.given(SOURCES)(prefixes(3, 4)), model.given(SOURCES)(prefixes(3, 4)))


COMPILED = """
import torch
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.pairs import PairInputs, pad_sources

config = Seq2SeqConfig(source_vocab=12, vocab_size=13, source_length=9, context_length=10, d_model=16,
                       encoder_layers=1, layers=1, heads=2, bos_id=11)
model = Seq2SeqTransformer(config, seed=0)
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
for sources in ([[1, 2, 3], [4, 5, 6, 7, 8]], [[1], [2, 3]], [[1, 2], [3, 4]]):
    batch = PairInputs(*pad_sources(sources), torch.tensor([[11, 1, 2], [11, 3, 4]]))
    grads = []
    for each in (model, compiled):
        model.zero_grad()
        each(batch).square().sum().backward()
        grads.append(model.embed_source.weight.grad.clone())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)
"""


def test_training_compiles_into_one_graph():
    """Apart, for jaxtyping's hook, which the tests put on, is not for torch.compile."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMPILED]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


# --- bad input


@pytest.mark.parametrize("make", [transformer, recurrent], ids=["transformer", "recurrent"])
@pytest.mark.parametrize(
    ("source", "lengths", "says"),
    [
        ([], None, "source 0 is empty"),
        ([[1], []], None, "source 1 is empty"),
        ([1] * 10, None, "a source has 10 tokens; the model reads 9 at most"),
        ([1, 12], None, "source 0 holds the id 12 at position 1"),
        ([1, -1], None, "the id -1"),
        ([[1, 2], [3, 4]], torch.tensor([2, 0]), "source 1 has length 0"),
        ([[1, 2], [3, 4]], torch.tensor([2, 3]), "source 1 has length 3"),
        ([[1, 2], [3, 4]], torch.tensor([2]), "needed one for each of 2 sources"),
        ([[1, 2], [3]], torch.tensor([2, 2]), "source 1 has 1 tokens and the length 2"),  # a pad would be read
        (torch.zeros(1, 0, dtype=torch.long), None, "needed \\(sources, tokens\\)"),
    ],
)
def test_bad_sources_are_named(make, source, lengths, says, as_shipped):
    with pytest.raises(ValueError, match=says):
        make().given(source, lengths=lengths)


@pytest.mark.parametrize("make", [transformer, recurrent], ids=["transformer", "recurrent"])
@pytest.mark.parametrize(
    ("source", "lengths", "says"),
    [
        ([[1, 2]], [0], "source 0 has length 0"),
        ([[1, 2]], [3], "source 0 has length 3"),
        ([[1, 12]], [2], "the id 12 at position 1"),
        ([[1] * 10], [10], "the model reads 9 at most"),
        ([1, 2], [2], "needed \\(sources, tokens\\)"),
    ],
)
def test_the_encoder_alone_names_them_too(make, source, lengths, says, as_shipped):
    """A length of 0 or beyond the end went through the transformer in silence."""
    with pytest.raises(ValueError, match=says):
        make().encode(torch.tensor(source), torch.tensor(lengths))


@pytest.mark.parametrize("make", [transformer, recurrent], ids=["transformer", "recurrent"])
def test_embeddings_of_another_source_are_refused(make, as_shipped):
    model, inputs = make(), PairInputs(*pad_sources([[1, 2]]), torch.tensor([[BOS]]))
    with pytest.raises(ValueError, match="needed an x for each id"):
        model.forward_embeddings(model.source_embeddings(torch.tensor([[1, 2, 3]])), inputs)


@pytest.mark.parametrize("make", [transformer, recurrent], ids=["transformer", "recurrent"])
def test_bad_ids_are_named(make, as_shipped):
    model = make()
    with pytest.raises(ValueError, match="ids\\[0, 1\\] is 13"):
        model.given([1])(torch.tensor([[BOS, 13]]))
    with pytest.raises(ValueError, match="source 0 holds the id 12"):
        model(PairInputs(torch.tensor([[12]]), torch.tensor([1]), torch.tensor([[BOS]])))
    with pytest.raises(ValueError, match="2 sources and 1 prefixes"):
        model(PairInputs(*pad_sources([[1], [2]]), torch.tensor([[BOS]])))
    for source in ("abc", 3, None, torch.tensor([0.5]), torch.tensor([True])):
        with pytest.raises(TypeError, match="it must be ids|must be an integer tensor"):
            model.given(source)
    with pytest.raises(TypeError, match="lengths must be an integer tensor"):
        model.given([[1, 2]], lengths=torch.tensor([1.5]))


@pytest.mark.parametrize("make", [transformer, recurrent], ids=["transformer", "recurrent"])
def test_who_forgets_the_source_is_told(make, as_shipped):
    for call in (lambda: make()(torch.tensor([[BOS]])), lambda: greedy(make(), [[BOS]], max_new_tokens=2)):
        with pytest.raises(TypeError, match="model.given\\(source\\)"):
            call()


def test_sources_may_come_in_any_form():
    model, ids = transformer(), prefixes(2, 3)
    expected = model.given([[1, 2], [3, 4]])(ids)
    for source in (
        torch.tensor([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]]),
        ((1, 2), (3, 4)),
        [torch.tensor([1, 2]), [3, 4]],
    ):
        close(model.given(source)(ids), expected)
    for source in ([1, 2], torch.tensor([1, 2]), np.array([1, 2]), (1, 2)):
        close(model.given(source)(ids[:1]), expected[:1])


def test_the_source_goes_where_the_model_goes():
    given = transformer().given(SOURCES).to(torch.float32)
    assert {"source", "lengths"} <= dict(given.named_buffers()).keys()
    assert not {"source", "lengths"} & given.state_dict().keys()


def test_lengths_that_do_not_fit(as_shipped):
    given = transformer().given([1, 2])
    with pytest.raises(ValueError, match="11 target tokens exceed the model's context_length of 10"):
        given(torch.zeros(1, 11, dtype=torch.long))
    with pytest.raises(ValueError, match="capacity is 11"):
        given.new_cache(1, 11)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source_vocab": 0}, "source_vocab is 0"),
        ({"source_length": 1.5}, "source_length is 1.5"),
        ({"shared": True}, "source_vocab is 12, vocab_size 13"),
        ({"bos_id": None}, "bos_id is None"),
        ({"bos_id": 13}, "bos_id is 13"),
        ({"heads": 3}, "not a multiple of heads"),
    ],
)
def test_bad_configs_are_named(changes, says, as_shipped):
    with pytest.raises(ValueError, match=says):
        transformer(**changes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "cnn"}, "kind is 'cnn'"),
        ({"context": "max"}, "context is 'max'"),
        ({"layers": 0}, "layers is 0"),
        ({"source_length": 0}, "source_length is 0"),
    ],
)
def test_bad_recurrent_models_are_named(options, says, as_shipped):
    with pytest.raises(ValueError, match=says):
        recurrent(**options)
