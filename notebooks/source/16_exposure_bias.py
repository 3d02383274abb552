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
# # 16 · Exposure bias: living on your own words
#
# Trained with teacher forcing, a model has only ever read the truth. When it writes, it reads itself, and what it reads may be wrong.
# Training has not told it what to do then. Lecture 001 calls the trouble **exposure bias** and says that errors cascade; lecture 004 says, more exactly, that
# the behaviour of the model is then *underspecified*. In this notebook you see both, on a task small enough to know every right answer, and you measure
# what the remedies are worth.
#
# **You will be able to**
#
# - measure accuracy by position, fed the truth and running free, and say when the two differ and when they do not;
# - put one error into an answer and tell what the model does next, and why training did not decide it;
# - build scheduled sampling and random prefixes, and say what each costs and brings;
# - derive the REINFORCE gradient, check it against an enumeration, and lower its variance with a baseline;
# - say which of lecture 001's challenges you have seen in numbers, and where.
#
# **Time** 80 minutes. **Before this** notebook 06 (teacher forcing, training on own predictions), 09 (temperature), 11 (beam search).
# **Follows** lecture 001 (challenges of autoregressive models; exposure bias), lecture 004 (exposure bias and its solutions).
#
# [← 15 Encoder and decoder](15_encoder_decoder.ipynb) · [17 Generation order →](17_generation_order.ipynb)

# %% tags=["nbval-ignore-output"]
import copy
import math

import matplotlib.pyplot as plt
import torch
from torch import nn

import arlab
from arlab.decoding import Temperature, beam_search, greedy, sample
from arlab.decoding.sampling import draw
from arlab.exercises import exposure_bias as check
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.recipes import exposure_bias as recipe
from arlab.text.batches import IGNORE, Batch, shifted
from arlab.training.exposure import accuracy_by_position, corrupt_prefixes, scheduled_sampling
from arlab.training.loop import fit, train
from arlab.training.losses import next_token_loss
from arlab.training.reinforce import every_answer, expected_reward, policy_loss, reinforce
from arlab.views import ErrorPropagation

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#999999"
RUN_IT = False  # True: run what is recorded again (some minutes)
recorded = recipe.measure() if RUN_IT else recipe.recorded()
SOURCE = "run now" if RUN_IT else "recorded, five seeds"

# %% [markdown]
# ## 1. A task with two explanations
#
# The question is a start $s$ and a step $d$; the answer is twelve digits, $y_t = s + t\,d \bmod 10$ for $t = 0, 1, \dots, 11$. There are a hundred questions, and each has one right
# answer. So we can check every digit that a model writes, whatever came before it.

# %%
TIME = 12
questions = [[s, 10 + d] for s in range(10) for d in range(10)]  # ids 0..9: digits, 10..19: steps +0..+9
names = [*"0123456789", *(f"+{d}" for d in range(10))]


def answer(question):
    s, d = question[0], question[1] - 10
    return [(s + t * d) % 10 for t in range(TIME)]


truth = torch.tensor([answer(q) for q in questions])  # (100, 12)
for q in ([3, 14], [7, 18]):
    print(*(names[i] for i in q), " -> ", *answer(q))

# %% [markdown]
# Two rules give these digits (all sums modulo 10):
#
# - **from the digit before**: $y_t = y_{t-1} + d$. Local and easy: a table of a hundred sums.
# - **from the question**: $y_t = s + t\,d$. It needs the position, and a product.
#
# **Before you run:** on the training data, how many of the 1,100 digits behind the first does each rule get right? And if the digit before is *wrong*, what does each of them write?

# %%
s, d = (torch.tensor(questions) - torch.tensor([0, 10])).T[..., None]  # (100, 1) each
t = torch.arange(TIME)
by_digit = (truth[:, :-1] + d) % 10
by_question = (s + t * d)[:, 1:] % 10
print(
    "from the digit before:",
    int((by_digit == truth[:, 1:]).sum()),
    " from the question:",
    int((by_question == truth[:, 1:]).sum()),
)

spoilt = truth[37].clone()  # question 3 +7
spoilt[4] = (spoilt[4] + 5) % 10  # one error, at position 4
carries_on = spoilt.clone()
for k in range(5, TIME):
    carries_on[k] = (carries_on[k - 1] + 7) % 10
print("right                ", *truth[37].tolist())
print("from the digit before", *carries_on.tolist())
print("from the question    ", *spoilt.tolist())

# %%
fig, ax = plt.subplots(figsize=(8, 2.5), layout="constrained")
rows = torch.stack([truth[37], carries_on, spoilt])
ax.imshow(rows != truth[37], cmap="Oranges", vmin=0, vmax=1.6, aspect="auto")
for row in range(3):
    for k in range(TIME):
        ax.text(k, row, int(rows[row, k]), ha="center", va="center")
ax.add_patch(plt.Rectangle((3.5, 0.5), 1, 2, fill=False, lw=2))
ax.set(xlabel="position t", xticks=range(TIME), title="3 +7, with an error at position 4 (framed)")
ax.set_yticks(range(3), ["right", "from the digit before", "from the question"])
plt.show()

# %% [markdown]
# *Figure: the right answer and what the two rules make of it when position 4 is wrong; orange cells are wrong. One rule never comes back, the other is right again at once.*
#
# On every row of the training data the two rules agree. **The data do not say which one to learn**, and as long as the prefix is right it does not matter. After an error it is all
# that matters. That is what "underspecified" means.
#
# ## 2. Fed the truth, fed itself
#
# A decoder-only model reads $s$, $d$ and the digits so far. Its targets are the digits; the question itself is no target (`IGNORE`). We train with teacher
# forcing for 400 steps and keep a copy from step 100, when it is half done.


# %%
def new_model(seed=0):
    sizes = {"vocab_size": 20, "context_length": TIME + 2, "d_model": 64, "layers": 1, "heads": 4}
    config = DecoderConfig.gpt2(**sizes, init="xavier")
    return DecoderLM(config, seed=seed).to(lab.device)


whole = shifted(torch.cat([torch.tensor(questions), truth], dim=1))  # s d y0 .. y10 -> d y0 .. y11
whole.targets[:, 0] = IGNORE  # the step cannot be guessed from the start


