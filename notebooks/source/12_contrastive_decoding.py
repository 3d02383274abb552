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
# # 12 · Contrastive decoding: subtract what a weak model would say
#
# Greedy decoding and beam search repeat themselves, and where they do not, they are bland (notebooks 09 and 11). A smaller, weaker model has the same
# faults, only worse. So ask both: what does the strong model find probable that the weak one does *not*? Contrastive decoding takes the token for which the
# difference of the two log-probabilities is largest, among the tokens that the strong model finds plausible at all.
#
# **You will be able to**
#
# - build the contrastive score and its plausible set, and get the edges right (ties, $-\infty - (-\infty)$, $\alpha = 1$);
# - show on real distributions what wins when the guard $\alpha$ is missing, and why;
# - run greedy decoding and beam search over the score, and say why the score must not be put through a softmax;
# - make a weak model out of a strong one by shortening its context, and explain why cutting its cache will not do;
# - say from measurements when the method cures repetition, when it makes it worse, and what it costs.
#
# **Time** 75 minutes. **Before this** notebooks 09 and 10; beam search (11) for section 6. **Follows** lecture 004 (contrastive decoding).
#
# [← 11 Beam search](11_beam_search.ipynb) · [13 Speculative decoding →](13_speculative_decoding.ipynb)

# %% tags=["nbval-ignore-output"]
import math
import time

import matplotlib.pyplot as plt
import torch

import arlab
from arlab.decoding import (
    ContrastiveScorer,
    beam_search,
    contrastive_decoding,
    contrastive_score,
    filters,
    greedy,
)
from arlab.decoding.measures import repetition
from arlab.exercises import contrastive_decoding as check
from arlab.nn.language_model import Recompute, last_logits
from arlab.nn.positions import Rotary, rotate
from arlab.nn.pretrained import smollm2
from arlab.nn.prompt_forgotten import PromptForgotten
from arlab.recipes import contrastive_decoding as recipe
from arlab.recipes import load
from arlab.text.corpora import tiny_shakespeare
from arlab.views import ContrastiveView
from arlab.worlds import TreeLM

lab = arlab.setup(seed=0)
# colours that the colour-blind can tell apart
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"

# %% [markdown]
# The lecture has two slides on this. Their points, and where below you see each:
#
# | the lecture says | section |
# |---|---|
# | Greedy or beam search can be repetitive or bland; such errors are more prominent in weaker models | 1, 8 |
# | The score: $\log p_{\text{strong}} - \log p_{\text{weak}}$ | 2 |
# | A token of probability $10^{-4}$ over $10^{-8}$; remove implausible tokens | 3, 4 |
# | Run beam search using the score | 6 |
#
# ## 1. What a weak model does wrong
#
# The lab has two small models of Shakespeare's plays with one vocabulary of 65 characters. The strong one has four layers, the weak one has one. We let both write greedily after eight openings and
# count repeated 8-grams: the share of stretches of eight characters that the text has had before.
#
# **Before you run:** which of the two repeats more? And how much does Shakespeare himself repeat within 200 characters?

# %%
strong, characters = load("shakespeare_strong")
weak, weak_characters = load("shakespeare_weak")
strong, weak = strong.to(lab.device), weak.to(lab.device)
size_strong, size_weak = (sum(p.numel() for p in m.parameters()) for m in (strong, weak))
print(f"parameters: {size_strong:,} and {size_weak:,}")
print("the same token behind every id:", characters.fingerprint == weak_characters.fingerprint)

# %%
openings = ["ROMEO:\n", "JULIET:\n", "KING RICHARD:\nWhat ", "First Citizen:\nBefore we ", "MENENIUS:\n"]
openings += ["GLOUCESTER:\nNow is the ", "Nurse:\nMadam", "HAMLET:\nTo be, "]
rows = [characters.encode(opening) for opening in openings]


def texts_of(generation):
    return [generation.tokens(row) for row in range(generation.ids.size(0))]


greedy_strong, greedy_weak = (greedy(m, rows, max_new_tokens=200) for m in (strong, weak))
his = characters.encode(tiny_shakespeare()[-1600:])
his_own = [his[start : start + 200] for start in range(0, 1600, 200)]  # eight stretches of the held-out text
repeated = {
    "weak model, greedy": [repetition(text, 8) for text in texts_of(greedy_weak)],
    "strong model, greedy": [repetition(text, 8) for text in texts_of(greedy_strong)],
    "Shakespeare": [repetition(text, 8) for text in his_own],
}
mean = {name: sum(values) / len(values) for name, values in repeated.items()}
print("the weak model repeats more than 8 of 10 stretches:", mean["weak model, greedy"] > 0.8)
print("the strong one between 3 and 7 of 10:              ", 0.3 < mean["strong model, greedy"] < 0.7)
print("Shakespeare fewer than 1 of 20:                    ", mean["Shakespeare"] < 0.05)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
for y, ((name, values), colour) in enumerate(zip(repeated.items(), (ORANGE, BLUE, GREEN), strict=True)):
    ax.barh(y, mean[name], color=colour, alpha=0.35)
    ax.plot(values, [y] * len(values), "o", color=colour, ms=5)
ax.set_yticks(range(len(repeated)), repeated)
ax.set(xlim=(0, 1), xlabel="share of 8-grams that the text has had before")
plt.show()
print("weak:  ", repr(characters.decode(texts_of(greedy_weak)[0][:100])))
print("strong:", repr(characters.decode(texts_of(greedy_strong)[0][:100])))

# %% [markdown]
# *Figure: a dot for each of the eight texts, a bar for their mean. The weak model's texts are nearly all loop, the strong one's about half, Shakespeare's hardly at all.*
#
# Both have the fault, the weak one more of it. That difference is what we use.
#
# ## 2. The score
#
# Write $p_s$ for the strong model's probability of a token $v$ after the text $y_{<t}$, and $p_w$ for the weak one's. The score is
#
# $$\text{score}(v) = \log p_s(v \mid y_{<t}) - \log p_w(v \mid y_{<t}) = \log \frac{p_s(v \mid y_{<t})}{p_w(v \mid y_{<t})}.$$
#
# It is 0 where both agree, positive where the strong model finds the token more probable, negative where the weak one does.
#
# Now with a real language model. SmolLM2 has no small sibling here, but a model can be weakened in another way: let it read only the last four tokens
# (`Recompute(model, window=4)`). It then knows grammar and common phrases, and not what the text is about.

# %%
model, tokenizer = smollm2(device=lab.device)
strings = tokenizer.token_strings()
short = Recompute(model, window=4)  # the same weights; reads the last four tokens and nothing before them


def log_probs(language_model, ids):
    """log p (vocab,) of the next token after the ids, on the CPU."""
    with torch.inference_mode():
        logits = last_logits(language_model, torch.tensor([ids], device=lab.device))[0]
    return logits.float().cpu().log_softmax(-1)


cat = tokenizer.encode("Our cat is old and lazy. All day long it lies on the")
print("the strong model reads:", repr(tokenizer.decode(cat)))
print("the weak one reads:    ", repr(tokenizer.decode(cat[-4:])))

