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
# # 14 · Choosing a decoder
#
# Greedy, beams, temperature, top-k, top-p, min-p, contrastive, speculative: you have built them all, one notebook each. Here they
# meet, on one story and on 32 questions with known answers. For each we measure how likely its text is, how often it repeats itself, how much its samples differ, how often it is right
# and what it costs. Then you can fill in the lecture's table with numbers of your own, and say which decoder you would take for which task, and why.
#
# **You will be able to**
#
# - measure likelihood, repetition and diversity of a text, and say what each does not tell;
# - show that the most likely text is not the best one, and where a text written by a person lies;
# - decide whether one should simply sample if the model were perfect, and test whether a model is;
# - compute the exact chance that a sampler gives the right answer, without drawing;
# - find the settings that no other setting beats in both quality and diversity;
# - say what temperature does to a beam.
#
# **Time** 75 minutes. **Before this** notebooks 09 to 11; 12 and 13 for the contrastive and the speculative rows. **Follows** lecture 000 (comparison of
# decoding strategies) and lecture 004 (likelihood and quality, decoding in practice).
#
# [← 13 Speculative decoding](13_speculative_decoding.ipynb) · [15 Encoder and decoder →](15_encoder_decoder.ipynb)

# %% tags=["nbval-ignore-output"]
import itertools
import math
from collections import Counter
from functools import partial
from statistics import mean, median

import matplotlib.pyplot as plt
import torch
from plotly.subplots import make_subplots

import arlab
from arlab.decoding import (
    MinP,
    Temperature,
    TopK,
    TopP,
    beam_search,
    comparison,
    contrastive_decoding,
    filters,
    greedy,
    measures,
    sample,
)
from arlab.decoding.drafts import LookupDraft
from arlab.decoding.speculative import speculative_decoding
from arlab.exercises import choosing_a_decoder as check
from arlab.nn.language_model import Recompute
from arlab.nn.pretrained import smollm2
from arlab.recipes import choosing_a_decoder as recipe
from arlab.recipes import load
from arlab.text.corpora import tiny_shakespeare
from arlab.training import recordings
from arlab.views import DecoderArena
from arlab.worlds import TreeLM, rank_flip

lab = arlab.setup(seed=0)
# colours that are safe for the colour-blind
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"

# %% [markdown]
# The lectures' questions, and where below you see the answer:
#
# | question | section |
# |---|---|
# | High likelihood can go with low quality: how does one see it? | 3 |
# | If we have learnt a perfect $p$, shouldn't we just sample from it? | 4 |
# | Which decoder where there is a correct answer? Small beam or large? | 5 |
# | How do coherence, diversity and determinism trade off? | 6, 8 |
# | Combinations: temperature with top-k, temperature with a beam? | 7 |
# | The table of strategies: determinism, candidates, advantage, disadvantage | 8 |
# | A creative story, a factual summary: where do you start? | 9 |

# %%
model, tokenizer = smollm2(device=lab.device)
STORY, CONTINUATION = recipe.story()  # the fable of the belly, from the tiny Shakespeare corpus
prompt, real = tokenizer.encode(STORY), tokenizer.encode(CONTINUATION)
print(STORY)
print(f"\n{len(prompt)} tokens. In the play, *Coriolanus*, it goes on with {len(real)} more:")
print(CONTINUATION)

# %% [markdown]
# ## 1. Three numbers for a text
#
# **Likelihood.** The mean log-probability of the text's tokens under the model: $\frac{1}{T} \sum_t \log p(y_t \mid y_{<t}, \text{prompt})$. Nearer to 0 is more likely. It is computed in one pass, whoever wrote the text.


# %%
def token_logprobs(ids):
    """log p of each of the ids after the story's beginning, (time,), from one pass."""
    whole = torch.tensor([prompt + ids], device=lab.device)
    logits = model(whole)[0, len(prompt) - 1 : -1].float()  # row t: the opinion on ids[t]
    return logits.log_softmax(-1).gather(-1, whole[0, len(prompt) :, None])[:, 0].detach().cpu()


circle = tokenizer.encode(" The belly was very sad." * 10)[:60]
noise = torch.randint(1000, model.vocab_size, (60,), generator=lab.generator()).tolist()
texts = {"the play": real[:60], "going in a circle": circle, "random tokens": noise}
for name, ids in texts.items():
    print(f"{name:18} {tokenizer.decode(ids)[:70]!r}")

# %% [markdown]
# **Before you run:** put the three texts in order, from the most likely to the least.

# %%
for name, ids in texts.items():
    print(f"{name:18} log p per token {token_logprobs(ids).mean():7.2f}")

# %% [markdown]
# The model finds the circle far more likely than the play. So likelihood alone cannot be what we want, and we need a second number.
#
# **Repetition.** An *n-gram* is a run of $n$ neighbouring tokens; a text of $T$ tokens has $T - n + 1$ of them. The share of n-grams that the text has had before is
#
# $$\text{rep-}n = 1 - \frac{\text{number of different n-grams}}{\text{number of n-grams}} .$$
#
# ### Exercise 1: repetition


# %%
def repetition(ids, n):
    """The share of the text's n-grams that occurred in it before: 0 where nothing comes twice.

    ids: a list of token ids. n: an int >= 1. A text shorter than n has no n-gram and repeats nothing: 0.
    """
    raise NotImplementedError


# %%
check.repetition(repetition)

# %%
check.repetition.hint()

# %%
check.repetition.solution()

# %% [markdown]
# `arlab.decoding.measures` has it too, and with it **diversity** within a text, the product of $1 - \text{rep-}n$ over $n = 2, 3, 4$ (near 1 for prose, near 0 for a circle).

# %%
for name, ids in texts.items():
    print(f"{name:18} rep-4 {measures.repetition(ids, 4):.4f}   diversity {measures.diversity(ids):.4f}")
print("a text that ends in a circle (start, period):", measures.loop(circle))

# %% [markdown]
# Now the circle stands out, but the random tokens look as good as the play: no number alone is quality. **Between several samples** we ask two things. *Distinct-n*: the share of different n-grams among those of all samples together. And
# *agreement*: the share of one sample's n-grams that another one has too, over all ordered pairs.


# %%
def shared(one, other, n=2):
    grams = [tuple(one[i : i + n]) for i in range(len(one) - n + 1)]
    theirs = {tuple(other[i : i + n]) for i in range(len(other) - n + 1)}
    return sum(gram in theirs for gram in grams) / len(grams)


three = [sentence.split() for sentence in ("the belly was sad", "the belly was angry", "a foot came")]
by_hand = mean(shared(one, other) for one, other in itertools.permutations(three, 2))
print(f"agreement by hand {by_hand:.4f}, arlab {measures.agreement(three, 2):.4f}")
print(f"distinct-2 {measures.distinct(three, 2):.4f}: 6 different pairs of words among 8")

