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
# # 11 · Beam search: looking for the most probable text
#
# Greedy decoding takes the best token at each step and never looks back; notebook 09 showed that this need not give the
# best sequence. Beam search keeps several beginnings alive at once. It finds more probable texts. Whether those are
# better texts is the second question of this notebook, and the answer may surprise you.
#
# **You will be able to**
#
# - say why the most probable sequence cannot be found by trying, and what greedy and beam search pay instead;
# - build beam search: one step, finished hypotheses, length normalisation, a stopping rule that cannot lose the best;
# - show a tree in which a wider beam helps, one in which it hurts, and measure which is the rule;
# - explain why the most probable answer may be the empty one, and what a length penalty does about it;
# - measure on a real model how repetition and sameness come with likelihood;
# - say what a temperature does to a beam search.
#
# **Time** 90 minutes. **Before this** notebooks [09](09_sampling.ipynb) (greedy, sampling, temperature) and
# [10](10_top_k_and_nucleus.ipynb) (the nucleus).
# **Follows** lecture 004 (argmax decoding, beam search, "is argmax the right objective?"), lecture 001 (beam search).
#
# [← 10 Top-k and nucleus](10_top_k_and_nucleus.ipynb) · [12 Contrastive decoding →](12_contrastive_decoding.ipynb)

# %% tags=["nbval-ignore-output"]
import math
import time

import matplotlib.pyplot as plt
import torch

import arlab
from arlab.decoding import Temperature, TopP, beam_search, beam_steps, greedy, sample
from arlab.decoding.measures import distinct, repetition
from arlab.exercises import beam_search as check
from arlab.nn.language_model import last_logits
from arlab.nn.pretrained import smollm2
from arlab.recipes import beam_search as recipe
from arlab.recipes import load
from arlab.text.corpora import tiny_shakespeare
from arlab.training import recordings
from arlab.views import BeamTree
from arlab.worlds import TreeLM, beam_trap, rank_flip

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"  # colour-blind safe

# %% [markdown]
# The questions that the lectures ask about this part, and where below you see the answer:
#
# | question | section |
# |---|---|
# | Why not return the most likely sequence of all? How many are there? When does one stop? | 1 |
# | With k hypotheses and a vocabulary V, how many do we have after one step? | 1, 2 |
# | Does a wider beam always find a more probable sequence? Is the best one guaranteed? | 3, 4 |
# | Why do wide beams give empty or very short outputs? | 5 |
# | When does beam search stop? | 6 |
# | What does `num_beams=10` cost, and what does it do to diversity? | 7 |
# | Is the most probable text the right goal? Why does it repeat itself? | 8, 9 |
# | Temperature together with beam search? | 10 |

# %%
model, tokenizer = smollm2(device=lab.device)

# %% [markdown]
# ## 1. The best of all sequences
#
# **Argmax decoding** asks for one thing, the most probable sequence:
#
# $$\hat y = \arg\max_{y \in \mathcal V^T} P(y), \qquad P(y) = \prod_{t=1}^{T} P(y_t \mid y_{<t}) .$$
#
# Here $\mathcal V$ is the vocabulary, with $V$ tokens, and $T$ the length. To be sure by trying, one has to look at all
# $V^T$ sequences. Greedy decoding looks at $V$ tokens in each of $T$ steps. **Beam search** keeps the $k$ best beginnings
# and extends each by every token: $k \cdot V$ candidates a step, of which $k$ survive.
#
# **Before you run:** how many candidates does a beam of 5 look at in 20 steps, and how many sequences of 20 are there?

# %%
V = model.vocab_size
print(" T      all V^T    greedy T V   beam 5: V + (T - 1) 5 V")
for T in (1, 2, 5, 20):
    print(f"{T:2}    10^{T * math.log10(V):5.1f} {T * V:12,} {V + (T - 1) * 5 * V:14,}")

# %%
T = torch.arange(1, 21)
fig, ax = plt.subplots(figsize=(8, 2.8))
ax.plot(T, T * math.log10(V), "o-", color=ORANGE, ms=4, label="all sequences, $V^T$")
for k, colour in ((10, PURPLE), (5, BLUE), (1, GREY)):
    ax.plot(T, torch.log10(V + (T - 1) * k * V), color=colour, label=f"beam {k}" if k > 1 else "greedy")
ax.set(xlabel="length T (tokens)", ylabel="log10 (candidates)", xticks=range(0, 21, 5))
ax.legend()
plt.show()

# %% [markdown]
# *Figure: candidates to be scored against the length, as a power of ten. All sequences: a straight line up to
# $10^{94}$. Greedy and beams: below $10^7$, and hardly apart on this scale.*
#
# So every practical decoder is an approximation, and greedy is the first: it is a beam of one. A text ends, for each of
# them, when the end symbol has been chosen, or at a limit on the number of tokens. Section 6 comes back to this, because
# with several hypotheses at once it is less simple than it sounds.
#
# ## 2. Keep two: a tree in which greedy loses
#
# This is the world of drinks from notebook 09: `TreeLM` holds the distribution after each prefix, and every sequence can
# be listed. Greedy says "tea" (.6 against .4) and can then reach .24 at best; "coffee black" has .36.
#
# A beam search adds up logs, since products of many small numbers vanish:
#
# $$\text{score}(y_1, \dots, y_t) = \sum_{i=1}^{t} \log P(y_i \mid y_{<i}) .$$
#
# **Before you run:** with $k = 2$, which two beginnings are alive after the first step? Which two after the second?

# %%
words = ["tea", "coffee", "black", "sweet", "cold"]
table = {(): [0.6, 0.4, 0, 0, 0], (0,): [0, 0, 0.4, 0.3, 0.3], (1,): [0, 0, 0.9, 0.05, 0.05]}
drinks = TreeLM(table, max_length=2, names=words)
live = [(0.0, ())]  # at the start there is one beginning, the empty one
for step in (1, 2):
    candidates = []
    for total, prefix in live:
        for token, p in enumerate(drinks.distribution(prefix)):
            if p > 0:
                candidates.append((total + math.log(p), (*prefix, token)))
    candidates.sort(reverse=True)
    live = candidates[:2]
    print(f"step {step}: {len(candidates)} candidates with p > 0")
    for rank, (total, prefix) in enumerate(candidates):
        text = " ".join(words[token] for token in prefix)
        mark = "kept" if rank < 2 else "    "
        print(f"   {mark} {text:13} log p = {total:7.4f}, p = {math.exp(total):.2f}")

# %% [markdown]
# "coffee" was the second best beginning. Greedy dropped it; the beam kept it for one more step, and that was enough. Here
# the two survivors continue different beginnings. They need not: both might have continued "tea".
#
# The same as a picture: solid branches live, dashed ones were cut. Move the beams to 1 and see where "coffee" ends.

# %% tags=["nbval-ignore-output"]
BeamTree(drinks, beams=2, max_beams=2, length_penalty=0)

# %% [markdown]
# ### Exercise 1: one step
#
# The heart of beam search in tensors. `totals` are the live beams' scores, row $b$ of `logprobs` is
# $\log P(\cdot \mid \text{beam } b)$. Out of all $k \cdot V$ sums keep the $k$ best, **whichever beams they come from**.