def batches(seed=0, rows=50):
    generator = lab.generator(seed)
    while True:
        pick = torch.randint(100, (rows,), generator=generator)
        yield Batch(whole.inputs[pick], whole.targets[pick])


forced = new_model()
for step in train(forced, batches(), steps=400, lr=3e-3, warmup=20):
    if step.step == 100:
        half_done = copy.deepcopy(forced)
print(f"loss after 400 steps below 0.02: {step.loss < 0.02}")

# %% [markdown]
# Now two measurements of the same model on the same questions. **Fed the truth** is one parallel pass: at each position, is the argmax right, given the true digits before it? **Running free** is a loop: the model's
# own digit, right or wrong, goes into the input of the next position. Here is the loop.


# %%
@torch.no_grad()
def fed_the_truth(model):
    said = model(whole.inputs.to(lab.device)).argmax(-1).cpu()
    return (said == whole.targets)[:, 1:].float().mean(0)  # (12,): a share for each digit


@torch.no_grad()
def running_free(model):
    ids, right = torch.tensor(questions), []
    for k in range(TIME):
        said = model(ids.to(lab.device))[:, -1].argmax(-1).cpu()
        right.append((said == truth[:, k]).float().mean())
        ids = torch.cat([ids, said[:, None]], dim=1)  # its own word, right or wrong
    return torch.stack(right)


# %% [markdown]
# **Before you run:** the half-done model is wrong in about one digit of ten when it is fed the truth. How often is its *last* digit right when it runs free? And the finished model's?

# %%
found = {
    (name, how.__name__): how(m)
    for name, m in (("half done", half_done), ("finished", forced))
    for how in (fed_the_truth, running_free)
}
for (name, how), shares in found.items():
    print(f"{name}, {how}: right at every position: {bool((shares == 1).all())}")
gap = found["half done", "fed_the_truth"] - found["half done", "running_free"]
print("half done: running free is worse by more than .15 on average:", bool(gap.mean() > 0.15))

# %% [markdown]
# The library's `accuracy_by_position` is both (position 0 of the batch is the ignored one). It also takes a **slip**: with some probability a digit is replaced by another one *after* the model has said it, as an unlucky draw would do it.
# What the model said counts, not the accident. The finished model makes no errors of its own; with slips we see what it does after errors.
#
# **Before you run:** ten digits of a hundred slip. What share of the finished model's last digits would be right if each slip spoilt only itself? If no
# slip were ever repaired? And what do you expect?

# %%
for m, name in ((half_done, "half done"), (forced, "finished")):
    run = accuracy_by_position(m, [whole], free_running=True)
    same = torch.allclose(run.accuracy[1:], found[name, "running_free"])
    print(f"{name}: arlab's free run and the loop agree: {same}")


def with_slips(model, seed=1):
    many = [Batch(*(half.repeat(4, 1) for half in whole))]
    slips = {"slip": 0.1, "symbols": 10, "generator": lab.generator(seed)}
    run = accuracy_by_position(model, many, free_running=True, **slips)
    return run.accuracy[1:]


slipping = with_slips(forced)
print("finished, with slips: above .85 at position 1:", bool(slipping[1] > 0.85))
print("                      below .7 at position 9: ", bool(slipping[9] < 0.7))

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 2.9), sharey=True, layout="constrained")
for ax, name in zip(axes, ("half done", "finished"), strict=True):
    ax.plot(found[name, "fed_the_truth"], color=BLUE, marker="o", label="fed the truth")
    ax.plot(found[name, "running_free"], color=ORANGE, ls="--", marker="s", label="running free")
    ax.set(xlabel="position t", xticks=range(TIME), ylim=(0, 1.05), title=name)
axes[1].plot(slipping, color=PURPLE, ls="-.", marker="^", label="running free, 10 % slips")
axes[1].plot(0.9**t, color=GREY, ls=":", label="no slip ever repaired: $.9^t$")
axes[0].set_ylabel("share of right digits")
for ax in axes:
    ax.legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# *Figure: accuracy by position. Left, after 100 steps: the two curves part at position 2. Right, after 400 steps: both at 1, so there is nothing to see, until the hand slips (purple); dotted, $.9^t$: a digit is right only if none of the $t$ before it slipped.*
#
# Three things to read off.
#
# - **Cascading errors**: the half-done model is right nine times in ten when the prefix is true; running free, much less, for each of its errors spoils what follows.
# - **A perfect model has no exposure bias to show.** It never leaves the true prefixes. Look for the trouble where models err.
# - With slips, the finished model stays close to the dotted curve: it hardly repairs anything. (If each slip spoilt only itself, the purple curve would stay at 1, since slips themselves are not counted.) The exception is position 10: there the answer is $s + 10 d = s$, whatever the step, which is easily read off the question.
#
# (Why is the half-done model so poor at position 1? Perhaps because from position 2 on there is one more way to the answer: the step from one digit to the
# next, seen in the answer itself, $y_t = 2 y_{t-1} - y_{t-2}$. A third rule that fits all the data.)
#
# ### Exercise 1: the loop
#
# For any model, and questions of one token each (a start symbol):


# %%
def own_accuracy(model, start, targets):
    """The share of right words at each position when the model reads its own words.

    model(ids) gives logits (rows, time, vocab) for ids (rows, time). start: (rows,), each row's first input.
    targets: (rows, T), the right words; nothing is ignored. The model's word is the argmax.
    Returns a tensor (T,).
    """
    raise NotImplementedError


# %%
check.own_accuracy(own_accuracy)

# %%
check.own_accuracy.hint()

# %%
check.own_accuracy.solution()

# %% [markdown]
# ## 3. One error, and then?
#
# Now exactly one accident: the right digits up to position 3, a wrong one at position 4, and then the model goes on alone. We try all nine wrong digits in each
# of the hundred answers. For each distance from the error we count how many digits are right, and how many **carry on** from the wrong digit as if it had been right.
#
# **Before you run:** which of the two rules of section 1 has teacher forcing taught?


