"""The encoder-decoders against independent oracles: torch.nn's transformer layers, a loop written out, enumeration."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from arlab.decoding import beam_search, greedy
from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.text.pairs import PairInputs, pad_sources

SOURCES = [[1, 2, 3], [4, 5, 6, 7, 0], [2]]


def transformer(norm_first, **changes):
    sizes = {"source_vocab": 8, "vocab_size": 9, "source_length": 6, "context_length": 7, "d_model": 12, "d_ff": 20}
    sizes |= {"encoder_layers": 2, "layers": 2, "heads": 3, "bos_id": 8, "norm_first": norm_first, **changes}
    return Seq2SeqTransformer(Seq2SeqConfig(**sizes), seed=1).double().eval()


@torch.no_grad()
def disturb(model):
    """Biases and norms away from their start at 0 and 1: else a lost one would not be noticed."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def copy(ours: nn.Linear, weight: nn.Parameter, bias: nn.Parameter):
    weight.copy_(ours.weight)
    bias.copy_(ours.bias)


@torch.no_grad()
def torchs_layer(block, norm_first):
    """torch.nn's encoder or decoder layer with our block's weights."""
    crossing = hasattr(block, "cross")
    kind = nn.TransformerDecoderLayer if crossing else nn.TransformerEncoderLayer
    layer = kind(12, 3, 20, dropout=0.0, activation=F.gelu, batch_first=True, norm_first=norm_first).double().eval()
    copy(block.attn.qkv, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
    copy(block.attn.out, layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias)
    copy(block.ffn.up, layer.linear1.weight, layer.linear1.bias)
    copy(block.ffn.down, layer.linear2.weight, layer.linear2.bias)
    norms = [block.norm1, block.norm_cross, block.norm2] if crossing else [block.norm1, block.norm2]
    for number, norm in enumerate(norms, start=1):
        getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
    if crossing:
        cross = block.cross
        layer.multihead_attn.in_proj_weight.copy_(torch.cat([cross.q.weight, cross.kv.weight]))
        layer.multihead_attn.in_proj_bias.copy_(torch.cat([cross.q.bias, cross.kv.bias]))
        copy(cross.out, layer.multihead_attn.out_proj.weight, layer.multihead_attn.out_proj.bias)
    return layer


@torch.no_grad()
@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-LN", "post-LN"])
def test_the_transformer_is_torchs_layers_in_a_row(norm_first):
    model = disturb(transformer(norm_first))
    ids = torch.tensor([[8, 1, 2, 3], [8, 0, 5, 7], [8, 4, 4, 6]])
    source, lengths = pad_sources(SOURCES)
    padding = torch.arange(source.size(1)) >= lengths[:, None]
    scale = 12**0.5
    x = (F.embedding(source, model.embed_source.weight) + model.source_positions.table.weight[: source.size(1)]) * scale
    for block in model.encoder:
        x = torchs_layer(block, norm_first)(x, src_key_padding_mask=padding)
    x = model.encoder_norm(x)
    y = (F.embedding(ids, model.embed_tokens.weight) + model.target_positions.table.weight[:4]) * scale
    future = nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.double)
    for block in model.decoder:
        y = torchs_layer(block, norm_first)(y, x, tgt_mask=future, tgt_is_causal=True, memory_key_padding_mask=padding)
    logits = model.norm(y) @ model.embed_tokens.weight.T
    torch.testing.assert_close(model(PairInputs(source, lengths, ids)), logits, rtol=0, atol=1e-10)


def gru(weights, x, h):
    """Cho et al. (2014), as torch writes it: reset and update gates, the candidate, the mixture."""
    w_x, w_h, b_x, b_h = weights
    r_x, z_x, n_x = (w_x @ x + b_x).chunk(3)
    r_h, z_h, n_h = (w_h @ h + b_h).chunk(3)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + r * n_h) + z * h


