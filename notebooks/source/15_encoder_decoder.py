# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Encoder and decoder: from one sequence to another
#
# So far a model continued a text. Now it gets a text to *read*, a date in some language or a Spanish sentence, and is to
# *write* another one. An **encoder** reads the source, a **decoder** writes the target, token by token, as before. What
# the two hand over to each other is what this notebook is about: one vector for everything, or a look back at the source
# for every token.
#
# **You will be able to**
#
# - tell classification, labelling and generation apart by their signatures, and say how large each output space is;
# - build the RNN encoder-decoder with a fixed context, bidirectional and deep encoders, attention in the decoder, and
#   the transformer's cross-attention, and show that the library computes the same numbers;
# - train on pairs by maximum likelihood with the true prefix, and say what the start and end symbols are for;
# - measure the bottleneck of a fixed context, and how much gradient reaches a far-away source token;
# - read and score an alignment, and decode with the same functions as in notebooks 09 to 11.
#
# **Time** 110 minutes. **Before this** notebooks [03](03_attention.ipynb) (attention), [06](06_teacher_forcing.ipynb)
# (teacher forcing) and [11](11_beam_search.ipynb) (beams). **Follows** lecture 004 (sequence generation,
# encoder-decoder models, training), lecture 001 (long dependences, beam search) and lecture 002 (RNNs that generate).
#
# [← 14 Choosing a decoder](14_choosing_a_decoder.ipynb) · [16 Exposure bias →](16_exposure_bias.ipynb)

# %% tags=["nbval-ignore-output"]
import math
import re
import string
import time
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch import nn

import arlab
from arlab.decoding import beam_search, greedy, sample
from arlab.exercises import encoder_decoder as check
from arlab.nn.attention import record_attention
from arlab.nn.language_model import LanguageModel
from arlab.nn.rnn import Seq2SeqRNN
from arlab.nn.seq2seq import Seq2SeqConfig, Seq2SeqTransformer
from arlab.recipes import CHECKPOINTS, load, translation
from arlab.recipes import encoder_decoder as recipe
from arlab.text.dates import date_pairs, read_date, split_dates, write_date
from arlab.text.pairs import ordered_pairs, pair_batches
from arlab.text.tokenizers import CharTokenizer
from arlab.training import recordings
from arlab.training.loop import evaluate, train
from arlab.views import AlignmentView, FourModels, TrainingCurves
from arlab.views.alignment_view import alignment_score

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#999999"

# %% [markdown]
# The questions that the lectures ask about this part, and where below you see the answer:
#
# | question | section |
# |---|---|
# | What do classification, labelling and generation take and return? Why is generation the hard one? | 1 |
# | How is generation reduced to classification? | 1 |
# | What is the context vector, and how does it enter the decoder? | 3 |
# | What do a bidirectional and a multilayer encoder add? | 4 |
# | What is maximised in training, and what is the prefix? | 5 |
# | Which is more likely, one word or the whole sentence? What are start and end symbols for? | 6 |
# | Should the context be the same at every step? What are query, key and value? | 7, 8 |
# | Why does gradient vanish over distance, and what is a direct path? | 9 |
# | Where do K and V come from in a transformer's decoder? | 10 |
#
# ## 1. Three signatures
#
# Let $\mathcal V$ be a vocabulary, $n$ the length of the source, $m$ that of the target.
#
# $$\begin{aligned}
# \text{classification} &: \mathcal V^n \to \{0, \dots, K\} & \text{one label for the sequence}\\
# \text{labelling} &: \mathcal V^n \to \{0, \dots, K\}^n & \text{one label for each token}\\
# \text{generation} &: \mathcal V_{\text{in}}^n \to \mathcal V_{\text{out}}^m & \text{a sequence, its length } m \text{ is free}
# \end{aligned}$$
#
# The first two need no decoder. An encoder turns $n$ tokens into $n$ vectors $h_1, \dots, h_n$, each of which knows its
# surroundings; a linear layer on one of them, or on each of them, makes the labels. Here with a recurrent encoder:

# %%
n, d, K = 5, 8, 2
torch.manual_seed(0)
tokens = torch.randn(1, n, d)  # (1, n, d): five embedded tokens
encoder, to_label = nn.GRU(d, d, batch_first=True), nn.Linear(d, K + 1)
h, last = encoder(tokens)
print("encoder:       ", tuple(tokens.shape), "->", tuple(h.shape))
print("classification:", tuple(to_label(h[:, -1]).shape), "one distribution over K + 1 labels")
print("labelling:     ", tuple(to_label(h).shape), "one for each of the n tokens")

# %% [markdown]
# Generation does not fit: how many rows should the result have? Nobody knows before it is written. And there are many
# more possible answers. **Before you run:** for a source of ten tokens, how many answers has each task? Take three
# labels; for generation, targets of up to ten tokens from a vocabulary of 6,000.

# %%
V, n = 6000, 10
answers = {
    "classification": [math.log10(3)] * n,
    "labelling": [k * math.log10(3) for k in range(1, n + 1)],
    "generation": [math.log10(sum(V**m for m in range(k + 1))) for k in range(1, n + 1)],
}
for task, exponents in answers.items():
    print(f"{task:15} 10^{exponents[-1]:.1f} answers")
print(f"{'as m choices':15} {n * V:,} numbers")

# %%
fig, ax = plt.subplots(figsize=(7.5, 2.8))
for (task, exponents), colour in zip(answers.items(), (GREY, BLUE, ORANGE), strict=True):
    ax.plot(range(1, n + 1), exponents, "o-", color=colour, ms=4, label=task)
steps = [math.log10(k * V) for k in range(1, n + 1)]
ax.plot(range(1, n + 1), steps, "--", color=ORANGE, label="generation, as m classifications")
ax.set(xlabel="length of source and target (tokens)", ylabel="log10 (possible answers)")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: the number of possible answers against the length, as a power of ten. Classification is flat, labelling grows
# slowly, generation steeply to $10^{37.8}$. Dashed: the probabilities that a model computes when it chooses token by
# token.*
#
# The way out is the chain rule, now with the source $x$ as a condition everywhere:
#
# $$P(y \mid x) = \prod_{t=1}^{m} P(y_t \mid y_{<t}, x).$$
#
# Each factor is a *classification* with $V$ classes, a kind of problem we can solve: read $x$ and the prefix, choose the
# next token. Ten choices among 6,000 take 60,000 numbers instead of $10^{37.8}$. So
#
# $$\text{Encoder}(x_1, \dots, x_n) = [h_1, \dots, h_n], \qquad \text{Decoder}([h_1, \dots, h_n], y_{<t}) \to y_t .$$
#
# ## 2. A task that knows its answer
#
# People write dates in many ways, and each date has one right form in ISO 8601. The pairs below come from the tables of
# the Unicode consortium (the CLDR, through the library Babel): twenty languages, up to four formats each. A format that
# could be read in two ways (3/4/2021) is left out, so that every source has exactly one answer.

# %%
pairs = date_pairs(20_000, seed=0)
split = split_dates(pairs, unseen_locales=["it", "uk"], unseen_patterns=["medium"])
for name, part in zip(split._fields, split, strict=True):
    print(f"{name:9} {len(part):6,} pairs, {len({pair.target for pair in part}):6,} different days")
for pair in split.train[:6]:
    print(f"   {pair.locale}  {pair.source!r} -> {pair.target}")

# %% [markdown]
# `held_out` are days that training shows in no language; `unseen` are ways of writing that it never shows: Italian,
# Ukrainian, and the format that the CLDR calls "medium" (4 Mar 2021). The parts do not add up to 20,000: where a format of
# the training set has the same text ("4 May 2021"), nothing is new, and the pair is dropped. One character is one token
# here. The targets get a **start symbol** in front and an **end symbol** behind:

# %%
reader = CharTokenizer("".join(sorted({c for pair in pairs for c in pair.source})))
writer = CharTokenizer("-0123456789", special=["<bos>", "<eos>"])
BOS, EOS = writer.bos_id, writer.eos_id


def encoded(some):
    """(source ids, target ids) of some pairs."""
    return [reader.encode(pair.source) for pair in some], [writer.encode(pair.target) for pair in some]


(batch,) = ordered_pairs(*encoded(split.train[1:3]), rows=2, bos_id=BOS, eos_id=EOS)
print("source ", tuple(batch.inputs.source.shape), "real tokens of each row:", batch.inputs.lengths.tolist())
names = writer.token_strings()
print("prefix ", *(names[i] for i in batch.inputs.prefix[0]))
print("target ", *(names[i] for i in batch.targets[0]))

# %% [markdown]
# The decoder reads the prefix row and is asked for the target row: at each position the token that comes next. The source
# stands beside it, filled up with padding to the longest of the batch, and is never predicted.
#
# ## 3. One vector for the whole source
#
# The recurrent encoder-decoder, in the lecture's formulas:
#
# $$h_i = \text{RNN}_{\text{enc}}(x_i, h_{i-1}), \qquad c = f(h_1, \dots, h_n) = h_n \;\text{ or }\; \tfrac1n \textstyle\sum_i h_i,$$
# $$s_t = \text{RNN}_{\text{dec}}([y_{t-1}; c], s_{t-1}), \qquad P(y_t \mid y_{<t}, x) = \text{softmax}(\text{Linear}(s_t)).$$
#
# $h_i$ is the encoder's state after $i$ source tokens, $s_t$ the decoder's state, $[\,\cdot\,;\,\cdot\,]$ puts two vectors
# end to end, and $c$ is the **context vector**, the same one at every step. Nothing here is attention: an RNN can be
# autoregressive too, for that is a way to generate and not an architecture. With the simplest RNN, $\tanh(W x + U h + b)$:


# %%
def rnn_step(cell, x, h):
    """tanh(W x + b + U h + b'): one step of a plain RNN."""
    wx = x @ cell.weight_ih_l0.T + cell.bias_ih_l0
    return torch.tanh(wx + h @ cell.weight_hh_l0.T + cell.bias_hh_l0)


def encode(model, source):
    """h_1 .. h_n, one after the other."""
    h, states = torch.zeros(model.encoder.hidden_size), []
    for x in model.embed_source(source):
        h = rnn_step(model.encoder, x, h)
        states.append(h)
    return torch.stack(states)


def decode(model, prefix, h, context):
    """The logits for the token behind each token of the prefix, from one fixed context."""
    c = h[-1] if context == "last" else h.mean(0)
    s, rows = torch.tanh(model.start(c)), []  # s_0 is made from c too
    for y in model.embed_tokens(prefix):
        s = rnn_step(model.cell, torch.cat([y, c]), s)
        rows.append(model.head(s))
    return torch.stack(rows)


# %%
(single,) = ordered_pairs(*encoded(split.train[:1]), rows=1, bos_id=BOS, eos_id=EOS)
source, prefix = single.inputs.source[0], single.inputs.prefix[0]
sizes = {"source_vocab": reader.vocab_size, "vocab_size": writer.vocab_size, "d_model": 16, "d_hidden": 24}
for context in ("last", "mean"):
    plain = Seq2SeqRNN(**sizes, kind="rnn", context=context, bos_id=BOS, seed=0)
    with torch.no_grad():
        mine, library = decode(plain, prefix, encode(plain, source), context), plain(single.inputs)[0]
    same = torch.allclose(mine, library, atol=1e-5)
    print(f"c = {context}: logits {tuple(mine.shape)}, arlab's are the same: {same}, first {mine[0, 0]:.4f}")

# %% [markdown]
# From here on we use `Seq2SeqRNN`, with a GRU in place of the plain RNN: the same formulas, with gates that decide how
# much of the old state to keep.
#
# ### Exercise 1: the context of a padded batch
#
# In a batch the sources have different lengths. `h` is (rows, time, d); of row $r$ only the first `lengths[r]` states are
# real, what lies behind is padding and holds anything. Return $c$, (rows, d).


# %%
def fixed_context(h, lengths, kind):
    """One context vector for each source.

    h: (rows, time, d), the encoder's states. lengths: (rows,), real tokens of each source.
    kind: "last", the last real state, or "mean", the mean of the real states. Returns (rows, d).
    """
    raise NotImplementedError


# %%
check.fixed_context(fixed_context)

# %%
check.fixed_context.hint()

# %%
check.fixed_context.solution()

# %% [markdown]
# ## 4. Both directions, several layers
#
# $h_i$ has read $x_1, \dots, x_i$ and nothing to the right. Whether a 2 at the beginning belongs to the day ("2 mai 2049")
# or to the year ("2033. január"), only what follows can tell. A **bidirectional** encoder runs a second RNN from right to
# left and puts both states side by side, $h_i = [\overrightarrow h_i; \overleftarrow h_i]$; its $c$ is the last state of each,
# $[\overrightarrow h_n; \overleftarrow h_1]$. A **multilayer** one feeds the states of one RNN to the next. (The decoder cannot
# be bidirectional: what lies to the right of it is not written yet.)
#
# **Before you run:** we change one source token, number $j$. Which of the states $h_i$ change, in each of the two encoders?


# %%
@torch.no_grad()
def reach(model, source):
    """(n, n): how much h_i changes when token j is replaced by another one."""
    lengths = torch.tensor([len(source)])
    before, rows = model.encode(source[None], lengths)[0], []
    for j in range(len(source)):
        other = source.clone()
        other[j] = (other[j] + 1) % model.source_vocab
        rows.append((model.encode(other[None], lengths)[0] - before).norm(dim=-1))
    return torch.stack(rows, dim=1)


one_way, both_ways = (Seq2SeqRNN(**sizes, bidirectional=both, bos_id=BOS, seed=0) for both in (False, True))
reached = {"one direction": reach(one_way, source[:12]), "bidirectional": reach(both_ways, source[:12])}
for name, map_ in reached.items():
    print(f"{name}: {int((map_ > 0).sum())} of {map_.numel()} pairs (i, j) are connected")
deep = Seq2SeqRNN(**sizes, layers=2, bidirectional=True, bos_id=BOS, seed=0)
one = torch.tensor([12])
for name, reads in (("one direction", one_way), ("bidirectional", both_ways), ("two layers, bidirectional", deep)):
    print(f"{name:26} h is {tuple(reads.encode(source[None, :12], one).shape)}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained", sharey=True)
for ax, (name, map_) in zip(axes, reached.items(), strict=True):
    shown = ax.imshow(map_.clamp(min=1e-4).log10(), cmap="cividis", vmin=-4, vmax=1)
    ax.set(title=name, xlabel="changed source token j", xticks=range(0, 12, 2), xticklabels=range(1, 13, 2))
axes[0].set(ylabel="state h_i", yticks=range(0, 12, 2), yticklabels=range(1, 13, 2))
fig.colorbar(shown, ax=axes, label="log10 (change of h_i)")
plt.show()