# %% [markdown]
# **Before you run:** the strong model's first three are " couch", " floor" and " bed". Which of them will lose most by the subtraction?

# %%
log_s, log_w = log_probs(model, cat), log_probs(short, cat)
score = log_s - log_w
print("token       p strong    p weak   score")
for i in log_s.argsort(descending=True)[:8].tolist():
    print(f"{strings[i]!r:9} {log_s[i].exp():10.3f} {log_w[i].exp():9.0e} {score[i]:7.1f}")

# %% [markdown]
# " floor" loses its second place: anything can lie on the floor, and the weak model thinks of it too. It takes the cat, and the laziness, to think of a couch. The score rewards what the *longer context* has
# to say. That is the wish behind the method: less of what goes everywhere, more of what belongs here.
#
# ## 3. Without a guard
#
# If the score is what we want, take its largest value over all 49,152 tokens.
#
# **Before you run:** the best token above has a score of 7.8. Can a token that the strong model gives two in a billion beat it?

# %%
best = score.argsort(descending=True)[:5].tolist()
print("token           p strong      p weak   score")
for i in best:
    print(f"{strings[i]!r:12} {log_s[i].exp():11.1e} {log_w[i].exp():11.1e} {score[i]:7.2f}")
print("'Our cat is old and lazy. All day long it lies on the" + strings[best[0]] + "'")

# %% [markdown]
# It can. The score knows only the *ratio*. The strong model thinks of drowsiness because of the lazy cat, at two in a billion, and the weak one fifteen thousand times less, for no reason that matters. Both agree that it is nonsense
# here; they differ in how much. The lecture writes it as $10^{-4}$ over $10^{-8}$, and nearly that pair can be found:

# %%
print(f"ln(1e-4 / 1e-8) = {math.log(1e-4 / 1e-8):.2f}: more than the couch has")
sat = tokenizer.encode("The cat sat on the")
far_s, far_w = log_probs(model, sat), log_probs(Recompute(model, window=2), sat)
thr = strings.index("thr")
couch = strings.index(" couch")
print(f"The cat sat on the: 'thr' has {far_s[thr].exp():.1e} over {far_w[thr].exp():.1e} (window of 2),")
print(f"score {far_s[thr] - far_w[thr]:.2f}; ' couch' there has {far_s[couch] - far_w[couch]:.2f}")
wild = int(((score > score[couch]) & (log_s < math.log(1e-3))).sum())
print(f"after the lazy cat, {wild} tokens of p strong < .001 beat ' couch'")

# %% [markdown]
# A picture of the whole vocabulary: each token has a place by its two log-probabilities. The score is its height above the diagonal.

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.2, 5), layout="constrained")
x, y = log_w / math.log(10), log_s / math.log(10)  # powers of ten
threshold = float(y.max()) - 1  # a tenth of the most probable token
inside = y >= threshold
ax.plot(x[~inside], y[~inside], ",", color=GREY, rasterized=True)
ax.plot(x[inside], y[inside], "o", color=BLUE, ms=6)
ax.axline((-6, -6), slope=1, color="k", lw=1)
ax.axhline(threshold, color=ORANGE, ls="--", lw=1.5)
ax.text(-14.8, threshold + 0.15, "alpha = .1: plausible above this line", color=ORANGE, fontsize=9)
for text, shift in ((" couch", (-42, -3)), (" floor", (7, -3)), ("rowsiness", (-14, 9))):
    i = strings.index(text)
    ax.plot(x[i], y[i], "o", color=BLUE if inside[i] else ORANGE, ms=6)
    ax.annotate(text.strip(), (x[i], y[i]), textcoords="offset points", xytext=shift, fontsize=9)
ax.set(xlim=(-15, 0.6), ylim=(-15, 0.6), xlabel="log10 p weak", ylabel="log10 p strong", aspect="equal")
plt.show()

# %% [markdown]
# *Figure: a point for each of the 49,152 tokens; right, what the weak model finds probable; up, the strong one. The score is the height above the diagonal. The highest of all, "rowsiness", lies far down, at
# $10^{-9}$, to the left of the cloud. The dashed line cuts the cloud off; of the five tokens above it, "couch" is the farthest from the diagonal.*
#
# The cloud is widest where nothing is probable: there both models guess, and their guesses differ by factors of a thousand. A maximum over 49,152 such differences lands in the noise. And a text made of such tokens:

# %% tags=["nbval-ignore-output"]
for alpha in (None, 0.1):
    new = contrastive_decoding(model, short, cat, max_new_tokens=16, alpha=alpha).tokens()
    print(f"alpha = {alpha}: {tokenizer.decode(cat + new)!r}\n")

# %% [markdown]
# One wild token is enough: from then on the text itself is nonsense, and everything after it as well. (With the guard it is English. That it repeats itself all the same, and why, is the subject of section 8.)
#
# ## 4. The plausible set
#
# The guard asks the **strong model alone**: a token is plausible if it is at least $\alpha$ times as probable as the most probable one,
#
# $$V_\alpha = \{v : p_s(v \mid y_{<t}) \ge \alpha \max_u p_s(u \mid y_{<t})\}, \qquad 0 < \alpha \le 1,$$
#
# and every token outside gets the score $-\infty$. In logs: $\log p_s(v) \ge \log \alpha + \max_u \log p_s(u)$. The paper uses $\alpha = .1$.
#
# **Before you run:** how many tokens are plausible at $\alpha = .1$ after "The capital of France is"? After "The cat sat on the"?


# %%
def plausible_tokens(log_p, alpha):
    """Ids of V_alpha, most probable first."""
    order = log_p.argsort(descending=True, stable=True)
    return order[log_p[order] >= math.log(alpha) + log_p.max()]


shown = {"The capital of France is": None, "Our cat is old and lazy. All day long it lies on the": log_s}
shown |= {"The cat sat on the": far_s}
print("alpha                                                     1   .5   .3   .1  .03  .01 .001")
for text, log_p in shown.items():
    log_p = log_probs(model, tokenizer.encode(text)) if log_p is None else log_p
    sizes = [len(plausible_tokens(log_p, alpha)) for alpha in (1, 0.5, 0.3, 0.1, 0.03, 0.01, 0.001)]
    print(f"{text:53} " + "".join(f"{n:5}" for n in sizes))
print("the set of the lazy cat at .1:", [strings[i] for i in plausible_tokens(log_s, 0.1)])

# %% [markdown]
# The set adapts: one token where the model is sure, twenty where it is not. You have met this rule before: it is **min-p** from notebook 10, with another name for its parameter.