# %%
def beam_step(totals, logprobs, k):
    """The k best continuations over all live beams.

    totals: (live,) float64, the sum of log p of each live beam. logprobs: (live, vocab). k >= 1.
    Returns (parents, tokens, new_totals), each (k,), best first: the beam that each kept sequence
    continues, the token it adds, and its new total. Fewer than k candidates: all of them.
    Among equals the earlier beam comes first, then the lowest id.
    """
    raise NotImplementedError


# %%
check.beam_step(beam_step)

# %%
check.beam_step.hint()

# %%
check.beam_step.solution()

# %% [markdown]
# ### Finished hypotheses step aside
#
# A sequence that ends with the end symbol is complete: nothing may be appended to it. If it stayed among the live ones,
# it would take a place from one that still grows. So:
#
# - look at the $2k$ best candidates, so that $k$ can live on even if $k$ of them end here;
# - one that ends with the end symbol **and is among the first $k$** goes to the list of finished hypotheses;
# - the $k$ best of those that do not end live on.
#
# Why only among the first $k$? Further down it would not have been kept if it were any other token. Without this rule a
# narrow beam would collect improbable early ends by the dozen.
#
# ### Exercise 2: sort them out


# %%
def sort_out(candidates, k, eos_id):
    """Split one step's candidates into finished and live ones.

    candidates: a list of (total, tokens), best first; tokens is a tuple of ids.
    Returns (finished, live), two lists of the same pairs, best first: those among the first k that
    end with eos_id, and the k best that do not.
    """
    raise NotImplementedError


# %%
check.sort_out(sort_out)

# %%
check.sort_out.hint()

# %%
check.sort_out.solution()

# %% [markdown]
# ### The whole search
#
# Twenty lines, for any model. `never` is a place-holder for a stopping rule; until section 6 the search goes on while
# something lives and there is room. What is still alive at the limit counts as it stands.


# %%
def never(finished, live, t):
    return False