# %% [markdown]
# ## 2. One story, every strategy
#
# A strategy is a decoder with everything filled in but the prompt. Eighteen of them; the samplers write six texts each. The weak model of contrastive decoding is the same model
# with only the last 8 tokens in view (notebook 12); the draft of speculative decoding copies from the text so far (notebook 13).

# %%
weak = Recompute(model, window=8)


def drawn(*chain, n=6):
    return partial(sample, model, filters=list(chain), n=n)


strategies = {
    "greedy": partial(greedy, model),
    **{f"beam {k}": partial(beam_search, model, beams=k) for k in (2, 5, 10)},
    **{f"T = {t:g}, beam 5": partial(beam_search, model, beams=5, filters=[Temperature(t)]) for t in (0.5, 2)},
    "contrastive": partial(contrastive_decoding, model, weak),
    "contrastive, beam 5": partial(contrastive_decoding, model, weak, beams=5),
    "speculative": partial(speculative_decoding, model, LookupDraft(), filters=[Temperature(0)]),
    "T = 0.7": drawn(Temperature(0.7)),
    "plain sampling": drawn(),
    "T = 1.5": drawn(Temperature(1.5)),
    "top-k 50": drawn(TopK(50)),
    "top-p 0.9": drawn(TopP(0.9)),
    "min-p 0.1": drawn(MinP(0.1)),
    "T = 0.7, top-k 50": drawn(Temperature(0.7), TopK(50)),
    "T = 0.7, top-p 0.9": drawn(Temperature(0.7), TopP(0.9)),
    "T = 1.5, min-p 0.1": drawn(Temperature(1.5), MinP(0.1)),
}
print(len(strategies), "strategies")

# %% [markdown]
# Four of them live, with two texts a sampler, in an arena. Verse comes later: this beginning is plain prose. One row a strategy, the repeated 4-grams underlined, the measures beside it, and a picture of any two measures against each other.
#
# **Before you run:** which of the four will repeat itself most? Which will have the highest likelihood?
#
# Unfold a row to read its texts; sort by a column; run with another seed (it takes some seconds).

# %% tags=["nbval-ignore-output"]
PROSE = "Nobody in the village had ever opened the small green door in the wall. One evening it stood open."
few = {name: strategies[name] for name in ("greedy", "beam 5")}
few |= {"plain sampling": drawn(n=2), "top-p 0.9": drawn(TopP(0.9), n=2)}
settings = {"max_new_tokens": lab.scale(cpu=36, gpu=60), "eos_id": tokenizer.eos_id, "seed": 0}
arena = DecoderArena.run(few, tokenizer, PROSE, **settings)
arena

# %%
live = {each.name: each for each in arena.outcomes}
chance = live["plain sampling"].sequences
likelier = live["greedy"].logprob > live["plain sampling"].logprob + 0.5
print("greedy is more likely than plain sampling:", likelier)
circles = live["beam 5"].repetition > live["plain sampling"].repetition
print("the beam repeats more than plain sampling:", circles)
print("two plain samples are two texts:          ", chance[0] != chance[1])

# %% [markdown]
# 1. Which rows change when you run with another seed, and which do not?
# 2. Choose "seconds" for one axis. Which strategy pays most for its likelihood?
# 3. Is the text you like best the one with the highest likelihood?
#
# <details><summary>What to look for</summary>
#
# 1. Only the two samplers; greedy decoding and the beam draw nothing.
# 2. The beam: five rows go through the model where greedy has one. (A sampler's two texts share a batch.)
# 3. Hardly: the most likely text is the one that says the same sentence again.
#
# </details>
#
# All eighteen, with 60 tokens each after the four lines of the fable, take minutes, so they are **recorded** (`python -m arlab.recipes record_14_choosing_a_decoder` makes the file). `RUN_IT = True` runs everything here instead.

# %%
RUN_IT = False
file = recipe.record("14_choosing_a_decoder_again.json") if RUN_IT else recipe.FILE
_, recorded = recordings.load(file)
outcomes = {each.name: each for each in recipe.outcomes(file)}
print("recorded are these strategies:", list(outcomes) == list(strategies))
print(f"{recorded['model']}; seconds are {recorded['seconds_are']}")

# %%
print(comparison.table(list(outcomes.values())))

# %% [markdown]
# Speculative decoding wrote, token for token, what greedy decoding wrote. That is its promise (notebook 13): it changes the cost, not the text, so from here on its row is greedy's. What did greedy decoding, the widest beam and contrastive decoding write,
# and a sampler?

# %%
print("speculative is greedy:", outcomes["speculative"].sequences == outcomes["greedy"].sequences)
for name in ("greedy", "beam 10", "contrastive", "top-p 0.9"):
    each = outcomes[name]
    print(f"\n{name}: log p {each.logprob:.2f}, rep-4 {each.repetition:.2f}\n{each.texts[0].strip()}")

# %% [markdown]
# ## 3. Likelihood is not quality
#
# **Before you run:** sorted by likelihood, where among the eighteen does the text of the play stand?

# %%
play = real[:60]
rows = [(each.logprob, each.repetition, each.diversity, name) for name, each in outcomes.items()]
theirs = (float(token_logprobs(play).mean()), measures.repetition(play), measures.diversity(play))
rows.append((*theirs, "THE PLAY"))
print("                      log p   rep-4   diversity")
for logprob, repeated, diverse, name in sorted(rows, reverse=True):
    print(f"{name:20} {logprob:6.2f} {repeated:7.2f} {diverse:9.2f}")

# %%
columns = [[each.logprob for each in outcomes.values()], [each.diversity for each in outcomes.values()]]
ranks = [[sorted(column).index(value) for value in column] for column in columns]
correlation = torch.corrcoef(torch.tensor(ranks, dtype=torch.float64))[0, 1]
print(f"rank correlation of likelihood and diversity over the strategies: {correlation:.2f}")

# %%
kinds = {"a beam": (ORANGE, "s"), "greedy, contrastive": (GREEN, "^"), "a sampler": (BLUE, "o")}
place = {  # where the names stand, in points from their dots
    "T = 1.5, min-p 0.1": (-30, 8),
    "top-k 50": (6, -11),
    "top-p 0.9": (-24, -15),
    "T = 0.7, top-p 0.9": (8, -2),
    "T = 0.7, top-k 50": (-96, -2),
    "min-p 0.1": (8, -6),
    "contrastive": (-60, 4),
    "T = 2, beam 5": (-34, 10),
}
fig, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
for name, each in outcomes.items():
    draws = strategies[name].func is sample
    colour, marker = kinds["a beam" if "beam" in name else "a sampler" if draws else "greedy, contrastive"]
    ax.scatter(each.logprob, each.diversity, color=colour, marker=marker)
    if draws or name in place:
        where = {"xytext": place.get(name, (7, -3)), "textcoords": "offset points", "fontsize": 8}
        ax.annotate(name, (each.logprob, each.diversity), annotation_clip=True, **where)