# %%
ids = plausible_tokens(far_s, 0.1)
kept = filters.min_p(far_s, 0.1).isfinite().nonzero().flatten()
print("the plausible set = what min-p keeps:", set(ids.tolist()) == set(kept.tolist()))

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
two = (("...it lies on the", log_s), ("The cat sat on the", far_s))
for ax, (text, log_p) in zip(axes, two, strict=True):
    p, order = log_p.exp().sort(descending=True)
    for alpha, colour in ((0.5, GREEN), (0.1, ORANGE), (0.01, PURPLE)):
        ax.axhline(alpha * p[0], color=colour, ls="--", lw=1.2)
        n = int((p >= alpha * p[0]).sum())
        x, side = (0.02, "left") if alpha == 0.01 else (0.98, "right")
        label, across = f"alpha = {alpha}: {n} tokens", ax.get_yaxis_transform()  # x: share of the axis
        ax.text(x, alpha * p[0] * 1.1, label, color=colour, ha=side, fontsize=9, transform=across)
    ax.plot(range(1, 301), p[:300], ".-", color=BLUE, ms=3, lw=1)
    ax.set(xscale="log", yscale="log", ylim=(1e-4, 1), xlabel="rank under the strong model", title=text)
axes[0].set_ylabel("p strong")
plt.show()

# %% [markdown]
# *Figure: the 300 most probable tokens of two distributions (both axes logarithmic). The thresholds hang from the first token, so on the flat distribution to the right they lie lower and let more tokens in.*
#
# ### Exercise 1: the score with its guard
#
# Any number of rows, each with its own maximum. Do not forget $\alpha = 1$, and tokens that are impossible (a logit of $-\infty$) for both models.


# %%
def contrastive_scores(strong_logits, weak_logits, alpha):
    """log p_strong - log p_weak where p_strong >= alpha * max p_strong, -inf elsewhere.

    strong_logits, weak_logits: (..., vocab), left untouched. alpha: 0 < alpha <= 1.
    Returns (..., vocab) without NaN.
    """
    raise NotImplementedError


# %%
check.contrastive_scores(contrastive_scores)

# %%
check.contrastive_scores.hint()

# %%
check.contrastive_scores.solution()

# %% [markdown]
# `arlab.decoding.contrastive_score` does the same, and takes `alpha=None` for "no guard", so that you can see what it is good for. Its edges:

# %%
inf = math.inf
left = contrastive_score(log_s, log_w, 1) > -inf
print("alpha = 1 leaves the argmax:  ", left.nonzero().flatten().tolist() == [int(log_s.argmax())])
pair = contrastive_score(torch.tensor([1.0, 1.0, 0.0]), torch.zeros(3), 1)
print("and its equals:               ", (pair > -inf).tolist())
print("-inf - -inf is                ", -inf - -inf)
z_s, z_w = torch.tensor([0.0, 0.0, -inf]), torch.tensor([0.0, -1.0, -inf])
print("impossible for both:          ", [round(x, 4) for x in contrastive_score(z_s, z_w, 0.5).tolist()])
print("even without a guard:         ", [round(x, 4) for x in contrastive_score(z_s, z_w, None).tolist()])
z_w = torch.tensor([0.0, -inf, 0.0])
print("impossible for the weak alone:", [round(x, 4) for x in contrastive_score(z_s, z_w, 0.5).tolist()])
try:
    contrastive_score(z_s, z_w, 0)
except ValueError as error:
    print(error)

# %% [markdown]
# A plausible token that the weak model rules out altogether would score $+\infty$, and every beam through it as well. The lab counts $\log 0$ as $-10{,}000$ there, so that such a token wins, and sums stay finite.
#
# ### Move it yourself
#
# Below, both models after the same text: the strong one's bars, the weak one's, the score. Move $\alpha$; switch the guard off; append the chosen token a few times.

# %% tags=["nbval-ignore-output"]
ContrastiveView(
    model,
    short,
    tokenizer,
    "Our cat is old and lazy. All day long it lies on the",
    alpha=0.1,
    strong_name="SmolLM2",
    weak_name="last 4 tokens",
)

# %% [markdown]
# 1. From which $\alpha$ on is the chosen token no longer " couch"? What comes then?
# 2. Switch the guard off. Which token wins, and what is its p strong?
# 3. Prompt "The capital of Italy is". The strong model knows the answer. What is chosen at .1, and why? (What does the weak model read?)
# 4. Prompt "The cat". What are the scores, and why?
#
# <details><summary>What to look for</summary>
#
# 1. Down to about .03 it is " couch"; then " doorstep", of p strong .0067, gets in, and its score is higher.
# 2. "rowsiness", about $2 \cdot 10^{-9}$.
# 3. " Florence". The weak model's four tokens are " capital of Italy is": enough to know Rome. The right answer is subtracted away. Section 9 counts how often this happens.
# 4. All 0: a text shorter than the window is read whole by both. Nothing to subtract.
#
# </details>
#
# ## 5. One token after the other
#
# The loop is greedy decoding's, with the score in place of the log-probability. One thing is new: there are two models, and **both read the same text**, the chosen tokens included.
#
# ### Exercise 2: greedy decoding over the score
#
# Use `contrastive_score`. A model is called with ids of shape (1, time) and returns logits (1, time, vocab).


# %%
def contrastive_greedy(strong, weak, prompt, max_new_tokens, alpha):
    """The new ids, a list: at each step the token with the highest contrastive score.

    Among equal scores the lowest id. prompt: a list of ids, left as it is.
    """
    raise NotImplementedError


# %%
check.contrastive_greedy(contrastive_greedy)

# %%
check.contrastive_greedy.hint()

# %%
check.contrastive_greedy.solution()

# %% [markdown]
# `arlab.decoding.contrastive_decoding` keeps a cache for each model and takes many prompts at once. To see that it does what it should, one pass over its finished text is enough: at every position the token that it took
# must be the one with the highest score there.

# %%
juliet = characters.encode("JULIET:\n")
written = contrastive_decoding(strong, weak, juliet, max_new_tokens=40, alpha=0.3).tokens()
whole = torch.tensor([juliet + written], device=lab.device)
with torch.inference_mode():
    table = contrastive_score(strong(whole)[0], weak(whole)[0], 0.3)  # row t scores token t + 1
best_there = table[len(juliet) - 1 : -1].argmax(-1).tolist()
print("each of 40 tokens has the highest score:", best_there == written)
same = contrastive_decoding(strong, weak, juliet, max_new_tokens=40, alpha=1.0).tokens()
print("alpha = 1 is the strong model's greedy: ", same == greedy(strong, juliet, max_new_tokens=40).tokens())

# %% [markdown]
# Now the repetition of section 1 again, for every $\alpha$ from 1 (greedy) to no guard at all.
#
# **Before you run:** as $\alpha$ falls, repetition will fall too. What will happen to the texts' mean $\log p_s$? And where will they stop being English?

# %%
alphas = (1.0, 0.5, 0.3, 0.1, 0.03, 0.01, None)
swept = {a: contrastive_decoding(strong, weak, rows, max_new_tokens=200, alpha=a) for a in alphas}
repeats = {a: sum(repetition(text, 8) for text in texts_of(g)) / len(rows) for a, g in swept.items()}
log_p = {a: float(g.logprobs.mean()) for a, g in swept.items()}
for claim, holds in {
    "alpha = 1 repeats as greedy does": repeats[1.0] == mean["strong model, greedy"],
    "alpha = .3 repeats less than half as much": repeats[0.3] < repeats[1.0] / 2,
    "and costs less than .4 nats a character": log_p[1.0] - log_p[0.3] < 0.4,
    "without the guard it is more than 3 nats": log_p[1.0] - log_p[None] > 3,
}.items():
    print(f"{claim:42} {holds}")

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3), layout="constrained")
places = range(len(alphas))
labels = ["1\n(greedy)" if a == 1 else "none" if a is None else f"{a:g}" for a in alphas]
for ax, values, label in ((left, repeats, "repeated 8-grams"), (right, log_p, "mean log p strong (nats)")):
    ax.plot(places, values.values(), "o-", color=BLUE)
    ax.set_xticks(places, labels)
    ax.set(xlabel="alpha", ylabel=label)