# %% [markdown]
# *Figure: how strongly each state reacts to each source token, as a power of ten. In one direction the upper right
# triangle is empty, as under a causal mask; in both directions the whole square is filled, brightest on the diagonal.*
#
# Note how fast the colours fade with the distance from the diagonal. Section 9 comes back to this.
#
# ## 5. Maximum likelihood on pairs
#
# Given pairs $\mathcal D = \{(x^{(k)}, y^{(k)})\}$, training maximises the probability of the targets:
#
# $$\max_\theta \sum_{(x, y) \in \mathcal D} \log P_\theta(y \mid x)
#   = \max_\theta \sum_{(x, y) \in \mathcal D} \; \sum_{t=1}^{m} \log P_\theta(y_t \mid y_{<t}, x).$$
#
# What is the prefix $y_{<t}$? The *true* one: teacher forcing, as in notebook 06. All $m$ classifications of a target
# come from one pass, and the loss is the cross-entropy that you know, a mean over target tokens. An untrained model
# should pay about $\ln 13$, for 13 symbols can follow.
#
# **Before you run:** how many terms has the sum for a date, with its end symbol?

# %%
fresh = Seq2SeqRNN(reader.vocab_size, writer.vocab_size, 64, 64, attention=True, bidirectional=True, bos_id=BOS, seed=0)
some = encoded(split.train[:8])
total = count = 0
for x, y in zip(*some, strict=True):
    with torch.no_grad():
        logp = fresh.given(x)(torch.tensor([[BOS, *y]]))[0].log_softmax(-1)
    terms = [logp[t, token].item() for t, token in enumerate([*y, EOS])]  # log P(y_t | true prefix, x)
    total, count = total + sum(terms), count + len(terms)
print(f"{len(terms)} terms for a date; ln 13 = {math.log(13):.4f}")
print(f"mean of -log P over eight dates: {-total / count:.4f}")
print(f"arlab's evaluate: {evaluate(fresh, ordered_pairs(*some, rows=8, bos_id=BOS, eos_id=EOS)):.4f}")

# %% [markdown]
# `model.given(x)` is the encoder-decoder with its source fixed: a language model over targets, like any other in this
# course. Now train it, on dates. It is the model with attention that section 8 takes apart; the loop is notebook 06's.
#
# **Before you run:** the model sees each training pair about twice. Which of the ways of writing that it never sees will it
# read: the shorter format, Italian (whose months look Spanish), Ukrainian (whose months look like nothing else here)?

# %% tags=["nbval-ignore-output"]
model = fresh.to(lab.device)
curves = TrainingCurves(total=430, title="An encoder-decoder with attention learns to read dates")
curves.line("untrained", math.log(13))
display(curves)
generator = lab.generator()
stream = pair_batches(*encoded(split.train), rows=64, bos_id=BOS, eos_id=EOS, generator=generator)
started = time.process_time()
training = train(model, stream, steps=430, lr=4e-3, warmup=50, min_lr=2e-4, betas=(0.9, 0.98))
live = list(curves.follow(training, name="live"))
print(f"{live[-1].step} steps, {time.process_time() - started:.0f} s of CPU time, last loss {live[-1].loss:.4f}")

# %% [markdown]
# Loss is not what we want to know. **Exact match** is: greedy decoding writes all ten characters right, and then stops.

# %%
groups = {
    "held-out days": split.held_out[:400],
    "unseen format": [pair for pair in split.unseen if pair.locale not in ("it", "uk")][:200],
    "Italian": [pair for pair in split.unseen if pair.locale == "it"][:200],
    "Ukrainian": [pair for pair in split.unseen if pair.locale == "uk"][:200],
}
exact = {name: recipe.exact_match(model, *encoded(group), BOS, EOS) for name, group in groups.items()}
print("held-out days, exact match of at least 99 %:", exact["held-out days"] >= 0.99)
print("unseen format and Italian over a half:", min(exact["unseen format"], exact["Italian"]) > 0.5)
print("Ukrainian under a quarter:", exact["Ukrainian"] < 0.25)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 2.4))
bars = ax.barh(list(exact), list(exact.values()), color=[BLUE, SKY, SKY, ORANGE])
ax.bar_label(bars, fmt="%.3f", padding=3)
ax.set(xlabel="exact match (share)", xlim=(0, 1.12))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# *Figure: exact match of the model just trained. New days in known formats: nearly all right. The format never seen and
# Italian: most. Ukrainian: hardly any.*
#
# The model has not learned to "read dates", but the spellings it was shown and what looks like them. Most Ukrainian months
# are called much as in Polish or Czech, but written in Cyrillic. A test set of new days alone would not have told us.
#
# ## 6. What the end symbol is for
#
# Which is more likely, given the source: "2021" or "2021-03-04"? By the chain rule the longer text multiplies further
# numbers of at most 1, so **any beginning is at least as likely as the whole**. That comparison is the wrong one. With the
# end symbol, "2021" is a finished answer only if the model also says *stop here*:
#
# $$P(y \text{ is the whole answer} \mid x) = P(y \mid x) \cdot P(\texttt{<eos>} \mid y, x).$$
#
# **Before you run:** sketch both curves for the ten beginnings of "2021-03-04".

# %%
ask = write_date((2021, 3, 4), "de", "full")
with torch.no_grad():
    logp = model.given(reader.encode(ask.source))(torch.tensor([[BOS, *writer.encode(ask.target)]], device=lab.device))
logp = logp[0].double().log_softmax(-1).cpu()
each = logp[range(10), writer.encode(ask.target)]
without_end = torch.cat([torch.zeros(1, dtype=torch.float64), each.cumsum(0)])  # after 0, 1, ..., 10 characters
with_end = without_end + logp[:, EOS]
print(repr(ask.source))
print("without an end symbol, every beginning at least as likely:", bool((without_end[:-1] >= without_end[1:]).all()))
print("with it, the whole date has p > .9:", with_end[-1].exp().item() > 0.9)
print("and each of its beginnings p < .01:", bool((with_end[:-1].exp() < 0.01).all()))

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
left.plot(range(11), without_end, "o-", color=ORANGE)
left.set(title="without an end symbol", ylabel="log p", xlabel="characters written")
right.plot(range(11), with_end, "o-", color=BLUE)
right.set(title="with an end symbol", ylabel="log p", xlabel="characters written")
for ax in (left, right):
    ax.set_xticks(range(11), ["", *ask.target])
plt.show()

# %% [markdown]
# *Figure: log p of the beginnings of the right answer; below the axis, the character that was added. Left, without an end
# symbol: it can only fall, if here by very little. Right, with the end symbol: all beginnings are far down, and the whole
# date alone stands at the top.*
#
# So the end symbol is how a model knows lengths, and greedy decoding stops when it is chosen. The start symbol does the
# duty at the other end: it is what the decoder reads when nothing has been written yet.
#
# ### Exercise 2: the probability of a whole target


# %%
def target_logprob(logits, target, eos_id):
    """log P(y | x) of a whole answer.

    logits: (m + 1, vocab); row t is the model's opinion on what follows <bos> y_1 .. y_t, given x.
    target: list of the m ids y_1 .. y_m, without start and end symbol. Returns a number.
    """
    raise NotImplementedError


# %%
check.target_logprob(target_logprob)

# %%
check.target_logprob.hint()

# %%
check.target_logprob.solution()

# %% [markdown]
# ## 7. The bottleneck
#
# Should the same context serve every step? Dates are short and need little: any of these models learns them. So we ask
# for something that needs nothing but memory: **copy random letters**. All of a source has to get through whatever stands
# between encoder and decoder, and a vector does not grow with the source.
#
# Five models, each with the same 38,400 pairs of 2 to 24 letters and the same settings of the optimiser: fixed context (one
# GRU each side, $c$ has 128 numbers), a bidirectional encoder ($c$ has 256), a deep one (two layers on both sides), attention
# in the decoder (otherwise like the first), and a transformer of one layer. With three seeds that takes ten minutes on an
# idle machine, so what you see is **recorded** (`python -m arlab.recipes record_15_encoder_decoder`); `RUN_IT = True` runs
# one seed here.
#
# **Before you run:** which of the five will copy 6 letters? Which 16? Does a second direction help, or a second layer?

