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
# # 13 · Speculative decoding: several tokens for one call
#
# An autoregressive model writes one token for each call, and each call reads all of its weights. Speculative decoding lets something cheap guess
# the next few tokens and has the large model judge all guesses in **one** call. Done right, the text follows the large model's distribution
# exactly: it only comes sooner. Done as lecture 001 words it, it follows another distribution, and you will see which.
#
# **You will be able to**
#
# - say why decoding is slow although the arithmetic is small, and measure it;
# - build draft, verification and correction, for greedy decoding and for sampling;
# - prove by enumeration that the law is the target's, and show where the usual short description goes wrong;
# - predict acceptance from two distributions, tokens per call from the acceptance, and time from both;
# - name the cases in which speculation is slower, and show one.
#
# **Time** 70 minutes. **Before this** notebooks 07 (the cache), 09 and 10 (sampling, filters). **Follows** lecture 001 (speculative decoding; the challenges of autoregression: sequential speed).
#
# [← 12 Contrastive decoding](12_contrastive_decoding.ipynb) · [14 Choosing a decoder →](14_choosing_a_decoder.ipynb)

# %% tags=["nbval-ignore-output"]
import time
from statistics import fmean

import matplotlib.pyplot as plt
import torch

import arlab
from arlab import recipes
from arlab.decoding import (
    LookupDraft,
    Temperature,
    TopP,
    filters,
    greedy,
    speculative_decoding,
    speculative_steps,
)
from arlab.decoding.speculative import acceptance, expected_tokens, residual
from arlab.exercises import speculative_decoding as check
from arlab.nn.early_exit import EarlyExit
from arlab.nn.pretrained import smollm2
from arlab.views import SpeculationTimeline
from arlab.worlds import TreeLM

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"  # safe for the colour-blind

# %% [markdown]
# Two models of Shakespeare, letter by letter, with the same 65 symbols: a strong one (the **target**, whose text we want) and a weak one (the
# **draft**). And SmolLM2 for the real thing.

# %%
strong, letters = recipes.load("shakespeare_strong")
weak, _ = recipes.load("shakespeare_weak")
strong, weak = strong.to(lab.device), weak.to(lab.device)
model, tokenizer = smollm2(device=lab.device)
for name, one in (("strong", strong), ("weak", weak), ("SmolLM2", model)):
    print(f"{name:8} {sum(p.numel() for p in one.parameters()):>12,} weights, {one.vocab_size:,} tokens")

# %% [markdown]
# ## 1. Why one token at a time is slow
#
# For one token SmolLM2 multiplies a vector with each of its matrices: 135 million weights, about two operations each. Every weight has to come from memory for that, and is
# used once. If five tokens go in together (all known beforehand, as in a prompt), the same weights are read once and used five times.
#
# **Before you run:** a pass over one new token takes some time $t$. How long will a pass over four take, or over eight: $4t$ and $8t$, or less?

# %% tags=["nbval-ignore-output"]
STORY = (
    "The cat sat on the mat and looked out of the window. It was raining, and nobody was in the street. "
    "After a while the door opened, and a girl with a red umbrella came in. She put the umbrella in the "
    "corner and sat down beside the cat."
)
ids = torch.tensor([tokenizer.encode(STORY)], device=lab.device)
sizes = (1, 2, 4, 5, 8, 16)
milliseconds = [float("inf")] * len(sizes)
with torch.inference_mode():
    cache = model.new_cache(1, ids.size(1) + max(sizes))
    model(ids, cache)
    for _ in range(3):
        for i, n in enumerate(sizes):
            start = time.perf_counter()
            float(model(ids[:, :n], cache).sum())  # looking at the result makes a GPU finish
            milliseconds[i] = min(milliseconds[i], 1000 * (time.perf_counter() - start))
            cache.truncate([ids.size(1)])  # forget the n tokens again