left.axhline(mean["Shakespeare"], color=GREEN, ls="--", label="Shakespeare himself")
left.set_ylim(0, None)
left.legend()
plt.show()
for a in (1.0, 0.3, 0.03, None):
    print(f"alpha = {a}: {characters.decode(texts_of(swept[a])[0][:150])!r}\n")

# %% [markdown]
# *Figure: left, the share of repeated 8-grams, from one half at $\alpha = 1$ down towards Shakespeare's own share (dashed); right, the mean log-probability of a character, nearly level down to .1 and falling steeply from there.*
#
# With this pair the method does what it promises: at $\alpha = .5$ or $.3$ the loops are mostly gone, at a small price in likelihood. At $.03$ words begin to break, without a guard there are none. (The
# curve to the left is not smooth: eight texts are few, and one that falls into a loop moves it.)
#
# ## 6. Beam search over the score
#
# Beam search (notebook 11) adds up a score for each token and keeps the best sums. It does not care what the score is. In arlab it takes a `Scorer`; `ContrastiveScorer(strong, weak, alpha)` hands it ours.
# To see exactly what happens we need a world small enough to enumerate. Two models of three tokens and two steps:

# %%
tokens = ["A", "B", "C"]
world_s = TreeLM({(): [1/2, 1/2, 0], (0,): [1, 0, 0], (1,): [1/2, 1/2, 0]},
                 max_length=2, names=tokens)  # fmt: skip
world_w = TreeLM({(): [1/4, 1/2, 1/4], (0,): [1, 0, 0], (1,): [1/8, 3/8, 1/2], (2,): [1/2, 1/2, 0]},
                 max_length=2, names=tokens)  # fmt: skip

for sequence, p in world_s.enumerate():
    name = "".join(tokens[i] for i in sequence)
    p_weak = math.exp(world_w.logprob(sequence))
    score_of_it = math.log(p / p_weak)  # the log of the ratio is the sum of the two tokens' scores
    print(f"{name}: p strong {p:.4f}, p weak {p_weak:.4f}, ratio {p / p_weak:.4f}, score {score_of_it:.4f}")

# %% [markdown]
# (At $\alpha = .1$ every token with $p_s > 0$ is plausible here. C is impossible for the strong model everywhere, and after A for both: a $-\infty$ minus $-\infty$ in the making.)
#
# **Before you run:** the best sequence is BA. What will greedy decoding over the score find? And beam 2?

# %%
scorer = ContrastiveScorer(world_s, world_w, alpha=0.1)
for beams in (1, 2):
    found = beam_search(scorer, [], beams=beams, max_new_tokens=2, length_penalty=0.0)
    print(f"beams = {beams}: {''.join(tokens[i] for i in found.tokens())}, score {float(found.scores):.4f}")

# %% [markdown]
# Greedy takes A, for $\ln 2 = .69$, and gets nothing more. Beam 2 keeps B as well and finds $\ln 4 = 1.39$ behind it.
#
# ### The score stays as it is
#
# It is tempting to make the score "a distribution again", with a softmax over the plausible set: scores are not log-probabilities, and a sum of them may be positive. For one step of greedy decoding it makes no difference. For beams it does.
#
# **Before you run:** put a softmax over the plausible tokens at each step. Which of AA, BA, BB has the largest sum then?


# %%
class SoftmaxedScorer(ContrastiveScorer):
    """What not to do."""

    def __call__(self, strong_logits, weak_logits):
        return contrastive_score(strong_logits, weak_logits, self.alpha).log_softmax(-1)


sums = {}
for name, kind in (("as it is", ContrastiveScorer), ("softmaxed", SoftmaxedScorer)):
    found = beam_search(kind(world_s, world_w, 0.1), [], beams=3, n=3, max_new_tokens=2, length_penalty=0.0)
    sums[name] = {"".join(tokens[i] for i in found.tokens(0, n)): float(found.scores[0, n]) for n in range(3)}
    each = [f"{text} {value:.4f} = ln {math.exp(value):.4f}" for text, value in sums[name].items()]
    print(f"{name:9}", ", ".join(each))

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(8.5, 2.6), layout="constrained")
for ax, (name, values) in zip(axes, sums.items(), strict=True):
    order = ["AA", "BA", "BB"]
    best_text = max(values, key=values.get)
    ax.barh(order, [values[t] for t in order], color=[ORANGE if t == best_text else GREY for t in order])
    ax.axvline(0, color="k", lw=0.8)
    ax.invert_yaxis()
    ax.set(title=f"score {name}", xlabel="sum over the two tokens")
plt.show()

# %% [markdown]
# *Figure: the sums of the three sequences, the best one in orange. With the score as it is BA wins, with a softmax at each step AA.*
#
# The rank flips. After A there is one plausible token, and the softmax of a single number is 1 whatever the number: $\ln 1 = 0$. After B there are two; A is the one that the strong model likes four times as much as the weak one,
# and the softmax makes $\ln \frac{4}{4 + 4/3} = \ln \frac{3}{4} < 0$ of its $\ln 4$. **It throws away how much the models differ at this place, and keeps only how the tokens here compare with one another.** Between beams the first is what counts.
#
# ### Exercise 3: the score of a text
#
# What a beam search returns should be the sum that you get when you score its text afresh.


# %%
def score_of_text(strong, weak, prompt, text, alpha):
    """The sum of the contrastive scores of the text's tokens, each given the prompt and the tokens before it.

    prompt, text: lists of ids. -inf if one of the tokens is implausible. One pass of each model is enough.
    """
    raise NotImplementedError


# %%
check.score_of_text(score_of_text)

# %%
check.score_of_text.hint()

# %%
check.score_of_text.solution()

# %% [markdown]
# And on the Shakespeare pair: does the beam find texts with higher scores, and are they better?

# %%
settings = {"max_new_tokens": 60, "alpha": 0.3}
one = contrastive_decoding(strong, weak, rows, **settings)
five = contrastive_decoding(strong, weak, rows, beams=5, length_penalty=0.0, **settings)
print("beam 5 finds a higher sum after at least 7 of 8 openings:", int((five.scores > one.scores).sum()) >= 7)
first = five.tokens(0)
with torch.inference_mode():
    ids = torch.tensor([rows[0] + first], device=lab.device)
    table = contrastive_score(strong(ids)[0], weak(ids)[0], 0.3)[len(rows[0]) - 1 : -1]