ax.text(-0.35, 0.24, "greedy, the other beams", fontsize=8, ha="right")
ax.annotate("", (-0.62, 0.06), (-0.62, 0.22), arrowprops={"arrowstyle": "->", "color": GREY})
ax.scatter(theirs[0], theirs[2], color="black", marker="*", s=160, zorder=3)
ax.annotate("the play", (theirs[0], theirs[2]), (10, -3), textcoords="offset points", weight="bold")
ax.set(
    xlabel="log p per token (further right: more likely)",
    ylabel="diversity within a text",
    xlim=(-5.1, -0.3),
    ylim=(-0.04, 1.1),
)
plt.show()

# %% [markdown]
# *Figure: each strategy by likelihood and diversity within a text; squares are beams, circles samplers, triangles greedy and contrastive decoding; the star is the play. ($T = 1.5$ lies far to the left, at −9.26 and 1.00.) Whatever draws nothing is at the
# lower right: likely and circular. The play is at the upper left; plain sampling comes nearest to it.*
#
# Four things to keep:
#
# - **The text of the play is less likely than what nearly every decoder writes.** Seventeen of the eighteen are likelier, the beams by far.
# - The model does not expect such likely text itself: its plain samples, which follow its own law, have −4.24, near the play's −4.69. Beam 5 with its −.67 is far from both.
# - **Likelihood and diversity run against each other** over the strategies, with a rank correlation of −.98.
# - It does not follow that unlikely is good: $T = 1.5$ alone is the least likely and the most diverse, and it is rubbish. A text can miss the play on either side.
#
# (Shakespeare's English is old, and a small model of today's has read little of it. Prose of your own may stand higher in the table; you can try it at the end.)

# %% [markdown]
# The paper that introduced nucleus sampling has a well-known picture of this: the probability of each token along the text, for a person's text and for a beam's. Here is ours.

# %%
traces = {
    "the play": (token_logprobs(play), "black"),
    "top-p 0.9, first text": (token_logprobs(outcomes["top-p 0.9"].sequences[0]), BLUE),
    "beam 5": (token_logprobs(outcomes["beam 5"].sequences[0]), ORANGE),
}
for name, (trace, _) in traces.items():
    first, last = trace[:20].mean(), trace[40:60].mean()
    low = (trace < math.log(0.01)).double().mean()
    print(f"{name:22} tokens 1-20 {first:5.1f}   tokens 41-60 {last:5.1f}   below p = .01: {100 * low:.0f} %")