count = sum(p.numel() for p in model.parameters())
print(f"{4 * count / 1e6:.0f} MB of weights, four bytes each")
print("tokens      ms   x one token   GB/s of weights   billion operations/s")
for n, t in zip(sizes, milliseconds, strict=True):
    gigabytes, operations = 4 * count / t / 1e6, 2 * n * count / t / 1e6
    print(f"{n:6} {t:7.1f} {t / milliseconds[0]:13.1f} {gigabytes:17.1f} {operations:22.1f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
ax.plot(sizes, [n * milliseconds[0] for n in sizes], color=GREY, ls="--", label="one token at a time")
ax.plot(sizes, milliseconds, "o-", color=BLUE, label="together, in one pass")
ax.set(xlabel="new tokens in the pass", ylabel="milliseconds", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# *Figure: the time of one pass over n new tokens after a text of some 50 tokens (blue), beside n passes over one (dashed). The fastest of three.*
#
# The last column is the point: with one token the processor does a fraction of the arithmetic that it can do with sixteen, for it **waits for the weights**. A pass over a few
# tokens costs much less than that many passes over one. How much less depends on the machine. When we measured, four tokens cost about as much as one on two cores; a single core
# ran out of arithmetic sooner, and five cost up to twice as much as one. On a GPU, with its enormous arithmetic, dozens come nearly free.
#
# So judging tokens is cheap, if somebody supplies them. That somebody is the draft.
#
# ## 2. Draft, verify, correct: the greedy case
#
# 1. **Draft:** the weak model writes $\gamma$ tokens (gamma, here 4), one after the other.
# 2. **Verify:** the strong model runs once over text and draft. Its logits at the last $\gamma + 1$ positions say what *it* would have written at each place.
# 3. **Accept or correct:** keep the drafted tokens from the front as long as they agree. Then add one token of the strong model's own: at the first disagreement
#    its correction; if all agree, the next token, free of charge (the **bonus**).
#
# So each call of the strong model gives at least one token, and at most $\gamma + 1$.


# %%
def draft_greedily(text, gamma):
    drafted = []
    for _ in range(gamma):
        logits = weak(torch.tensor([text + drafted], device=lab.device))
        drafted.append(int(logits[0, -1].argmax()))
    return drafted


def verify_greedily(text, drafted):
    logits = strong(torch.tensor([text + drafted], device=lab.device))[0]
    logits = logits[len(text) - 1 :]  # (gamma + 1, vocab)
    wanted = logits.argmax(-1).tolist()  # the strong model's own choice at each place
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == wanted[accepted]:
        accepted += 1
    return accepted, drafted[:accepted] + [wanted[accepted]]


prompt = letters.encode("ROMEO:\n")
text, rounds = list(prompt), []
with torch.inference_mode():
    while len(text) < len(prompt) + 60:
        drafted = draft_greedily(text, gamma=4)
        accepted, new = verify_greedily(text, drafted)
        rounds.append((drafted, accepted, new))
        text += new
alone = greedy(strong, prompt, max_new_tokens=60).tokens()
print("the same text as greedy decoding:", text[len(prompt) :][:60] == alone)
print("at most 35 calls of the strong model for 60 tokens:", len(rounds) <= 35)

# %% tags=["nbval-ignore-output"]
for drafted, accepted, new in rounds[:12]:
    kept, thrown, own = (
        letters.decode(drafted[:accepted]),
        letters.decode(drafted[accepted:]),
        letters.decode(new[accepted:]),
    )
    print(f"accepted {kept!r:8} thrown away {thrown!r:8} the strong model's own {own!r}")

# %% [markdown]
# A wrong draft costs time and never a wrong letter: each one that stays is the strong model's argmax after the same text.
#
# In the code above both models read the whole text again at each call. With a key/value cache (notebook 07) a call reads the new tokens only, and then there is something to
# undo: keys and values of rejected tokens are in the cache. `cache.truncate` forgets them. Both sides have a cache, and after a round that was accepted as a whole the draft is one token behind: it never
# read the last token that it wrote itself. `arlab` does all this:

# %%
steps = list(speculative_steps(strong, weak, prompt, max_new_tokens=60, gamma=4, filters=[Temperature(0)]))
tokens = [token for step in steps for token in step.tokens]
print("again the same text:", tokens == alone)
for mine, step in zip(rounds[:4], steps[:4], strict=True):
    assert (tuple(mine[0]), mine[1], tuple(mine[2])) == (step.drafted, step.accepted, step.tokens)
print("a round has", ", ".join(name for name in vars(steps[0]) if not name.endswith("seconds")))
print("kinds that occurred:", sorted({step.kind for step in steps}))

# %% [markdown]
# ## 3. Sampling: what is a right answer to a wrong guess?
#
# With sampling there is no single right token. Let the target's distribution at some place be $p$, the draft's $q$, and let $x$ be drawn from $q$. Tokens that the draft proposes too often ($q(x) > p(x)$)
# must sometimes be refused: accept $x$ with probability
#
# $$\min\Big(1, \frac{p(x)}{q(x)}\Big).$$
#
# And when it is refused? Lecture 001 says: the mismatch is corrected by **sampling from the large model directly**, so from $p$. That sounds right, for $p$ is what we want.
#
# **Before you run:** $p = (.6, .3, .1)$ and $q = (.2, .3, .5)$. With which probability does token 0 come out under the lecture's rule: .6?

# %%
p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
accept = torch.clamp(p / q, max=1)  # min(1, p / q)
accepted = q * accept  # drafted and accepted: = min(p, q)
rejected = 1 - accepted.sum()
print("accepted with probability     ", [round(x, 4) for x in accept.tolist()])
print("drafted and accepted, min(p,q)", [round(x, 4) for x in accepted.tolist()])
print(f"a rejection happens with probability {rejected:.4f}")
print("the lecture's rule gives      ", [round(x, 4) for x in (accepted + rejected * p).tolist()])

# %% [markdown]
# Token 0 comes out with .44 and not .6, token 2 with .14 instead of .1. The drafts have already delivered $\min(p, q)$ of everything; drawing from all of $p$ delivers that part twice.
# What may be drawn after a rejection is only **what is still missing**, $\max(0, p - q)$, made to sum to 1. It is called the **residual**:
#
# $$P(\text{out} = x) = \underbrace{\min(p(x), q(x))}_{\text{drafted, accepted}} + \underbrace{\Big(1 - \sum_y \min(p(y), q(y))\Big)}_{\text{a rejection}} \cdot \frac{\max(0, p(x) - q(x))}{\sum_y \max(0, p(y) - q(y))}.$$
#
# The denominator is $\sum p - \sum \min(p, q)$, the probability of a rejection itself. They cancel, and $\min(p, q) + \max(0, p - q) = p$: for every $x$, whatever $q$ is.

# %%
missing = (p - q).clamp(min=0)
left_over = missing / missing.sum()
print("the residual                  ", left_over.tolist())
print("the residual's rule gives     ", [round(x, 4) for x in (accepted + rejected * left_over).tolist()])
print(
    "arlab's two functions agree:  ",
    torch.equal(acceptance(p, q), accept) and torch.allclose(residual(p, q), left_over),
)

# %%
generator, N = lab.generator(), 200_000
drawn = torch.multinomial(q, N, replacement=True, generator=generator)  # the drafts
u = torch.rand(N, generator=generator, dtype=torch.float64)
for name, correction in (("sampling from p", p), ("sampling from the residual", left_over)):
    corrected = torch.multinomial(correction, N, replacement=True, generator=generator)
    out = torch.where(u < accept[drawn], drawn, corrected)
    law = out.bincount(minlength=3) / N
    print(f"{name:27}: {[round(x, 2) for x in law.tolist()]} of {N:,} draws")

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3), layout="constrained", sharey=True)
x = torch.arange(3)
axes[0].bar(x - 0.2, p, 0.4, color=BLUE, label="target p")
axes[0].bar(x + 0.2, q, 0.4, color=ORANGE, label="draft q")
for ax, correction, title in (
    (axes[1], p, "rejected: draw from p (lecture)"),
    (axes[2], left_over, "rejected: draw from the residual"),
):
    ax.bar(x, accepted, color=GREEN, label="drafted and accepted")
    ax.bar(x, rejected * correction, bottom=accepted, color="#CC79A7", label="corrected")
    ax.hlines(p, x - 0.35, x + 0.35, color="black", label="wanted: p")
    ax.set_title(title, fontsize=10)