# %%
RUN_IT = False
file = recipe.record("15_encoder_decoder_own.json", seeds=(0,)) if RUN_IT else recipe.FILE
runs, recorded = recordings.load(file)
lengths = recorded["lengths"]
found = {
    name: torch.tensor([run["exact"] for run in recorded["results"] if run["model"] == name]) for name in recipe.MODELS
}
print(f"{recorded['steps']} steps of {recorded['rows']} pairs; exact match, mean of {len(found['attention'])} seeds")
print(f"{'letters':15}" + "".join(f"{n:6}" for n in (4, 6, 8, 12, 16, 24)) + "   parameters")
for name, shares in found.items():
    row = [shares.mean(0)[lengths.index(n)] for n in (4, 6, 8, 12, 16, 24)]
    size = next(run["parameters"] for run in recorded["results"] if run["model"] == name)
    print(f"{name:15}" + "".join(f"{share:6.2f}" for share in row) + f"{size:13,}")

# %%
COLOURS = dict(zip(recipe.MODELS, (ORANGE, PURPLE, GREY, BLUE, GREEN), strict=True))
MARKS = dict(zip(recipe.MODELS, "osD^v", strict=True))
fig, ax = plt.subplots(figsize=(8, 3.2))
for name, shares in found.items():
    for one_seed in shares:
        ax.plot(lengths, one_seed, color=COLOURS[name], lw=0.7, alpha=0.5)
    ax.plot(lengths, shares.mean(0), MARKS[name] + "-", color=COLOURS[name], ms=5, label=name)
ax.set(xlabel="length of the source (letters)", ylabel="exact match (share)", xticks=lengths, ylim=(-0.03, 1.05))
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# *Figure: share of 200 words copied without a mistake, against their length (recorded). The three models with a fixed
# context fall off a cliff between 4 and 12 letters; attention and the transformer stay far above them.*
#
# Size is not the reason: the deep model is the largest of the five, the transformer the smallest. A second direction or a
# second layer moves the cliff by two or three letters, as longer training does (see "What to try next"); looking back at the
# source removes it. (The attentive RNN's slow decline is another matter: in long words it loses its place, skips letters or
# stops too early. Try one below.)
#
# Their weights are shipped too. Put in words of your own, and see where the models with a fixed context begin to make
# mistakes, and where the two with attention look meanwhile.

# %% tags=["nbval-ignore-output"]
letters = CharTokenizer(string.ascii_lowercase)
writes = CharTokenizer(string.ascii_lowercase, special=["<bos>", "<eos>"])
copiers = recipe.trained(file)
lanes = {name: copiers[name] for name in ("fixed context", "bidirectional", "attention", "transformer")}
symbols = {"bos_id": writes.bos_id, "eos_id": writes.eos_id, "max_new_tokens": 25}
FourModels(lanes, letters, writes, "onceuponatime", **symbols, answer=lambda text: text)

# %% [markdown]
# **Questions to answer with the controls**
#
# 1. Shorten the word letter by letter: from where on does the fixed context copy it? Does the word matter ("qwertz",
#    "quizbox")?
# 2. Where does the fixed context make its first mistake, and of what kind are its mistakes?
# 3. Does it know that it is wrong? Compare the probabilities of its first and its last letters.
# 4. Step through the word: what do the strips of the two models with attention have in common?
#
# <details><summary>Answers</summary>
# 1. Up to five letters it does; from six to ten it is luck ("onceuponat" comes out right, the shorter "onceup" does not); beyond, it fails. The word matters: "qwertz" is copied, "quizbox" becomes "quizbxo". 2. The beginning is right, and later the right letters come in the wrong order: the state still says which letters there were, and no longer where. 3. It does: about .8 at first, .2 to .5 towards the end. 4. One tall bar, which moves on by one letter at every step: the alignment of a copy is a diagonal.
# </details>
#
# ## 8. A new context at every step
#
# **Attention** in the decoder (notebook 03, now between two sequences): the query is the decoder's state, keys and values
# are the encoder's states.
#
# $$\alpha_{t,i} = \underset{i}{\text{softmax}} \; \frac{(W s_{t-1})^\top h_i}{\sqrt d}, \qquad
#   c_t = \sum_{i=1}^{n} \alpha(s_{t-1}, h_i)\, h_i, \qquad s_t = \text{RNN}_{\text{dec}}([y_{t-1}; c_t], s_{t-1}).$$
#
# Only the index $t$ at $c$ is new. (The product with a matrix $W$ is one way to compare $s_{t-1}$ with $h_i$, that of Luong and
# others; Bahdanau and others, the first, took a small network, $v^\top \tanh(W s_{t-1} + U h_i)$.) The weights
# $\alpha_{t,1}, \dots, \alpha_{t,n}$ sum to 1 and say which source tokens matter for the next target token. By hand, and compared:


# %%
def decode_with_attention(model, prefix, h):
    """Logits and alignment, one step after the other."""
    s, rows, weights = torch.tanh(model.start(h[-1])), [], []
    for y in model.embed_tokens(prefix):
        scores = h @ model.attend.q(s) / math.sqrt(h.size(-1))  # (n,): the query is s_{t-1}
        alpha = scores.softmax(-1)
        c = alpha @ h  # (d,): a new context at every step
        s = rnn_step(model.cell, torch.cat([y, c]), s)
        rows.append(model.head(s))
        weights.append(alpha)
    return torch.stack(rows), torch.stack(weights)


plain = Seq2SeqRNN(**sizes, kind="rnn", attention=True, bos_id=BOS, seed=0)
with torch.no_grad(), record_attention(plain) as maps:
    mine, alpha = decode_with_attention(plain, prefix, encode(plain, source))
    library = plain(single.inputs)[0]
print("logits as arlab's:", torch.allclose(mine, library, atol=1e-5))
print("weights as arlab's:", torch.allclose(alpha, maps.cross[0][0, 0], atol=1e-5), tuple(alpha.shape))
print("each row sums to 1:", torch.allclose(alpha.sum(-1), torch.ones(len(prefix))))

# %% [markdown]
# ### Exercise 3: attention over a padded source
#
# One step for a batch, without the matrix $W$ (so $s$ and $h$ have the same width). A source's padding gets no weight.


# %%
def attention_step(s, h, lengths):
    """The context of one decoder step, and the weights it is made with.

    s: (rows, d), the decoder's states. h: (rows, source_time, d). lengths: (rows,), real source tokens.
    Returns c (rows, d) and alpha (rows, source_time), the softmax of s . h_i / sqrt(d) over the real tokens.
    """
    raise NotImplementedError


# %%
check.attention_step(attention_step)

# %%
check.attention_step.hint()

# %%
check.attention_step.solution()

# %% [markdown]
# ## 9. The way that a gradient has to go
#
# Why is a fixed context so hard to train? Take the last target token. To learn that it depends on $x_1$, the gradient of
# its log-probability has to travel from the decoder through $c$ back to $h_n$, and from there through $n - 1$ steps of the
# encoder. Each step multiplies it by a matrix and by slopes of tanh or gates, and as a rule it gets smaller: it **vanishes**
# with the distance. Attention adds a direct path: $c_t$ contains every $h_i$ with weight $\alpha_{t,i}$.
#
# We follow it: $\lVert \partial \log P(y_{\text{last}}) / \partial x_i \rVert$ for every source position $i$, in untrained
# models, where learning has to begin. Sources of 40 letters.
#
# **Before you run:** of the gradient that reaches the last source token, which share reaches the first one?