again = float(table[range(len(first)), first].sum())
print("its score = its text scored afresh:", abs(again - float(five.scores[0, 0])) < 1e-3)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
ax.plot(one.scores[:, 0].cpu(), "o", color=GREY, label="greedy over the score")
ax.plot(five.scores[:, 0].cpu(), "s", color=BLUE, label="beam 5 over the score")
ax.set(xlabel="opening", ylabel="sum of scores")
ax.set_ylim(0, 1.1 * float(five.scores.max()))
ax.legend()
plt.show()
for name, generation in (("greedy", one), ("beam 5", five)):
    print(f"{name}: {characters.decode(generation.tokens(0))!r}")
    print(f"        repeated 8-grams {sum(repetition(t, 8) for t in texts_of(generation)) / len(rows):.2f}")

# %% [markdown]
# *Figure: the sum of scores after each of the eight openings; the squares of the beam lie above the dots of greedy.*
#
# A wider beam maximises the score better, here as in notebook 11. Whether the text is better is another question: a score, unlike a log-probability, has no upper limit, so the beam goes where the two models
# *disagree* most, and no finished text is safe from a longer one before the limit is reached. The paper uses beam 5 with $\alpha = .1$.
#
# ## 7. Making a weak model out of a strong one
#
# The paper weakens in three ways: fewer parameters, a lower temperature of the weak model (its mistakes become more pronounced), and a shorter context. The short context needs no second model, and there are three traps in it.
#
# ### A text shorter than the window
#
# With `window=8` and a prompt of five tokens the "weak" model reads the whole text. It *is* the strong model:

# %%
equal = contrastive_score(log_probs(model, sat), log_probs(Recompute(model, window=8), sat), 0.1)
print("largest score of a plausible token below 1e-4:", float(equal[equal > -inf].abs().max()) < 1e-4)
print("plausible tokens that are now equally good:", int((equal > -inf).sum()))

# %% [markdown]
# The score is 0 up to rounding, so the rounding error chooses among 22 tokens. The window must be shorter than the prompt.
#
# ### A cut cache does not forget
#
# A decoder keeps the keys and values of past tokens (notebook 07). Why read the last four tokens again at every step, when one could drop the older entries from the cache?
#
# Two texts that differ in one early word. The last six tokens are the same. We drop all other entries of the cache but the very first (models lean on the first token, whatever it is, and fall apart without it), move what is left to the front, and go on.
#
# **Before you run:** neither "France" nor "Italy" is among the kept entries. What will the model with the cut cache say is the capital?


# %%
def after_cutting(ids, kept):
    """log p of the next token when only these slots of the cache, and the last token, are left."""
    full, cut = model.new_cache(1, len(ids)), model.new_cache(1, len(kept) + 1)
    with torch.inference_mode():
        model(torch.tensor([ids[:-1]], device=lab.device), full)
        moved = torch.tensor([[old - new for new, old in enumerate(kept)]], device=lab.device)
        turn = model.rotary(moved, full.k.dtype)  # keys are turned by their position: turn them back
        for layer in range(len(model.blocks)):
            cut.k[layer][:, :, : len(kept)] = rotate(full.k[layer][:, :, kept], Rotary(turn.cos, -turn.sin))
            cut.v[layer][:, :, : len(kept)] = full.v[layer][:, :, kept]
        cut.lengths = [len(kept)]
        logits = last_logits(model, torch.tensor([ids[-1:]], device=lab.device), cut)[0]
    return logits.float().cpu().log_softmax(-1)


# %%
after = ", and I like it. Last week I was in the capital, the beautiful city of"
texts = {land: tokenizer.encode(f"I live in {land}{after}") for land in ("France", "Italy")}
last = len(texts["France"]) - 1
first_kept, last_kept = (tokenizer.decode(part) for part in (texts["France"][:1], texts["France"][-6:]))
print(f"kept: {first_kept!r} and {last_kept!r}")
cities = [strings.index(city) for city in (" Paris", " Rome")]
heard = {}
for land, ids in texts.items():
    heard[land, "all of it"] = log_probs(model, ids)
    heard[land, "cut cache"] = after_cutting(ids, [0, *range(last - 5, last)])
    heard[land, "last 6 read again"] = log_probs(Recompute(model, window=6), ids)
for (land, how), found in heard.items():
    paris, rome = (float(found[i].exp()) for i in cities)
    print(f"{land:6} {how:17} Paris {paris:.2f}  Rome {rome:.2f}   first: {strings[int(found.argmax())]!r}")
untouched = after_cutting(texts["Italy"], list(range(last))) - heard["Italy", "all of it"]
print("cutting nothing changes nothing:", float(untouched.abs().max()) < 1e-3)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
for y, how in enumerate(("all of it", "cut cache", "last 6 read again")):
    odds = [float(heard[land, how][cities[0]] - heard[land, how][cities[1]]) for land in texts]
    ax.plot(odds, [y, y], color=GREY, lw=1)
    ax.plot(odds[0], y, "o", color=BLUE, ms=8, label="I live in France" if y == 0 else None)
    ax.plot(odds[1], y, "D", color=ORANGE, ms=7, label="I live in Italy" if y == 0 else None)
ax.set_yticks(range(3), ["all of it", "cut cache", "last 6 read again"])
ax.axvline(0, color="k", lw=0.8)
ax.set(xlabel="log odds of Paris against Rome", xlim=(-7.5, 7.5), ylim=(2.4, -0.4))
ax.legend(loc="lower right", fontsize=8)
plt.show()

# %% [markdown]
# *Figure: the log odds of Paris against Rome in the two texts. Read in full they are 10 nats apart, with the cut cache still 4, with the last six tokens read again they are the same point.*
#
# The cut cache still knows the country. The key and value of " city" in an upper layer were computed from a vector that had *already attended* to "France". Forgetting needs reading again, from the first layer on, which is what
# `Recompute` does (and why it costs more, section 10). For rolling back a rejected draft (notebook 13) the cut is right: there the *last* entries go, and no earlier one has seen them.
#
# ### Which context to shorten
#
# In the paper the weak model forgets **the prompt** but reads everything written since: the last token of the prompt, and then the text. That is not the same as a sliding window, which forgets what was written as well; the next section shows how much it matters.
# To build it: a decoder reads the prompt in its first call, into an empty cache, and after that the new tokens one by one. So in the first call all but the last token are left out.


# %%
class Forgetful(torch.nn.Module):
    """Reads the last token of the prompt, and everything after it. For prompts of one length."""

    def __init__(self, model):
        super().__init__()
        self.model, self.vocab_size = model, model.vocab_size
        self.context_length, self.bos_id = model.context_length, model.bos_id

    def new_cache(self, rows, capacity):
        return self.model.new_cache(rows, capacity)

    def last_logits(self, ids, cache=None, lengths=None):
        at_the_start = cache is None or max(cache.lengths) == 0
        return last_logits(self.model, ids[:, -1:] if at_the_start else ids, cache)