# %%
def after_error(model, position=4):
    """(right, carried on) at distances 1, 2, ... from the error: two shares for each."""
    wrong = (truth[:, position, None] + torch.arange(1, 10)) % 10  # (100, 9)
    before = torch.cat([torch.tensor(questions), truth[:, :position]], dim=1).repeat_interleave(9, dim=0)
    start = torch.cat([before, wrong.view(900, 1)], dim=1)
    said = greedy(model, start, max_new_tokens=TIME - 1 - position).ids[:, 0].cpu().view(100, 9, -1)
    distance = torch.arange(1, TIME - position)
    on_from_it = (wrong[:, :, None] + distance * d[:, :, None]) % 10
    return tuple((said == what).float().mean((0, 1)) for what in (truth[:, None, position + 1 :], on_from_it))


right, carried = after_error(forced)
print("right at once, below .3:", bool(right[0] < 0.3))
print("it carries on more often than that:", bool(carried[0] > right[0]))
print("neither, in more than a fifth of the cases:", bool(1 - right[0] - carried[0] > 0.2))
print("five models, trained alike but for the seed (recorded); directly behind an error at any position:")
for key, words in (("right", "right again"), ("carried", "carries on")):
    print(f"    {words}: " + "  ".join(f"{run[key][0]:.2f}" for run in recorded["methods"]["teacher forcing"]))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
ax.plot(range(1, 8), right, color=BLUE, marker="o", label="right again")
ax.plot(range(1, 8), carried, color=ORANGE, ls="--", marker="s", label="carries on from the error")
ax.set(
    xlabel="distance from the error at position 4",
    ylabel="share",
    ylim=(0, 1),
    title="one error, trained with teacher forcing",
)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: after one wrong digit, the share of right digits (blue) and of digits that follow from the wrong one (orange), by distance (6 is position 10).*
#
# Directly behind the error this model adds the step to the wrong digit in about half of the cases; in many others it writes something that fits *neither*
# rule. It has learned some mixture of the rules, and nothing in training asked it to choose: another seed (other first weights, another order of the same
# data) gives another mixture, and the last of the five goes by the question more often than by the digit. That is "underspecified", in numbers.
#
# ## 4. Lecture 004's remedies
#
# The lecture names three remedies, in two groups. We take them one by one.
#
# | | remedy | here |
# |---|---|---|
# | do not leave the true prefixes | **better modelling**: fewer errors at each step | train longer (4.1) |
# | | **better decoding**: stay where the likelihood is high | colder draws, greedy, beams (4.2) |
# | learn what to do off them | **better learning**: from generated sequences and how good they are | scheduled sampling, random prefixes, rewards (4.3 to 4.5, 5) |
#
# ### 4.1 Better modelling
#
# Teacher forcing alone, from 25 to 400 steps (recorded, one seed), each model measured in three ways, averaged over the last six positions.
#
# **Before you run:** which of the three numbers does more training raise to 1? Which not?


# %%
def late(shares):
    return sum(shares[6:]) / 6


print("steps   fed the truth   running free   running free, 10 % slips")
for row in recorded["better_modelling"]:
    truth_fed, itself, slips = (late(row[key]) for key in ("truth", "itself", "slips"))
    print(f"{row['steps']:5}   {truth_fed:13.2f}   {itself:12.2f}   {slips:24.2f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
steps = [row["steps"] for row in recorded["better_modelling"]]
for key, colour, style, label in (
    ("truth", BLUE, "o-", "fed the truth"),
    ("itself", ORANGE, "s--", "running free"),
    ("slips", PURPLE, "^-.", "running free, 10 % slips"),
):
    ax.plot(steps, [late(row[key]) for row in recorded["better_modelling"]], style, color=colour, label=label)
ax.set(
    xscale="log",
    xlabel="training steps",
    ylabel="share right, t = 6 .. 11",
    ylim=(0, 1.05),
    title="teacher forcing (recorded)",
)
ax.set_xticks(steps, [str(n) for n in steps])
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: late accuracy against training steps. Fed the truth it rises first, running free soon after; with slips it stays far below.*
#
# Better modelling removes the model's *own* errors, and with them the exposure bias that it suffers from. It does not teach what to do after an error: once the model is right on true prefixes, twice as many steps of the same kind bring next to nothing with slips.
#
# ### 4.2 Better decoding
#
# Give the finished model an unsteady hand: with probability .1 a digit is drawn at random, $p'(y) = .9\,p(y) + .1 \cdot \frac1{10}$. `recipe.Slipping(model)` is that, a language model like any other. Now change nothing but the decoder.
#
# **Before you run:** does temperature .6 help, and how many *whole* answers are right at temperature 1? What is the share of right digits under greedy decoding?

# %%
hand = recipe.Slipping(forced)
decoded = {}
for T in (1.0, 0.8, 0.6, 0.4):
    how = {"filters": [Temperature(T)], "generator": lab.generator(), "n": 4}
    decoded[f"T = {T}"] = sample(hand, questions, max_new_tokens=TIME, **how).ids.cpu() == truth[:, None]
decoded["greedy"] = greedy(hand, questions, max_new_tokens=TIME).ids.cpu() == truth[:, None]
beams = beam_search(hand, questions, max_new_tokens=TIME, beams=4)
decoded["beam 4"] = beams.ids[:, :1].cpu() == truth[:, None]
all_right = {name: float(good.all(-1).float().mean()) for name, good in decoded.items()}  # whole answers
print(f"T = 1: below .5: {all_right['T = 1.0'] < 0.5}; T = 0.6: above .8: {all_right['T = 0.6'] > 0.8}")
print(f"greedy and beam 4, all right: {all_right['greedy'] == all_right['beam 4'] == 1}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7, 2.5), layout="constrained")
x = torch.arange(len(decoded))
ax.bar(x - 0.2, [good.float().mean() for good in decoded.values()], 0.4, color=BLUE, label="digits")
ax.bar(x + 0.2, list(all_right.values()), 0.4, color=ORANGE, hatch="//", label="whole answers")
ax.set(ylabel="share right", ylim=(0, 1.35), title="the same model, with an unsteady hand")
ax.set_yticks([0, 0.5, 1])
ax.set_xticks(x, decoded)
ax.legend(frameon=False, loc="upper left", ncols=2)
plt.show()

# %% [markdown]
# *Figure: the share of right digits and of right whole answers for six decoders, on the same distribution.*
#
# A colder draw slips less often; greedy decoding and beams never slip here, and everything is right. For a task with one right answer greedy decoding is
# enough, and it costs nothing. For a text that should vary you want to draw (notebooks 09 and 14), and then you leave the likely prefixes now and then.
#
# ### 4.3 Learning from generated words: scheduled sampling
#
# If the model is to meet its own words at test time, feed it some in training. **Scheduled sampling** (Bengio et al., 2015) goes through the row from left to right; at each position it replaces the true input, with probability $r$, by a draw from the model; the targets stay. ("Scheduled": in the paper $r$ grows during training.) Here is one batch of it.


# %%
@torch.no_grad()
def scheduled(model, batch, rate, generator):
    """The inputs with some of the model's own words in them: a pass for each position."""
    mixed = batch.inputs.clone()
    coins = torch.rand(batch.inputs.shape, generator=generator)
    for k in range(1, TIME):  # input k + 1 is digit k - 1; inputs 0 and 1 are the question
        said = draw(model(mixed[:, : k + 1].to(lab.device))[:, -1].cpu(), generator)
        mixed[:, k + 1] = torch.where(coins[:, k + 1] < rate, said, mixed[:, k + 1])
    return mixed


one = next(batches(seed=5))
mixed = scheduled(half_done, one, 0.5, lab.generator())
changed = one.inputs[:, 2:] != mixed[:, 2:]
print("rate 0 changes nothing:", torch.equal(scheduled(half_done, one, 0.0, lab.generator()), one.inputs))
print("rate 0.5 changes some digits:", bool(changed.any()))
print("the question stays:", torch.equal(mixed[:, :2], one.inputs[:, :2]))

# %% [markdown]
# `scheduled_sampling(model, batches, rate, generator=...)` is the library's. At rate 0 it is exactly teacher forcing, to the last bit of the trained weights:

# %%
pair = new_model(3), new_model(3)
fit(pair[0], batches(), steps=5)
fit(pair[1], scheduled_sampling(pair[1], batches(), 0.0), steps=5)
print(
    "the same weights after five steps:",
    all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in pair), strict=True)),
)