# %%
fig, axes = plt.subplots(3, 1, figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained")
for ax, (name, (trace, colour)) in zip(axes, traces.items(), strict=True):
    ax.bar(range(1, len(trace) + 1), trace.exp(), color=colour, width=0.8)
    ax.set(ylabel="p(token)", ylim=(0, 1))
    ax.set_title(name, loc="left", fontsize=10)
axes[-1].set(xlabel="token")
plt.show()

# %% [markdown]
# *Figure: the probability of each of 60 tokens. The play's text goes up and down to its end, with nearly half of the tokens below .01; so does the sample, with a third. The beam's tokens become nearly certain once the line comes round again.*
#
# People do not choose the most probable word all the time; if they did, they would say nothing new. The beam's likelihood comes from its second half: **a repetition is very likely**, since the model has learnt that text repeats itself, and each round makes the next one
# surer. (Very wide beams fall into the other hole where an end symbol is allowed to be cheap: the empty text. Notebook 11 has it, and so has the next section.)
#
# Here are all to read, without the speculative row, which is greedy's. Click on a column's head to sort; unfold a row for all of its texts; the dots and the rows belong together.

# %% tags=["nbval-ignore-output"]
different = [each for name, each in outcomes.items() if name != "speculative"]
DecoderArena(different, prompt_text=STORY.replace("\n", " / "), tokenizer=tokenizer)

# %% [markdown]
# 1. Sort by log p, then by diversity. Which rows change ends?
# 2. Put "distinct" and "agreement" on the axes. What does $T = 1.5$ alone do there, and why does that not make it good?
# 3. Read the texts of "T = 1.5, min-p 0.1" beside those of "T = 1.5". What has min-p done?
# 4. Which rows stay on the frontier of likelihood and diversity? Would the play (−4.69, 1.00) be beyond it?
#
# <details><summary>What to look for</summary>
#
# 1. Nearly all: the order by diversity is the order by likelihood backwards. Beams lead one list and close the other.
# 2. It is best in both: random tokens never repeat each other. Diversity without quality is cheap.
# 3. It has removed the tail that heat had lifted: log p from −9.26 to −3.09, it is English again, and the diversity is still .94.
# 4. From beam 10 over min-p, $T = .7$, top-k and plain sampling to $T = 1.5$; greedy decoding is not on it (contrastive decoding with a beam is likelier *and* more diverse). The play lies beyond the line: as diverse as $T = 1.5$ and far likelier. Only samplers come near it.
#
# </details>
#
# ## 4. If the model were perfect, should one just sample?
#
# In notebook 09 the distance between laws gave the answer. Here is another way to see it: are the texts *like* the data, in the statistics that one would count? Take a world whose law we know.
# A text is a row of letters: a with probability .45, b .28, c .17, and the end .1, at most eight letters. The model *is* the law: it is perfect.
#
# **Before you run:** what does greedy decoding write in this world? And which single text is the most probable of all 9,841?

# %%
A, B, C, END = range(4)
truth = TreeLM({}, max_length=8, eos_id=END, names=["a", "b", "c", "end"], default=[0.45, 0.28, 0.17, 0.1])
law = dict(truth.enumerate())  # every text and its probability
world = {"max_new_tokens": 8, "eos_id": END}


def named(ids):
    return "".join(truth.names[i] if i != END else "." for i in ids)


searched = {
    "greedy": greedy(truth, [], **world),
    "beam 5, plain sum": beam_search(truth, [], beams=5, length_penalty=0.0, **world),
    "beam 5, mean": beam_search(truth, [], beams=5, length_penalty=1.0, **world),
}
print(f"{len(law):,} texts, their probabilities sum to {sum(law.values()):.4f}")
for name, generation in searched.items():
    print(f"{name:18} {named(generation.tokens()):9} p = {law[tuple(generation.tokens())]:.4f}")
print("the most probable text:", named(max(law, key=law.get)))

# %% [markdown]
# Both faults of the real model are here, in a perfect one: **the same letter for ever**, and **the empty text** (a full stop marks the end). Greedy repeats because a is the best letter every time; the empty
# text wins because every further letter costs. Neither is like the data: nothing is wrong with the model, the question "which text is most probable?" is the wrong one. Now the statistics.


# %%
def statistics(law):
    """Mean number of letters; shares of a, b, c and of empty texts; mean surprise under the truth, entropy (bits)."""
    letters = [sum(p * ids.count(i) for ids, p in law.items()) for i in (A, B, C)]
    length = sum(letters)
    shares = [each / length if length else 0 for each in letters]
    surprise = sum(-p * math.log2(truth_of[ids]) for ids, p in law.items())
    entropy = sum(-p * math.log2(p) for p in law.values()) + 0.0
    return [length, *shares, law.get((END,), 0.0), surprise, entropy]


def law_under(*chain):
    """The exact law of the texts when each letter is drawn after the filters."""
    row = filters.apply(chain, torch.tensor(truth.default, dtype=torch.float64).log()).softmax(-1)
    return dict(TreeLM({}, max_length=8, eos_id=END, default=row.tolist()).enumerate())


truth_of = law  # the true probability of a text, to look up
draws = sample(truth, [], n=2000, generator=lab.generator(), **world)
counted = Counter(tuple(draws.tokens(0, n)) for n in range(2000))
laws = {"the truth": law, "2,000 plain samples": {ids: count / 2000 for ids, count in counted.items()}}
laws |= {"T = 0.5": law_under(Temperature(0.5)), "T = 1.5": law_under(Temperature(1.5))}
laws |= {"top-k 2": law_under(TopK(2)), "top-p 0.8": law_under(TopP(0.8))}
laws |= {name: {tuple(generation.tokens()): 1.0} for name, generation in searched.items()}
print("                      letters     a     b     c   empty  surprise  entropy")
for name, each in laws.items():
    length, a, b, c, empty, surprise, entropy = statistics(each)
    bits = "-" if "samples" in name else f"{entropy:.2f}"  # 2,000 draws of 9,841 texts do not tell the entropy
    print(f"{name:20} {length:8.2f} {a:6.2f}{b:6.2f}{c:6.2f} {empty:7.2f} {surprise:9.2f} {bits:>8}")

# %%
shown = {"the truth": "black", "2,000 plain samples": BLUE, "T = 0.5": GREEN, "top-p 0.8": PURPLE, "greedy": ORANGE}
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for i, (name, colour) in enumerate(shown.items()):
    lengths = [sum(p for ids, p in laws[name].items() if len([t for t in ids if t != END]) == n) for n in range(9)]
    left.plot(range(9), lengths, color=colour, marker="os^Dx"[i], ms=5, label=name)
    right.bar([x + 0.16 * (i - 2) for x in range(3)], statistics(laws[name])[1:4], 0.15, color=colour, label=name)
left.set(xlabel="letters in the text", ylabel="probability", ylim=(-0.03, 1.03))
right.set(xlabel="letter", ylabel="share of the letters", ylim=(0, 1.03))
right.set_xticks(range(3), ["a", "b", "c"])
left.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *Figure: how long the texts are (left) and which letters they are made of (right). Plain samples (blue) lie on the truth (black); every other way to choose moves length, letters, or both.*
#
# **A perfect model should just be sampled**, if texts like the data are wanted: all six statistics agree with the truth up to the noise of 2,000 draws. Every change spoils some of them. Look at top-p .8: it leaves the shares of
# the letters alone, and cuts off the end symbol, so *no text ever ends*. A tail is not always rubbish. And a typical text is improbable: the mean of $-\log_2 p$, the entropy, is over ten bits, while the empty text has 3.3.
#
# ### Is the model perfect?
#
# There is a test. Along a text, compare the model's **surprise**, $-\log p(y_t \mid y_{<t})$, with the surprise it expects, the **entropy** of its distribution. On average the two are equal if the text comes from the model's own law, whatever it
# is. If they differ on real text, the model's law is not the law of real text. The character model of notebook 06 has a held-out part of Shakespeare for this.

# %%
letters, alphabet = load("shakespeare_strong")  # 800,000 parameters, on the CPU
plays = tiny_shakespeare()
held_out = torch.tensor(alphabet.encode(plays[int(0.9 * len(plays)) :]))
stretches = recipe.windows(held_out, rows=48, length=48 + 120)  # 48 characters to read, 120 that really follow
before, after = stretches[:, :48], stretches[:, 48:]


@torch.no_grad()
def surprise_and_entropy(ids):
    """Means over all characters, in nats."""
    logp = letters(torch.cat([before, ids], dim=1))[:, before.size(1) - 1 : -1].log_softmax(-1)
    return -logp.gather(-1, ids[..., None]).mean(), torch.special.entr(logp.exp()).sum(-1).mean()


own = sample(letters, before, max_new_tokens=120, generator=lab.generator()).ids[:, 0]
for name, ids in (("real text", after), ("the model's own samples", own)):
    surprise, expected = surprise_and_entropy(ids)
    print(f"{name:24} surprise {surprise:.2f}   expected {expected:.2f}")

# %% [markdown]
# On its own samples the model is as surprised as it expects to be: that holds for every model and checks only our arithmetic. On real text it is **more surprised than it expects**, by about .16 nats a character. So
# this model is not perfect: it is too sure of itself. Plain samples are then not quite like the data either; but how do the other strategies compare?
#
# **Before you run:** for greedy decoding, for $T = .5$ and for plain sampling: how far are the shares of the characters from the real ones?

# %%
letter_share = torch.bincount(after.flatten(), minlength=65) / after.numel()


def distance(ids):
    """Total variation between its characters' shares and the real ones: 0 equal, 1 nothing in common."""
    return float((torch.bincount(ids.flatten(), minlength=65) / ids.numel() - letter_share).abs().sum() / 2)


cool = sample(letters, before, max_new_tokens=120, filters=[Temperature(0.5)], generator=lab.generator())
written = {
    "greedy": greedy(letters, before, max_new_tokens=120).ids[:, 0],
    "T = 0.5": cool.ids[:, 0],
    "plain sampling": own,
}
print("distance of the characters' shares from the real ones; different words among all")
for name, ids in {"real text": after, **written}.items():
    words = [word for row in ids.tolist() for word in recipe.words(alphabet.decode(row))]
    print(f"{name:16} {distance(ids):.2f}   {len(set(words)) / len(words):.2f}")

# %% [markdown]
# The world of three letters again, on a real model: plain sampling comes closest, in the letters it uses and in the number of different words; cooling moves away from the data, and greedy decoding farthest. What sampling pays for that are invented
# words: section 6 counts them. "Just sample" is right for a perfect model; the worse the model's tail, the more there is to gain by leaving the truth a little.
#
# ## 5. A task with right answers
#
# Thirty-two facts: 24 capitals and eight others. The text must begin with the answer as a whole word: **exact match**. The prompts are of different lengths, so they run as one ragged batch.

# %%
FACTS = recipe.FACTS  # prompt -> answer
questions = [tokenizer.encode(question) for question in FACTS]
print(f"{len(FACTS)} prompts of {min(map(len, questions))} to {max(map(len, questions))} tokens, for example")
for question, answer in list(FACTS.items())[::10]:
    print(f"  {question} -> {answer}")
for text in (" Paris. It is", " Parisian", " the city of Paris"):
    print(f"{text!r:22} counts as Paris: {recipe.is_right(text, 'Paris')}")

# %%
answers = greedy(model, questions, max_new_tokens=recipe.FACT_TOKENS)
greedy_texts = [tokenizer.decode(answers.tokens(row)) for row in range(len(FACTS))]
right = [recipe.is_right(text, answer) for text, answer in zip(greedy_texts, FACTS.values(), strict=True)]
print(f"greedy: {sum(right)} of {len(FACTS)} right. Wrong:")
for question, text, ok in zip(FACTS, greedy_texts, right, strict=True):
    if not ok:
        print(f"  {question}{text!r}")

# %% [markdown]
# What about samplers? We need not draw: the chance that a sampler writes the answer is a product of filtered probabilities, one for each token of the answer, all from one pass over prompt and answer.
#
# $$P(\text{answer}) = \prod_t \tilde p(a_t \mid \text{prompt}, a_{<t}), \qquad \tilde p = \operatorname{softmax}(\text{filters}(z)) .$$
#
# (This counts the answer's usual tokens only; the same letters cut into other tokens are rare.)
#
# ### Exercise 2: the chance of a right answer


# %%
def chance_right(logits, answer, chain):
    """The probability that drawing after the filters writes the whole answer.

    logits: (len(answer), vocab); row t is the model's opinion on the answer's token t. answer: a list of ids.
    chain: filters to apply to the logits, the first one first; each maps logits to logits.
    """
    raise NotImplementedError


# %%
check.chance_right(chance_right)

# %%
check.chance_right.hint()

# %%
check.chance_right.solution()

# %%
answer_ids = [tokenizer.encode(" " + answer) for answer in FACTS.values()]
whole = [question + ids for question, ids in zip(questions, answer_ids, strict=True)]
padded = torch.tensor([ids + [0] * (max(map(len, whole)) - len(ids)) for ids in whole], device=lab.device)
with torch.no_grad():
    all_logits = model(padded).float().cpu()  # padding stands on the right: the causal mask hides it
views = [  # for each fact, the logits that predict its answer
    all_logits[i, len(question) - 1 : len(question) - 1 + len(ids)]
    for i, (question, ids) in enumerate(zip(questions, answer_ids, strict=True))
]


def exact(chain):
    """The mean chance of a right answer over the facts."""
    chances = []
    for logits, ids in zip(views, answer_ids, strict=True):
        kept = filters.apply(chain, logits).log_softmax(-1)
        chances.append(float(kept.gather(-1, torch.tensor(ids)[:, None]).sum().exp()))
    return mean(chances)


# %% [markdown]
# **Before you run:** does a wider beam get more facts right? Which sampler does best, which worst?

# %%
scores = {
    name: mean(
        recipe.is_right(text, answer) for row, answer in zip(rows_of, FACTS.values(), strict=True) for text in row
    )
    for name, rows_of in recorded["facts"].items()
}
print("recorded runs")
for name, score in scores.items():
    print(f"  {name:20} {score:.2f}")
chains = {name: strategy.keywords["filters"] for name, strategy in strategies.items() if strategy.func is sample}
print("exact chances")
chances = {name: exact(chain) for name, chain in chains.items()}
for name, chance in chances.items():
    print(f"  {name:20} {chance:.2f}")

# %% [markdown]
# **Greedy decoding is the best of all, and the beams are worse**, the wide ones too. Among the samplers, the narrower the better: each draw that leaves the best token more often loses than wins; the cool $T = .7$ with top-p comes near to greedy. (Top-p .9 was also drawn from, twice a fact: .58 beside the exact .51; with 64 draws the noise is .06.)
# Contrastive decoding keeps up, with other mistakes (its weak model sees two tokens here; with eight it would see the whole prompt, the two models would be one and the score 0 for every token).
#
# Why do beams lose? Look at what they write.

# %%
print("wrote after ...     Russia                Cuba                  Turkey")
for name in ("greedy", "beam 2", "beam 10", "contrastive"):
    texts = [
        recorded["facts"][name][list(FACTS).index(f"The capital of {country} is")][0]
        for country in ("Russia", "Cuba", "Turkey")
    ]
    print(f"{name:16}", "".join(f"{text.replace(tokenizer.decode([tokenizer.eos_id]), '')!r:22}" for text in texts))

# %% [markdown]
# *Moscow* is the best next token. But "the capital of the" is a better sentence: each of its words is nearly certain once "the" is there, so the beam, which looks further, prefers **saying nothing, fluently**. (For Turkey looking further helped: " Ank" + "ara".) The fault is in the question that we
# asked: four tokens of *any* text. Lecture 004 recommends a small beam where a correct answer exists, as in translation. There the output is a whole answer, with an end. Let us make ours so: three examples show the form, and the line's end ends it.

# %%
print(recipe.shown("France"))
examples = recorded["examples"]  # greedy, and beams ranked by the plain sum or by the mean of log p
cities = list(FACTS.values())[:24]
for name, texts in examples.items():
    wrong = [text.strip() for text, city in zip(texts, cities, strict=True) if not recipe.is_right(text, city)]
    print(f"{name:14} {24 - len(wrong)} of 24 right; wrong: {', '.join(wrong)}")

# %% [markdown]
# In this form the beams with the plain sum no longer lose; they are one answer ahead of greedy decoding, which agrees with the lecture's advice. A wider beam gains nothing more. And ranking by the *mean* is harmful here: it favours long names (Aguas Calientes), whose later tokens are
# cheap. What a beam optimises is your choice of score, and the output's form; both matter more than its width. (One answer in 24 is little evidence for a rule. But all seven rows were asked the same questions and nothing was drawn, so each changed answer is the decoder's doing.)
#
# ## 6. Quality against diversity: the frontier
#
# Temperature and top-p are sliders between two goods. A setting is **beaten** if another is at least as good in both and better in one; those that nobody beats form the **frontier**. All one can do along it is trade.
#
# ### Exercise 3: the frontier


# %%
def frontier(points):
    """Indices of the points that no other point beats.

    points: a list of (quality, diversity), larger is better in both. A point is beaten by one that is
    at least as large in both and larger in one. Equal points do not beat each other.
    """
    raise NotImplementedError


# %%
check.frontier(frontier)

# %%
check.frontier.hint()

# %%
check.frontier.solution()

# %% [markdown]
# Two sweeps of temperature ($T$ = .5, .7, 1, 1.3) and top-p ($p$ = .5, .8, .95, 1), each with a notion of quality that is not likelihood:
#
# - **facts** (exact, computed here): the chance of the right answer, against the chance that two draws begin differently;
# - **Shakespeare**, the character model (recorded): the share of words that occur in the training text, against the share of different pairs of words. Held-out text, greedy and beam 5 are marked.
#
# **Before you run:** on facts, which setting is best? And on Shakespeare, do you expect real text on the frontier, above it or below?

# %%
grid = list(itertools.product(recipe.TEMPERATURES, recipe.SHARES))


def two_differ(chain):
    """The chance that two draws of the first token differ: 1 - sum of p^2, the mean over the facts."""
    first = filters.apply(chain, torch.stack([logits[0] for logits in views])).double().softmax(-1)
    return float((1 - first.square().sum(-1)).mean())


on_facts = [(exact([Temperature(t), TopP(p)]), two_differ([Temperature(t), TopP(p)])) for t, p in grid]
plays_runs = {each["name"]: each for each in recorded["shakespeare"]}
on_plays = [(each["known"], each["distinct"]) for each in plays_runs.values() if each["t"]]
panels = {"facts": on_facts, "Shakespeare": on_plays}
print("facts: more than ten of the sixteen are on the frontier:", len(comparison.frontier(on_facts)) > 10)
print("Shakespeare: known words, different pairs. The frontier (T, p), and for comparison:")
for i in comparison.frontier(on_plays):
    print(f"  {grid[i][0]:g}, {grid[i][1]:<4g}: {on_plays[i][0]:.2f}, {on_plays[i][1]:.2f}")
for name in ("greedy", "beam 5", "held-out text"):
    print(f"  {name}: {plays_runs[name]['known']:.2f}, {plays_runs[name]['distinct']:.2f}")
print("settings that beat the held-out text in both:", end=" ")
text = plays_runs["held-out text"]
above = [pair for pair, (x, y) in zip(grid, on_plays, strict=True) if x > text["known"] and y > text["distinct"]]
print("; ".join(f"{t:g}, {p:g}" for t, p in above))

# %% tags=["nbval-ignore-output"]
fig = make_subplots(1, 2, horizontal_spacing=0.1, subplot_titles=list(panels))
styles = dict(
    zip(recipe.TEMPERATURES, ((BLUE, "circle"), (GREEN, "square"), (ORANGE, "diamond"), (PURPLE, "x")), strict=True)
)
for column, points in enumerate(panels.values(), start=1):
    place = {"row": 1, "col": column, "showlegend": column == 1}
    x, y = zip(*(points[i] for i in comparison.frontier(points)), strict=True)
    fig.add_scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 1}, name="frontier", **place)
    for t, (colour, symbol) in styles.items():
        mine = [i for i, setting in enumerate(grid) if setting[0] == t]
        x, y = zip(*(points[i] for i in mine), strict=True)
        look = {"color": colour, "symbol": symbol, "size": [5 + 6 * grid[i][1] for i in mine]}
        told = {"name": f"T = {t:g}", "text": [f"T = {t:g}, p = {grid[i][1]:g}" for i in mine], "legendgroup": f"{t}"}
        fig.add_scatter(x=x, y=y, mode="markers", marker=look, **told, **place)