forgotten = Forgetful(model)
king = tokenizer.encode(recipe.OPENINGS[1])[: recipe.PROMPT]
log_king = log_probs(forgotten, king)
print("prompt:", repr(tokenizer.decode(king)))
print("what the weak model has read of it:", repr(tokenizer.decode(king[-1:])))
as_alone = torch.allclose(log_king, log_probs(model, king[-1:]), atol=1e-4)
print("the same as the strong model after that token:", as_alone)

# %% [markdown]
# `arlab.nn.prompt_forgotten.PromptForgotten` does the same, for prompts of different lengths as well, and with more than one token left (`keep=`). Its numbers are ours:

# %%
settings = {"max_new_tokens": 8, "alpha": 0.3}
ours = contrastive_decoding(model, forgotten, king, **settings)
its = contrastive_decoding(model, PromptForgotten(model), king, **settings)
print("the same tokens:", ours.tokens() == its.tokens())
print("the same score: ", torch.allclose(ours.scores, its.scores, atol=1e-3))
forgotten = PromptForgotten(model)

# %% [markdown]
# ## 8. Does it cure repetition on SmolLM2?
#
# Here is a text that greedy decoding wrote, and that ends in a loop. For each token we ask what score it would have had, with each of the two weak models.
#
# **Before you run:** inside the loop, will the score of the next (repeated) token be high or low? Think of what each weak model can see.

# %%
record = recipe.recorded()
runs = {(run["name"], run["alpha"]): run for run in record["settings"]}
looping = runs["greedy", None]["texts"][0]
prompt = tokenizer.encode(record["prompts"][0])
ids = prompt + tokenizer.encode(looping)
start, end = len(prompt), len(ids)
print(record["prompts"][0], "|", looping[:230], "...")

# %%
targets = torch.tensor(ids[start:])[:, None]
with torch.inference_mode():
    full = model(torch.tensor([ids[:-1]], device=lab.device))[0, start - 1 :]
    since = model(torch.tensor([ids[start - 1 : -1]], device=lab.device))[0]  # the prompt forgotten
    windows = torch.stack([torch.tensor(ids[t - 4 : t]) for t in range(start, end)])
    four = last_logits(model, windows.to(lab.device))
full, since, four = (logits.float().cpu() for logits in (full, since, four))
log_full, log_since, log_four = (z.log_softmax(-1).gather(-1, targets)[:, 0] for z in (full, since, four))
late = slice(-30, None)
print(f"in the last 30 tokens: mean p strong {log_full[late].exp().mean():.2f}")
print(f"mean score with the prompt forgotten {(log_full - log_since)[late].mean():.2f}")
print(f"mean score with a window of 4        {(log_full - log_four)[late].mean():.2f}")
alone = contrastive_score(full, since, 0.1).isfinite().sum(-1)[late] == 1
print("at 25 of the 30 or more, alpha = .1 leaves one token:", int(alone.sum()) >= 25)

# %% tags=["nbval-ignore-output"]
fig, (top, bottom) = plt.subplots(2, 1, figsize=(9.5, 4.4), layout="constrained", sharex=True)
top.plot(log_full.exp(), color=GREY)
top.set(ylabel="p strong", ylim=(0, 1.02))
bottom.plot(log_full - log_four, color=ORANGE, label="weak model: window of 4")
bottom.plot(log_full - log_since, color=BLUE, label="weak model: prompt forgotten")
bottom.axhline(0, color="k", lw=0.8)
bottom.set(xlabel="token of the greedy text", ylabel="score of that token")
bottom.legend(loc="upper right", fontsize=8)
plt.show()

# %% [markdown]
# *Figure: above, the strong model's probability of each token of the greedy text, which climbs towards 1 as the loop goes on; below, the score. With the prompt forgotten it is near 0 once the loop has begun; with a window of 4 it swings between 1 and 6.*
#
# The two weak models judge the loop in opposite ways. The one that has read the loop joins in, and predicts it as well as the strong one: repeating earns nothing, and any plausible token that the weak model likes less wins. The one with a window of 4
# never sees that the sentence was there before. To copy it takes a long memory, the strong model has one and the weak one has not, so **the score rewards the copy**. Subtracting a weak model removes the faults that the weak model *shares*.
#
# And above: late in the loop $p_s$ is near 1, and at most steps the plausible set has one token. No score can help there; the text has to be turned aside before.
#
# ### Eight openings, every alpha
#
# The next figures come from a recording (`python -m arlab.recipes record_12_contrastive_decoding`, some minutes): eight openings of 14 tokens, 80 tokens each, three weak models: the prompt forgotten, a window of 4, and the first 20 of
# the model's 30 layers. Measured: repeated 4-grams, and mean $\log p_s$ of a token.
#
# **Before you run:** which of the three weak models will bring repetition down, which not?


# %%
def figure(name, alpha, what):
    values = runs[name, alpha][what]
    return sum(values) / len(values)


print(f"{'':36} repeated 4-grams   mean log p   argmax taken   set of one")
for name, alpha in runs:
    run = runs[name, alpha]
    label = name if "same" not in run else f"{name}, alpha {'none' if alpha is None else alpha}"
    repeats_4, mean_log_p = figure(name, alpha, "repetition"), figure(name, alpha, "logprob")
    print(f"{label:36} {repeats_4:16.2f} {mean_log_p:12.2f}", end="")
    print(f" {run['same']:14.0%} {run['one']:12.0%}" if "same" in run else "")

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
weak_names = ("prompt forgotten", "window of 4", "first 20 layers")
for name, colour, mark in zip(weak_names, (BLUE, ORANGE, PURPLE), "osD", strict=True):
    used = [a for n, a in runs if n == name and a is not None]
    points = [(figure(name, a, "logprob"), figure(name, a, "repetition")) for a in used]
    start_at = (figure("greedy", None, "logprob"), figure("greedy", None, "repetition"))
    left.plot([1, *used], [start_at[1], *(r for _, r in points)], mark + "-", color=colour, label=name)
    right.plot(*zip(start_at, *points, strict=True), mark + "-", color=colour, label=name)
for name, mark in zip((n for n, a in runs if n.startswith("sampling")), "<v^", strict=True):
    place = figure(name, None, "logprob"), figure(name, None, "repetition")
    right.plot(*place, mark, color=GREY, ms=7, label=name)
left.set(xscale="log", xlabel="alpha (1: greedy)", ylabel="repeated 4-grams", ylim=(-0.02, 0.43))
left.set_xticks([1, 0.5, 0.3, 0.1, 0.03], ["1", ".5", ".3", ".1", ".03"], minor=False)
left.minorticks_off()
left.invert_xaxis()
right.set(xlabel="mean log p strong (nats a token)", ylabel="repeated 4-grams", ylim=(-0.02, 0.43))
left.legend(fontsize=8, loc="lower left")
right.legend(*(part[3:] for part in right.get_legend_handles_labels()), fontsize=8, loc="upper left")
plt.show()

# %% tags=["nbval-ignore-output"]
examples = [("greedy", None, (0, 3)), ("prompt forgotten", 0.3, (0, 3)), ("prompt forgotten", 0.1, (0,))]
examples += [("prompt forgotten", 0.03, (0, 3)), ("window of 4", 0.3, (0, 3)), ("window of 4", None, (0,))]
for name, alpha, shown_rows in examples:
    print(f"--- {name}" + ("" if name == "greedy" else f", alpha {alpha or 'none'}"))
    for row in shown_rows:
        print(f"{record['prompts'][row]} |{runs[name, alpha]['texts'][row][:260]!r}")