# %% [markdown]
# Two doubts before you see its figures. The model's own words are *good* once it is trained, so there is little to learn from them. And lecture 004's condition is not met: nobody says how good the generated prefix was, the targets are the old ones whatever was written. (In this task they are right all the same, since each digit follows
# from the question: what imitation learning calls DAgger, an expert who says the right next step after whatever the learner did. Running text has no such expert; notebook 06 showed what comes of that.)
#
# ### 4.4 Random prefixes
#
# Cheaper: replace inputs by *random* tokens. No model is asked, so training stays one parallel pass. At a rate
# of .15 about every seventh digit that the model reads is wrong, so it cannot rely on the digit before.
#
# ### Exercise 2: noisy prefixes


# %%
def noisy_prefix(inputs, rate, vocab, generator):
    """Inputs with each token behind the first replaced, with probability `rate`, by another one.

    inputs: (rows, time) int64; column 0 is a start symbol and stays. The wrong token is one of
    0 .. vocab - 1, all but the true one equally likely. generator: for every draw. Returns a new tensor.
    """
    raise NotImplementedError


# %%
check.noisy_prefix(noisy_prefix)

# %%
check.noisy_prefix.hint()

# %%
check.noisy_prefix.solution()

# %% [markdown]
# The library's is `corrupt_prefixes(batches, rate, vocab_size, generator=...)`, a stream of batches like the others. Training on it, now, for 800 steps (twice as many; teacher forcing gained nothing from twice as many in 4.1):

# %%
noisy = new_model()
stream = corrupt_prefixes(batches(), 0.15, 10, generator=lab.generator(9))
fit(noisy, stream, steps=800, lr=3e-3, warmup=20)
repaired, still_carried = after_error(noisy)
print(f"without errors, all right: {bool(running_free(noisy).mean() > 0.99)}")
print(f"the digit after the error is right, above .6: {bool(repaired[0] > 0.6)}")
print(f"it carries on, below .3: {bool(still_carried[0] < 0.3)}")

# %% [markdown]
# Move the error (arrow keys or a click) and choose a wrong digit. Both models answer the same question; the chart below has all errors at all positions. Type another question, such as `7 +3`, into the text box.

# %% tags=["nbval-ignore-output"]
models = {"teacher forcing": forced, "random prefixes": noisy}


def asked_for(text):
    """The models' answer to a question such as '3 +4'."""
    words = text.split()
    if (
        len(words) != 2
        or not all(word in names for word in words)
        or words[0] not in "0123456789"
        or words[1] in "0123456789"
    ):
        raise ValueError(f"{text!r} is no question; write a digit and a step, such as 3 +4")
    question = [names.index(word) for word in words]
    return {"models": models, "answer": answer(question), "prompt": question, "source_tokens": words}


first = asked_for("3 +7")
view = ErrorPropagation(**first, symbols=names, choices=range(10), recompute=asked_for, position=4, symbol=6)
view

# %% [markdown]
# **Questions to answer with the controls**
#
# 1. Which wrong digits at position 4 does the teacher-forced model survive? Is it right again for good?
# 2. Move the error to position 9. What happens at position 10, and why there?
# 3. Take the question `4 +0`. What does "carry on" mean there?
# 4. Does the model trained on random prefixes ever go wrong? Where?
#
# <details><summary>Answers</summary>
#
# 1. Few, if any; mostly single right digits among wrong ones, met by chance.
# 2. With some wrong digits (the dark cells of that column) even the teacher-forced model is right again at once: the answer at position 10 is the start, whatever the step, and that is easily read off the question.
# 3. With step 0 the right answer repeats one digit; carrying on repeats the wrong one, for ever.
# 4. Seldom, and most often directly behind the error; nearly all digits after that are right again. It does not carry on.
#
# </details>

# %% [markdown]
# ### 4.5 All of them, on one plot
#
# One more: **sequence-level training**. The trained model writes whole answers with its unsteady hand, each answer
# gets the share of its right digits as a reward, and good answers are made more probable (REINFORCE; section 5 derives it). It starts from the teacher-forced
# model, and its CPU seconds come on top of those. Scheduled sampling comes in two forms: every fourth input is the model's own, or the rate grows from 0 to 1 during training.
# Random prefixes (rate .15) come with 400 steps, as in teacher forcing and scheduled sampling, and with 800. Everything below is recorded, with five seeds each;
# `python -m arlab.recipes record_16_exposure_bias` makes it again.
#
# **Before you run:** order the six by their late accuracy (digits 6 to 11) with slips. Which costs most?