for ax in axes:
    ax.set(xticks=x.tolist(), xlabel="token", ylim=(0, 0.78))
    ax.legend(fontsize=7.5, loc="upper right")
axes[0].set_ylabel("probability")
axes[0].set_title("one place in the text", fontsize=10)
plt.show()

# %% [markdown]
# *Figure: left the two distributions; middle and right what comes out, stacked by where it came from, with black marks at the wanted p. The lecture's rule misses all three marks; the residual fills exactly the gap above token 0.*
#
# ### Exercise 1: judge one token


# %%
def judge_token(p, q, token, u, v):
    """The token that comes out: the drafted one, or its correction.

    p, q: (vocab,) probabilities. token: drawn from q. u: uniform in [0, 1), decides on acceptance.
    v: uniform in [0, 1), for the draw after a rejection: tokens lie side by side in [0, 1) in the order of
    their ids, each as wide as its probability, and v falls into one of them.
    """
    raise NotImplementedError


# %%
check.judge_token(judge_token)

# %%
check.judge_token.hint()

# %%
check.judge_token.solution()

# %% [markdown]
# ## 4. Whole texts: the law, by enumeration
#
# One token is proved. But a round stops at a rejection, goes on after an acceptance and may end with a bonus; does the law of whole texts survive? In a world that is small enough (three tokens, notebook 01)
# we can walk through **every** way that a round can go, with its probability, and need no draws at all. `target` and `draft` are two such worlds; they follow below.


# %%
def from_residual(p, q):
    left = (p - q).clamp(min=0)
    return left / left.sum() if left.sum() > 0 else p


def from_p(p, q):
    return p


def rounds_after(prefix, gamma, correct):
    """Every way one round can go: (new tokens, probability)."""
    p = torch.tensor(target.distribution(prefix), dtype=torch.float64)
    if gamma == 0:  # nothing (left) to judge: a token of the target's own
        return [((x,), float(p[x])) for x in range(3)]
    q = torch.tensor(draft.distribution(prefix), dtype=torch.float64)
    accepted, correction = torch.minimum(p, q), correct(p, q)
    ways = [((x,), float((1 - accepted.sum()) * correction[x])) for x in range(3)]  # rejected here
    for x in range(3):  # drafted x, accepted: on to the next place
        for more, mass in rounds_after((*prefix, x), gamma - 1, correct):
            ways.append(((x, *more), float(accepted[x]) * mass))
    return ways


# %% [markdown]
# A text is made of rounds, one after the other, until it is long enough. We carry every unfinished text along with its probability, and send its probability on through all ways of its next round.


# %%
def law_of_texts(length, gamma, correct):
    """Every text and its probability; and the expected number of the target's calls."""
    complete, begun, calls = {}, {(): 1.0}, 0.0
    while begun:
        prefix = min(begun, key=len)
        mass = begun.pop(prefix)
        calls += mass  # one more call in so many of all runs
        for new, chance in rounds_after(prefix, min(gamma, length - len(prefix) - 1), correct):
            into = complete if len(prefix + new) == length else begun
            into[prefix + new] = into.get(prefix + new, 0.0) + mass * chance
    return complete, calls