def weights_of(cell, suffix):
    return [getattr(cell, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


@torch.no_grad()
@pytest.mark.parametrize("context", ["last", "mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("attention", [False, True])
def test_the_recurrent_model_is_the_lectures_formulas(attention, bidirectional, context):
    model = Seq2SeqRNN(
        8, 9, 5, 6, bos_id=8, attention=attention, bidirectional=bidirectional, context=context, seed=3
    ).double()
    ids = torch.tensor([[8, 1, 2, 3], [8, 0, 5, 7], [8, 4, 4, 6]])
    logits = model(PairInputs(*pad_sources(SOURCES), ids))
    for row, source in enumerate(SOURCES):
        h, directions = [], [("", source)] + [("_reverse", source[::-1])] * bidirectional
        ends = []
        for suffix, tokens in directions:
            state, states = torch.zeros(6, dtype=torch.double), []
            for token in tokens:
                state = gru(weights_of(model.encoder, suffix), model.embed_source.weight[token], state)
                states.append(state)
            ends.append(state)
            h.append(states[::-1] if suffix else states)
        h = torch.stack([torch.cat(parts) for parts in zip(*h, strict=True)])  # (n, d_source)
        c = h.mean(0) if context == "mean" else torch.cat(ends)
        s = torch.tanh(model.start.weight @ c + model.start.bias)
        for t, y in enumerate(ids[row]):
            if attention:
                scores = h @ (model.attend.q.weight @ s) / h.size(1) ** 0.5
                c = scores.softmax(0) @ h
            s = gru(weights_of(model.cell, ""), torch.cat([model.embed_tokens.weight[y], c]), s)
            torch.testing.assert_close(logits[row, t], model.head.weight @ s + model.head.bias, rtol=0, atol=1e-12)


# --- beams over given(source) against every target there is

EOS, LENGTH = 2, 4
SMALL = {
    "transformer": lambda: disturb(
        Seq2SeqTransformer(
            Seq2SeqConfig(
                source_vocab=4,
                vocab_size=4,
                source_length=5,
                context_length=6,
                d_model=8,
                encoder_layers=1,
                layers=1,
                heads=2,
                bos_id=3,
            ),
            seed=4,
        )
        .double()
        .eval()
    ),
    "fixed context": lambda: disturb(Seq2SeqRNN(4, 4, 4, 6, bos_id=3, seed=4).double()),
    "attention": lambda: disturb(Seq2SeqRNN(4, 4, 4, 6, bos_id=3, attention=True, bidirectional=True, seed=4).double()),
}


@torch.no_grad()
def every_target(given, length_penalty):
    """(score, ids) of each target of at most LENGTH tokens that ends with EOS, or is cut off there; best first."""
    scored = []
    for time in range(1, LENGTH + 1):
        for body in product(range(4), repeat=time):
            if EOS in body[:-1] or (time < LENGTH and body[-1] != EOS):
                continue
            ids = torch.tensor([[3, *body[:-1]]])
            logp = given(ids)[0].log_softmax(-1)[torch.arange(time), torch.tensor(body)].sum()
            scored.append((float(logp) / time**length_penalty, list(body)))
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_wide_beams_find_what_enumeration_finds(name, length_penalty):
    model, sources = SMALL[name](), [[0, 1], [3], [2, 2, 1, 0]]
    options = {"max_new_tokens": LENGTH, "eos_id": EOS, "beams": 4**LENGTH, "n": 6, "length_penalty": length_penalty}
    found = beam_search(model.given(sources), [[3]] * 3, **options)
    answers = set()
    for row, source in enumerate(sources):
        best = every_target(model.given(source), length_penalty)[:6]
        assert [found.tokens(row, n) for n in range(6)] == [ids for _, ids in best]
        scores = torch.tensor([score for score, _ in best], dtype=found.scores.dtype)
        torch.testing.assert_close(found.scores[row], scores, rtol=0, atol=1e-5)
        answers.add(str([ids for _, ids in best]))
    assert len(answers) == 3, "the sources must matter, or rows could be mixed up unseen"


@pytest.mark.parametrize("name", list(SMALL))
def test_one_beam_is_greedy(name):
    model, sources = SMALL[name](), [[0, 1], [3], [2, 2, 1, 0]]
    options = {"max_new_tokens": LENGTH, "eos_id": EOS}
    one = beam_search(model.given(sources), [[3]] * 3, beams=1, length_penalty=0.0, **options)
    plain = greedy(model.given(sources), [[3]] * 3, **options)
    assert [one.tokens(row) for row in range(3)] == [plain.tokens(row) for row in range(3)]