# %%
methods = recorded["methods"]
print(f"{'digits 6 to 11':32}{'free, 10 % slips, by seed':32}no slips, mean   CPU s, mean")
for name, runs in methods.items():
    slips, itself = ([late(run[key]) for run in runs] for key in ("slips", "itself"))
    mean, seconds = sum(itself) / len(runs), sum(run["seconds"] for run in runs) / len(runs)
    print(f"{name:32}{'  '.join(f'{share:.2f}' for share in slips):32}{mean:14.2f}{seconds:14.0f}")

# %% tags=["nbval-ignore-output"]
looks = dict(
    zip(
        methods,
        (
            (BLUE, "-", "o"),
            (SKY, "--", "v"),
            (ORANGE, "--", "s"),
            (GREEN, "-.", "^"),
            ("black", ":", "x"),
            (PURPLE, ":", "D"),
        ),
        strict=True,
    )
)
fig, (left, right_ax) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained")
for name, runs in methods.items():
    colour, style, marker = looks[name]
    for ax, key, x in ((left, "slips", range(TIME)), (right_ax, "right", range(1, TIME))):
        shares = torch.tensor([run[key] for run in runs])
        ax.plot(x, shares.mean(0), color=colour, ls=style, marker=marker, ms=4, label=name)
        ax.fill_between(x, shares.amin(0), shares.amax(0), color=colour, alpha=0.15, lw=0)
left.set(xlabel="position t", ylabel="share right", title=f"running free, 10 % slips ({SOURCE})")
right_ax.set(xlabel="distance from one injected error", title=f"after one error ({SOURCE})")
for ax in (left, right_ax):
    ax.set(ylim=(0, 1.05))
left.legend(frameon=False, loc="lower left")
plt.show()

# %% [markdown]
# *Figure: left, accuracy by position with slips; right, share right after a single error. Lines are means of the seeds, the bands reach from the lowest to the highest.*
#
# What helped, and what did not, in every seed (the peaks at positions 5 and 10 are those where the question alone tells most: $5d$ is 0 or 5, $10d$ is 0):
#
# - **Random prefixes** help most, and cost nothing beyond teacher forcing. Trained twice as long, at about the price of scheduled sampling, they reach about
#   .9. The model had to find the rule from the question, since it could not trust what it read.
# - **Scheduled sampling** with every fourth input its own: little gain, at nearly twice the time. As the model gets better, its own words get right, and teach
#   nothing new. Growing to a rate of 1 it helps more, probably because late rows are the model's own from end to end, so that it meets what follows from each
#   of its errors. It still stays behind plain noise.
# - **Sequence-level training**: little gain again, for the highest price, and it lost a few hundredths where nothing slips. Two reasons are likely. The
#   reward is one number for twelve digits, where teacher forcing has twelve targets; and a model that is sure of itself hardly ever *tries* to repair an error: what is not tried is not rewarded.
#
# Do not take the order for a law. The slips are drawn just as the noise was, which favours the noise. And the old targets stay right after any prefix, which
# noise and scheduled sampling need; where they do not (a story, a dialogue), a judge of whole sequences still makes sense. The price is the one that
# lecture 004 names: someone has to judge, and the model has to write.
#
# ## 5. Sequence-level training, from the beginning
#
# Lecture 004's third remedy changes the model according to how good its *own* sequences are. To see every number, we take a world of 27 sequences: three letters, length three. The model is a tree: for each of the $1 + 3 + 9$ beginnings it has three logits of its own. First it learns a little corpus by likelihood.