# %% [markdown]
# **Before you run:** four drafts, from the target itself down to one that always proposes token 0. With which of them are the texts distributed as the target's, under the residual's rule and under the lecture's?

# %%
target = TreeLM.random(3, 3, lab.generator(1))
wanted = dict(target.enumerate())
drafts = {
    "the target itself": target,
    "an unrelated model": TreeLM.random(3, 3, lab.generator(2)),
    "unrelated, very sure": TreeLM.random(3, 3, lab.generator(3), sharp=5.0),
    "always token 0": TreeLM({}, max_length=3, default=[1.0, 0.0, 0.0]),
}
laws = {}
for name, draft in drafts.items():
    laws[name] = {}
    for rule in (from_residual, from_p):
        law, calls = law_of_texts(3, gamma=2, correct=rule)
        laws[name][rule] = law
        off = sum(abs(law.get(text, 0.0) - wanted[text]) for text in wanted) / 2
        words = "equal to the target's" if off < 1e-12 else f"off by {off:.4f}"
        print(f"{name:21} {rule.__name__:13}: {words:21} {calls:.2f} calls for 3 tokens")

# %%
fig, ax = plt.subplots(figsize=(9.5, 3), layout="constrained")
texts = sorted(wanted, key=wanted.get, reverse=True)
x = torch.arange(len(texts))
ax.bar(x, [wanted[text] for text in texts], color=GREY, alpha=0.5, label="the target alone")
shown = ((from_residual, "o", BLUE, "residual"), (from_p, "x", ORANGE, "lecture's rule"))
for rule, mark, colour, words in shown:
    law = laws["unrelated, very sure"][rule]
    ax.plot(x, [law.get(text, 0) for text in texts], mark, color=colour, ms=5, label=f"speculative, {words}")
ax.set_xticks(x.tolist(), ["".join(map(str, text)) for text in texts], rotation=90, fontsize=8)
ax.set(xlabel="text (three tokens)", ylabel="probability")
ax.legend()
plt.show()

# %% [markdown]
# *Figure: all 27 texts of the world, most probable first. Every blue dot lies on top of its bar, although the draft is an unrelated and very sure model; many orange crosses do not.*
#
# (Off by: half the sum of the absolute differences, the share of all texts that come out wrongly.) With the residual **the law is the target's for every draft** (but for rounding); the draft decides only how many calls it takes. With the lecture's rule
# the law depends on the draft. That is also what becomes of the lecture's worry that many corrections could show in the text: with the wrong rule, yes; with the right one there is nothing by which a reader could tell.
#
# ### Exercise 2: judge a round
#
# Now the whole round, as it runs in a decoder.


# %%
def judge_round(p, q, drafted, u, v):
    """The new tokens of one round, a list.

    p: (gamma + 1, vocab), the target's probabilities at each place; q: (gamma, vocab), the draft's.
    drafted: gamma ids, drafted[i] drawn from q[i]. u: gamma uniforms, u[i] decides on drafted[i].
    v: one uniform, for the one token that the target adds itself (drawn as in exercise 1).
    """
    raise NotImplementedError


# %%
check.judge_round(judge_round)

# %%
check.judge_round.hint()

# %%
check.judge_round.solution()

# %% [markdown]
# ## 5. How many are accepted?
#
# The probability that a drafted token is accepted is $\sum_x q(x) \min(1, p(x)/q(x)) = \sum_x \min(p(x), q(x))$: **the overlap** of the two distributions. It can be computed without any draw. So at each place of a run the
# overlap predicts what the dice will do, and over many places both must agree.
#
# We try three drafts for the strong Shakespeare model, each with and without filters: the weak model, the strong model's own first two layers of four (no further weights: `EarlyExit`), and a **lookup** in the text so far, no model at all, which you will build yourself in exercise 4.
#
# **Before you run:** which draft will agree most often with the strong model? And will a low temperature raise or lower the acceptance?

# %%
two_layers = EarlyExit(strong, 2)
settings = {"T = 1": (), "T = .5": (Temperature(0.5),), "top-p .8": (TopP(0.8),), "greedy": (Temperature(0),)}
measured = {}  # (draft, filters) -> predicted acceptance, measured acceptance, number of tested tokens
for name, draft in (("weak model", weak), ("two layers", two_layers), ("lookup", LookupDraft())):
    for words, chain in settings.items():
        run = speculative_steps(
            strong,
            draft,
            prompt,
            max_new_tokens=lab.scale(cpu=120, gpu=240),
            filters=chain,
            generator=lab.generator(),
        )
        run = list(run)
        overlaps = [overlap for step in run for overlap in step.overlaps]  # at each tested place
        measured[name, words] = (
            fmean(overlaps),
            sum(step.accepted for step in run) / len(overlaps),
            len(overlaps),
        )
print(
    "predicted and measured differ by less than .15 in all 12 runs:",
    all(abs(a - b) < 0.15 for a, b, _ in measured.values()),
)