for name, where in (("held-out text", "bottom left"), ("greedy", "middle left"), ("beam 5", "middle left")):
    point = {
        "x": [plays_runs[name]["known"]],
        "y": [plays_runs[name]["distinct"]],
        "text": [name],
        "textposition": where,
    }
    star = {"symbol": "star", "size": 13, "color": "black"}
    fig.add_scatter(**point, mode="markers+text", marker=star, showlegend=False, row=1, col=2)
fig.update_xaxes(title="chance of the right answer", row=1, col=1).update_yaxes(
    title="chance that two draws differ", row=1, col=1
)
fig.update_xaxes(title="share of known words", row=1, col=2).update_yaxes(
    title="different pairs of words", row=1, col=2
)
fig.update_layout(template="simple_white", width=900, height=400, margin={"t": 40, "b": 60, "l": 60, "r": 10})
fig.show()

# %% [markdown]
# *Figure: a dot for each temperature and top-p; the larger the dot, the larger p. Grey lines join the settings that no other beats. Left: facts. Right: Shakespeare, with held-out text, greedy decoding and beam 5 as stars.*
#
# On the **facts** there is next to nothing to choose: all settings lie on one falling line, whatever made them. Where one answer is right, being diverse *is* being wrong. On **Shakespeare** the curve has a corner. Down the right side diversity is nearly free: $T = 1$ with $p = .5$ writes only known words as
# greedy does, with nearly five times as many different pairs. Beyond the corner, to the left, one pays in invented words for almost nothing. And *hot but narrow* beats *cold but wide*: $T = 1$, $p = .5$ beats $T = .5$, $p = .8$ in both. It beats greedy decoding and the beam as well: they have fewer different pairs than any of the sixteen settings.
#
# Some settings beat the held-out text in both measures. Does the small model write better than Shakespeare? No: he uses names and words that the training part happens not to have, and neither measure sees meaning. **A frontier is only as good as its measures**; that is why section 3 looked at texts.
#
# ## 7. Combinations
#
# ### Temperature and truncation
#
# Notebook 10 showed what the order of filters does to one distribution. In whole texts:

# %%
for name in ("T = 1.5", "T = 1.5, min-p 0.1", "top-k 50", "T = 0.7, top-k 50", "top-p 0.9", "T = 0.7, top-p 0.9"):
    each = outcomes[name]
    print(f"{name:20} log p {each.logprob:6.2f}  diversity {each.diversity:.2f}", end="  ")
    print(f"agreement {each.agreement:.2f}  facts {chances[name]:.2f}")

# %% [markdown]
# Cooling top-k or top-p makes the text likelier, less diverse and more often right on facts. Heating alone destroys it; heat *with* min-p does not: these texts can be read, and are as diverse as plain samples. That is what combinations are for:
# the temperature sets how adventurous the choice is, the truncation keeps rubbish out.
#
# ### Temperature and a beam
#
# A beam draws nothing. So does temperature matter to it at all? It leaves the order of *tokens* as it is. **Before you run:** can it change which *sequence* a beam finds?
#
# The world of notebook 09: A (.6) has ten children at .1 each, B (.4) has one child.

# %%
flip = rank_flip()
for t in (2, 1, 0.5, 0.3, 0.1):
    found = beam_search(flip, [], max_new_tokens=2, beams=2, filters=[Temperature(t)])
    names, true = "".join(flip.names[i] for i in found.tokens()), found.logprobs.double().sum().exp()
    print(f"T = {t:3}: beam 2 finds {names}, true probability {true:.2f}, score {found.scores.item():.4f}")