# %%
class Tree(nn.Module):
    """Three logits after each beginning; id 3 is the start symbol."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(13, 3, dtype=torch.float64))

    def forward(self, ids):
        row = torch.zeros_like(ids[:, 0])  # () is row 0; then (a) 1, (b) 2, (c) 3, (a, a) 4, ...
        found = [self.logits[row]]
        for k in range(1, ids.size(1)):
            row = 3 * row + ids[:, k] + 1
            found.append(self.logits[row])
        return torch.stack(found, dim=1)  # (rows, time, 3)


letters = "abc"
corpus = ["aab"] * 6 + ["aba"] * 5 + ["abb"] * 4 + ["bbb"] * 3 + ["aac"] * 2 + ["abc", "cba", "bac"]
targets = torch.tensor([[letters.index(x) for x in word] for word in corpus])
text = Batch(torch.cat([torch.full((len(corpus), 1), 3), targets[:, :-1]], dim=1), targets)


def likelihood_trained():
    tree = Tree()
    optimiser = torch.optim.Adam(tree.parameters(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        next_token_loss(tree(text.inputs), text.targets).backward()
        optimiser.step()
    return Recompute(tree, vocab_size=3, bos_id=3)


# %% [markdown]
# The **reward** is something else than being like the corpus: $R(y)$ is 1 if all three letters occur, $\frac12$ if two do, 0 if only one. We list all 27 sequences with their probability and reward, so that the **expected reward**
#
# $$J = \sum_y p_\theta(y)\, R(y)$$
#
# is an exact number. **Before you run:** the corpus has 3 words of 23 with all letters. What will $J$ be, roughly: nearer .2, .5 or .9?

# %%
world = likelihood_trained()
every = torch.cartesian_prod(*[torch.arange(3)] * 3)  # (27, 3)
inputs = torch.cat([torch.full((27, 1), 3), every[:, :-1]], dim=1)
R = torch.tensor([(len(set(y)) - 1) / 2 for y in every.tolist()], dtype=torch.float64)


def log_p(model):
    return -next_token_loss(model(inputs), every, reduction="none").sum(-1)  # (27,): log p of each sequence


p = log_p(world).exp().detach()
J = (p * R).sum()
print(f"sum of the 27 probabilities {p.sum():.4f},  J = {J:.2f}")
for n in p.argsort(descending=True)[:5].tolist():
    print("".join(letters[i] for i in every[n]), f"p = {p[n]:.2f}  R = {R[n]:.1f}")
print(f"correlation of R with p over the 27: {torch.corrcoef(torch.stack([p, R]))[0, 1]:.2f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8.5, 2.5), layout="constrained")
order = p.argsort(descending=True)
bars = ax.bar(range(27), p[order], color=[(GREY, SKY, ORANGE)[int(2 * R[n])] for n in order])
for value, colour in ((0.0, GREY), (0.5, SKY), (1.0, ORANGE)):
    ax.bar(0, 0, color=colour, label=f"R = {value}")
ax.set_xticks(range(27), ["".join(letters[i] for i in every[n]) for n in order], fontsize=8)
ax.set(ylabel="p(y)", title="trained by likelihood: what is probable, and what is rewarded")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: all sequences, most probable first, coloured by their reward. The best rewarded are not the probable ones.*
#
# ### The gradient, although nothing is differentiable
#
# A draw has no gradient, and $R$ is a judge's number. Yet $J$ depends on $\theta$ through $p_\theta$ alone, and $\nabla p = p \,\nabla \log p$:
#
# $$\nabla J = \sum_y R(y)\, \nabla p(y) = \sum_y p(y)\, R(y)\, \nabla \log p(y) = \mathbb E_{y \sim p}\bigl[R(y)\, \nabla \log p(y)\bigr].$$
#
# An expectation over the model's own sequences: draw some, average. That is **REINFORCE** (Williams, 1992). Here the sum has 27 terms, so we can compute it, and compare.
#
# **Before you run:** an estimate from $N$ draws is off by some distance. By what factor does it shrink from $N = 100$ to $N = 10{,}000$?

# %%
parameters = list(world.parameters())
(exact,) = torch.autograd.grad((log_p(world).exp() * R).sum(), parameters)  # of J, straight
exact = exact.flatten()  # 39 numbers
scores = [torch.autograd.grad(one, parameters, retain_graph=True)[0].flatten() for one in log_p(world)]
scores = torch.stack(scores)  # (27, 39): grad log p(y) for each y
print("sum of p R grad log p equals grad J:", torch.allclose((p * R) @ scores, exact, atol=1e-12))

for N in (100, 10_000):
    drawn = torch.multinomial(p, 50 * N, replacement=True, generator=lab.generator(N)).view(50, N)
    off = [((R[some, None] * scores[some]).mean(0) - exact).norm() / exact.norm() for some in drawn]
    print(f"N = {N:6,}: off by {sum(off) / 50:.2f} of the gradient's length, mean of 50 tries")

# %% [markdown]
# A hundred times the draws, about a tenth of the distance: it shrinks with $1/\sqrt N$. Can one do better with the same draws?
#
# ### A baseline
#
# Since $\sum_y p(y) = 1$ whatever $\theta$ is, $\mathbb E[\nabla \log p(y)] = \nabla \sum_y p(y) = 0$. So any number $b$ that does not depend on $y$ may be taken off the reward: the mean of $(R(y) - b)\,\nabla \log p(y)$ is the same. Its variance is not
# (the mean squared distance between a one-draw estimate and the gradient).
#
# **Before you run:** at which $b$ is the variance smallest? At 0, near $J$, or at 1?

# %%
print("mean of grad log p is 0:", torch.allclose(p @ scores, torch.zeros_like(exact), atol=1e-12))
variances = {}
for b in [round(0.05 * k, 2) for k in range(25)]:
    each = (R - b)[:, None] * scores  # the estimate from one draw, for each y
    variances[b] = float(p @ (each - exact).square().sum(1))
    assert torch.allclose(p @ each, exact, atol=1e-12)  # unbiased, exactly
best = min(variances, key=variances.get)
print(f"variance without baseline {variances[0.0]:.2f}, with b = 1 {variances[1.0]:.2f}")
print(f"smallest {variances[best]:.2f}, with b = {best}; J = {J:.2f}")

# %%
drawn = torch.multinomial(p, 1000, replacement=True, generator=lab.generator(7))
fig, (left, right_ax) = plt.subplots(1, 2, figsize=(9.5, 2.9), layout="constrained")
for b, colour, marker, label in ((0.0, GREY, "s", "no baseline"), (float(J), ORANGE, "o", "b = J")):
    estimate = ((R[drawn] - b)[:, None] * scores[drawn]).mean(0)
    left.plot(exact, estimate, marker, color=colour, ms=4, label=label)
left.plot([exact.min(), exact.max()], [exact.min(), exact.max()], color="black", lw=0.8)
left.set(xlabel="exact gradient, 39 coordinates", ylabel="from 1,000 draws")
left.legend(frameon=False)
right_ax.plot(list(variances), list(variances.values()), color=BLUE)
right_ax.axvline(float(J), color=ORANGE, ls="--", label="b = J")
right_ax.set(xlabel="baseline b", ylabel="variance of one draw", ylim=(0, None))
right_ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: left, each coordinate of the gradient, exact and estimated; the nearer to the diagonal, the better. Right, the variance of a one-draw estimate against the baseline: lowest near the expected reward.*
#
# $J$ is not known in practice. Draw several answers to each question, and take as baseline of each answer the mean reward of the **others**: it is near $J$, and it does not depend on the answer itself, so the gradient stays right on average (Kool et al., 2019).
#
# ### Exercise 3: the loss


# %%
def reward_loss(log_p, rewards):
    """A loss whose gradient is REINFORCE's, with the mean of the question's other answers as baseline.

    log_p: (questions, n), log-probabilities of n drawn answers to each question, with gradients.
    rewards: the same shape, constants. Returns one number, a mean over all answers; making it smaller
    makes good answers more probable.
    """
    raise NotImplementedError


# %%
check.reward_loss(reward_loss)

# %%
check.reward_loss.hint()

# %%
check.reward_loss.solution()

# %% [markdown]
# The library has `reinforce(model, prompts, reward, ...)`: it draws, judges and returns that loss. `expected_reward` enumerates. `reward(answer, question)` is any function of ids; it need not be differentiable.


# %%
def reward(answer, question):
    return (len(set(answer)) - 1) / 2


def flat_gradient(loss):
    return torch.autograd.grad(loss, parameters)[0].flatten()


asked = {"prompts": [[3]], "reward": reward, "max_new_tokens": 3}
print(
    "expected_reward's gradient is the exact one:",
    torch.allclose(flat_gradient(expected_reward(world, **asked)), exact),
)
all_of_them = every_answer(world, **asked)  # each with its probability as weight
loss = policy_loss(world, all_of_them, baseline=0.7)
print("policy_loss over all answers, b = 0.7, too: ", torch.allclose(-flat_gradient(loss), exact))

# %% [markdown]
# **Before you run:** three ways to raise $J$: the exact gradient; REINFORCE with 8 draws a step and the others as baseline; the same without a baseline. All
# take 60 steps. Which ends highest? And what becomes of the likelihood of the corpus?


# %%
def climb(loss_of, steps=60, lr=4.0):
    """J and the corpus' loss, at first and after each step of gradient descent on loss_of(model); p at the end."""
    model, course = likelihood_trained(), []
    for step in range(steps + 1):
        if step > 0:
            (gradient,) = torch.autograd.grad(loss_of(model), list(model.parameters()))
            with torch.no_grad():
                model.model.logits -= lr * gradient
        with torch.no_grad():
            now = log_p(model).exp()
            course.append((float((now * R).sum()), float(next_token_loss(model.model(text.inputs), targets))))
    return torch.tensor(course), now