# %%
far = recipe.words(16, 40, lab.generator())
(forty,) = ordered_pairs(far, far, rows=16, bos_id=26, eos_id=27)
options = {"source_vocab": 26, "vocab_size": 28, "d_model": 64, "bos_id": 26}
transformer = Seq2SeqConfig(**options, source_length=64, context_length=64, encoder_layers=1, layers=1, heads=4)
untrained = {
    "plain RNN, fixed context": Seq2SeqRNN(**options, d_hidden=128, kind="rnn", seed=0),
    "GRU, fixed context": Seq2SeqRNN(**options, d_hidden=128, seed=0),
    "GRU with attention": Seq2SeqRNN(**options, d_hidden=128, attention=True, seed=0),
    "transformer": Seq2SeqTransformer(transformer, seed=0),
}
reaching = {name: recipe.gradient_by_position(model_, forty, [-1])[0] for name, model_ in untrained.items()}
for name, gradient in reaching.items():
    power = round(math.log10(gradient[0] / gradient[-1]))
    print(f"{name:25} first : last source token = 10^{power}")

# %%
fig, ax = plt.subplots(figsize=(8, 3.2))
for (name, gradient), colour, mark in zip(reaching.items(), (GREY, ORANGE, BLUE, GREEN), "oD^v", strict=True):
    ax.semilogy(range(1, 41), gradient, mark + "-", ms=3.5, color=colour, label=name)
ax.set(xlabel="source position i", ylabel="gradient norm", xlim=(0, 41))
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# *Figure: gradient of the last target's log-probability at each source position, logarithmic, before training. Both fixed
# contexts: a straight line, that is an exponential decay with the distance from the end. With attention it is flat, by
# the direct path; the transformer's is flat too, for all its paths are short.*
#
# With a fixed context the first letter's share is a hundred-millionth, and with a plain RNN far less. (How steep the lines are
# depends on the first weights, here PyTorch's usual ones; with orthogonal ones they fall more slowly.) Learning has to
# begin with that. A GRU can do so, for its gates can learn to let a state pass unchanged, letter by letter. Another early
# trick was to turn the source round, which brings the first source word next to the first target word (Sutskever and
# others, 2014).
#
# What does training make of it? For the recorded copies of 24 letters, all target positions:

# %%
first_seed = recorded["results"][: len(recipe.MODELS)]
trained_gradients = {run["model"]: torch.tensor(run["gradient"]) for run in first_seed}
shown_models = ("fixed context", "attention", "transformer")
for name in shown_models:
    g = trained_gradients[name][:-1]  # without the end symbol's row
    near = ((g.argmax(1) - torch.arange(24)).abs() <= 2).sum().item()
    print(f"{name:15} largest gradient within 2 places of the letter's own: {near} of 24;", end=" ")
    print(f"on the first three letters: {(g[:, :3].sum(1) / g.sum(1)).mean():.2f} of it")

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", sharey=True)
for ax, name in zip(axes, shown_models, strict=True):
    g = trained_gradients[name][:-1]
    ax.imshow(g / g.amax(1, keepdim=True), cmap="cividis", vmin=0, vmax=1)
    ax.set(title=name, xlabel="source position", xticks=range(0, 24, 4), xticklabels=range(1, 25, 4))
axes[0].set(ylabel="target position", yticks=range(0, 24, 4), yticklabels=range(1, 25, 4))
plt.show()

# %% [markdown]
# *Figure: after training, the gradient of each target letter's log-probability at each source letter, each row divided by
# its maximum (recorded). Fixed context: bright at the first letters of the source whichever target letter is asked for,
# and a faint diagonal. Attention: a band along the diagonal. Transformer: the diagonal alone.*
#
# Training has found a way around the vanishing for the fixed context, but only for what it needs first: the *first*
# letters are remembered at the expense of the others. The attentive RNN's band is some letters wide, since each state
# $h_i$ has read the letters before it too.
#
# ## 10. The transformer's decoder
#
# The transformer has no states to hand over. Its encoder is a stack of blocks without a causal mask; its decoder is the
# decoder of this course with one more attention in each block, the **cross-attention**:
#
# $$H_{\text{enc}} = [h_1, \dots, h_n], \qquad K = H_{\text{enc}} W^K, \qquad V = H_{\text{enc}} W^V, \qquad q_t = s_t W^Q,$$
#
# with $s_t$ from the decoder's own masked self-attention over what it has read so far. Same formula as in notebook 03; only where
# $Q$, $K$ and $V$ come from has changed. We catch $s_t$ on its way and do the rest by hand.
#
# **Before you run:** with $n$ source and $m$ target tokens, which shape has the map of weights? Does it need a causal mask?

# %%
small = Seq2SeqTransformer(replace(transformer, heads=1), seed=0)
block, caught = small.decoder[0], {}
block.norm_cross.register_forward_hook(lambda module, inputs, output: caught.update(s=output))
block.cross.register_forward_hook(lambda module, inputs, output: caught.update(z=output))
words = recipe.words(1, 7, lab.generator())
(one_word,) = ordered_pairs(words, [words[0][:4]], rows=1, bos_id=26, eos_id=27)
with torch.no_grad(), record_attention(small) as maps:
    small(one_word.inputs)
    H = small.encode(one_word.inputs.source, one_word.inputs.lengths)[0]  # (n, d)
    W_K, W_V = block.cross.kv.weight.chunk(2)
    b_K, b_V = block.cross.kv.bias.chunk(2)
    K, V_ = H @ W_K.T + b_K, H @ W_V.T + b_V  # once for a source
    q = block.cross.q(caught["s"][0])  # (m + 1, d)
    weights = (q @ K.T / math.sqrt(K.size(-1))).softmax(-1)
    z = block.cross.out(weights @ V_)
print(f"K {tuple(K.shape)} and V {tuple(V_.shape)} from the source, q {tuple(q.shape)} from the target")
print("weights as arlab's:", torch.allclose(weights, maps.cross[0][0, 0], atol=1e-5), tuple(weights.shape))
print("output as arlab's: ", torch.allclose(z, caught["z"][0], atol=1e-5))
print("every entry above 0:", bool((weights > 0).all()))

# %% [markdown]
# No mask: the whole source may be read at any time (only padding is hidden). And $K$ and $V$ do not depend on the target:
# a decoder computes them **once** and looks into them at every step, like a cache that never grows. The three attentions
# of the model side by side, still untrained:

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
kinds = {"encoder, over itself": maps.encoder[0], "decoder, over itself": maps[0], "cross": maps.cross[0]}
for ax, (name, map_) in zip(axes, kinds.items(), strict=True):
    ax.imshow(map_[0, 0], cmap="cividis", vmin=0)
    queries, keys = map_[0, 0].shape
    ax.set(title=f"{name}: {queries} by {keys}", xlabel="key", ylabel="query")
plt.show()

# %% [markdown]
# *Figure: three maps of one untrained model on a source of 7 and a prefix of 5 tokens. The encoder's square is full, the
# decoder's is empty above the diagonal, the cross-attention's is a full rectangle of 5 by 7.*
#
# ## 11. Alignments, scored
#
# A map of weights looks like an **alignment**: which source token each target token comes from. People like to read maps
# that way. Is it true? For dates we know the answer by construction: `pair.spans` says where the year, the month and the
# day are written. Outlines mark these spans; every row is a target character. Type another date (the outlines come along
# as long as it is a correct date in one of the known formats), and go through the rows with the arrow keys.
#
# **Before you run:** "4. März" has one digit, its "04" has two. Where will the row of that 0 look?


# %%
def spans_of(source_text, target_text):
    """The gold alignment of a date, from the formats; a text that is no known date is refused in words."""
    return read_date(source_text).spans