# %% [markdown]
# It can. Each step has its *own* normaliser. At $T = 1$ the path over A costs $-\ln .6 - \ln .1 = 2.81$ and the one over B only $-\ln .4 - \ln 1 = .92$. At $T = .1$ the first step costs .02 for A and 4.07 for B, while A's ten equal children still cost
# $\ln 10 = 2.30$ each: 2.32 against 4.07. (The scores above are these sums over two tokens, with a minus.) In the limit $T \to 0$ a step is free for the argmax and infinitely dear for every other token, so **any beam becomes greedy search**. At high temperature all tokens cost about the same, and improbable ones come cheap.
#
# ### Exercise 4: the tempered score
#
# The common mistake is to divide the log-probability of the finished sequence by $T$.


# %%
def tempered_score(logits, ids, t):
    """What a beam adds up over a sequence at temperature t.

    It is the sum of log softmax(logits / t) at the chosen ids. logits: (time, vocab). ids: (time,), int64. t: a float above 0.
    """
    raise NotImplementedError


# %%
check.tempered_score(tempered_score)

# %%
check.tempered_score.hint()

# %%
check.tempered_score.solution()

# %%
same = []
for seed in range(30):  # 30 worlds of four letters and four steps
    tree = TreeLM.random(4, 4, lab.generator(seed))
    cold = beam_search(tree, [], max_new_tokens=4, beams=8, filters=[Temperature(0.005)]).tokens()
    same.append(cold == greedy(tree, [], max_new_tokens=4).tokens())
print("T = .005: beam 8 is greedy search in", sum(same), "of", len(same), "worlds")
for name in ("T = 0.5, beam 5", "beam 5", "T = 2, beam 5"):
    each = outcomes[name]
    print(f"{name:16} log p {each.logprob:.2f}  rep-4 {each.repetition:.2f}  {each.texts[0][:46]!r}")

# %% [markdown]
# On the story the temperature makes a beam choose another line, and then it goes in circles with that one: at .5, at 1 and at 2. Temperature with a beam is a real knob, but it does not cure what is wrong with searching for the most likely text.
#
# ## 8. The lecture's table, measured
#
# Lecture 000 asks for a table of the strategies. **Before you run:** sketch it yourself, with a guess for each number.
#
# First determinism: each kind of decoder, on the small character models, with seed 0, with seed 1, and with seed 0 again.

# %%
feeble, _ = load("shakespeare_weak")  # the same alphabet, a fifteenth of the parameters
lookup = partial(speculative_decoding, letters, LookupDraft())
small = {
    "greedy": partial(greedy, letters),
    "beam 5": partial(beam_search, letters, beams=5),
    "contrastive": partial(contrastive_decoding, letters, feeble),
    "speculative, greedy": partial(lookup, filters=[Temperature(0)]),
    "speculative, sampled": lookup,
    **{
        str(each): partial(sample, letters, filters=[each])
        for each in (Temperature(0.7), TopK(50), TopP(0.9), MinP(0.1))
    },
}
line = alphabet.encode("ROMEO:\n")
one, other, again = (comparison.compare(small, line, max_new_tokens=40, seed=seed) for seed in (0, 1, 0))
for a, b, c in zip(one, other, again, strict=True):
    differ = "the same text" if a.sequences == b.sequences else "different texts"
    twice = "same" if a.sequences == c.sequences else "different"
    print(f"{a.name:20} seeds 0 and 1: {differ:16} seed 0 twice: {twice}")

# %% [markdown]
# How many candidates a sampler has at a step, along the 63 tokens of the play:

# %%
with torch.no_grad():
    along = model(torch.tensor([prompt + real], device=lab.device))[0, len(prompt) - 1 : -1].float().cpu()


def candidates(chain):
    sizes = filters.apply(chain, along).isfinite().sum(-1).tolist()
    return f"{min(sizes):,} / {int(median(sizes)):,} / {max(sizes):,}"


sizes = {name: candidates(chain) for name, chain in chains.items()}
print("min / median / max")
for name, size in sizes.items():
    print(f"{name:20} {size}")

# %%
print("                     different  log p   from the   rep-4  agree-   facts  cost")
print("                     texts              play              ment     right  (greedy = 1)")
greedy_cost = outcomes["greedy"].seconds / outcomes["greedy"].tokens  # a token of text
for name, each in outcomes.items():
    unlike = len(set(map(tuple, each.sequences)))
    away = abs(each.logprob - theirs[0])
    agree = "-" if each.agreement is None else f"{each.agreement:.2f}"
    fact = chances.get(name, scores.get(name))
    cost = each.seconds / each.tokens / greedy_cost
    fact = "-" if fact is None else f"{fact:.2f}"
    print(f"{name:20} {unlike} of {len(each.sequences)}    {each.logprob:6.2f} {away:8.2f}", end=" ")
    print(f"{each.repetition:9.2f} {agree:>7} {fact:>8} {cost:6.1f}")

# %% [markdown]
# (The cost is that of a token of text, on one core, measured on a busy machine: take it as rough. The six texts of a sampler share a batch. $T = .5$ and contrastive with a beam were not run on the facts.) The lecture's table, then:
#
# | | determinism | candidates at a step (min / median / max along the play) | coherence: log p (the play: −4.69), rep-4 | diversity: within a text, agreement | key advantage | key disadvantage |
# |---|---|---|---|---|---|---|
# | greedy | deterministic | 1 | −.75, .65 | .03, one text | simplest; most facts right (.81) | circles; one text only |
# | beam 5 | deterministic | the 5 best of 5 beams' continuations | −.67, .72 | .02, one text | finds likelier text; good for whole short answers | circles; nearly twice the cost; fewer facts right in open text (.69) |
# | plain sampling | random | all 49,152 | −4.24, .00 | .95, .05 | the model's own law: right if the model is | derails; facts right .47 |
# | $T$ = .7 | random | all 49,152 | −2.31, .05 | .74, .10 | one slider between the others | the tail stays |
# | $T$ = 1.5 | random | all 49,152 | −9.26, .00 | 1.00, .00 | none, alone | rubbish; facts right .18 |
# | top-k 50 | random | 50, always | −3.02, .01 | .89, .06 | cuts the tail; a known number of candidates | k does not follow the distribution (notebook 10) |
# | top-p .9 | random | 1 / 279 / 3,258 | −3.44, .00 | .92, .07 | adapts: few candidates where the model is sure | may cut what is rare and needed (section 4) |
# | min-p .1 | random | 1 / 5 / 43 | −1.73, .24 | .46, .07 | withstands heat: at $T$ = 1.5 −3.09 and .94 | tight on flat distributions: at $T$ = 1 it repeats itself here |
# | contrastive | deterministic | the plausible set (notebook 12) | −1.38, .61 | .04, one text | removes what the weak model likes as well (notebook 12); facts .78 | a second model; more than three times greedy's cost; circles here: a weak model that sees 8 tokens lets the score reward the copy |
# | speculative | as what it speeds up | as what it speeds up | greedy's | greedy's | the same text, sooner: two thirds of greedy's cost, for a circle is easy to draft | gains nothing where the drafts are wrong (notebook 13) |
#
# The summary of lecture 000 holds, with two additions. Greedy decoding stays with its subject and is not diverse; plain sampling is diverse and less coherent; top-k, top-p and temperature lie between. But *coherent* is not *likely*: the likeliest texts are circles. And all that draw nothing go in circles on this story, the search for
# the highest contrastive score as well as the search for the highest probability.
#
# ## 9. Which one, then?
#
# Lecture 004 makes three recommendations for practice. Two have been tested: a small beam where there is a correct answer (section 5: with a form and an end, yes; width brings nothing), and combinations (section 7). The third: **as models get better, sampling works better**.
# We have the two character models to test it.
#
# **Before you run:** what share of the words that each model writes under plain sampling are words of the training text? And with top-p .8?