def drawn_loss(baseline, seed):
    generator = lab.generator(seed)
    return lambda model: reinforce(model, **asked, samples=8, baseline=baseline, generator=generator)


runs = {"exact gradient": [climb(lambda model: -expected_reward(model, **asked))]}
for name, baseline in (("REINFORCE, baseline", "others"), ("REINFORCE, no baseline", None)):
    runs[name] = [climb(drawn_loss(baseline, seed)) for seed in (1, 2, 3)]
for name, found_runs in runs.items():
    ends = [course[-1] for course, _ in found_runs]
    print(f"{name:23} J at the end: " + "  ".join(f"{end[0]:.2f}" for end in ends), end="   ")
    print("corpus, nats a letter: " + "  ".join(f"{end[1]:.1f}" for end in ends))
print(f"before: J {runs['exact gradient'][0][0][0, 0]:.2f}, corpus {runs['exact gradient'][0][0][0, 1]:.1f}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3), layout="constrained")
lines = ((BLUE, "-"), (ORANGE, "--"), (GREY, ":"))
for (name, found_runs), (colour, style) in zip(runs.items(), lines, strict=True):
    for n, (course, _) in enumerate(found_runs):
        for ax, column in ((axes[0], 0), (axes[1], 1)):
            ax.plot(course[:, column], color=colour, ls=style, label=name if n == 0 else None)
axes[0].set(xlabel="step", ylabel="expected reward J", ylim=(0.3, 1.02), title="J, enumerated")
axes[0].legend(frameon=False, loc="lower right")
axes[1].set(xlabel="step", ylabel="nats a letter", title="loss on the corpus")
axes[1].axhline(math.log(3), color="black", lw=0.8)
axes[1].text(60, math.log(3) - 0.04, "ln 3: all words equally likely", ha="right", va="top", fontsize=9)
plt.show()

# %% tags=["nbval-ignore-output"]
best_words = [n for n in order.tolist() if R[n] == 1]
rows = {"before": p} | {
    f"{name} ({seed})": after
    for name, found_runs in runs.items()
    for seed, (_, after) in enumerate(found_runs, start=1)
}
rows["exact gradient"] = rows.pop("exact gradient (1)")
shares = torch.stack([row[best_words] for row in rows.values()])
shares = torch.cat([shares, 1 - shares.sum(1, keepdim=True)], dim=1)  # the last column: all other words
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
for row, some in enumerate(shares.tolist()):
    for column, share in enumerate(some):
        shade = "white" if share > 0.5 else "black"
        ax.text(column, row, f"{share:.2f}", ha="center", va="center", color=shade)
ax.set_xticks(range(7), ["".join(letters[i] for i in every[n]) for n in best_words] + ["other 21"])
ax.set_yticks(range(len(rows)), rows)
ax.set(title="probability of the six words with all three letters")
plt.show()

# %% [markdown]
# *Figures: the expected reward and the loss on the corpus during training; below, where the probability lies afterwards (in brackets the seed).*
#
# REINFORCE climbs as the exact gradient does, with detours; without the baseline they are longer. All end near 1. But the exact gradient leaves some probability to three of the rewarded words, while with eight draws a step chance has a say in which word wins, and it mostly wins alone: the reward does not ask for variety.
# And the corpus? Its loss rises far above where it was, above $\ln 3 = 1.1$, the loss of knowing nothing. **Reward is not likelihood**: you get what you reward, and lose what you do not. (In practice a term that keeps the model near its start is added.)
#
# ## 6. Lecture 001's challenges, in numbers
#
# Lecture 001 lists what is hard about autoregressive models. Here is where this course measured it, and what this notebook adds. First the cost of a training
# step, in CPU seconds and in passes through the decoder that have to wait for one another, which no hardware can do side by side.
#
# **Before you run:** how many passes in turn does a step of scheduled sampling need?

# %%
CPU = {name: sum(run["seconds"] for run in found) / len(found) for name, found in methods.items()}
per_step = {name: CPU[name] / found[0]["steps"] for name, found in methods.items()}
print(f"{'for one training step':28}passes in turn   CPU seconds / teacher forcing's")
for name in methods:
    # one step, on a row that the model has written (12 digits), or whose inputs it has written (11 digits)
    passes = TIME + 1 if name.startswith("sequence") else TIME if name.startswith("scheduled") else 1
    print(f"{name:32}{passes:10}   {per_step[name] / per_step['teacher forcing']:31.1f}")

# %% [markdown]
# Twelve passes are not twelve times the work: all but the last need no gradient and read one token each. (Sequence-level training costs more also because its
# steps are larger: 400 answers, four to each question, where the others have 50.)
#
# Then the data. So far every question was in the training data. Now teacher forcing sees only 30, 60 or 90 of the hundred.
#
# **Before you run:** how often is the model right on the questions that it has not seen, fed the truth and running free?

# %%
print("share of right digits (recorded, one seed)")
print("questions seen   on those   on the others, fed the truth   on the others, running free")
for row in recorded["fewer_questions"]:
    seen, fed, free = row["trained"], row["others_fed_the_truth"], row["others"]
    print(f"{row['questions']:14}   {seen:8.2f}   {fed:28.2f}   {free:27.2f}")

# %% tags=["nbval-ignore-output"]
fig, (left, right_ax) = plt.subplots(1, 2, figsize=(11, 2.7), layout="constrained")
left.barh(list(per_step), [1000 * x for x in per_step.values()], color=[looks[name][0] for name in per_step])
left.invert_yaxis()
left.set(xlabel="CPU milliseconds for a step (recorded)")
counts = [row["questions"] for row in recorded["fewer_questions"]]
for key, colour, look, label in (
    ("trained", GREY, "o-", "seen,\nrunning free"),
    ("others_fed_the_truth", BLUE, "^:", "unseen,\nfed the truth"),
    ("others", ORANGE, "s--", "unseen,\nrunning free"),
):
    right_ax.plot(counts, [row[key] for row in recorded["fewer_questions"]], look, color=colour, label=label)
right_ax.set(xlabel="questions seen, of 100", ylabel="share right", ylim=(0, 1.05), xticks=counts)
right_ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1)
plt.show()