# %% tags=["nbval-ignore-output"]
AlignmentView.run(model, reader, writer, ask.source, bos_id=BOS, eos_id=EOS, max_new_tokens=12, gold=spans_of)

# %% [markdown]
# One picture proves nothing, so we count over 200 held-out dates, for each of the eight digits: is the heaviest source
# position inside the gold span? "Near" allows the character next to it.
#
# **Before you run:** was that 0 an accident? What do you expect of a day that is written with two digits?


# %%
def heaviest(pair):
    """For each target character, the source position with the most weight (one layer, one head)."""
    given = model.given(reader.encode(pair.source))
    with torch.no_grad(), record_attention(given) as maps:
        given(torch.tensor([[BOS, *writer.encode(pair.target)]], device=lab.device))
    return maps.cross[0][0, 0].argmax(-1).tolist()


judged = split.held_out[:200]
places, digits = [heaviest(pair) for pair in judged], [0, 1, 2, 3, 5, 6, 8, 9]  # 4 and 7 are hyphens


def aligned(digit, slack=0, which=lambda pair: True):
    """The share of the dates for which that digit's heaviest position is in its span."""
    hits = [
        pair.spans[digit][0] - slack <= place[digit] < pair.spans[digit][1] + slack
        for pair, place in zip(judged, places, strict=True)
        if which(pair)
    ]
    return sum(hits) / len(hits)