# %% [markdown]
# *Figure: left, the share of repeated 4-grams as $\alpha$ falls from 1, a line for each weak model; right, the same against the mean log-probability, with sampling as grey triangles. Low and to the right is good. Only the blue line (prompt forgotten) comes near the bottom; orange and purple lose likelihood and gain little.*
#
# What the table says:
#
# - **Prompt forgotten, $\alpha = .3$:** repetition falls from .31 to .07, at a price of a third of a nat a token. At $.5$ nothing is gained: at three steps of four the set has a single token. At $.1$ it is .13, because one of the eight texts (the cat's, above) repeats itself from beginning to end; eight texts are few, and differences of a few hundredths mean nothing.
# - **A window of 4** hardly helps: .28 at $\alpha = .3$, and still .21 at $.03$, where the price is over a nat. Without a guard repetition rises to .74: nothing but the score decides there, and the score rewards copying. The texts are loops of nonsense, as the last one above.
# - **Early layers** do not help either: .28, .40, .23. Nobody trained them to predict the next token, so they err in ways of their own; what is subtracted is not the model's fault.
# - **Sampling** with $T = .7$ and top-p .9 reaches .12 at a mean $\log p$ of $-1.31$, with one model. Contrastive decoding at its best (.07 at $-1.13$) is a little ahead of it on these texts, not by much.
# - **Is the text better?** Read it. Livelier, yes. But where greedy decoding names Gutenberg (in the wrong century), contrastive decoding has "a German printer named Johannes Reis". The plausible set holds names that are merely possible.
#
# The paper's gains were measured with pairs like OPT-13B and OPT-125M: two trained models a hundredfold apart, with the same faults. The Shakespeare pair of section 5 is of that kind, and there the method works best.
#
# ## 9. Where it does not help
#
# ### Facts that the weak model knows too
#
# **Before you run:** 24 questions with a known answer, greedy against contrastive. Will the right answers gain or lose?

# %%
listed = """The capital of France is: Paris|The capital of Italy is: Rome|The capital of Japan is: Tokyo|
The capital of Germany is: Berlin|The capital of Spain is: Madrid|The capital of Russia is: Moscow|
The largest ocean on Earth is the: Pacific|The opposite of hot is: cold|
The author of Hamlet is William: Shakespeare|Monday, Tuesday, Wednesday,: Thursday|
The largest planet in our solar system is: Jupiter|The first months are January, February,: March|
The chemical symbol for gold is: Au|The theory of relativity was developed by Albert: Einstein|
The tragedy of Romeo and: Juliet|Water is made of hydrogen and: oxygen|The Great Wall is in: China|
The Eiffel Tower stands in the city of: Paris|The sun rises in the: east|Bread is made from: flour|
Flowers give the bees nectar, and the bees make: honey|The first man on the Moon was Neil: Armstrong|
The capital of England is: London|The author of Romeo and Juliet is William: Shakespeare"""
facts = dict(line.strip().rsplit(":", 1) for line in listed.split("|"))
asked = [tokenizer.encode(prompt) for prompt in facts]
lengths = [len(row) for row in asked]
padded = torch.tensor([row + [0] * (max(lengths) - len(row)) for row in asked], device=lab.device)
ends = torch.tensor([row[-1:] for row in asked], device=lab.device)  # all that is left of a forgotten prompt
truth = torch.tensor([tokenizer.encode(answer)[0] for answer in facts.values()])
with torch.inference_mode():
    of_strong = last_logits(model, padded, lengths=lengths).float().cpu()
    of_weak = {"window of 4": last_logits(short, padded, lengths=lengths).float().cpu()}
    of_weak["prompt forgotten"] = last_logits(model, ends).float().cpu()
print("the shortest question:", min(lengths), "tokens, more than the window of 4")

# %%
right = {name: {} for name in of_weak}
first = of_strong.argmax(-1)
for alpha in (1.0, 0.3, 0.1, 0.03, 0.01):
    for name, z in of_weak.items():
        answers = contrastive_score(of_strong, z, alpha).argmax(-1)
        right[name][alpha] = int((answers == truth).sum())
    answers = contrastive_score(of_strong, of_weak["window of 4"], alpha).argmax(-1)
    lost = [strings[answer] for answer in answers[(first == truth) & (answers != truth)].tolist()]
    counts = ", ".join(f"{name} {values[alpha]:2}" for name, values in right.items())
    print(f"alpha = {alpha:4}: right of {len(facts)}: {counts}; lost (window):{','.join(lost[:3])}")