# %% tags=["nbval-ignore-output"]
print("draft       filters    predicted  measured  tested")
for (name, words), (predicted, seen, tested) in measured.items():
    print(f"{name:11} {words:10} {predicted:9.2f} {seen:9.2f} {tested:7}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
ax.plot([0, 1], [0, 1], color=GREY, lw=1)
for name, colour, marker in (("weak model", BLUE, "o"), ("two layers", ORANGE, "s"), ("lookup", GREEN, "^")):
    a, b, n = zip(*[found for (one, _), found in measured.items() if one == name], strict=True)
    spread = [2 * (x * (1 - x) / m) ** 0.5 for x, m in zip(a, n, strict=True)]
    ax.errorbar(a, b, yerr=spread, fmt=marker, color=colour, capsize=2, label=name)
ax.set(
    xlabel="predicted: mean of sum min(p, q)",
    ylabel="measured: accepted / tested",
    xlim=(0, 1.02),
    ylim=(0, 1.02),
)
ax.legend()
plt.show()

# %% [markdown]
# *Figure: a mark for each of the 12 runs, with bars of two standard deviations of so many coin throws (about one bar in twenty may miss). All lie along the diagonal.*
#
# Under greedy decoding both distributions are all on one token, so the overlap is 1 or 0, and prediction and measurement are the same number. The lookup earns more there than anywhere else: greedy text runs in circles (notebook 09), and circles are easy to look up.
#
# A low temperature has no fixed effect: where both models prefer the same token it brings $p$ and $q$ together, and where they do not it drives them apart. Among samples the weak model agrees best: it was trained for
# its one layer, whereas nobody trained the head of the strong model to read after two.
#
# ### Filters belong on both sides
#
# If the target is filtered ($T = .5$), the draft should be filtered too. It need not be: the law stays right as long as $q$ is the distribution that the draft really drew from. What does it cost?

# %%
ids = torch.tensor([prompt + alone], device=lab.device)
with torch.inference_mode():
    z_strong, z_weak = (one(ids)[0, len(prompt) - 1 :].double().cpu() for one in (strong, weak))  # (61, 65)
cold = [Temperature(0.5)]
p_cold, q_cold, q_raw = (
    filters.apply(chain, z).softmax(-1) for chain, z in ((cold, z_strong), (cold, z_weak), ((), z_weak))
)
both, one_side = (torch.minimum(p_cold, q_one).sum(-1).mean() for q_one in (q_cold, q_raw))
print(f"mean overlap over {len(p_cold)} places, T = .5 on both sides:  {both:.2f}")
print(f"                               T = .5 on the target: {one_side:.2f}")
drawn_from, assumed = q_cold[0], q_raw[0]  # a mistake: draw from one q and judge with the other
ratio = acceptance(p_cold[0], assumed)
kept = drawn_from * ratio
law = kept + (1 - kept.sum()) * residual(p_cold[0], assumed)
print(f"drawn from the filtered q, judged with the raw one: off by {(law - p_cold[0]).abs().sum() / 2:.2f}")

# %% [markdown]
# An unfiltered draft proposes tokens that the filtered target refuses. That costs calls. Judging with another $q$ than the one drawn from is worse: it costs the law.
#
# ## 6. Tokens for each call
#
# Suppose that every drafted token is accepted with the same probability $a$, independently of the others. The first $i$ are all accepted with probability $a^i$, and each call adds one of the target's own:
#
# $$E(\text{tokens}) = 1 + a + a^2 + \dots + a^\gamma = \frac{1 - a^{\gamma + 1}}{1 - a}.$$
#
# ### Exercise 3: tokens per call


# %%
def tokens_per_call(a, gamma):
    """Expected tokens for each call of the target: acceptance a in [0, 1], gamma >= 1 drafted at a time."""
    raise NotImplementedError


# %%
check.tokens_per_call(tokens_per_call)

# %%
check.tokens_per_call.hint()

# %%
check.tokens_per_call.solution()

# %% [markdown]
# **Before you run:** the weak model is accepted about two times out of three. How many tokens will a call give with $\gamma = 8$: six?

# %%
gammas, per_call = (1, 2, 4, 8), {}
for gamma in gammas:
    run = list(
        speculative_steps(
            strong,
            weak,
            prompt,
            max_new_tokens=lab.scale(cpu=120, gpu=240),
            gamma=gamma,
            generator=lab.generator(1),
        )
    )
    a = fmean(overlap for step in run for overlap in step.overlaps)
    per_call[gamma] = sum(len(step.tokens) for step in run) / len(run), expected_tokens(a, gamma), a
print(
    "measured within a quarter of the prediction, every gamma:",
    all(abs(b - c) < c / 4 for b, c, _ in per_call.values()),
)
print("limit for ever longer drafts at a = 2/3:", round(expected_tokens(2 / 3, 1000), 2))

# %% tags=["nbval-ignore-output"]
for gamma, (seen, predicted, a) in per_call.items():
    print(f"gamma = {gamma}: {seen:.2f} tokens a call, predicted {predicted:.2f} (a = {a:.2f})")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for a, colour in ((0.3, GREY), (0.5, "#56B4E9"), (0.66, BLUE), (0.8, "#CC79A7"), (0.95, ORANGE)):
    ax.plot(range(1, 13), [expected_tokens(a, g) for g in range(1, 13)], color=colour, label=f"a = {a}")
ax.plot(gammas, [seen for seen, *_ in per_call.values()], "o", color="black", label="measured, weak model")
ax.set(xlabel="gamma: tokens drafted at a time", ylabel="tokens for each call", ylim=(0, 9))
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Figure: expected tokens per call against gamma for five acceptance rates, and the runs measured with the weak model (a about two thirds) as dots.*
#
# Not six, but under three. With $a = 2/3$ even an endless draft gives no more than $1/(1 - a) = 3$ tokens a call: one rejection ends the round. Long drafts pay only if nearly everything is accepted.
# (Acceptance is not really the same everywhere: after a rejection the text is often at a difficult place. So measured values stray a little around the formula.)
#
# ### Exercise 4: a draft without a model
#
# Often a text repeats parts of itself: an answer quotes the question, corrected code resembles the code. Then no model is needed for drafting. Look for the last few tokens earlier in the text, and propose what followed them there.


# %%
def look_up(text, longest, limit):
    """What followed the longest earlier match of the text's end: at most `limit` ids, [] if nothing matches.

    Try the last `longest` tokens first, then fewer, down to one. Of several matches the latest counts.
    The end itself, with nothing behind it, is no match; one that overlaps it is.
    """
    raise NotImplementedError


# %%
check.look_up(look_up)

# %%
check.look_up.hint()

# %%
check.look_up.solution()

# %% [markdown]
# Your function can be a draft: an object with a method `propose(text, limit)` that returns ids. (As shipped the stub proposes nothing; `arlab`'s `LookupDraft` does the same as the solution, and goes round when a match runs into the end of the text.)


# %%
class Mine:
    def propose(self, text, limit):
        try:
            return look_up(text, 3, limit)
        except NotImplementedError:
            return []


mine = speculative_decoding(strong, Mine(), prompt, max_new_tokens=60, filters=[Temperature(0)])
print("the text stays greedy's:", mine.tokens() == alone)
print("LookupDraft on [5, 6, 7, 8, 5, 6]:", LookupDraft().propose([5, 6, 7, 8, 5, 6], 7).tokens)

# %% [markdown]
# ## 7. Time
#
# Tokens per call are not yet time. Let a drafted token cost $c$ times as much as a call of the target. A round then costs $\gamma c + 1$ calls, if judging $\gamma + 1$ tokens costs as much as one, and
#
# $$\text{speed-up} = \frac{1 - a^{\gamma+1}}{(1 - a)(\gamma c + 1)}.$$
#
# One drafted token in a round ($\gamma = 1$) pays if $1 + a > 1 + c$, that is if **$a > c$**: more often accepted than it is costly. Section 1 adds that judging is not quite free: put your machine's factor in place of the 1.
#
# Four experiments, everything greedy, so that the texts must be the same. (Short runs on a busy machine vary: `repeats=3` keeps the fastest of three.)
#
# **Before you run:** which of the four will be faster than plain decoding, and which slower?
#
# 1. SmolLM2 repeats a paragraph word for word; draft: lookup.
# 2. SmolLM2 writes a story; draft: lookup.
# 3. SmolLM2 writes a story; draft: its own first 20 of 30 layers.
# 4. Strong Shakespeare; draft: weak Shakespeare.

# %% tags=["nbval-ignore-output"]
PARAGRAPH = (
    "Mr. Thornton arrived at the harbour at seven in the morning. The harbour was quiet, and the boats lay "
    "in two long rows. He walked along the first row until he came to the boat with the red sail, and there "
    "he waited for the captain of the boat with the red sail."
)


def chat(request):
    return tokenizer.chat([{"role": "user", "content": request}], add_generation_prompt=True)


repeat, story = (
    chat(f"Repeat this text word for word:\n\n{PARAGRAPH}"),
    tokenizer.encode("Once upon a time there was a"),
)
experiments = (  # name, target, draft, tokenizer, prompt, new tokens, gammas, repeats
    ("copying, lookup", model, LookupDraft(), tokenizer, repeat, 60, (1, 4, 8), 1),
    ("story, lookup", model, LookupDraft(), tokenizer, story, 24, (4,), 1),
    ("story, 20 of 30 layers", model, EarlyExit(model, 20), tokenizer, story, 16, (1, 4), 1),
    ("Shakespeare, weak model", strong, weak, letters, prompt, 80, (1, 2, 4, 8), 3),
)
timelines = {}
for name, large, cheap, words, start, new, gammas, repeats in experiments:
    more = {"eos_id": words.eos_id, "max_new_tokens": new, "repeats": repeats, "name": name}
    timelines[name] = SpeculationTimeline.run(
        large, cheap, words, start, gammas=gammas, filters=[Temperature(0)], **more
    )

# %%
print("all texts are those of plain greedy decoding:")
for name, view in timelines.items():
    print(f"  {name}:", all(one["parts_at"] is None for one in view.summaries.values()))

# %% tags=["nbval-ignore-output"]
points = []
print(" " * 25 + "gamma  accepted  tok/call predicted         c   judging   speedup cost model")
for name, view in timelines.items():
    one_call = fmean(view.plain.seconds[1:])  # without the first, which holds the prompt
    for gamma, one in view.summaries.items():
        later = view.runs[gamma][1:] or view.runs[gamma]
        drafted = sum(len(step.drafted) for step in later)
        c = sum(step.draft_seconds for step in later) / max(drafted, 1) / one_call
        judging = fmean(step.verify_seconds for step in later) / one_call
        a, per = one["acceptance"] or 0.0, one["tokens_per_call"]
        modelled = per / (drafted / len(later) * c + judging)  # a round's tokens over a round's cost
        points.append((name, gamma, a, c, one["speedup"]))
        figures = (a, per, one["predicted_tokens_per_call"], c, judging, one["speedup"], modelled)
        print(f"{name:24} {gamma:5} " + " ".join(f"{figure:9.2f}" for figure in figures))

# %% [markdown]
# For each run: the share of tested drafts that were accepted; tokens per call, measured and by section 6; $c$; what judging a round costs, in calls for one token; the speed-up, measured, and as a round's tokens over a round's cost. From $c$ on everything is measured in time, and differs from machine to machine.
#
# - **Copying:** nearly all drafts are accepted and cost nothing ($c = 0$): the speed-up is the tokens per call over the price of judging. On a single core with nothing else to do we measured one and a half to two; where judging is nearly free it comes near the tokens per call.
# - **Story, lookup:** most calls have no draft at all, and where a single word is found again ("a", "town"), what followed it then seldom follows now: little more than one token a call. The guess is free, **judging it is not**: a gain only where judging costs next to nothing.
# - **Early layers:** each drafted token reads 20 layers and the head, which is as large as eight layers: three quarters of all weights, so $c$ is about .75. Few are accepted, since nobody trained the head to read the stream that early. $a > c$ fails: slower than plain decoding, and the slower the more is drafted.
# - **Weak Shakespeare:** nearly two thirds are accepted, and the draft has only 7 % of the target's weights. But $c$ is nearer a third or a half: models so small fit in the processor's own memory, and what a call costs is Python and a dozen small operations for each layer, for the weak model too. Even with $c = .3$ the formula promises 1.3 at best and a loss at $\gamma = 8$, and judging takes its part of that. (With a target that really waits for its weights the same acceptance would be worth twofold speed.)
#
# How early is too early? The share of places at which the first layers name the same best token as all 30, and the share of the weights that they and the head hold:

# %%
agreement, cost = {}, {}
with torch.inference_mode():
    ids = torch.tensor([tokenizer.encode(STORY)], device=lab.device)
    best = model(ids)[0].argmax(-1)
    for layers in (10, 20, 25, 29):
        early = EarlyExit(model, layers)
        agreement[layers] = float((early(ids)[0].argmax(-1) == best).float().mean())
        cost[layers] = sum(p.numel() for p in early.parameters()) / count
print("share of the weights read:", {layers: round(c, 2) for layers, c in cost.items()})
print("20 layers agree at less than half of the places:", agreement[20] < 0.5)
print(
    "no depth agrees more often than its share of the weights:",
    all(a < cost[n] for n, a in agreement.items()),
)

# %% tags=["nbval-ignore-output"]
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
left.plot(list(agreement), list(agreement.values()), "o-", color=ORANGE, label="a: agrees with all 30")
left.plot([*cost, 30], [*cost.values(), 1], color=GREY, ls="--", label="c: its share of the weights")
left.set(xlabel="layers of SmolLM2 used as draft", ylabel="a, c", ylim=(0, 1.02), xlim=(0, 30))
left.legend(fontsize=8)
for a, c, colour, words in (
    (0.9, 0.0, GREEN, "a = .9, c = 0"),
    (0.66, 0.05, BLUE, "a = .66, c = .05"),
    (0.66, 0.3, "#56B4E9", "a = .66, c = .3"),
    (0.15, 0.74, ORANGE, "a = .15, c = .74"),
):
    curve = [expected_tokens(a, g) / (g * c + 1) for g in range(1, 13)]
    right.plot(range(1, 13), curve, color=colour, label=words)
for name, colour, marker in (
    ("copying, lookup", GREEN, "o"),
    ("story, 20 of 30 layers", ORANGE, "s"),
    ("Shakespeare, weak model", "#56B4E9", "^"),
):
    found = [(gamma, speedup) for one, gamma, _, _, speedup in points if one == name]
    right.plot(*zip(*found, strict=True), marker, color=colour, mec="black", label=f"measured: {name}")
right.axhline(1, color="black", lw=1)
right.set(xlabel="gamma", ylabel="speed-up", ylim=(0, 7))
right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
plt.show()

# %% [markdown]
# *Figure: left, how often the first layers of SmolLM2 name the final token, and what they cost (dashed): $a$ is below $c$ everywhere. Right, the cost model for four pairs of a and c, with the measured runs as marks; above the black line speculation is faster.*
#
# The curves take judging for free; where it is not, the measured marks lie below them. **So speculation is slower when** the draft costs more than it is right ($a < c$); when $\gamma$ is too large for the acceptance; when judging several tokens
# costs as much as writing them, because the arithmetic is used up already: a single slow core, or a server that decodes many texts at once. It is the idle arithmetic of section 1 that pays.
#
# ## 8. Side by side
#
# Both runs on one clock: above without, below with speculation. Press play, or scrub; move gamma; look for rejected tokens (struck out), corrections and bonus tokens.

# %% tags=["nbval-ignore-output"]
timelines["copying, lookup"]

# %% [markdown]
# 1. Where is a draft rejected? What did it propose there, and why just that?
# 2. Which $\gamma$ is the fastest here? Is it the one with the fewest calls?
# 3. When does the lower lane stand still for long, and what is it doing then?
#
# <details><summary>What to look for</summary>
#
# 1. At the very start: the only earlier match is a line break that closes a turn of the chat, and behind it another turn began. From the second call on the paragraph is found, and followed word by word. At $\gamma = 8$ once more, near the end: behind "the red sail" the paragraph goes on with a comma, and the model stops.
# 2. More drafts, fewer calls, but each call judges more and takes longer. On one core 8 was hardly faster than 4, and sometimes slower; the table of the view says how it is on yours.
# 3. At the start: both lanes first read the prompt, about a hundred tokens in one pass.
#
# </details>
#
# And the case in which it is slower:

# %% tags=["nbval-ignore-output"]
timelines["story, 20 of 30 layers"]

# %% [markdown]
# Here the time between two verifications is the draft's: for each token that it proposes, 20 of 30 layers and the head have to be read. The lower lane is behind all the way.
#
# ## Check yourself
#
# **1. What limits the speed of decoding one token at a time, and which of its parts does speculation use better?**
#
# <details><summary>Answer</summary>
# All weights have to be read from memory for each token, and each is used once: the arithmetic waits (section 1). A verification uses every weight it reads for several tokens. The sequence stays a sequence: the draft is written token by token, and each round needs the one before.
# </details>
#
# **2. Draft, verification, acceptance or correction: who does what, and how many calls of the large model does it take?**
#
# <details><summary>Answer</summary>
# The draft writes gamma tokens; the target judges all of them in one call and adds one token of its own: a correction after the first rejection, a bonus if there was none. Each call gives 1 to gamma + 1 tokens.
# </details>
#
# **3. The lecture corrects a mismatch by sampling from the large model. What is wrong with that?**
#
# <details><summary>Answer</summary>
# The accepted drafts have delivered min(p, q) already. Another draw from all of p delivers that part again: [.44, .42, .14] instead of [.6, .3, .1] (section 3). Draw from norm(max(0, p - q)).
# </details>
#
# **4. Does a bad draft make the text worse?**
#
# <details><summary>Answer</summary>
# No. The law is the target's for every draft, one without a single token in common included (section 4). A bad draft costs time only.
# </details>
#
# **5. p = (.5, .5), q = (.9, .1): how often is a drafted token accepted, and what is drawn after a rejection?**
#
# <details><summary>Answer</summary>
# Overlap .5 + .1 = .6. The residual is (0, .4), so always token 1. Check: token 0 comes out with .5, token 1 with .1 + .4 = .5.
# </details>
#
# **6. a = .8, gamma = 4: how many tokens for each call? Up to which cost c of a drafted token is that faster than plain decoding?**
#
# <details><summary>Answer</summary>
# (1 - .8^5) / .2 = 3.36. Faster while 4c + 1 < 3.36, so c below .59, if judging is free.
# </details>
#
# **7. The lecture lists the difficulty of finding a draft close to the large model. Which ones have you used here, and what does each need?**
#
# <details><summary>Answer</summary>
# A smaller model of the same tokenizer (trained separately, own cache), the target's early layers (no weights, but a high c, and poor without training for it), a lookup in the text (nothing at all; good where text repeats).
# </details>
#
# ## What to try next
#
# - In section 7 give SmolLM2 something of your own to copy or to edit. At which share of new text does the gain vanish?
# - Write a draft that proposes only when its match is at least three tokens long. Fewer drafts, more of them accepted: which wins?
# - Sample with $T = 1$ instead of greedy in section 7, experiment 1. Why does the acceptance fall, although the draft is the same?
#
# ## Where the idea comes from
#
# - Leviathan, Kalman and Matias, *Fast Inference from Transformers via Speculative Decoding*, 2023; Chen and others, *Accelerating Large Language Model Decoding with Speculative Sampling*, 2023: the rule and the proof, found twice.
# - Stern, Shazeer and Uszkoreit, *Blockwise Parallel Decoding for Deep Autoregressive Models*, 2018: the greedy case.
# - Saxena, *Prompt Lookup Decoding*, 2023; Yang and others, *Inference with Reference*, 2023: drafts from the text.
# - Elhoushi and others, *LayerSkip*, 2024: early layers as a draft, trained for it.
#
# [← 12 Contrastive decoding](12_contrastive_decoding.ipynb) · [14 Choosing a decoder →](14_choosing_a_decoder.ipynb)