inside, near = ([aligned(digit, slack) for digit in digits] for slack in (0, 1))
by_chance = [sum((p.spans[t][1] - p.spans[t][0]) / len(p.source) for p in judged) / 200 for t in digits]
day_written = aligned(8, which=lambda p: p.target[8] != "0")
day_zero = aligned(8, which=lambda p: p.target[8] == "0")
print("year: each digit inside for over .9 of the dates:", min(inside[:4]) > 0.9)
print("second digit of month and day, over .9:", min(inside[5], inside[7]) > 0.9)
print(f"first digit of the day: over .8 where it is written: {day_written > 0.8},", end=" ")
print(f"under .3 where it is a 0: {day_zero < 0.3}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8.5, 2.9))
x = torch.arange(8)
for shift, name, shares, colour in ((-0.2, "inside", inside, BLUE), (0.2, "inside or next to it", near, SKY)):
    ax.bar_label(ax.bar(x + shift, shares, 0.38, color=colour, label=name), fmt="%.2f", fontsize=8)
ax.plot(x, by_chance, "D", color=ORANGE, ms=5, label="by chance")
ax.set_xticks(x, [*(f"year {k}" for k in range(1, 5)), "month 1", "month 2", "day 1", "day 2"])
ax.set(ylabel="heaviest position (share)", ylim=(0, 1.15))
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# *Figure: for each digit of the target, the share of 200 dates whose heaviest source position lies in the right place,
# exactly (dark) and with one character to spare (light); diamonds: what chance would give. Only the first digits of month
# and day fall clearly below 1.*
#
# The year and the second digits are found where they are written. The exceptions make sense: in "4. März" the 0 of "04"
# is *not written anywhere*. To know that it is a 0, one has to see that there is no digit where one could be, and so the
# model looks beside the 4. Our gold alignment says "in the span of the day"; the model disagrees, with a reason.
#
# So be careful with maps. They show **where weight lies, not why the model answers as it does**: a state $h_i$ of a
# bidirectional encoder carries its neighbourhood, so the weight may as well lie next door; and the decoder's own state may
# know the answer already. Whoever wants to know must change the source and look at the output, as in section 4.
#
# Copied letters are the purest case. Each target letter comes from one source letter:

# %%
gold = [(i, i + 1) for i in range(20)]
words = recipe.words(30, 20, lab.generator())
for name in ("attention", "transformer"):
    inside_letters = []
    for word in words:
        with torch.no_grad(), record_attention(copiers[name]) as maps:
            copiers[name].given(word)(torch.tensor([[26, *word]]))
        score = alignment_score(torch.stack([layer[0] for layer in maps.cross]), gold)
        inside_letters.append(score.inside.max().item() / score.counted)
    print(f"{name:12} best head on the right letter for over .8 of the letters: {sum(inside_letters) / 30 > 0.8}")

# %% tags=["nbval-ignore-output"]
with torch.no_grad(), record_attention(copiers["transformer"]) as maps:
    copiers["transformer"].given(words[0][:12])(torch.tensor([[26, *words[0][:12]]]))
word = letters.decode(words[0][:12])
AlignmentView(maps.cross.stack()[:, 0], list(word), [*word, "<eos>"], gold=gold[:12])

# %% [markdown]
# ## 12. The same decoders
#
# `given(source)` is a language model, so greedy decoding, sampling and beam search from notebooks 09 and 11 work on it
# **unchanged**, on the RNN as on the transformer: predict, choose, append.

# %%
x = recipe.words(1, 9, lab.generator())[0]
print("source     ", letters.decode(x))
for name in ("fixed context", "attention", "transformer"):
    lm = copiers[name].given(x)
    ends = {"max_new_tokens": 12, "eos_id": 27}
    drawn = sample(lm, [[26]], generator=lab.generator(), **ends)
    outputs = {"greedy": greedy(lm, [[26]], **ends), "drawn": drawn, "beam 4": beam_search(lm, [[26]], beams=4, **ends)}
    told = ", ".join(f"{how} {writes.decode(out.tokens()).removesuffix('<eos>')}" for how, out in outputs.items())
    print(f"{name:13} {told}; a language model: {isinstance(lm, LanguageModel)}")

# %% [markdown]
# **Which decoder?** Here a right answer exists, so we want the likeliest, and beams should help where greedy misses it.
# Three cases: dates, which the model knows; 9 letters with the deep encoder, which has a fixed context; 22 letters with the
# attentive RNN. The score is the plain sum of log p ($\alpha = 0$ in notebook 11).
#
# **Before you run:** for which of them do 2, 4 or 10 beams find more right answers? Can there be fewer?

# %%
dates = encoded(split.held_out[:60])
nine, many = (recipe.words(100, n, torch.Generator().manual_seed(2)) for n in (9, 22))
cases = {
    "dates, attention": (model, *dates, BOS, EOS),
    "9 letters, deep": (copiers["deep"], nine, nine, 26, 27),
    "22 letters, attention": (copiers["attention"], many, many, 26, 27),
}


def judge(case, k, alpha=0.0):
    """(exact match, mean log p of what was found, share of outputs that are too short)"""
    one_model, sources, targets, bos, eos = cases[case]
    ends = {"max_new_tokens": max(map(len, targets)) + 4, "eos_id": eos}
    out = beam_search(one_model.given(sources), [[bos]] * len(sources), beams=k, length_penalty=alpha, **ends)
    said = [out.tokens(row) for row in range(len(sources))]
    exact = sum(s == [*y, eos] for s, y in zip(said, targets, strict=True)) / len(said)
    short = sum(len(s) <= len(y) for s, y in zip(said, targets, strict=True)) / len(said)
    return exact, out.logprobs[:, 0].sum(-1).mean().item(), short


beams = (1, 2, 4, 10)
judged_beams = {case: [judge(case, k) for k in beams] for case in cases}
normalised = judge("22 letters, attention", 10, alpha=1.0)
plain = greedy(copiers["deep"].given(nine), [[26]] * 100, max_new_tokens=13, eos_id=27)
alone = beam_search(copiers["deep"].given(nine), [[26]] * 100, beams=1, length_penalty=0, max_new_tokens=13, eos_id=27)
print("one beam is greedy decoding:", all(plain.tokens(row) == alone.tokens(row) for row in range(100)))
for case, found_by in judged_beams.items():
    (first, p_first, _), (last, p_last, _) = found_by[0], found_by[-1]
    verdict = "more" if last > first + 0.03 else "fewer" if last < first - 0.03 else "as many"
    print(f"{case:22} 10 beams: outputs at least as likely {p_last >= p_first - 1e-3}, {verdict} right ones")
worse, better = judged_beams["22 letters, attention"][-1], normalised
one_beam = judged_beams["22 letters, attention"][0]
print("22 letters: too short about twice as often with 10 beams:", worse[2] > 1.8 * one_beam[2])
print("divided by the length (alpha = 1): more right ones again:", better[0] > worse[0] + 0.03)

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for (case, found_by), colour, mark in zip(judged_beams.items(), (BLUE, ORANGE, GREEN), "^ov", strict=True):
    for ax, column in zip(axes, zip(*found_by, strict=True), strict=True):
        ax.plot(range(4), column, mark + "-", color=colour, label=case)
for ax, value, label in zip(axes, normalised, ("exact match (share)", "mean log p", "too short (share)"), strict=True):
    ax.plot(3, value, "v", color=GREEN, ms=9, mfc="none", label="the same, alpha = 1")
    ax.set_xticks(range(4), beams)
    ax.set(xlabel="beams", ylabel=label)
axes[0].set_ylim(0, 1.05)
axes[0].legend(frameon=False, fontsize=8, loc="lower left")
plt.show()

# %% [markdown]
# *Figure: exact match, mean log-probability of what was found, and the share of outputs that are too short, against the
# number of beams. Dates: nothing to gain. Nine letters: more beams, more right answers. Twenty-two: likelier outputs,
# fewer right ones, and twice as many too short. Open triangle: ten beams with length normalisation.*
#
# All three things that notebook 11 found, on one page. Where the model is sure, greedy has found the answer already. Where
# greedy takes a wrong turn, beams help. And where the model is unsure about *many* letters, each of them costs something,
# an early end symbol costs once, and a good search finds that out: the likeliest output is too short. Dividing by the
# length repairs most of it. The decoder is not to blame: the model gave these outputs their probability.
#
# ## 13. A real translation model
#
# Last, a model for sentences: three layers each side, $d = 256$, one BPE vocabulary of 6,000 tokens for both languages,
# trained on pairs of Spanish and English sentences from Tatoeba (how: `arlab/recipes/translation.py`). The classes are
# those of section 10, the decoders those of section 12. The sentences are ours; none of them was trained on.

# %%
translator, bpe = load("spanish_english")
print(f"{sum(parameter.numel() for parameter in translator.parameters()):,} parameters")
ends = {"max_new_tokens": 30, "eos_id": bpe.eos_id}
spanish = list(translation.SENTENCES)
sources = [bpe.encode(sentence) for sentence in spanish]
start = [[bpe.bos_id]] * len(sources)
outputs = {
    "greedy": greedy(translator.given(sources), start, **ends),
    "beam 4": beam_search(translator.given(sources), start, beams=4, **ends),
    "drawn": sample(translator.given(sources), start, generator=lab.generator(), **ends),
}
english = {
    name: [bpe.decode(out.tokens(row), skip_special=True).strip() for row in range(len(sources))]
    for name, out in outputs.items()
}

# %% tags=["nbval-ignore-output"]
for row, sentence in enumerate(spanish):
    print(sentence)
    for name, said in english.items():
        print(f"    {name:7} {said[row]}")

# %%
print("every greedy translation ends by itself:", bool(outputs["greedy"].finished.all()))
totals = {name: outputs[name].logprobs[:, 0].sum(-1) for name in outputs}  # the raw model's log p
print("the draws are less likely than greedy, on average:", bool(totals["drawn"].mean() < totals["greedy"].mean()))

# %% [markdown]
# Most of the draws are spoilt, some by a token of no sense at all. **Before you run:** how much probability does the model
# leave, at each step, to all tokens but the ten likeliest? And lecture 004's question again, on a sentence: is the first
# token more likely than the whole sentence?

# %%
whole = outputs["greedy"].tokens(1)  # its end symbol is the last id
with torch.no_grad():
    logp = translator.given(sources[1])(torch.tensor([[bpe.bos_id, *whole[:-1]]]))[0].double().log_softmax(-1)
beginning = logp[range(len(whole) - 1), whole[:-1]].cumsum(0)  # of 1, 2, ... tokens, no end symbol
as_answer = beginning + logp[1:, bpe.eos_id]
tail = 1 - logp.exp().topk(10).values.sum(-1)  # of each step
print(f"probability of all tokens but the ten likeliest, mean of {len(tail)} steps: {tail.mean():.2f}")
print("without an end symbol, the first token beats the sentence:", bool(beginning[0] > beginning[-1]))
print("with it, the sentence beats every beginning of it:", bool(as_answer[-1] > as_answer[:-1].max()))

# %% [markdown]
# Seven percent at each step is little, but in ten steps every second draw meets such a token, and one is enough to spoil a
# translation. (The model was trained with label smoothing, notebook 06, which asks for such a tail; notebook 10 cuts it off.)
#
# Where does it look? There is no gold alignment for these sentences. Spanish puts the adjective behind the noun, *gato
# negro*, English before it. **Before you run:** what will the map of an aligning head look like at "black cat"?

# %% tags=["nbval-ignore-output"]
limits = {"bos_id": bpe.bos_id, "eos_id": bpe.eos_id, "max_new_tokens": 30}
view = AlignmentView.run(translator, bpe, bpe, spanish[3], **limits, layer=1, head=0)
view

# %%
for english_word in (" black", " cat", " table"):
    row = view.map[view.target_tokens.index(english_word)]
    print(f"{english_word.strip():6} looks at {view.source_tokens[int(row.argmax())].strip()}")

# %% [markdown]
# There are three layers with four heads each. Move the layer and the head; then write a Spanish sentence of your own.
#
# **Questions to answer with the controls**
#
# 1. Which heads align, and which do something else? Where do those look?
# 2. Look at "is sleeping". Which source token do both words look at?
# 3. Which place do the full stop and the end symbol look at in nearly every head? Why might a head look there that has
#    nothing to fetch?
#
# <details><summary>Answers</summary>
# 1. In layers 1 and 2 (counted from 0) most heads follow the sentence, and cross over at "black cat"; in layer 0 some look at neighbours or at the full stop. 2. "duer", the beginning of "duerme": two English words for one Spanish one. 3. The full stop of the source; for the English full stop that is the alignment. Weights must sum to 1, so a head with nothing to fetch has to put them somewhere, best where they do no harm: in layers 1 and 2, head 2 looks there for "The" too.
# </details>
#
# ### How good is it?
#
# A sentence has many right translations, so exact match is too strict. **BLEU** (Papineni and others, 2002) compares
# pieces: for $n = 1, \dots, 4$ the share $p_n$ of the output's n-grams that the reference has too, over a whole test set,
# and a penalty for outputs that are too short ($c$ words written, $r$ in the references):
#
# $$\text{BLEU} = 100 \cdot \min\!\big(1, e^{1 - r/c}\big) \cdot \Big(\prod_{n=1}^{4} p_n\Big)^{1/4}.$$


# %%
def bleu(said, references):
    """BLEU over a set of sentences, with one reference each."""
    hits, counts, c, r = [0] * 4, [0] * 4, 0, 0
    for one, other in zip(said, references, strict=True):
        one, other = (re.findall(r"\w+|[^\w\s]", text) for text in (one, other))
        c, r = c + len(one), r + len(other)
        for n in range(1, 5):
            own, true = (Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in (one, other))
            hits[n - 1] += (own & true).total()  # an n-gram counts as often as the reference has it
            counts[n - 1] += own.total()
    precision = math.prod(hit / count for hit, count in zip(hits, counts, strict=True)) ** (1 / 4)
    return 100 * min(1.0, math.exp(1 - r / c)) * precision


ours = [  # what we would have said
    "Where is the university library?",
    "My grandmother cooks every Sunday.",
    "I don't understand why you arrived so late.",
    "The black cat sleeps on top of the table.",
    "Tomorrow we are going to buy a house on the beach.",
    "I'm hungry, but I don't have any money.",
    "Can you help me open this door?",
    "She told me that her brother lives in Paris.",
]
print(f"the reference itself: {bleu(ours, ours):.0f}")
print(f"its first three words of each sentence: {bleu([' '.join(s.split()[:3]) for s in ours], ours):.0f}")
print("greedy over 50:", bleu(english["greedy"], ours) > 50)

# %% [markdown]
# Eight sentences say little. On all held-out sentences of at most ten words the recipe measured BLEU (as `sacrebleu`
# counts it) and exact match when the model was made; the figures are **recorded**, from the print-out that is shipped
# beside it (`arlab/checkpoints/spanish_english.txt`).
#
# **Before you run:** do more beams help a translation? As much from 4 to 10 as from 1 to 4?

# %%
_, told = recordings.load(CHECKPOINTS / "spanish_english.json")
print(f"recorded: {told['sentences']:,} held-out sentences of at most {translation.SHORT} words")
print(f"{'':12}{'alpha':>6}{'BLEU':>7}{'exact':>8}{'length':>8}")
for row in told["decoders"]:
    alpha = "" if row["decoder"] == "greedy" else f"{row['length_penalty']:.0f}"
    print(f"{row['decoder']:12}{alpha:>6}{row['bleu']:7.1f}{row['exact']:8.3f}{row['length_ratio']:8.3f}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
by_beams = [row for row in told["decoders"] if row["decoder"] != "greedy" and row["length_penalty"] == 1]
for ax, key, label in ((axes[0], "bleu", "BLEU"), (axes[1], "exact", "exact match (share)")):
    ax.plot(range(len(by_beams)), [row[key] for row in by_beams], "o-", color=BLUE)
    ax.set_xticks(range(len(by_beams)), [row["decoder"].split()[1] for row in by_beams])
    ax.set(xlabel="beams", ylabel=label)
    ax.margins(y=0.6)
of_length = told["by_length"]
axes[2].plot(range(len(of_length)), [row["bleu"] for row in of_length], "s-", color=ORANGE)
axes[2].set_xticks(range(len(of_length)), ["-".join(map(str, row["words"])) for row in of_length])
axes[2].set(xlabel="Spanish words in the sentence", ylabel="BLEU (greedy)", ylim=(0, None))
plt.show()

# %% [markdown]
# *Figure, recorded: BLEU and exact match against the number of beams (each axis shows a narrow range), and BLEU of greedy
# decoding against the length of the Spanish sentence.*
#
# Two beams bring 1.1 points of BLEU, four 1.5, ten next to nothing more. Without length normalisation ($\alpha = 0$) the
# outputs get shorter, and worse. A third of the sentences match a reference to the letter; many of the others are right
# as well, in other words. Long sentences are worse, most of all beyond 14 words, the longest that it was trained on.
#
# ## Check yourself
#
# **1. Write down the signatures of sequence classification, sequence labelling and sequence generation. What is the main
# difference?**
#
# <details><summary>Answer</summary>
# V^n to one label, V^n to n labels, V_in^n to V_out^m with m free. The output space: 3, 3^10 and about 6,000^10 in section 1. The chain rule reduces it to m classifications with V classes.
# </details>
#
# **2. How can the context vector be made from $h_1, \dots, h_n$, and what does the decoder do with it?**
#
# <details><summary>Answer</summary>
# c = h_n, or the mean of all h_i. It is put beside the embedding of y_{t-1} at every step: s_t = RNN([y_{t-1}; c], s_{t-1}) (section 3). In a padded batch both must leave the padding out (exercise 1).
# </details>
#
# **3. Should one use the same context vector at every step?**
#
# <details><summary>Answer</summary>
# One vector has to hold the whole source. Copying letters fails between 4 and 12 of them, with two directions and two layers as well; with a context of its own for every step it does not (section 7).
# </details>
#
# **4. Query, key and value in the RNN decoder, and in the transformer's decoder?**
#
# <details><summary>Answer</summary>
# RNN: query s_{t-1}, keys and values h_i (section 8). Transformer: q_t = s_t W^Q from the decoder's masked self-attention, K = H_enc W^K and V = H_enc W^V from the encoder's output, computed once for a source (section 10).
# </details>
#
# **5. Why does a fixed context learn long sources badly even if it is large enough?**
#
# <details><summary>Answer</summary>
# The gradient has to go back through the encoder step by step and shrinks by a factor each time: a straight line on the logarithmic scale of section 9. Attention gives each h_i a path of length one.
# </details>
#
# **6. What is the prefix in training, and what in inference?**
#
# <details><summary>Answer</summary>
# In training the true one (teacher forcing): all terms of log P(y | x) from one pass. In inference the model's own output. The next notebook is about the difference.
# </details>
#
# **7. Which is more likely given the French sentence, "The" or "The program has been implemented"?**
#
# <details><summary>Answer</summary>
# As beginnings, "The", always: the rest only multiplies by further numbers of at most 1. As answers, each with its end symbol, the sentence, for a trained model gives "stop here" after "The" next to nothing (section 6).
# </details>
#
# **8. Can an RNN be autoregressive?**
#
# <details><summary>Answer</summary>
# Yes. Predict, choose, append is a method; RNN or transformer is an architecture. All decoders of section 12 take both unchanged.
# </details>
#
# ## What to try next
#
# - Reverse the source of the copying task (target as it was), and train the fixed context again
#   (`recipe.letters` shows how). Which letters does it now copy first?
# - Add Italian to the training pairs, 50 of them. How much is enough?
# - Train the fixed context four times as long, about two minutes: `recipe.letters("fixed context", 0, steps=2400)[2]["exact"]`,
#   for 2, 4, ... 24 letters. How far does the cliff move? Is it room that is missing, or training?
# - Take the mean of the encoder's states as the context (`context="mean"`), and train it on letters. Which information
#   does a mean lose?
#
# ## Where the idea comes from
#
# - Encoder and decoder: Sutskever, Vinyals and Le, *Sequence to Sequence Learning with Neural Networks*, 2014; Cho and others, *Learning Phrase Representations using RNN Encoder-Decoder*, 2014.
# - Reading both ways: Schuster and Paliwal, *Bidirectional Recurrent Neural Networks*, 1997.
# - Attention between two sequences: Bahdanau, Cho and Bengio, *Neural Machine Translation by Jointly Learning to Align and Translate*, 2015; Luong, Pham and Manning, *Effective Approaches to Attention-based Neural Machine Translation*, 2015.
# - The transformer: Vaswani and others, *Attention Is All You Need*, 2017. Vanishing gradients: Bengio, Simard and Frasconi, 1994; Hochreiter, 1991.
# - What maps do not show: Jain and Wallace, *Attention is not Explanation*, 2019; Wiegreffe and Pinter, *Attention is not not Explanation*, 2019.
# - BLEU: Papineni and others, 2002; Post, *A Call for Clarity in Reporting BLEU Scores*, 2018. Sentences: Tatoeba (CC BY 2.0 FR).
#
# [← 14 Choosing a decoder](14_choosing_a_decoder.ipynb) · [16 Exposure bias →](16_exposure_bias.ipynb)