# %% [markdown]
# *Figure: left, the cost of a training step; right, accuracy on questions seen in training and on unseen ones, against the number of those seen (both recorded).*
#
# On unseen questions exposure bias does most harm: with sixty questions or more the model is right every second time when it is fed the truth, and little more
# often than by chance (.1) on its own.
#
# | challenge (001) | what it is | measured |
# |---|---|---|
# | long dependence against training efficiency | a longer context costs the square of its length in attention | notebook 07. Here in small: the far-reaching rule (from the question) was learned only in part while the near one (from the digit before) did the job |
# | exposure bias | trained on true prefixes alone, errors compound | sections 2 to 4 |
# | token by token | decoding is sequential | notebooks 07 and 13; here: learning from one's own words makes *training* sequential as well |
# | data | it takes much, and varied | above: ninety of a hundred questions, all answered right, are not enough for the other ten. That all prefixes are true is a gap in the data, too |
# | hardware | cost of training and decoding | CPU seconds above; a GPU shortens wide passes, not long chains of them |
#
# What this does not show: a bias that ruins a large model on plain text. Models with low error rates leave the true prefixes seldom, text has many right continuations, and much of what is blamed on exposure bias (loops, dullness) has other causes (notebooks 11 and 14).
#
# ## Questions to check yourself
#
# **1.** What is exposure bias, and why can errors cascade? (001)
#
# <details><summary>Answer</summary>
#
# In training the prefix is always true, in generation it is the model's own. After an error the model reads something that it was never trained on; what it says then is not determined by its training, so one error may bring the next.
#
# </details>
#
# **2.** A model is perfect on true prefixes and decodes greedily. Does it suffer from exposure bias? (004)
#
# <details><summary>Answer</summary>
#
# No: its first word is right, so the prefix stays true, and so on. The bias is there (give it a wrong prefix and see), but nothing triggers it. That is why "better modelling" and "better decoding" are remedies.
#
# </details>
#
# **3.** Why does lecture 004 call the behaviour off the true prefixes underspecified, instead of wrong? (004)
#
# <details><summary>Answer</summary>
#
# Several rules explain the training data equally well and differ only where there is no data (section 1). Which of them, or which mixture, the model follows is decided by what is easier to learn, not by the data.
#
# </details>
#
# **4.** Which remedies need additional supervision, and which cost more computation? (004)
#
# <details><summary>Answer</summary>
#
# Rewarding generated sequences needs someone who can judge any sequence: a checker, a metric with references, people. Scheduled sampling and random prefixes use the old targets, which may not fit the changed prefix. Scheduled sampling and sequence-level training need a pass for each word written, one after the other; random prefixes cost nothing.
#
# </details>
#
# **5.** Teacher forcing minimises $-\log p$ of the right answer. How does its gradient compare with REINFORCE's?
#
# <details><summary>Answer</summary>
#
# It is $-\nabla \log p(y)$ of the true answer: REINFORCE's, if the true answer were the only draw and had reward 1. REINFORCE draws from the model itself and weights by what each draw is worth.
#
# </details>
#
# **6.** A colleague takes as baseline the mean reward of a question's $n$ answers, the answer itself *included*. Is the gradient still right on average? And after dividing by the standard deviation of the $n$ rewards?
#
# <details><summary>Answer</summary>
#
# Its direction is, its length is not: with $n$ answers it comes out $(n-1)/n$ as long, as the baseline contains a bit of the answer's own reward (exercise 3). The standard deviation differs from question to question and from draw to draw, so dividing by it does not even keep the direction.
#
# </details>
#
# **7.** A reward of 1 for every answer: what does REINFORCE do, with and without the baseline of the others?
#
# <details><summary>Answer</summary>
#
# On average nothing in both cases. With the baseline each estimate is exactly 0; without it, each step makes whatever was drawn more probable, a random walk that in time settles on one answer.
#
# </details>
#
# ## What to try next
#
# - Train on random prefixes in section 4.4 with a rate of .05 and of .5 in place of .15. Is there a rate that is too high?
# - Tell the step in only half of the rows (in the others put a 21st id in its place). Which of the three rules still works there? What does teacher forcing learn then?
# - Train a model from its random start with `arlab.training.reinforce.reinforce_steps`, on the task of section 1, with a reward of 1 for an answer that is right from end to end and 0 for all others. How long will you wait for the first reward? Work it out first.
# - Use `scheduled_sampling` on batches of `arlab.text.pairs`: it works for the encoder-decoder of notebook 15 as it is.
#
# ## Where the idea comes from
#
# Exposure bias by this name, and REINFORCE for text: Ranzato, Chopra, Auli and Zaremba, *Sequence Level Training with Recurrent Neural Networks*, 2016. Scheduled sampling: Bengio, Vinyals, Jaitly and Shazeer, 2015; that its optimum need not be the data's law: Huszár, 2015. The same trouble in imitation learning, and DAgger: Ross, Gordon and Bagnell, 2011. REINFORCE: Williams, 1992. The greedy answer as baseline: Rennie
# and others, 2017; the other samples: Kool, van Hoof and Welling, 2019. Words dropped from the prefix: Bowman and others, 2016; noise as smoothing: Xie and others, 2017. How much exposure bias there is in practice: He, Zhang, Zhou and Glass, 2021.
#
# [← 15 Encoder and decoder](15_encoder_decoder.ipynb) · [17 Generation order →](17_generation_order.ipynb)