def beam(model, prompt, k, max_new_tokens, eos_id=None, stop=never):
    """Beam search. prompt: a list of ids. Returns all hypotheses: a list of (sum of log p, new tokens)."""
    live, finished = [(0.0, ())], []
    for t in range(1, max_new_tokens + 1):
        ids = torch.tensor([[*prompt, *tokens] for _, tokens in live], device=lab.device)
        logp = model(ids)[:, -1].cpu().double().log_softmax(-1)  # (live, vocab)
        totals = torch.tensor([total for total, _ in live], dtype=torch.float64)
        sums = (totals[:, None] + logp).flatten()  # (live * vocab,): every continuation
        best = sums.sort(descending=True, stable=True).indices[: 2 * k].tolist()
        parents, tokens = [i // logp.size(1) for i in best], [i % logp.size(1) for i in best]
        candidates = [
            (float(sums[i]), (*live[parent][1], token))
            for i, parent, token in zip(best, parents, tokens, strict=True)
            if sums[i] > -math.inf
        ]
        if t == max_new_tokens:
            return finished + candidates[:k]
        finished += [c for c in candidates[:k] if c[1][-1] == eos_id]
        live = [c for c in candidates if c[1][-1] != eos_id][:k]
        if not live or stop(finished, live, t):
            return finished


for k in (1, 2):
    total, tokens = max(beam(drinks, [drinks.bos_id], k, max_new_tokens=2))
    print(f"beam {k}: {' '.join(words[i] for i in tokens):13} p = {math.exp(total):.2f}")

# %% [markdown]
# ### The same as the library's
#
# `arlab.decoding.beam_search` does this with a key/value cache whose rows follow the beams (`cache.reorder`), for a
# batch of prompts, and traces only the best hypotheses back. `Generation.ids` has shape (batch, n, time), best first.
# Compare on sixty random worlds with an end symbol, and on SmolLM2:

# %%
worlds = [TreeLM.random(4, 5, lab.generator(seed), eos_id=0) for seed in range(60)]
equal = 0
for world in worlds:
    for k in (1, 2, 3, 7):
        total, tokens = max(beam(world, [world.bos_id], k, 5, eos_id=0))
        theirs = beam_search(world, [world.bos_id], max_new_tokens=5, beams=k, eos_id=0, length_penalty=0)
        equal += theirs.tokens() == list(tokens) and abs(float(theirs.scores[0, 0]) - total) < 1e-9
print(f"the same sequence and score: {equal} of {4 * len(worlds)}")

cat = tokenizer.encode("The cat sat on the")
mine = sorted(beam(model, cat, 3, 4), reverse=True)
theirs = beam_search(model, cat, max_new_tokens=4, beams=3, n=3, length_penalty=0)
same = [list(y) for _, y in mine] == [theirs.tokens(0, i) for i in range(3)]
print("SmolLM2, the same three best of beam 3:", same)
once = model(torch.tensor([cat + theirs.tokens()], device=lab.device))[0, len(cat) - 1 : -1].cpu().double()
rescored = once.log_softmax(-1).gather(-1, theirs.ids[0, 0, :, None].cpu()).sum()
print(f"its score {rescored:.2f}, from one pass over the text, is the one returned:", end=" ")
print(abs(float(theirs.scores[0, 0]) - float(rescored)) < 1e-3)
one = beam_search(model, cat, max_new_tokens=6, beams=1).tokens()
print("a beam of one is greedy:", one == greedy(model, cat, max_new_tokens=6).tokens())

# %% [markdown]
# From here on we use the library's.
#
# ## 3. A tree in which the wider beam loses
#
# In this world of three letters the first is A (.55) or B (.45). After A come A, B and C with .34, .33 and .33; after B
# come A and B with .5 each. After A A the third letter is A for certain; after anything else it is A, B or C with .34,
# .33 and .33. **Before you run:** what does a beam of 2 find, compared with greedy? And a beam of 3?

# %%
trap = beam_trap()
for k in (1, 2, 3):
    found = beam_search(trap, [trap.bos_id], max_new_tokens=3, beams=k, length_penalty=0)
    text = " ".join(trap.names[i] for i in found.tokens())
    print(f"beam {k}: {text}   p = {math.exp(float(found.scores[0, 0])):.4f}")
best, p = trap.enumerate()[0]
print(f"the best of all: {' '.join(trap.names[i] for i in best)}   p = {p:.4f}")

# %% [markdown]
# Beam 2 finds something *worse* than greedy. Watch it happen: move the beam slider between 1, 2 and 3, and the step
# slider from 0 to 3; live branches are strong, cut ones grey.

# %% tags=["nbval-ignore-output"]
BeamTree(trap, beams=2, max_beams=4, length_penalty=0, step=2)

# %% [markdown]
# 1. With beam 2: which two beginnings are alive after step 2, and what had A A there?
# 2. Why does greedy not fall into the trap?
# 3. What is different with beam 3? Is it better than greedy?
#
# <details><summary>What to look for</summary>
#
# 1. B A and B B, .225 each; A A has .187 and is cut as third. But A A goes on with certainty, while everything behind B
#    splits in three.
# 2. It never looks at B. It was not clever; it was lucky.
# 3. Three live beams: A A survives step 2 and ends with .187, the best there is. Greedy has the same.
#
# </details>
#
# What happened is the general weakness of the method: the beams compare *beginnings*, and a beginning that looks better
# now can push out one that turns out better later. A wider beam makes more competitors as well as more room.
#
# ## 4. Exhaustive search against beams, for every k
#
# Is the trap the rule or the exception? Take a thousand random worlds with three letters and sequences of length 4:
# $V^T = 81$ sequences each, so the true best is known. All worlds can be searched at once: number the prefixes in base
# $V$, and the child of prefix $n$ by letter $v$ is $nV + v$.
#
# **Before you run:** in what share of the worlds does greedy find the best of 81? A beam of 2? At which $k$ is it
# *guaranteed*?


# %%
def beam_in_all(tables, k):
    """tables[t]: (worlds, V**t, V), log p after each prefix of t letters. Returns the best total of each."""
    count, _, V = tables[0].shape
    totals, prefixes = torch.zeros(count, 1, dtype=torch.float64), torch.zeros(count, 1, dtype=torch.long)
    for table in tables:
        logp = table.gather(1, prefixes[..., None].expand(-1, -1, V))  # (worlds, live, V)
        sums = (totals[..., None] + logp).flatten(1)
        totals, at = sums.topk(min(k, sums.size(1)), dim=1)
        prefixes = prefixes.gather(1, at // V) * V + at % V
    return totals[:, 0]


N, V3, T4 = 1000, 3, 4
g = lab.generator()
tables = [torch.randn(N, V3**t, V3, generator=g, dtype=torch.float64).log_softmax(-1) for t in range(T4)]
found = torch.stack([beam_in_all(tables, k) for k in range(1, V3**T4 + 1)])  # (k, worlds)

first = {(): tables[0][0, 0].exp().tolist()}  # world 0 as a TreeLM, to check with
for t in range(1, T4):
    for n in range(V3**t):
        first[tuple(n // V3**i % V3 for i in reversed(range(t)))] = tables[t][0, n].exp().tolist()
first = TreeLM(first, max_length=T4)
by_lab = [beam_search(first, [3], max_new_tokens=T4, beams=k, length_penalty=0).scores for k in range(1, 82)]
print("world 0: the same as arlab for every k:", torch.allclose(torch.cat(by_lab)[:, 0], found[:, 0]))
print("world 0: k = 81 is the best listed:", math.isclose(float(found[-1, 0].exp()), first.enumerate()[0][1]))

# %%
best = found[-1]
right = found > best - 1e-12  # (k, worlds)
greedy_wrong = ~right[0]
closed = ((found - found[0]) / (best - found[0]))[:, greedy_wrong]  # share of the gap, greedy to best
worse = torch.cat([torch.zeros(1, N, dtype=torch.bool), found[1:] < found[:-1] - 1e-12])
print("  k   best found   gap closed, where greedy misses   worse than k - 1")
for k in (1, 2, 3, 4, 5, 6, 8, 27, 81):
    share, gap, losers = right[k - 1].double().mean(), closed[k - 1].mean(), int(worse[k - 1].sum())
    print(f"{k:3} {share:11.3f} {gap:23.3f} {losers:24} worlds")
smallest = int(right.all(dim=1).nonzero()[0]) + 1
print(f"from k = {smallest} on all {N} are found; guaranteed from V^(T-1) = {V3 ** (T4 - 1)}")

# %%
fig, ax = plt.subplots(figsize=(8, 3))
ks = range(1, V3**T4 + 1)
ax.plot(ks, right.double().mean(1), "o-", color=BLUE, ms=4, label="worlds in which the best is found")
ax.plot(ks, closed.mean(1), "s-", color=ORANGE, ms=4, label="gap from greedy to the best that is closed")
ax.axvline(V3 ** (T4 - 1), color=GREY, ls="--")
ax.text(V3 ** (T4 - 1) * 0.96, 0.1, "$V^{T-1}$: nothing is\ncut before the end", ha="right", color="#555555")
ax.set(xscale="log", xlabel="beam size k", ylabel="share", ylim=(0, 1.05))
ax.set_xticks([1, 2, 3, 5, 10, 27, 81], ["1", "2", "3", "5", "10", "27", "81"])
ax.legend(loc="center right")
plt.show()

# %% [markdown]
# *Figure: share of a thousand worlds in which the best sequence is found, and mean share of the gap in log p that is
# closed, against the beam size (logarithmic). Both rise steeply from 1 to 4 and are at 1 long before the dashed line at
# 27.*
#
# On average a wider beam finds more, quickly at first, and the trap is rare. Still nothing is *guaranteed* until
# $k = V^{T-1}$, where no prefix is ever cut before the last step (and $k = V^T$ is enumeration itself). With
# $V = 49{,}152$ that is of no use.
#
# ## 5. Long and short
#
# So far all sequences had one length. With an end symbol they compete across lengths, and each further token multiplies
# by a number of at most 1. Here is a world that wants to say "it is a wide open sea": at each step the right word comes
# with .6, the end with .3.
#
# **Before you run:** greedy says the whole sentence. What does a beam of 2 say?

# %%
names = ["it", "is", "a", "wide", "open", "sea", "well", "</s>"]
END = 7


def row(token, p, end):
    """p for the right word, `end` for the end symbol, the rest for "well"."""
    return [p if i == token else end if i == END else 1 - p - end if i == 6 else 0 for i in range(8)]


table = {tuple(range(t)): row(t, 0.6, 0.3) for t in range(6)}  # .1 is left for "well"
sea = TreeLM(table, max_length=8, eos_id=END, names=names, default=[0.0] * 7 + [1.0])  # else: the end


def say(tokens, world=sea):
    return " ".join(world.names[i] for i in tokens)


for k in (1, 2, 5, 100):
    found = beam_search(sea, [sea.bos_id], max_new_tokens=8, beams=k, length_penalty=0, eos_id=END)
    print(f"beam {k:3}: p = {math.exp(float(found.scores[0, 0])):.4f}   {say(found.tokens())!r}")
print("the most probable of all:", [(say(y), round(p, 4)) for y, p in sea.enumerate()[:3]])

# %% [markdown]
# The **empty output** is the most probable sequence: .3 against .0467. That is not an error of the search. A beam of 2
# is *right* about the argmax, and greedy escapes because it searches badly. In machine translation, too, the better one
# searches, the shorter the output; in one study (Stahlberg and Byrne, 2019) the true argmax was empty for more than
# half of the sentences.
#
# ### Length normalisation
#
# The remedy is to divide by a power of the length:
#
# $$\text{score}(y) = \frac{1}{|y|^{\alpha}} \sum_{t=1}^{|y|} \log P(y_t \mid y_{<t}) .$$
#
# $\alpha = 0$ is the plain sum, $\alpha = 1$ the mean log-probability per token. $|y|$ counts the **generated tokens,
# the end symbol included**. Forget the end symbol, and the empty output has length 0. Count the prompt, and the penalty
# depends on how long the question was.
#
# **Before you run:** at which $\alpha$, roughly, does the whole sentence overtake the empty one?

# %%
law = dict(sea.enumerate())
hypotheses = [(y, law[y]) for y in ((END,), (0, END), (*range(6), END))]
alphas = torch.linspace(0, 1.2, 61, dtype=torch.float64)
for alpha in (0, 0.2, 0.4, 0.6, 1):
    found = beam_search(sea, [sea.bos_id], max_new_tokens=8, beams=5, length_penalty=alpha, eos_id=END)
    print(f"alpha = {alpha:3}: score {float(found.scores[0, 0]):7.4f}   {say(found.tokens())!r}")

fig, ax = plt.subplots(figsize=(8, 3))
for (y, p), colour in zip(hypotheses, (ORANGE, GREY, BLUE), strict=True):
    label = f"{say(y)!r}: length {len(y)}, p = {p:.4f}"
    ax.plot(alphas, math.log(p) / len(y) ** alphas, color=colour, label=label)
ax.set(xlabel="length penalty alpha", ylabel="score")
ax.legend()
plt.show()

# %% [markdown]
# *Figure: the scores of three hypotheses against alpha. The empty one has length 1, so its score never changes; the
# whole sentence rises from last to first and overtakes both others a little below .5.*
#
# ### Exercise 3: the score of a hypothesis
#
# A row as it comes out of a batch: prompt, new tokens, perhaps an end symbol, perhaps padding behind it.


# %%
def hypothesis_score(ids, logprobs, prompt_length, eos_id, alpha):
    """sum of log p / length ** alpha over the generated tokens.

    ids: a list of ints: the prompt, the new tokens, and padding behind their first end symbol.
    logprobs: log p of each of the ids. prompt_length: how many of the ids are the prompt's.
    The end symbol counts, in the sum and in the length; padding and prompt do not. Returns a float.
    """
    raise NotImplementedError


# %%
check.hypothesis_score(hypothesis_score)

# %%
check.hypothesis_score.hint()

# %%
check.hypothesis_score.solution()

# %% [markdown]
# ### Wide beams, short outputs
#
# Again: is this world special? Here are the sixty random worlds of section 2, in which an end symbol may come at any
# step (at most five tokens).
#
# **Before you run:** how will the mean length change with the beam, for $\alpha = 0$ and for $\alpha = 1$?

# %%
widths = (1, 2, 3, 5, 10)
mean_length, empty = {}, {}
for alpha in (0, 1):
    for k in widths:
        options = {"max_new_tokens": 5, "beams": k, "length_penalty": alpha, "eos_id": 0}
        lengths = [int(beam_search(w, [w.bos_id], **options).lengths[0, 0]) for w in worlds]
        mean_length[alpha, k] = sum(lengths) / len(lengths)
        empty[alpha, k] = lengths.count(1)
print("beam   mean length (empty outputs of 60)")
for k in widths:
    print(f"{k:4}", *(f"   alpha = {a}: {mean_length[a, k]:.2f} ({empty[a, k]:2})" for a in (0, 1)))

# %% [markdown]
# With the plain sum the outputs shrink as the beam widens, until only the end symbol is left in 41 of 60 worlds: that is
# what the argmax *is* there. With the mean the lengths stay as they are.
#
# And SmolLM2? Ask it to describe the sea and begin the answer with "The sea is wide." It may go on, or end there with
# its end symbol, `<|im_end|>`. **Before you run:** the end symbol is the tenth most probable token there. For which beam
# sizes can the answer end at once?

# %%
ask = [{"role": "user", "content": "Describe the sea."}]
chat = tokenizer.chat(ask) + tokenizer.encode("The sea is wide.")
logp = last_logits(model, torch.tensor([chat], device=lab.device))[0].cpu().double().log_softmax(-1)
end = tokenizer.eos_id
print(f"log p(end at once) = {logp[end]:.2f}, rank {int((logp > logp[end]).sum()) + 1} of {V:,}")
for k, alpha in ((9, 0), (10, 0), (10, 1)):
    options = {"max_new_tokens": 12, "beams": k, "length_penalty": alpha, "eos_id": end}
    out = beam_search(model, chat, **options)
    length, total = int(out.lengths[0, 0]), float(out.logprobs.sum())
    text = tokenizer.decode(out.tokens())
    print(f"beam {k:2}, alpha {alpha}: {length:2} tokens, log p {total:6.2f}  {text!r}")

# %% [markdown]
# With the plain sum and a beam of 10, the best answer is the one that says nothing more, and for good reason: it *is* the
# more probable one. Divided by the length, the long answer wins. One question proves little, so here are twelve begun
# answers like this one. They take minutes and are **recorded**: `python -m arlab.recipes record_11_beam_search` makes the
# file, and `RUN_IT = True` runs it here.

# %%
RUN_IT = False
if RUN_IT:
    recipe.record(recipe.FILE)
_, recorded = recordings.load(recipe.FILE)
K = recorded["widths"]
ranks = sorted(each["rank"] for each in recorded["empty"])
print(f"recorded: {recorded['model']}, beams {K}, at most {recorded['longest']} tokens")
print("rank of the end symbol as the first token, in the twelve:", ranks)
real_length = {}
for alpha, by_k in zip(recorded["penalties"], recorded["answers"], strict=True):
    for k, answers in zip(K, by_k, strict=True):
        lengths = [each["length"] for each in answers]
        real_length[alpha, k] = average = sum(lengths) / len(lengths)
        print(f"alpha {alpha:g}, beam {k:2}: mean length {average:5.2f}, empty {lengths.count(1):2} of 12")

# %% [markdown]
# Compare with the ranks: with the plain sum an answer ends at once as soon as the beam is as wide as the rank of its end
# symbol. This holds for all twelve, with every beam.

# %%
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for ax, lengths, beams_here in ((left, mean_length, widths), (right_panel, real_length, K)):
    for alpha, colour, mark in ((0, ORANGE, "o-"), (1, BLUE, "s-")):
        means = [lengths[alpha, k] for k in beams_here]
        ax.plot(beams_here, means, mark, color=colour, label=f"alpha = {alpha}")
    ax.set(xscale="log", xlabel="beam size", ylabel="mean length (tokens)")
    ax.set_xticks(beams_here, [str(k) for k in beams_here])
    ax.minorticks_off()
left.set(title="60 random worlds", ylim=(0, 4.5))
right_panel.set(title="SmolLM2, 12 begun answers (recorded)", ylim=(0, 30))
left.legend(loc="upper right", ncols=2)
plt.show()

# %% [markdown]
# *Figure: mean length of the best hypothesis against the beam size (logarithmic), left in the random worlds, right on
# SmolLM2. With the plain sum it falls as the beam widens, with the mean it does not (on SmolLM2 no answer then ends
# before the limit of 24 tokens; a model that rambles is rewarded for it).*
#
# And an answer that is empty from the start? SmolLM2 has been trained to say something, so the end symbol stands far
# down the list of first tokens. Yet compare:

# %%
fox = tokenizer.chat([{"role": "user", "content": "Tell me a short story about a fox."}])
logp = last_logits(model, torch.tensor([fox], device=lab.device))[0].cpu().double().log_softmax(-1)
story = greedy(model, fox, max_new_tokens=30)
rank = int((logp > logp[end]).sum()) + 1
print(f"the empty answer:                log p = {logp[end]:.1f}, rank about {round(rank, -3):,}")
print(f"greedy's story, first 30 tokens: log p = {float(story.scores[0, 0]):.1f}, and it is not over")

# %% [markdown]
# Saying nothing is hundreds of times more probable than the mere beginning of greedy's story. No usual beam finds it,
# since it would have to be about seven thousand wide. The search errors of a narrow beam protect us from what we asked
# for.
#
# ## 6. When to stop
#
# The lecture says: stop when all hypotheses in the beam have ended, or at a limit. Many implementations stop earlier,
# as soon as $k$ hypotheses have *finished*. That is quick, and it can lose the best one.
#
# **Before you run:** in the world below, what has a beam of 2 finished after two steps? What would it find in a third?

# %%
yes = TreeLM(
    {(): [0.85, 0.05, 0.1], (0,): [0, 0.9, 0.1], (0, 1): [0, 0, 1.0]},
    max_length=3,
    eos_id=2,
    names=["yes", "please", "</s>"],
    default=[0.0, 0.0, 1.0],
)


def when_k_finished(k):
    return lambda finished, live, t: len(finished) >= k


for name, stop in (("stop when k have finished", when_k_finished(2)), ("go on", never)):
    found = sorted(beam(yes, [yes.bos_id], 2, 3, eos_id=2, stop=stop), reverse=True)
    print(f"{name:26}", ", ".join(f"{say(y, yes)!r} p = {math.exp(total):.3f}" for total, y in found[:2]))

# %% [markdown]
# The early stop returns the empty output (.1), although something with .765 was alive. Being finished first is no merit.
#
# ### A rule that cannot lose
#
# A live beam with total $s$ can only lose by growing, since $\log P \le 0$: its total will be at most $s$. Its *score*
# however is divided by the length, and the most favourable length is the limit $L$. So no descendant of it scores above
# $s / L^\alpha$, and the search may stop when the best finished score has reached that bound for the best live beam.
#
# ### Exercise 4: may we stop?


# %%
def can_stop(finished, live, length, max_length, alpha):
    """Can no live beam beat the best finished hypothesis any more?

    finished: a list of the scores (sum / length ** alpha) of the finished hypotheses.
    live: a list of the totals (sums of log p, not divided) of the live beams. Both in no particular order.
    length: how many tokens the live beams have now. max_length: the limit. alpha >= 0.
    Returns True to stop. A draw does not count as beating.
    """
    raise NotImplementedError


# %%
check.can_stop(can_stop)

# %%
check.can_stop.hint()

# %%
check.can_stop.solution()

# %% [markdown]
# Watch the two numbers meet, in the world above and in the sentence world of section 5, there with both penalties
# (-inf: no live beam is left, or nothing has finished):


# %%
def race(world, k, alpha, limit):
    """After each step: the best finished score, and the best score that a live beam can still reach."""
    best, rows = -math.inf, []
    options = {"beams": k, "length_penalty": alpha, "eos_id": world.eos_id}
    for step in beam_steps(world, [world.bos_id], max_new_tokens=limit, **options):
        scores = (step.totals[0] / (step.index + 1) ** alpha)[step.ended[0]]
        best = max([best, *scores.tolist()])
        alive = step.totals[0][step.live[0][step.live[0] >= 0]]
        rows.append((best, float(alive.max() / limit**alpha) if alive.numel() else -math.inf))
    return rows


races = {
    "yes please, alpha = 0": race(yes, 2, 0, 3),
    "the sea, alpha = 0": race(sea, 2, 0, 8),
    "the sea, alpha = 1": race(sea, 2, 1, 8),
}
for name, rows in races.items():
    print(name)
    for t, (best, bound) in enumerate(rows, start=1):
        stop = best >= bound
        print(f"   step {t}: best finished {best:7.4f}   best still possible {bound:7.4f}   stop: {stop}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for ax, (name, rows) in zip(axes, races.items(), strict=True):
    steps = range(1, len(rows) + 1)
    best, bound = torch.tensor(rows).where(torch.tensor(rows) > -math.inf, math.nan).T  # -inf cannot be drawn
    ax.step(steps, best, where="post", color=BLUE, marker="o", label="best finished")
    ax.plot(steps, bound, "s--", color=ORANGE, label="best still possible")
    ax.set(title=name, xlabel="step", ylabel="score", xticks=list(steps))
axes[2].legend(loc="lower right")
plt.show()

# %% [markdown]
# *Figure: the best finished score (it can only rise) and the bound on what the live beams can still reach (it can only
# fall), step by step. The search may stop when the first has reached the second.*
#
# How often does the early stop lose? **Before you run:** more often with $\alpha = 0$ or with $\alpha = 1$?

# %%
for alpha in (0, 1):
    for k in (2, 3, 5):
        lost = 0
        for world in worlds:
            early = beam(world, [world.bos_id], k, 5, eos_id=0, stop=when_k_finished(k))
            early = max(total / len(y) ** alpha for total, y in early)
            options = {"max_new_tokens": 5, "beams": k, "length_penalty": alpha, "eos_id": 0}
            lost += float(beam_search(world, [world.bos_id], **options).scores[0, 0]) > early + 1e-9
        print(f"alpha = {alpha}, beam {k}: the early stop is worse in {lost:2} of {len(worlds)} worlds")

# %% [markdown]
# With the plain sum never in these worlds (though we have just built one): what finishes first is short, and short is
# probable. With the mean in 8 to 14 of the 60, because the best score tends to come late. The safe rule costs steps,
# though, and with $\alpha = 1$ its bound is loose:

# %%
france = tokenizer.chat([{"role": "user", "content": "What is the capital of France?"}])
for alpha in (0, 1):
    options = {"max_new_tokens": 24, "beams": 2, "length_penalty": alpha, "eos_id": end}
    steps = list(beam_steps(model, france, **options))
    first = next(step.index + 1 for step in steps if step.ended.any())
    print(f"alpha = {alpha}: first hypothesis finished at step {first}, search stopped after {len(steps)}")

# %% [markdown]
# In `transformers` the two rules are `early_stopping=True` ($k$ finished) and `"never"` (the bound). Its default,
# `False`, divides by the present length where the bound takes the limit, and can lose too. `arlab` always uses the
# bound.
#
# ## 7. Ten beams on a real model
#
# Lecture 001 calls a translation model with `num_beams=10`. Here is a beam of 10 on SmolLM2, all ten hypotheses, and
# below them four of ten random draws from the nucleus (notebook 10).
#
# **Before you run:** how different will the ten best be from each other?

# %% tags=["nbval-ignore-output"]
man = tokenizer.encode("The old man opened the letter and")
ten = beam_search(model, man, max_new_tokens=10, beams=10, n=10, length_penalty=0)
for i in range(10):
    print(f"{float(ten.scores[0, i]):7.2f}  {tokenizer.decode(ten.tokens(0, i))!r}")

# %% tags=["nbval-ignore-output"]
drawn = sample(model, man, max_new_tokens=10, filters=[TopP(0.9)], n=10, generator=lab.generator())
for i in range(4):
    print(f"{float(drawn.scores[0, i]):7.2f}  {tokenizer.decode(drawn.tokens(0, i))!r}")

# %% tags=["nbval-ignore-output"]
for name, out in {"beam 10": ten, "drawn, top-p .9": drawn}.items():
    ids = [out.tokens(0, i) for i in range(10)]
    print(f"{name:16} first words: {len({text[0] for text in ids}):2} different;", end=" ")
    print(f"3-grams of the ten that are different: {distinct(ids, 3):.2f}")

# %% [markdown]
# The ten best all begin with the same words: the descendants of one beginning have crowded out all others, and differ
# only in what came last. **A beam keeps what is nearly the same**; lecture 001 calls it the diversity trade-off.
#
# The cost: a beam of $k$ runs $k$ rows through the model at each step, and its cache is $k$ times as large. On a CPU that
# reads all its weights for each pass anyway, ten rows do not cost ten times as much.

# %% tags=["nbval-ignore-output"]
seconds = {}
for k in (1, 2, 5, 10):
    for _ in range(2):  # the better of two runs
        began = time.perf_counter()
        beam_search(model, man, max_new_tokens=5, beams=k)
        seconds[k] = min(seconds.get(k, math.inf), (time.perf_counter() - began) / 5)
print(", ".join(f"beam {k}: {1000 * s:.0f} ms a token" for k, s in seconds.items()))

# %% [markdown]
# Look at the search itself. Set **beams** to 1, 2, 3 and 5 and step through: which branch wins in the end, and what
# place did it have on the way? (The candidates of a step stand in one column, best first; the dotted line divides what
# is kept from what is cut.)

# %% tags=["nbval-ignore-output"]
BeamTree(model, tokenizer, "The cat sat on the", beams=5, max_beams=5, steps=6)

# %% [markdown]
# 1. Greedy begins with " cat". With 5 beams, how long does a branch with " cat" live?
# 2. With 5 beams, find the branch that wins at step 6. In which place was it at step 4?
# 3. Compare the best log p of 1 and of 5 beams. What factor in probability is the difference?
# 4. Type a prompt with one right answer ("The capital of France is") and one with many ("My favourite food is"). How far do
#    the first words of the five hypotheses differ?
#
# <details><summary>What to look for</summary>
#
# 1. For three steps; then words with " cou" and texts with " moon" hold all five places. What is cut is gone, with all its descendants.
# 2. " coulter." was the fifth of five. A beam of 4 would have lost it.
# 3. -8.38 against -10.23: 1.85 nats, a factor of 6.4.
# 4. Hardly: at the end all five begin with " Paris", and all five with " pizza". Diversity of meaning is not what a beam keeps.
#
# </details>
#
# ## 8. The likelihood trap
#
# Now wider and longer: beams 1, 2, 5 and 10 on twelve beginnings, 48 tokens each, from the same recording (nobody looks
# for an end symbol, so that all texts are equally long).
#
# **Before you run:** which of the four will you like best?

# %%
stories = recorded["stories"]  # [beam][prompt]


def show(prompt, beams_shown):
    for k in beams_shown:
        one = stories[K.index(k)][recorded["prompts"].index(prompt)]
        print(f"beam {k:2}: log p {one['logprob']:.1f}, 4-grams seen before {one['repetition']:.2f}")
        print(f"   {tokenizer.decode(one['ids'])!r}")


show("The old man opened the letter and", K)
print()
show("The cat sat on the", (1, 10))

# %% [markdown]
# Beam 2 reads as well as greedy or better. Beams 5 and 10, far more probable still, go round in circles: they have
# found out that once a sentence has been said, saying it again costs almost nothing. Two prompts are anecdotes; here
# are all twelve, beside five draws for each at top-p .9.

# %%
sampled = recorded["sampled"]
mean = {
    key: [sum(each[key] for each in records) / len(records) for records in stories]
    for key in ("logprob", "repetition", "distinct")
}
table = {f"beam {k}": [mean[key][i] for key in mean] for i, k in enumerate(K)}
table["5 x top-p .9"] = [sum(each[key] for each in sampled) / len(sampled) for key in mean]
print(f"means over twelve prompts, {recorded['tokens']} tokens; last column: over the k best, or five draws")
print("              log p   repeated 4-grams   different 4-grams")
for name, (logprob, repeated, different) in table.items():
    print(f"{name:12} {logprob:6.1f} {repeated:18.2f} {different:19.2f}")
by_prompt = [[stories[i][j]["logprob"] for i in range(len(K))] for j in range(len(recorded["prompts"]))]
falls = sum(any(b < a - 1e-3 for a, b in zip(line, line[1:], strict=False)) for line in by_prompt)
print(f"prompts where some wider beam found a less probable text: {falls} of {len(by_prompt)}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
panels = (
    ("logprob", "log p of the best text (nats)", BLUE),
    ("repetition", "repeated 4-grams (share)", ORANGE),
    ("distinct", "different 4-grams (k best)", GREEN),
)
for ax, (key, label, colour) in zip(axes, panels, strict=True):
    for j in range(len(recorded["prompts"])):
        ax.plot(K, [stories[i][j][key] for i in range(len(K))], color=colour, alpha=0.2, lw=1)
    ax.plot(K, mean[key], "o-", color=colour, lw=2.5)
    ax.set(xscale="log", xlabel="beam size", ylabel=label)
    ax.set_xticks(K, [str(k) for k in K])
    ax.minorticks_off()
plt.show()

# %% [markdown]
# *Figure: against the beam size (logarithmic), a thin line for each of twelve prompts and the mean in bold. Left,
# log p rises; in the middle, so does repetition, in some prompts from nothing to four fifths; right, the k best
# resemble each other more and more.*
#
# Mean log p rises with every widening, from greedy's to that of beam 10 by a factor of over a million in probability.
# Repetition is lower with two beams than with one, since greedy has loops of its own (notebook 09), and rises from
# there on; people's texts of this length repeat hardly anything, as section 9 will measure. The hypotheses of a beam
# share most of their 4-grams, draws hardly any (compare the five draws with beam 5, an equal amount of text). And the
# trap of section 3 exists in earnest: for five of the twelve prompts a wider beam ended with a *less* probable text.
#
# ## 9. Nonsense, reasonable, repetition
#
# Lecture 004 shows a table: three continuations of a text, and the most probable is the one nobody wants. Here is one
# measured on SmolLM2. For each of two beginnings: a draw at temperature 1.6, a continuation written for this notebook,
# and what a beam of 10 found; 28 tokens each.
#
# **Before you run:** order the three by log p.

# %%
girl, old_man = "The little girl walked into the forest. She", "The old man opened the letter and"
nonsense = {
    girl: " wandered aimlessly reflecting all jo in too secret she eat by China pushed iron samples She read"
    " Death blessing her shooting not discrimination she alive safely edited quicker",
    old_man: " scribbled sommelaid soccer so my windows had window being changed sports sports seekback"
    " while survivors assistants Byuyu harmony full dreams integratingocene Hope analysis inaccurate",
}
written = {
    girl: " followed the narrow path between the birches until she heard water. At the stream she took off"
    " her shoes, sat down on a flat stone and opened the bag.",
    old_man: " read it twice without a word. Then he folded it along its old creases, put it back into the"
    " envelope and asked his daughter to bring him his coat.",
}


def token_logprobs(beginning, ids):
    """log p of each of the ids, given the beginning and those before it: one pass."""
    before = tokenizer.encode(beginning)
    z = model(torch.tensor([before + ids], device=lab.device))[0, len(before) - 1 : -1].cpu().double()
    return z.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]


curves = {}
for beginning in (girl, old_man):
    print(f"{beginning} ...")
    rows = {
        "nonsense": tokenizer.encode(nonsense[beginning]),
        "reasonable": tokenizer.encode(written[beginning]),
        "repetition": recorded["stories"][-1][recorded["prompts"].index(beginning)]["ids"],  # beam 10
    }
    for name, ids in rows.items():
        curves[beginning, name] = logp = token_logprobs(beginning, ids[:28])
        print(f"{logp.sum():8.1f}  {name:10}  ... {tokenizer.decode(ids[:28])[:76]!r}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for ax, beginning in zip(axes, (girl, old_man), strict=True):
    for name, colour in (("repetition", ORANGE), ("reasonable", BLUE), ("nonsense", GREY)):
        ax.plot(range(1, 29), curves[beginning, name].cumsum(0), color=colour, label=name)
    ax.set(title=f"{beginning} ...", xlabel="tokens", ylabel="sum of log p")
axes[0].legend()
plt.show()

# %% [markdown]
# *Figure: the sum of log p as the text grows. Nonsense falls steeply, the reasonable text in steps; the repetition stays
# nearly flat: its tokens cost next to nothing.*
#
# The reasonable text lies *between* the two. Likelihood separates it from nonsense, and then prefers something worse.
# In the study that the lecture cites there (Zhang and others, 2021) people's judgement rose with likelihood up to a
# point, and fell beyond it.
#
# ### Three explanations
#
# Why does the argmax degenerate? The lecture lists three hypotheses. Each can be put to a small test.
#
# **1. The model does not fit the data well.** Then a better model should repeat less. Two character models of
# Shakespeare, a weak and a strong one, a beam of 5, 100 characters after six beginnings; repeated 12-grams of characters:

# %%
openings = ["First Citizen:\n", "ROMEO:\n", "KING RICHARD II:\n", "What is ", "The ", "My lord, "]
held_out = tiny_shakespeare()[-111_000:]
human = sum(repetition(list(held_out[i : i + 100]), 12) for i in range(0, 110_000, 1000)) / 110
by_model = {}
for name in ("shakespeare_weak", "shakespeare_strong"):
    small, characters = load(name)
    prompts = [characters.encode(opening) for opening in openings]
    out = beam_search(small, prompts, max_new_tokens=100, beams=5)
    by_model[name] = sum(repetition(out.tokens(row), 12) for row in range(6)) / 6
print("beam 5, the weak model over .5:", by_model["shakespeare_weak"] > 0.5)
print("beam 5, the strong one under .2:", by_model["shakespeare_strong"] < 0.2)
print(f"Shakespeare himself: {human:.3f}")

# %% [markdown]
# The better model repeats itself much less, and still many times as often as the author (the bars of the figure below
# show all three). But suppose the model were *perfect*: a biased coin that shows heads (H) with probability .6, and a
# model that knows it.
#
# **Before you run:** which is the most probable sequence of ten throws? How many of a thousand real sequences look like
# it?

# %%
coin = TreeLM({}, max_length=10, names=["H", "T"], default=[0.6, 0.4])
mode = beam_search(coin, [coin.bos_id], max_new_tokens=10, beams=5, length_penalty=0)
law = coin.enumerate()
heads = sum(p * y.count(0) for y, p in law)
repeats, at_mode = sum(p * repetition(y, 2) for y, p in law), repetition(mode.tokens(), 2)
print(f"the argmax: {say(mode.tokens(), coin)}, p = {math.exp(float(mode.scores[0, 0])):.4f}")
print(f"heads: argmax {mode.tokens().count(0)}, a real sequence {heads:.2f} on average")
print(f"pairs seen before: argmax {at_mode:.2f}, a real sequence {repeats:.2f} on average")

# %% [markdown]
# The perfect model's argmax is ten heads, the most monotonous sequence there is, and six in a thousand of its data are
# like that. So a misfit is *not necessary* for a degenerate argmax: the most probable sequence need not be a typical
# one. The lecture says as much: larger models and more data have not made it go away.
#
# **2. The distribution shifts during inference.** The model goes on from its own output, into prefixes that its training
# data hardly contain. Once there is a repetition in the prefix, what does it expect? The same sentence, eight times,
# with its log p each time:

# %%
sentence = tokenizer.encode(" The river was frozen, and nobody crossed it that winter.")
before = tokenizer.encode("I remember it well.")
z = model(torch.tensor([before + sentence * 8], device=lab.device))[0, len(before) - 1 : -1].cpu().double()
each = z.log_softmax(-1).gather(-1, torch.tensor(sentence * 8)[:, None]).view(8, -1).mean(1)
print("mean log p of a token, 1st to 8th time:", [round(x, 1) for x in each.tolist()])

# %% [markdown]
# The first time it costs 4 nats a token, the second 1, the eighth a tenth: one repetition calls for the next.
#
# **3. The training data repeats itself.** How much? SmolLM2's own data is not at hand, so Shakespeare stands in for it, in
# windows of 48 tokens. How many of them repeat as much as the texts of a beam of 10 did on average?

# %%
plays = tokenizer.encode(held_out)
size = recorded["tokens"]
windows = [repetition(plays[i : i + size]) for i in range(0, len(plays) - size, size)]
average = sum(windows) / len(windows)
print(f"{len(windows)} windows: repeated 4-grams {average:.4f} on average, at most {max(windows):.2f}")
loops = sum(w >= mean["repetition"][-1] for w in windows)
print(f"windows with as much as beam 10 has on average ({mean['repetition'][-1]:.2f}): {loops}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
bars = {"weak": by_model["shakespeare_weak"], "strong": by_model["shakespeare_strong"], "human": human}
axes[0].bar_label(axes[0].bar(bars.keys(), bars.values(), color=[ORANGE, BLUE, GREY]), fmt="%.3f")
axes[0].set(title="1. the fit", ylabel="repeated 12-grams (beam 5)", ylim=(0, 1))
axes[1].plot(range(1, 9), each, "o-", color=BLUE)
axes[1].set(title="2. the shift", xlabel="occurrence of the sentence", ylabel="mean log p of a token")
axes[2].hist(windows, bins=[i / 40 for i in range(41)], color=GREY, log=True)
axes[2].axvline(mean["repetition"][-1], color=ORANGE, ls="--", label="beam 10, mean")
axes[2].set(title="3. the data", xlabel="repeated 4-grams in 48 tokens", ylabel="windows of Shakespeare")
axes[2].legend()
plt.show()

# %% [markdown]
# *Figure: left, repetition of two models' beam output and of Shakespeare; middle, how probable a sentence becomes as it
# is repeated; right, how repetitive windows of Shakespeare are (count logarithmic), with the mean of SmolLM2's beam of
# 10 dashed.*
#
# None of the three is the whole story. The fit matters, the loop feeds itself, the plays repeat far too little to explain
# it (the web pages that SmolLM2 has read may repeat more). And beyond all three the goal is wrong: **the most probable
# text is not a typical text**. For translation or a short answer, where nearly all the probability lies on one meaning, a
# small beam serves well. For a story it does not; notebook 14 measures both.
#
# ## 10. Temperature with beams
#
# Lecture 004 lists temperature and beam search among the tricks that can be combined. What can it do, if no dice are
# thrown? Notebook 09 showed that it may change which *sequence* is the most probable. In `rank_flip` the first letter
# is A (.6), followed by ten equally probable ones, or B (.4), followed by one.
#
# **Before you run:** what does a beam of 2 find at $T = 1$, and at $T = .1$?

# %%
flip = rank_flip()
for t in (1, 0.1):
    options = {"max_new_tokens": 2, "beams": 2, "length_penalty": 0}
    out = beam_search(flip, [flip.bos_id], filters=[Temperature(t)], **options)
    found = " ".join(flip.names[i] for i in out.tokens())
    print(f"T = {t:3}: {found}, tempered p = {math.exp(float(out.scores[0, 0])):.3f},", end=" ")
    print(f"true p = {math.exp(float(out.logprobs.sum())):.2f}")

# %% [markdown]
# The score adds up the logs of the *tempered* distributions; `Generation.logprobs` are always those of the raw model.
# And on SmolLM2? As $T \to 0$ each step's best token gets all the probability, so any beam becomes greedy. **Before you
# run:** what will a hot beam do about repetition?
#
# One batch holds all temperatures: a filter is a function on logits, and the rows of a batch are its prompts, $k$ beams
# each.

# %% tags=["nbval-ignore-output"]
heat = torch.tensor([0.02, 0.5, 1.0, 2.0], device=lab.device)


def each_its_own(logits):
    """Rows of one prompt after the other, equally many for each."""
    return (logits.view(len(heat), -1, logits.size(-1)) / heat[:, None, None]).flatten(0, 1)


hot = beam_search(model, [man] * len(heat), max_new_tokens=24, beams=5, filters=[each_its_own])
cold = greedy(model, man, max_new_tokens=24).tokens()
raw, twice = hot.logprobs.sum(-1)[:, 0].tolist(), [repetition(hot.tokens(row)) for row in range(len(heat))]
for row, t in enumerate(heat.tolist()):
    text = tokenizer.decode(hot.tokens(row))
    print(f"T = {t:4.2f}: log p {raw[row]:6.1f}, repeated {twice[row]:.2f}  {text!r}")

# %%
print("at T = .02 it begins like greedy:", hot.tokens(0)[:16] == cold[:16])  # later comes a near-tie
print("hot (T = 2) is less probable than T = 1, and repeats less:", raw[3] < raw[2] and twice[3] < twice[2])

# %%
fig, (left, right_panel) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
left.plot(heat.tolist(), raw, "o-", color=BLUE)
left.set(xlabel="temperature", ylabel="log p under the raw model")
right_panel.plot(heat.tolist(), twice, "o-", color=ORANGE)
right_panel.set(xlabel="temperature", ylabel="repeated 4-grams (share)", ylim=(-0.02, None))
plt.show()

# %% [markdown]
# *Figure: the text that a beam of 5 finds at four temperatures: log p under the raw model (left) and repetition (right).
# Both are low at T = .02, highest at .5, and fall from there on.*
#
# Another sequence wins at each temperature. The cold beam is greedy; the hot one ends with a less probable text and
# repeats itself less. At $T = .5$ the beam even found a text that is more probable under the raw model than what it
# finds at $T = 1$: the search is not exact, so a distorted score may lead it better. One beginning proves little; put
# another one in place of `man`.
#
# ## Check yourself
#
# **1. Why does nobody return the most likely sequence?**
#
# <details><summary>Answer</summary>
# There are V^T: for twenty tokens of SmolLM2 about 10^94. A beam of k scores V candidates at the first step and kV at each further one, 4.7 million for k = 5 (section 1). And section 8 makes one doubt that one should want it.
# </details>
#
# **2. With k hypotheses, how many do we have after expanding them by one token, and how many are kept?**
#
# <details><summary>Answer</summary>
# kV, of which the k best that do not end live on, whichever beams they continue; those that end among the first k are put aside as finished (section 2). At the first step there is one live beam and only V candidates; k copies of it would be extended alike and remain k copies for ever.
# </details>
#
# **3. Is a wider beam always at least as good? Does beam search find the optimum?**
#
# <details><summary>Answer</summary>
# No: in `beam_trap` beam 2 finds .0765 and greedy .187 (section 3). On a thousand random worlds it is rare (2 worlds) and wider beams find the best more and more often (.65, .90, .98 for k = 1, 2, 3), but it is guaranteed only from k = V^(T-1) on (section 4).
# </details>
#
# **4. A translation system gives empty outputs since its beam was raised from 5 to 100. Why, and what helps?**
#
# <details><summary>Answer</summary>
# Each token multiplies by a number of at most 1, so the sum of log p favours short outputs, and the empty one may be the argmax. A narrow beam does not see it; a wide one does. Divide by length^alpha, counting generated tokens with the end symbol; or keep the beam small (section 5).
# </details>
#
# **5. When may beam search stop?**
#
# <details><summary>Answer</summary>
# When the best finished score is at least max(live totals) / L^alpha, with L the longest length allowed: no live beam can win any more. Stopping when k have finished lost .765 for .1 in the world of section 6, and with alpha = 1 it lost in 8 to 14 of the 60 random worlds.
# </details>
#
# **6. Three explanations of degenerate argmax text: which test did you see for each?**
#
# <details><summary>Answer</summary>
# Fit: the weak character model repeats far more than the strong one, the strong one still more than the author. But the perfect model of a biased coin has the argmax HHHHHHHHHH. Shift: a sentence costs 4 nats a token the first time and a tenth of a nat the eighth. Data: no window of Shakespeare repeats as much as a beam of 10 does on average; SmolLM2's own data was not looked at (section 9).
# </details>
#
# **7. Does temperature matter in beam search, where nothing is drawn?**
#
# <details><summary>Answer</summary>
# Yes: scores add up logs of the tempered distributions, each normalised anew, so another sequence may win (section 10). Towards 0 every beam becomes greedy. Dividing the finished sum by T instead would change no ranking.
# </details>
#
# ## What to try next
#
# - Change `beam_trap` so that beams 2 *and* 3 lose to greedy. How many branches do you need?
# - In section 4, make the worlds sharper (multiply the random numbers by 3) or longer. What happens to the share that greedy finds?
# - In section 8, forbid a repeated 3-gram with a filter of your own. Do wider beams help now?
# - Take the ten hypotheses of section 7 and choose among them by something else than log p. Where would you find them
#   more useful: in a translation or in a story?
#
# ## Where the idea comes from
#
# - Beam search: Lowerre, *The HARPY Speech Recognition System*, 1976; for neural models Sutskever, Vinyals and Le, *Sequence to Sequence Learning with Neural Networks*, 2014.
# - Length normalisation: Wu and others, *Google's Neural Machine Translation System*, 2016.
# - Wide beams and empty translations: Koehn and Knowles, *Six Challenges for Neural Machine Translation*, 2017; Stahlberg and Byrne, *On NMT Search Errors and Model Errors: Cat Got Your Tongue?*, 2019.
# - A stopping rule that loses nothing: Huang, Zhao and Ma, *When to Finish? Optimal Beam Search for Neural Text Generation*, 2017.
# - The likelihood trap: Zhang, Duckworth, Ippolito and Neelakantan, *Trading Off Diversity and Quality in Natural Language Generation*, 2021. Repetition that feeds itself: Holtzman and others, *The Curious Case of Neural Text Degeneration*, 2020; Xu and others, *Learning to Break the Loop*, 2022.
#
# [← 10 Top-k and nucleus](10_top_k_and_nucleus.ipynb) · [12 Contrastive decoding →](12_contrastive_decoding.ipynb)