italy = list(facts).index("The capital of Italy is")
for city in (" Rome", " Florence"):
    p_s, p_w = (float(z[italy].softmax(-1)[strings.index(city)]) for z in (of_strong, of_weak["window of 4"]))
    print(f"{city}: p strong {p_s:.2f}, p weak {p_w:.1e}, score {math.log(p_s / p_w):.2f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
for (name, values), colour, mark in zip(right.items(), (ORANGE, BLUE), "so", strict=True):
    ax.plot(list(values), list(values.values()), mark + "-", color=colour, label=name)
ax.set(xscale="log", xlabel="alpha (1: greedy)", ylabel=f"right, of {len(facts)}", ylim=(0, len(facts)))
ax.set_xticks([1, 0.3, 0.1, 0.03, 0.01], ["1", ".3", ".1", ".03", ".01"])
ax.minorticks_off()
ax.invert_xaxis()
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Figure: right answers as alpha falls from 1 (greedy) to .01, with each of the two weak models. With the window of 4 the curve falls from 19 to 10.*
#
# At $\alpha = .3$ little happens. From $.1$ on the window of 4 loses right answers: the four tokens that the weak model reads (" capital of Italy is") are most of the question, so it knows something of the answer as well. The strong model
# holds Rome to be four times as probable as Florence, the weak one twelve times: the famous city is the *obvious* one, and obvious means that a weak model knows it too. Contrastive decoding answers Florence. The fewer of the facts the weak model can see, the smaller the harm, as with
# the forgotten prompt. Where one answer is right, greedy decoding or a small beam is the better choice.
#
# ### And the rest
#
# - **Where the model is sure** the set has one token, and contrastive decoding is greedy decoding.
# - **The weak model has to share the fault.** A weak model that cannot repeat does not take repetition away.
# - **The vocabulary has to be the same,** token by token. That rules out most pairs of published models.
# - **Every text it writes is the same each time.** For variety one samples; and sampling with a cool temperature came close in section 8, with one model.
#
# ## 10. What it costs
#
# Two models run at every token. With parameters $N_s$ and $N_w$ that is a factor of $(N_s + N_w) / N_s$ in arithmetic and in weights to be read; with a window of $n$ tokens read again, the weak model's arithmetic is $n$ times that of a cached step.
#
# **Before you run:** three weak models: the Shakespeare pair's single layer, the forgotten prompt, the window of 4. By what factor does each slow down its strong model?

# %%
factors = {"Shakespeare pair": 1 + size_weak / size_strong, "prompt forgotten": 1 + 1, "window of 4": 1 + 4}
print("arithmetic, times greedy:", ", ".join(f"{name} {factor:.2f}" for name, factor in factors.items()))

# %% tags=["nbval-ignore-output"]
count = lab.scale(cpu=6, gpu=60)
brief = king[-5:]  # a short prompt, so that reading it does not count for much
pairs = {
    "Shakespeare, greedy": lambda: greedy(strong, juliet, max_new_tokens=10 * count),
    "Shakespeare, one layer": lambda: contrastive_decoding(strong, weak, juliet, max_new_tokens=10 * count),
    "SmolLM2, greedy": lambda: greedy(model, brief, max_new_tokens=count),
    "SmolLM2, prompt forgotten": lambda: contrastive_decoding(model, forgotten, brief, max_new_tokens=count),
    "SmolLM2, window of 4": lambda: contrastive_decoding(model, short, brief, max_new_tokens=count),
}
# CPU time, where there is no GPU: a busy machine does not stretch it
clock = time.process_time if lab.device.type == "cpu" else time.perf_counter
seconds = {name: math.inf for name in pairs}
for _ in range(3):  # the best of three rounds
    for name, run in pairs.items():
        began = clock()
        generation = run()
        float(generation.scores.sum())  # wait for the device
        seconds[name] = min(seconds[name], (clock() - began) / generation.ids.size(-1))
for name, took in seconds.items():
    times = took / seconds[name.split(",")[0] + ", greedy"]
    print(f"{name:26} {1000 * took:6.1f} ms a token, {times:.1f} times greedy")

# %% [markdown]
# With the prompt forgotten it is nearly the same step twice. The Shakespeare pair came out between 1.1 and 1.9 in our runs, above its 1.07: much of a step of so small a model is not arithmetic but the starting of operations, and one layer's operations have to be started as well.
# The window pays for four tokens through all layers at every step: five times the arithmetic, but about three times the time, because the weights are read only once for the four. With a large model and a trained small one (the paper's pair: 13 billion against .125) the prediction is right, and nearly nothing: 1.01.
#
# ## 11. Not to be confused with contrastive search
#
# A year before, Su and others published *contrastive search*. It is another method:
#
# | | contrastive **decoding** (Li et al., 2023) | contrastive **search** (Su et al., 2022) |
# |---|---|---|
# | models | two | one |
# | candidates | $p_s \ge \alpha \max p_s$ | the $k$ most probable tokens |
# | what is subtracted | the weak model's log-probability | the largest cosine similarity of the candidate's hidden vector to any earlier token's |
# | what it is aimed at | whatever the weak model does wrong, repetition among it | repetition |
# | $\alpha$ | how plausible a token must be, usually .1 | the weight of the penalty, usually .6 |
# | cost of a token | a step of the weak model | a look ahead for each of the $k$ candidates |
#
# In `transformers` the setting `penalty_alpha`, with `top_k`, belongs to contrastive *search*.
#
# ## Check yourself
#
# **1. Why subtract a weak model's log-probability at all?**
#
# <details><summary>Answer</summary>
# Faults such as repetition and blandness are stronger in it: the weak Shakespeare model repeats .9 of its 8-grams, the strong one half (section 1). What both find probable cancels, what only the strong one knows stays.
# </details>
#
# **2. A token has $p_s = 10^{-4}$ and $p_w = 10^{-8}$. What is its score? Why is it a problem, and what removes it?**
#
# <details><summary>Answer</summary>
# $\ln 10^4 = 9.2$: more than " couch" had with p = .22. The score sees a ratio only. The plausibility rule removes the token wherever the most probable one has more than $10^{-4} / \alpha$.
# </details>
#
# **3. $p_s$ = (.5, .3, .15, .05), $p_w$ = (.7, .1, .1, .1), $\alpha$ = .3. Which tokens are plausible, what are the scores, which one is chosen? And with $\alpha = 1$?**
#
# <details><summary>Answer</summary>
# Threshold .3 · .5 = .15: the first three. $\ln(5/7) = -.34$, $\ln 3 = 1.10$, $\ln 1.5 = .41$: the second. With $\alpha = 1$ only the first is left: greedy decoding.
# </details>
#
# **4. Why is the threshold relative to the largest probability and not fixed, say .01?**
#
# <details><summary>Answer</summary>
# After "The cat sat on the" the best token has .07 and dozens are sensible; a fixed .01 would be tight there, and far too loose where one token has .9. (A fixed one may even leave no token at all.)
# </details>
#
# **5. May the scores be turned into probabilities by a softmax before beam search adds them up?**
#
# <details><summary>Answer</summary>
# No: in section 6 it makes AA (score $\ln 2$) beat BA ($\ln 4$). Within a step the order stays, between beams it does not.
# </details>
#
# **6. You keep the last four entries of the cache to weaken the model. What have you got?**
#
# <details><summary>Answer</summary>
# A model that still knows what it should have forgotten: those entries were computed from vectors that had seen the rest (France or Italy, section 7). Read the four tokens again instead.
# </details>
#
# **7. Greedy decoding has been looping for 50 tokens. You switch to contrastive decoding with $\alpha = .1$. Does it help?**
#
# <details><summary>Answer</summary>
# Hardly. The next token of the loop has a $p_s$ near 1, so at most steps nothing else is plausible. And with a sliding window as the weak model the loop is even rewarded (section 8).
# </details>
#
# ## What to try next
#
# - Give the weak model a temperature of .5 before subtracting (`contrastive_score(z_s, z_w / 0.5, alpha)`), as the paper does for GPT-2. What happens to repetition on the Shakespeare pair, and what to words?
# - Multiply the weak term by a factor $\beta$ between 0 and 1. Where does $\beta = 0$ lead, at any $\alpha$?
# - Sample from the plausible set instead of taking its best score. From which distribution?
# - Use a model of bigrams (notebook 01) as the weak one. The paper says that it is too weak: its errors are not the strong model's.
#
# ## Where the idea comes from
#
# - Li, Holtzman, Fried, Liang, Eisner, Hashimoto, Zettlemoyer and Lewis, *Contrastive Decoding: Open-ended Text Generation as Optimization*, 2023. The plausibility rule, the three ways to weaken, beam 5, $\alpha = .1$.
# - Early layers as the weak model: Chuang and others, *DoLa: Decoding by Contrasting Layers Improves Factuality in Large Language Models*, 2024.
# - Obvious answers lost: Chang and others, *Explaining and Improving Contrastive Decoding by Extrapolating the Probabilities of a Huge and Hypothetical LM*, 2024.
# - Not this method: Su and others, *A Contrastive Framework for Neural Text Generation*, 2022 (contrastive search).
# - Why the first token must stay in a cut cache: Xiao and others, *Efficient Streaming Language Models with Attention Sinks*, 2024.
#
# [← 11 Beam search](11_beam_search.ipynb) · [13 Speculative decoding →](13_speculative_decoding.ipynb)