# %%
known = set(recipe.words(plays[: int(0.9 * len(plays))]))
for name, each in (("weak", feeble), ("strong", letters)):
    shares = []
    for chain in ([], [TopP(0.8)]):
        ids = sample(each, before, max_new_tokens=120, filters=chain, generator=lab.generator()).ids[:, 0]
        shares.append(recipe.word_measures([alphabet.decode(row) for row in ids.tolist()], known)["known"])
    print(f"{name:6} plain sampling {shares[0]:.1f}   top-p .8 {shares[1]:.1f}")
print(f"real   {recipe.word_measures([alphabet.decode(row) for row in after.tolist()], known)['known']:.1f}")

# %% [markdown]
# Half of the weak model's sampled words are words of the training text, and nine tenths of the strong one's, which is nearly what real text has (names and rare words are missing from the training part). The better the model, the less there is for truncation to repair.
#
# So, for a start:
#
# | task | begin with | because (measured above) |
# |---|---|---|
# | a creative story, a dialogue | top-p .9, or min-p .1 with a higher temperature | diverse, no circles, and the tail cut off |
# | several ideas to choose from | top-p .9 or top-k 50, several draws, not cooled | agreement between samples .06 and .07; cooled .10 to .14 |
# | a fact, a number, a label | greedy; give examples of the form | every draw is a risk; greedy is right most often, and cheapest |
# | translation, a factual summary: one good whole answer | a small beam (2 to 5) with an end symbol, and the score's normalisation tried out | beam 2 with the plain sum leads by an answer; beam 10 is no better |
# | long open text | a sampler, never a beam | circles: rep-4 of .44 and more |
# | any of these, faster | speculative decoding | the same text (or the same law), at another cost |
#
# No decoder makes the model know more: greedy decoding and every plain beam say Sydney, however wide the beam.
#
# ## Check yourself
#
# **1. Compare greedy, top-k and top-p by determinism, candidate set, one advantage and one disadvantage.**
#
# <details><summary>Answer</summary>
# The table of section 8, with your figures.
# </details>
#
# **2. You write a creative story with a language model. Which strategy do you start with, and why? And for a factual summary?**
#
# <details><summary>Answer</summary>
# Story: top-p about .9, or min-p with a higher temperature: the texts differ, do not go in circles and can be read (sections 3 and 8). Summary: greedy or a small beam, for every draw is a risk: on the facts greedy was
# right .81 of the time, plain sampling .47 (section 5); watch out for repetition, and do not widen the beam.
# </details>
#
# **3. High likelihood can go with low quality. Give the evidence.**
#
# <details><summary>Answer</summary>
# The most likely texts are those of the beams, and they go in circles; the play is less likely than all of them, and than every sampler's texts but those of T = 1.5 (section 3). A text that repeats one sentence ten times is many times as likely, token by token, as the play (section 1).
# </details>
#
# **4. If we have learnt a perfect $p(y \mid x)$, shouldn't we just sample from it?**
#
# <details><summary>Answer</summary>
# For texts like the data, yes: every other choice spoils some statistic of the true law (section 4). Even a perfect model's most probable text may be empty or a repetition. For a task with one right answer the best guess is wanted, not a typical text. And no model is perfect: real text surprises it more than it expects.
# </details>
#
# **5. Is the play's text on the frontier? What would it mean if a decoder lay beyond it?**
#
# <details><summary>Answer</summary>
# For the story, in likelihood and diversity, yes: no strategy's texts are likelier and as diverse (section 3). In section 6, no: some settings have more known words and more different pairs than the held-out text. A point beyond the frontier of two measures is not better text, it has more of these two measures.
# </details>
#
# **6. Does temperature change what a beam finds?**
#
# <details><summary>Answer</summary>
# Yes: it is applied at each step, and each step is normalised anew; towards 0 any beam becomes greedy search (section 7). Dividing a finished sequence's log-probability by T would change nothing.
# </details>
#
# **7. Someone reports that decoder X has perplexity 2 and decoder Y perplexity 12 on their own outputs, so X is better. What do you answer?**
#
# <details><summary>Answer</summary>
# A loop has a perplexity near 1. Ask for repetition and diversity beside it, and for the perplexity of real text under the same model: for the play it is over 100 (log p −4.69), and the play is not the worst text.
# </details>
#
# ## What to try next
#
# - Write a strategy of your own (a function of `prompt`, `max_new_tokens` and `generator` that returns a `Generation`), add it to the arena and see whether it reaches the frontier. For instance: sample until the text begins to loop, then raise the temperature.
# - Draw each fact's answer ten times with top-p .9 and take the most frequent one. Does the vote beat greedy?
# - Repeat section 3 with a beginning of your own and a continuation that you write yourself.
# - Run `record` on a GPU with 40 texts a sampler: which of the differences between samplers are noise?
#
# ## Where the idea comes from
#
# - Likelihood and degenerate text, the picture of section 3, distinct and Self-BLEU for samplers: Holtzman, Buys, Du, Forbes and Choi, *The Curious Case of Neural Text Degeneration*, 2020.
# - Repetition: Welleck and others, *Neural Text Generation with Unlikelihood Training*, 2020. Diversity as a product: Su and others, *A Contrastive Framework for Neural Text Generation*, 2022. Distinct-n: Li and others, 2016. Self-BLEU: Zhu and others, *Texygen*, 2018.
# - The frontier of quality and diversity: Caccia and others, *Language GANs Falling Short*, 2020; Zhang, Duckworth, Ippolito and Neelakantan, *Trading Off Diversity and Quality in Natural Language Generation*, 2021.
# - Empty translations as the most probable ones: Stahlberg and Byrne, *On NMT Search Errors and Model Errors: Cat Got Your Tongue?*, 2019.
# - Typical texts have the entropy's surprise: Meister, Pimentel, Wiher and Cotterell, *Locally Typical Sampling*, 2023.
#
# [← 13 Speculative decoding](13_speculative_decoding.ipynb) · [15 Encoder and decoder →](15_encoder_decoder.ipynb)
