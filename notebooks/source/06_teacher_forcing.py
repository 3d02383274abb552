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
# # 06 · Teacher forcing: how a model is trained
#
# The model of notebook 05 knows nothing yet. To train it, we show it a text and ask, at every position at once: what
# comes next? We always show it the *true* text up to there, whatever it would have said itself. That is **teacher
# forcing**. This notebook derives the loss, builds the loop, trains a model while you watch, and then does without the
# teacher, to see what is lost.
#
# **You will be able to**
#
# - derive the negative log-likelihood from "make the data probable", and say why it is a cross-entropy;
# - write the loss so that every position counts, padding does not, and several batches average as one;
# - predict the loss of an untrained model, and read a training curve against that;
# - follow the gradient back to $W^Q$, $W^K$ and $W^V$ of each head;
# - measure overconfidence, and say what label smoothing does about it;
# - say what goes wrong without teacher forcing, when it does not go wrong, and why.
#
# **Time** 100 minutes. **Before this** the shifted pairs of notebook 02, the causal mask
# ([04](04_causal_masking.ipynb)), the block (05). **Follows** lecture 000 (training), lecture 001 (training pipeline,
# back-propagation, losses), lecture 003 (training decoder models).
#
# [← 05 The transformer block](05_transformer_block.ipynb) · [07 Context length →](07_context_length.ipynb)

# %% tags=["nbval-ignore-output"]
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from plotly.subplots import make_subplots

import arlab
from arlab.decoding import Temperature, sample
from arlab.exercises import teacher_forcing as check
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.recipes import shakespeare
from arlab.recipes import teacher_forcing as recipe
from arlab.text.batches import IGNORE, ordered_windows, padded, random_windows
from arlab.training.calibration import reliability
from arlab.training.exposure import free_running
from arlab.training.gradients import head_gradient_norms
from arlab.training.loop import evaluate, train
from arlab.training.losses import next_token_loss, perplexity
from arlab.views import TrainingCurves

lab = arlab.setup(seed=0)
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#999999"

# %% [markdown]
# The questions that the lectures ask about training, and where below you see the answer:
#
# | question | section |
# |---|---|
# | How does $-\sum_t \log P_\theta(x_t \mid x_{<t})$ follow from maximising $P(X)$? | 1 |
# | Which positions make the loss, and from what: the logits or the predicted token? | 2 |
# | Is the training pass sequential or parallel? | 3 |
# | What does padding add? What is the right average? | 4 |
# | What does back-propagation bring to queries, keys, values and heads? | 7 |
# | Cross-entropy makes models overconfident; does label smoothing help? | 8 |
# | What is teacher forcing for, and what is the trouble without it? | 9 |
# | How does the loss fall with training tokens, for several model sizes? | 10 |
#
# ## 1. From the probability of a text to a loss
#
# A model with parameters $\theta$ gives a text $X = x_1, \dots, x_T$ the probability (chain rule, notebook 01)
#
# $$P_\theta(X) = \prod_{t=1}^{T} P_\theta(x_t \mid x_{<t}).$$
#
# **Maximum likelihood** asks for the $\theta$ that makes the text we have most probable. Three steps lead to a loss.
# The logarithm grows with its argument, so the same $\theta$ maximises $\log P_\theta(X)$; the logarithm of a product
# is a sum; and maximising is minimising the negative:
#
# $$\arg\max_\theta P_\theta(X) = \arg\max_\theta \sum_t \log P_\theta(x_t \mid x_{<t}) = \arg\min_\theta \underbrace{-\sum_t \log P_\theta(x_t \mid x_{<t})}_{L}$$
#
# Write $\hat y_t$ for the model's distribution at step $t$, a vector with an entry for each token of the vocabulary.
# The factor that counts is its entry for the token that really stands there:
# $P_\theta(x_t \mid x_{<t}) = \hat y_{t, x_t}$. In code, that is an index.

# %%
letters = ["e", "h", "l", "o"]
x = torch.tensor([1, 0, 2, 2, 3])  # h e l l o, as ids
z = torch.randn(5, 4, generator=lab.generator(6), dtype=torch.float64) * 1.5  # logits: a row for each position
y_hat = z.softmax(dim=-1)  # (T, V): each row sums to 1

p = y_hat[torch.arange(5), x]  # y_hat[t, x_t] for every t
L = -p.log().sum()
print("y_hat[t, x_t]      ", [f"{value:.4f}" for value in p.tolist()])
print(f"P(X) = product      {p.prod():.6f}")
print(f"L = -sum of logs    {L:.4f},  exp(-L) = {(-L).exp():.6f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
left.imshow(y_hat.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
for t in range(5):
    for v in range(4):
        left.text(t, v, f"{y_hat[t, v]:.2f}", ha="center", va="center", color="white" if y_hat[t, v] > 0.6 else "black")
    left.add_patch(plt.Rectangle((t - 0.47, x[t] - 0.47), 0.94, 0.94, fill=False, edgecolor=ORANGE, lw=2.5))
left.set(xticks=range(5), xlabel="position t", ylabel="token v", title=r"$\hat y_{t,v}$, framed: $\hat y_{t,x_t}$")
left.set_yticks(range(4), letters)
right.bar(range(5), -p.log(), color=ORANGE)
right.set(xlabel="true token $x_t$", ylabel="$-\\log\\,\\hat y_{t,x_t}$ (nats)", title=f"their sum is L = {L:.2f}")
right.set_xticks(range(5), [letters[i] for i in x.tolist()])
plt.show()

# %% [markdown]
# *Figure: left, the five distributions as columns, the entry of the true letter framed in orange. Right, minus the
# logarithm of each framed entry: small where the model was nearly right, large where it was far off.*
#
# ### The same number under another name
#
# The **cross-entropy** between a target distribution $q$ and a predicted one $p$ is $H(q, p) = -\sum_v q_v \log p_v$.
# Let $q$ be **one-hot**: 1 on the true token, 0 elsewhere. All terms but one vanish, and $-\log \hat y_{t,x_t}$ is
# left.
#
# **Before you run:** `F.cross_entropy` averages unless you tell it otherwise. Lecture 000 writes a sum $\sum_t$ and
# says that it "averages". Which factor lies between the two?

# %%
one_hot = F.one_hot(x, 4).double()
print(f"-sum of one_hot * log y_hat          {-(one_hot * y_hat.log()).sum():.4f}")
print(f"F.cross_entropy, reduction='sum'     {F.cross_entropy(z, x, reduction='sum'):.4f}")
print(f"F.cross_entropy (mean, the default)  {F.cross_entropy(z, x):.4f} = L / {len(x)}: {L / len(x):.4f}")

# %% [markdown]
# The sum is $T$ times the mean. For one text both have the same minimum. For texts of unequal length they do
# not, and section 4 has to decide. Training code reports the mean, in **nats** per token (natural logarithm); its
# exponential is the **perplexity**.
#
# ### What the minimum looks like
#
# Forget contexts for a moment: a text of ten letters, and a model that is one distribution over three letters. Let
# gradient descent minimise the loss.
#
# **Before you run:** which probabilities will it find? Will the loss reach 0?

# %%
text = torch.tensor([0] * 7 + [1] * 2 + [2])  # A A A A A A A B B C
theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
descent = []
for _ in range(200):
    loss = F.cross_entropy(theta.expand(10, 3), text)
    descent.append(loss.item())
    (gradient,) = torch.autograd.grad(loss, theta)
    theta = (theta - gradient).detach().requires_grad_()
frequencies = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
entropy = -(frequencies * frequencies.log()).sum()
print("found:", [f"{value:.2f}" for value in theta.softmax(-1).tolist()])
print(f"loss {descent[0]:.4f} (ln 3 = {math.log(3):.4f}) -> {descent[-1]:.4f}; entropy of the text {entropy:.4f}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7, 2.4))
ax.plot(descent, color=BLUE, label="loss")
ax.axhline(math.log(3), color=GREY, ls=":", label="ln 3: all letters alike")
ax.axhline(entropy, color=ORANGE, ls="--", label="entropy of the text")
ax.set(xlabel="step of gradient descent", ylabel="nats per letter")
ax.legend(loc="center right", frameon=False)
plt.show()

# %% [markdown]
# *Figure: the loss starts at ln 3 and levels off at the entropy of the letters, not at zero.*
#
# It finds the frequencies .7, .2, .1. The floor is the **entropy**: what remains uncertain when you know the
# distribution. Text has such a floor too; nobody knows its exact value.
#
# ## 2. Every position predicts, and logits make the loss
#
# Now a model with contexts, untrained, and real text: tiny Shakespeare, character by character. Its first nine tenths
# are there to learn from; the rest is **held out**, to measure with. The inputs are $x_1 \dots x_{T-1}$, the targets
# the same text one place further, $x_2 \dots x_T$.

# %%
tokenizer, learn, held_out = shakespeare.data()  # characters; ids of nine tenths of the text, and of the last tenth
names = tokenizer.token_strings()
V, context = tokenizer.vocab_size, 64


def new_model(seed=0):
    width = lab.scale(cpu=64, gpu=256)
    config = DecoderConfig.gpt2(vocab_size=V, context_length=context, d_model=width, layers=2, heads=4)
    return DecoderLM(config, seed=seed).to(lab.device)


model = new_model()
batch = next(random_windows(learn, context, 16, lab.generator())).to(lab.device)
logits = model(batch.inputs)
print("inputs", tuple(batch.inputs.shape), "targets", tuple(batch.targets.shape), "-> logits", tuple(logits.shape))
for t in range(5):
    read, target = names[batch.inputs[0, t]], names[batch.targets[0, t]]
    log_p = logits[0, t].log_softmax(-1)[batch.targets[0, t]]
    print(f"position {t}: reads {read!r:5} target {target!r:5} log p(target) = {log_p:.4f}")

# %% [markdown]
# One pass over 16 rows of 64 characters makes $16 \cdot 64 = 1024$ predictions, each with its own truth beside it.
# **All** of them enter the loss. (In generation only the last position speaks, notebook 09.)
#
# **Before you run:** we ask where the gradient of the loss with respect to the logits is not zero. At how many of the
# 1,024 positions?

# %%
probe = logits.detach().requires_grad_()
loss = F.cross_entropy(probe.flatten(0, 1), batch.targets.flatten())  # a mean over 1,024 predictions
loss.backward()
reached = probe.grad.norm(dim=-1).cpu()  # (rows, time)
print("positions with a gradient:", int((reached > 0).sum()), "of", reached.numel())

error = (probe.softmax(-1) - F.one_hot(batch.targets, V)).detach() / batch.targets.numel()
print("gradient = (y_hat - one_hot) / number of targets:", torch.allclose(probe.grad, error, atol=1e-7))

# %%
probe = logits.detach().requires_grad_()
F.cross_entropy(probe[:, -1], batch.targets[:, -1]).backward()  # for comparison: only the last position in the loss
fig, axes = plt.subplots(1, 2, figsize=(9, 2.4), layout="constrained", sharey=True)
for ax, norms, title in (
    (axes[0], reached, "all positions in the loss"),
    (axes[1], probe.grad.norm(dim=-1).cpu(), "the last one only"),
):
    ax.imshow(norms > 0, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    ax.set(xlabel="position", title=f"{title}: {int((norms > 0).sum()):,} predictions")
axes[0].set_ylabel("row of the batch")
plt.show()

# %% [markdown]
# *Figure: blue where the logits receive a gradient. Left, as training does it: everywhere. Right, if only the last
# position counted, as it does in generation: 16 predictions for the same pass.*
#
# The gradient has a shape worth remembering: **what the model said minus what was true**. It pulls the truth up and
# pushes everything else down, in proportion to its probability.
#
# ### Why not the argmax?
#
# Lecture 003 compares the true token with the predicted one "as shorthand". The loss does not look at the predicted
# token. Take three letters, logits $0, 0$ and $s$ for the true one, and raise $s$.
#
# **Before you run:** at $s = 0.01$ the guess is right already. What is the loss there? What would training do if it
# only asked "right or wrong"?

# %%
s = torch.linspace(-4, 6, 201, dtype=torch.float64)
raised = torch.stack([torch.zeros_like(s), torch.zeros_like(s), s], dim=-1)  # (201, 3)
nll = -raised.log_softmax(-1)[:, 2]
wrong = (s <= 0).double()  # the argmax is another letter
for value in (-2.0, 0.01, 3.0):
    row = torch.tensor([0, 0, value], dtype=torch.float64)
    print(f"s = {value:5.2f}: guess right: {value > 0!s:5}  loss {-row.log_softmax(-1)[2]:.4f}", end="  ")
    print(f"slope {row.softmax(-1)[2] - 1:.4f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.5))
ax.plot(s, nll, color=BLUE, label="loss, from the logits")
ax.plot(s, wrong, color=ORANGE, ls="--", label="1 if the argmax is wrong, else 0")
ax.set(xlabel="logit s of the true token", ylabel="nats, or errors", ylim=(-0.1, 4))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: the loss falls smoothly all the way; the error is a step, flat on both sides.*
#
# The step has slope 0 everywhere it has a slope, so nothing could be learned from it. And a right guess with
# probability .34 still costs about 1.1 nats.
#
# Nor does the network predict an embedding, though lecture 003 draws one with a hat. What goes in at the next position
# is **looked up**: the row of the embedding table that belongs to the next token, in training the true one.

# %%
looked_up = model.embed_tokens(batch.inputs)  # (rows, time, d_model)
print("each input is a row of the table:", torch.equal(looked_up, model.embed_tokens.weight[batch.inputs]))

# %% [markdown]
# ### Exercise 1: the loss
#
# Write it for a whole batch. Where a target equals `ignore` there is nothing to predict (padding); such positions count
# neither in the sum nor in the number.


# %%
def token_loss(logits, targets, ignore=-100):
    """Mean of -log p(target), in nats, over the targets that are not `ignore`.

    logits: (rows, time, vocab). targets: (rows, time) int64. Returns a tensor with one number; gradients must flow.
    """
    raise NotImplementedError


# %%
check.token_loss(token_loss)

# %%
check.token_loss.hint()

# %%
check.token_loss.solution()

# %% [markdown]
# The library's is `next_token_loss`. From here on we use it.

# %%
by_hand = -logits.log_softmax(-1).gather(-1, batch.targets[..., None]).mean()
print("by hand, arlab and torch agree:", torch.allclose(by_hand, next_token_loss(logits, batch.targets)), end=" ")
print(torch.allclose(by_hand, F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())))

# %% [markdown]
# ## 3. One pass or many?
#
# Lecture 001 calls the forward pass "token-by-token"; lecture 003 says that it happens in parallel. We count. One
# window of 64 characters, and three ways to get a loss from it:
#
# 1. **teacher forcing**: feed the whole window, read off all positions;
# 2. **prefix by prefix**: feed $x_1$, then $x_1 x_2$, and so on, always the truth, and use the last position of each
#    pass;
# 3. **regular training**, as lecture 003 calls it: feed the model's own prediction of each token as the next input.
#
# **Before you run:** does teacher forcing loop over $t$? Which of the three give the same loss?

# %%
inputs, targets = batch.inputs[:1], batch.targets[:1]
counts = {"passes": 0, "tokens": 0}


def count(module, arguments):
    counts["passes"] += 1
    counts["tokens"] += arguments[0].numel()


def at_once():
    return next_token_loss(model(inputs), targets)


def prefix_by_prefix():
    last = [model(inputs[:, : t + 1])[:, -1] for t in range(context)]
    return next_token_loss(torch.stack(last, dim=1), targets)


def on_its_own():
    fed, rows = inputs[:, :1], []
    for _ in range(context):
        rows.append(model(fed)[:, -1])
        fed = torch.cat([fed, rows[-1].argmax(-1, keepdim=True)], dim=1)  # its own word, right or wrong
    return next_token_loss(torch.stack(rows, dim=1), targets)


# %%
hook = model.register_forward_pre_hook(count)
found = {}
for name, way in (
    ("teacher forcing", at_once),
    ("prefix by prefix", prefix_by_prefix),
    ("own predictions", on_its_own),
):
    counts.update(passes=0, tokens=0)
    with torch.no_grad():
        found[name] = way().item()
    print(f"{name:17} {counts['passes']:3} passes, {counts['tokens']:5,} tokens processed, loss {found[name]:.4f}")
hook.remove()
print(
    "one pass gives the loss of 64 passes:",
    math.isclose(found["teacher forcing"], found["prefix by prefix"], rel_tol=1e-5),
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 2.6), width_ratios=[1, 1], layout="constrained")
one, triangle = torch.zeros(12, 12), torch.ones(12, 12).tril()
one[0] = 1
for ax, cells, title in (
    (axes[0], one, "teacher forcing: one pass"),
    (axes[1], triangle, "prefix by prefix: T passes"),
):
    ax.imshow(cells, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    last = cells * (torch.eye(12) if cells is triangle else 1)  # the positions whose prediction is used
    rows, columns = last.nonzero().T
    ax.plot(columns, rows, "o", color=ORANGE, ms=5)
    ax.set(title=title, xlabel="position", ylabel="pass", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# *Figure, drawn for 12 positions: blue cells are positions processed, orange dots predictions that enter the loss. Both
# panels have twelve dots.*
#
# Teacher forcing does not loop. The inputs are all known beforehand, and the causal mask (notebook 04) keeps each
# position from looking ahead, so one parallel pass makes the same 64 predictions as 64 passes. The third way *must*
# loop: what goes in at $t$ comes out at $t - 1$. Its loss differs, since it answers another question: predict the true
# text after having read something else. Section 9 trains that way.
#
# ## 4. The right average
#
# Here are four lines of a play, of unequal length. To make a rectangle of them we pad on the right. A padded target is
# `IGNORE` ($-100$), shown as `·`. (The first character of a line is an input only: nothing stands before it to predict
# it from.)
#
# **Before you run the second cell:** it averages the losses of these 127 targets in five ways. Which is the one that
# belongs to "make the data probable"?

# %%
lines = [
    "Speak, speak.",
    "You are all resolved rather to die than to famish?",
    "Resolved. resolved.",
    "No more talking on't; let it be done: away, away!",
]
ragged = padded([tokenizer.encode(line) for line in lines], pad_id=0).to(lab.device)
for row in range(4):
    shown = "".join("·" if i == IGNORE else names[i] for i in ragged.targets[row].tolist())
    print(f"{int((ragged.targets[row] != IGNORE).sum()):3} targets  {shown}")

# %%
each = next_token_loss(model(ragged.inputs), ragged.targets, reduction="none").detach()  # 0 where padded
real = ragged.targets != IGNORE
print(f"sum / number of real targets   {each.sum() / real.sum():.4f}  <- the loss")
print(f"next_token_loss                {next_token_loss(model(ragged.inputs), ragged.targets):.4f}")
print(f"sum / number of positions      {each.sum() / real.numel():.4f}  pads counted in the number")
as_token = next_token_loss(model(ragged.inputs), ragged.targets.where(real, 0))
print(f"pads trained on as token 0     {as_token:.4f}  pads counted in both")
print(f"mean of the four lines' means  {(each.sum(1) / real.sum(1)).mean():.4f}  a short line's tokens weigh more")
other_pad = ragged.inputs.where(torch.arange(real.size(1), device=lab.device) < real.sum(1, keepdim=True), 7)  # not 0
padded_otherwise = next_token_loss(model(other_pad), ragged.targets, reduction="none").detach()
print("with another pad symbol in the inputs, the same losses:", torch.allclose(padded_otherwise, each, atol=1e-6))

# %%
lengths = real.sum(1).tolist()
fig, ax = plt.subplots(figsize=(8, 2.4), layout="constrained")
weights_right = [1 / sum(lengths)] * 4
weights_rows = [1 / (4 * n) for n in lengths]
for shift, weights, colour, label in (
    (-0.2, weights_right, BLUE, "sum / targets"),
    (0.2, weights_rows, ORANGE, "mean of the lines' means"),
):
    ax.bar([row + shift for row in range(4)], weights, 0.4, color=colour, label=label)
ax.set(ylabel="weight of one target", xlabel="line")
ax.set_xticks(range(4), [f"{n} targets" for n in lengths])
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: how much one target weighs in the loss, by line. With one sum over one number (blue) all weigh the same; with
# the mean of means (orange) a character of the shortest line weighs four times one of the longest.*
#
# (This model is equally ignorant everywhere, so the first and the last number of the list hardly differ yet. The
# gradients will.) The loss that belongs to "make the data probable" gives each token the same weight: **the sum over
# all targets divided by their number**. Pads add nothing to either. Nor does it matter which symbol pads the inputs: it
# stands to the right of every real target, and the causal mask hides it.
#
# The same rule decides what happens when a batch does not fit into memory and is run in parts whose gradients add up
# (**accumulation**).
#
# **Before you run:** we run the four lines one by one and average the four mean losses. Is that the gradient of the
# batch of four?


# %%
def gradient_of(loss):
    """All gradients in one vector."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


whole = gradient_of(next_token_loss(model(ragged.inputs), ragged.targets))
alone = [padded([tokenizer.encode(line)], pad_id=0).to(lab.device) for line in lines]
means = sum(gradient_of(next_token_loss(model(b.inputs), b.targets)) for b in alone) / 4
shares = sum(
    gradient_of(next_token_loss(model(b.inputs), b.targets, reduction="sum") / real.sum()) for b in alone
)  # each line's summed loss over the number of targets of ALL lines
print("mean of four means is the gradient of the batch:", torch.allclose(means, whole, atol=1e-5))
print("shares of one sum are the gradient of the batch:", torch.allclose(shares, whole, atol=1e-5))
print(f"the wrong one is off by {(means - whole).norm() / whole.norm():.0%} of the gradient's length")

# %% [markdown]
# ### Exercise 2: accumulate


# %%
def accumulate(model, batches):
    """Leave in .grad the gradient of the mean loss over all targets of all batches, running one batch at a time.

    batches: a list of (inputs, targets), each (rows, time); targets are -100 where padded. Batches differ in size.
    The parameters come without gradients. Returns that mean loss, a float.
    """
    raise NotImplementedError


# %%
check.accumulate(accumulate)

# %%
check.accumulate.hint()

# %%
check.accumulate.solution()

# %% [markdown]
# ## 5. The untrained loss
#
# **Before you run:** an untrained model has no reason to prefer any of the 65 characters. Which loss do you expect?
# Write the number down.

# %%
windows = ordered_windows(held_out[:20_000], context, 64)
untrained = evaluate(model, windows)
print(f"ln V = ln {V} = {math.log(V):.4f}")
print(f"loss of the untrained model {untrained:.4f}, perplexity {perplexity(untrained):.1f}")

# %% [markdown]
# If $\hat y$ is uniform, every target costs $-\ln \frac1V = \ln V$. The model starts a little above: its initial
# weights give small random preferences, and preferences without knowledge only cost. **If your first loss is far from
# $\ln V$, something is wrong** before training has begun: far above, the initial logits are too large; below, the
# answer leaks into the input.
#
# **Before you run:** multiply the untrained logits by 10. They mean as little as before. What happens to the loss?

# %%
scales = [0, 0.5, 1, 2, 5, 10, 20]
with torch.no_grad():
    raw = model(windows[0].inputs.to(lab.device))
    loud = [next_token_loss(raw * k, windows[0].targets.to(lab.device)).item() for k in scales]
print("  ".join(f"x{k}: {value:.2f}" for k, value in zip(scales, loud, strict=True)))

# %% [markdown]
# Confident nonsense is expensive. Between knowing nothing and a trained model lie two landmarks that counting gives us:
# always predict with the **frequencies** of the characters (unigram), and with the frequencies *after the present
# character* (bigram). A model that is worse than the bigram table has not used its context yet.

# %%
pairs = torch.zeros(V, V).index_put((learn[:-1], learn[1:]), torch.ones(len(learn) - 1), accumulate=True) + 0.1
bigram = (pairs / pairs.sum(1, keepdim=True)).log()  # log p(next | present)
unigram = (pairs.sum(0) / pairs.sum()).log()
test = held_out[:20_001]
landmarks = {
    "ln V: uniform": math.log(V),
    "unigram": -unigram[test[1:]].mean().item(),
    "bigram": -bigram[test[:-1], test[1:]].mean().item(),
}
print(", ".join(f"{name} {value:.4f}" for name, value in landmarks.items()))

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2))
ax.plot(scales, loud, color=BLUE, marker="o", label="untrained, logits times a factor")
for (name, value), style in zip(landmarks.items(), (":", "--", "-."), strict=True):
    ax.axhline(value, color=GREY, ls=style)
    ax.text(20.2, value, name, va="center", color="#555555")
ax.set(xlabel="factor on the logits", ylabel="loss (nats)", xlim=(-0.5, 20), ylim=(2, None))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: the loss of the untrained model against a factor on its logits. At 0 it is exactly ln V; it only rises from
# there. Grey lines: the three landmarks.*
#
# ## 6. The loop
#
# Training repeats five lines: take a batch, compute the loss, compute its gradient, clip it, let the optimiser move the
# weights. Here they are. AdamW (Loshchilov and Hutter, 2019) divides each weight's step by the recent size of its
# gradient, so that all weights move at about the same pace; **clipping** shortens a gradient longer than 1, so that one
# odd batch cannot throw the model off.

# %%
by_hand = new_model()
optimiser = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
batches, hand_losses = random_windows(learn, context, 16, lab.generator()), []
for _ in range(10):
    batch = next(batches).to(lab.device)
    loss = next_token_loss(by_hand(batch.inputs), batch.targets)  # one parallel pass over the true text
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
    optimiser.step()
    hand_losses.append(loss.item())

# %% [markdown]
# The library's `train` is this loop as an iterator: it hands out a `TrainStep` after each step, and the caller does
# what it likes with it. From the same start and the same batches it must give the same losses.

# %%
from_lab = new_model()
batches = random_windows(learn, context, 16, lab.generator())
steps = list(train(from_lab, batches, steps=10, lr=1e-3, schedule="constant", weight_decay=0.0))
print("by hand", [f"{loss:.4f}" for loss in hand_losses[:5]])
print("arlab  ", [f"{step.loss:.4f}" for step in steps[:5]])
print(
    "the same ten losses:", torch.allclose(torch.tensor(hand_losses), torch.tensor([s.loss for s in steps]), atol=1e-4)
)
last = steps[-1]
print(f"step {last.step}: {last.tokens:,} targets so far, lr {last.lr}, gradient norm {last.grad_norm:.2f}")

# %% [markdown]
# For the real run three things are added. The learning rate rises during a **warm-up** (the optimiser's averages are
# still poor) and then falls along half a cosine, to a tenth; **weight decay**, `train`'s default of 0.1, pulls the
# matrices a little towards 0 at each step; and every 100 steps the loss on held-out text is measured.
#
# **Before you run:** where will the curve start? Which landmark will it pass quickly, which with effort? Run the cell
# and watch; hover over the curve for numbers.

# %% tags=["nbval-ignore-output"]
model, STEPS = new_model(), lab.scale(cpu=500, gpu=5000)
curves = TrainingCurves(total=STEPS, title="A small transformer learns Shakespeare")
for name, value in landmarks.items():
    curves.line(name, value)
display(curves)
batches = random_windows(learn, context, lab.scale(cpu=16, gpu=64), lab.generator())
stream = train(
    model, batches, steps=STEPS, lr=lab.scale(cpu=4e-3, gpu=1e-3), warmup=20, validation=windows, evaluate_every=100
)
live = list(curves.follow(stream, name="live"))

# %%
print(f"first loss near ln V: {abs(live[0].loss - math.log(V)) < 0.1}")
end = live[-1].validation_loss
print(f"held-out loss below the bigram table's: {end < landmarks['bigram']}, below 2.30: {end < 2.3}")

# %% [markdown]
# **Questions to answer with the controls**
#
# 1. Switch the smoothing off (slider to the left). How much does the loss jump from batch to batch, and does the
#    held-out loss (dots) jump as well?
# 2. Switch the horizontal axis to tokens. How many characters had the model read when it passed the unigram line? The
#    bigram line?
# 3. Are the training and the held-out loss apart at the end? What would it mean if they were?
#
# <details><summary>Answers</summary>
#
# 1. By a tenth of a nat or so: each batch is another thousand characters. The held-out loss is always measured on the
#    same text, so it moves smoothly.
# 2. Read off the smoothed curve: the unigram line after about twenty thousand characters, the bigram line after some
#    hundred and fifty thousand.
# 3. By a few hundredths of a nat: half a million characters were read, of a text of a million, so most of them once. A
#    gap would mean that the model knows its training text by heart (section 8 makes that happen).
#
# </details>
#
# And the text, before and after. Both are drawn at temperature 0.8 from the same random numbers.

# %% tags=["nbval-ignore-output"]
prompt = tokenizer.encode("ROMEO:\n")
for title, speaker in (("before", new_model()), ("after", model)):
    drawn = sample(speaker, prompt, max_new_tokens=55, filters=[Temperature(0.8)], generator=lab.generator())
    print(f"--- {title}\nROMEO:\n{tokenizer.decode(drawn.tokens())}\n")

# %% [markdown]
# Before: characters in no order. After some seconds of training: word-like groups, spaces where they belong, line
# breaks. The knowledge is local, as the loss says: somewhat better than a table of pairs.
#
# ## 7. Where the gradient goes
#
# Back-propagation runs the chain rule from the loss through every layer. In the attention layers it arrives at three
# matrices, $W^Q$, $W^K$ and $W^V$, and within each at the rows of every head. The library keeps the three in one
# matrix, `attn.qkv`, with $3 \cdot 4$ heads of 16 rows each. Cut its gradient accordingly.
#
# **Before you run:** in an untrained model, is the gradient of $W^V$ larger or smaller than that of $W^Q$?

# %%
start = new_model()
batch = next(random_windows(learn, context, 16, lab.generator())).to(lab.device)
next_token_loss(start(batch.inputs), batch.targets).backward()

whole = start.blocks[0].attn.qkv.weight.grad  # (3 * d_model, d_model)
pieces = whole.view(3, 4, whole.size(0) // 12, whole.size(1))  # (Q K V, head, rows of the head, d_model)
print("layer 0, gradient norm by head")
for name, row in zip(("W_Q", "W_K", "W_V"), pieces.norm(dim=(2, 3)).tolist(), strict=True):
    print(f"  {name}  " + "  ".join(f"{value:.1e}" for value in row))
at_start = head_gradient_norms(start)  # (layers, 3, heads)
print("arlab's head_gradient_norms agree:", torch.allclose(at_start[0], pieces.norm(dim=(2, 3)).cpu()))

# %% [markdown]
# A hundred times larger, in each head. **Before you run:** why? And what will the numbers look like after training?

# %%
model.zero_grad()
next_token_loss(model(batch.inputs), batch.targets).backward()
at_end = head_gradient_norms(model)
model.zero_grad()
ratio = at_start[:, 2].mean() / at_start[:, 0].mean()
print(f"untrained: W_V receives more than 20 times what W_Q does: {bool(ratio > 20)}")
print(
    f"trained:   the factor has shrunk at least fourfold: {bool(at_end[:, 2].mean() / at_end[:, 0].mean() < ratio / 4)}"
)

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(2, 3, figsize=(9, 3.4), layout="constrained")
for row, (when, norms) in enumerate((("untrained", at_start), ("trained", at_end))):
    for part, name in enumerate(("$W^Q$", "$W^K$", "$W^V$")):
        ax = axes[row, part]
        logs = norms[:, part].log10()
        ax.imshow(logs, cmap="Blues", vmin=-4, vmax=0, aspect="auto")
        for layer in range(logs.size(0)):
            for head in range(logs.size(1)):
                colour = "white" if logs[layer, head] > -1.35 else "black"
                ax.text(
                    head, layer, f"{norms[layer, part, head]:.4f}", ha="center", va="center", fontsize=8, color=colour
                )
        ax.set(title=f"{name}, {when}", xticks=range(4), yticks=range(logs.size(0)))
axes[1, 1].set_xlabel("head")
axes[0, 0].set_ylabel("layer")
axes[1, 0].set_ylabel("layer")
plt.show()

# %% [markdown]
# *Figure: gradient norms by layer (rows) and head (columns) for the three matrices, before training (top) and after
# (bottom); darker is larger, on a logarithmic scale.*
#
# The loss reaches the values directly: $Z = AV$, so whatever $Z$ should become, $V$ can be moved there. It reaches
# $W^Q$ and $W^K$ only *through the attention weights*, and the gradient of a score $q \cdot k / \sqrt{d_k}$ with
# respect to $q$ is $k / \sqrt{d_k}$: while keys and queries are small, as at the start, so are both gradients. The
# heads start alike and part ways.
#
# **Before you run:** `from_lab` has made ten steps of AdamW. By how much did each of the three matrices move: $W^V$ a
# hundred times as far?

# %%
before, after = (m.blocks[0].attn.qkv.weight.detach().view(3, -1) for m in (start, from_lab))
moved = (after - before).norm(dim=1) / before.norm(dim=1)  # of W_Q, W_K, W_V, as a share of their size
print(
    "after ten steps of AdamW: " + ", ".join(f"{n} {x:.0%}" for n, x in zip(("W_Q", "W_K", "W_V"), moved, strict=True))
)

# %% [markdown]
# All three moved about as far. Plain gradient descent would leave queries and keys where they are for a long time;
# AdamW divides the size of the gradient out, and keeps only its direction. That is one reason why transformers are
# trained with it.
#
# **Before you run:** a text of a single token. Which of the three matrices get no gradient at all?

# %%
start.zero_grad()
next_token_loss(start(batch.inputs[:, :1]), batch.targets[:, :1]).backward()
for name, value in zip(("W_Q", "W_K", "W_V"), head_gradient_norms(start).amax(dim=(0, 2)).tolist(), strict=True):
    print(f"{name}: largest norm below 1e-8: {value < 1e-8}")

# %% [markdown]
# With one key its weight is 1 whatever the score: there is nothing to choose, so nothing to learn about choosing.
#
# ## 8. Overconfidence, and smoothed labels
#
# A model that says .9 should be right nine times out of ten. To see whether it is, sort its predictions into bins by
# **confidence** (the probability of its best guess) and compare, in each bin, the mean confidence with the
# **accuracy**, the share of right guesses. The weighted mean of the gaps is the **expected calibration error**, ECE
# (Guo et al., 2017):
#
# $$\mathrm{ECE} = \sum_b \frac{n_b}{n}\, \bigl|\,\mathrm{accuracy}_b - \mathrm{confidence}_b\,\bigr|$$

# %%
with torch.no_grad():
    test_logits = torch.cat([model(b.inputs.to(lab.device)) for b in windows]).cpu()
test_targets = torch.cat([b.targets for b in windows])
counted = test_targets != IGNORE
confidence, guess = test_logits[counted].double().softmax(-1).max(-1)
right = (guess == test_targets[counted]).double()

ece = 0.0
for b in range(10):
    inside = (confidence > b / 10) & (confidence <= (b + 1) / 10)
    if inside.any():
        ece += float((right[inside].mean() - confidence[inside].mean()).abs() * inside.double().mean())
measured = reliability(test_logits, test_targets)
print("by hand and arlab agree:", math.isclose(ece, measured.ece, abs_tol=1e-9))
print(f"the live model, ECE below 0.05: {measured.ece < 0.05}")

# %% [markdown]
# The model of section 6 is honest: it has read half a million characters of a text of a million, most of them once, and
# could not learn them by heart. Cross-entropy turns into overconfidence when a model *can*: on a training text that it
# knows, the loss goes on falling as long as the probability of the truth goes up, towards 1, and the logits towards
# infinity.
#
# **Label smoothing** (Szegedy et al., 2016) moves the goal: the target is no longer one-hot but $q$, with a little
# probability on everything else,
#
# $$\mathcal L_{LS} = -\sum_t \sum_i q_i \log P_\theta(x_t = i \mid x_{<t}).$$
#
# Two conventions are about. Lecture 001 gives the truth $0.9$ and shares $0.1$ among the $V - 1$ others. PyTorch's
# `label_smoothing=e` shares $e$ among *all* $V$: the truth has $1 - e + e/V$.
#
# **Before you run:** which $e$ makes them the same for $V = 65$?


# %%
def with_rest(rest):
    """The lecture's q for every target: 1 - rest on the truth, rest / (V - 1) on each other token."""
    q = torch.full((V,), rest / (V - 1)).repeat(*batch.targets.shape, 1).to(lab.device)
    return q.scatter(-1, batch.targets[..., None], 1 - rest)


with torch.no_grad():
    logits = model(batch.inputs)
    lecture = -(with_rest(0.1) * logits.log_softmax(-1)).sum(-1).mean()
    same_number = next_token_loss(logits, batch.targets, label_smoothing=0.1)
    converted = next_token_loss(logits, batch.targets, label_smoothing=0.1 * V / (V - 1))
print(f"label_smoothing = 0.1 leaves {1 - 0.1 + 0.1 / V:.6f} on the truth")
print(f"label_smoothing = 0.1 V / (V - 1) = {0.1 * V / (V - 1):.6f} leaves {1 - 0.1:.6f}")
print(f"equal to the lecture's loss: {torch.allclose(lecture, converted)}", end=", ")
print(f"with 0.1 itself: {torch.allclose(lecture, same_number)}")

# %% [markdown]
# Solve $1 - e + e/V = 0.9$ and you get $e = 0.1\,V/(V-1)$. With 65 tokens it hardly matters; with two it would double.
#
# **Before you run:** let the true token's logit be $s$ and all others 0. Under cross-entropy the loss falls for ever as
# $s$ grows. And under the smoothed one?

# %%
s = torch.linspace(0, 14, 281, dtype=torch.float64)
rows = torch.zeros(len(s), V, dtype=torch.float64)
rows[:, 0] = s
log_p = rows.log_softmax(-1)
hard = -log_p[:, 0]
soft = -0.9 * log_p[:, 0] - 0.1 / (V - 1) * log_p[:, 1:].sum(-1)
lowest = soft.argmin()
best, p_best = s[lowest], log_p[lowest, 0].exp()
print(f"smoothed loss is lowest at s = {best:.2f}: there p = {p_best:.4f}, loss {soft.min():.4f}")
print(f"in theory at s = ln(0.9 * 64 / 0.1) = {math.log(0.9 * 64 / 0.1):.4f}; cross-entropy there {hard[lowest]:.4f}")

# %%
fig, ax = plt.subplots(figsize=(7, 2.6))
ax.plot(s, hard, color=BLUE, label="cross-entropy")
ax.plot(s, soft, color=ORANGE, ls="--", label="with label smoothing")
ax.plot(best, soft.min(), "o", color=ORANGE)
ax.set(xlabel="logit s of the true token, all others 0", ylabel="loss (nats)", ylim=(0, 4.3))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: cross-entropy falls towards 0 without end; the smoothed loss has its lowest point at a probability of .9 and
# rises beyond.*
#
# So the two losses cannot be compared with each other: the smoothed one has a floor of .74 nats, the entropy of $q$.
# Compare models by the *plain* loss on held-out text.
#
# ### Exercise 3: the smoothed loss


# %%
def smoothed_loss(logits, targets, rest=0.1):
    """Lecture 001's loss: target 1 - rest on the truth, rest shared equally among the other V - 1 tokens.

    logits: (rows, time, vocab). targets: (rows, time), no padding. Returns the mean over all positions, a tensor.
    """
    raise NotImplementedError


# %%
check.smoothed_loss(smoothed_loss)

# %%
check.smoothed_loss.hint()

# %%
check.smoothed_loss.solution()

# %% [markdown]
# Now the experiment. A slightly larger model ($d = 96$) gets only 10,000 characters, and reads them forty times. With
# three seeds that takes a while, so what you see is **recorded**, from
# `python -m arlab.recipes record_06_teacher_forcing`. Set `RUN_IT = True` to run this and the following experiments
# yourself (about five minutes in all).
#
# **Before you run:** the smoothed model is trained *not* to put everything on the truth. Will it be right less often on
# new text?

# %%
RUN_IT = False
SOURCE = "run now" if RUN_IT else "recorded"


def experiment(name):
    """(runs, what else was measured): recorded, or run now."""
    return recipe.EXPERIMENTS[name]() if RUN_IT else recipe.recorded(name)


smoothing_runs, smoothing = experiment("smoothing")
print(f"{'held-out text, three seeds':27}{'NLL':24}{'ECE':24}accuracy")
for name, found in smoothing.items():
    columns = ["  ".join(f"{one[key]:.3f}" for one in found) for key in ("nll", "ece", "accuracy")]
    print(f"{name:27}" + "".join(f"{column:24}" for column in columns).rstrip())

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
for ax, (name, found), colour in zip(axes, smoothing.items(), (BLUE, ORANGE), strict=False):
    sure, hit, n = zip(*found[0]["bins"], strict=True)
    middles = [math.ceil(10 * c) / 10 - 0.05 for c in sure]  # of the bins
    ax.bar(middles, hit, 0.09, color=colour, alpha=0.75, label="accuracy")
    ax.plot([0, 1], [0, 1], color="black", ls=":", label="as right as sure")
    ax.set(xlabel="confidence", title=f"{name} ({SOURCE})\nECE {found[0]['ece']:.3f}", xlim=(0, 1), ylim=(0, 1))
    ax.legend(frameon=False, loc="upper left")
axes[0].set_ylabel("accuracy")
for (name, steps), colour, style in zip(smoothing_runs.items(), (BLUE, ORANGE), ("-", "--"), strict=True):
    marks = [step for step in steps if step.validation_loss is not None]
    axes[2].plot(
        [m.step for m in marks], [m.validation_loss for m in marks], color=colour, ls=style, marker="o", label=name
    )
axes[2].set(xlabel="step", ylabel="nats", title=f"held-out NLL ({SOURCE})")
axes[2].legend(frameon=False)
plt.show()

# %% [markdown]
# *Figure: two reliability diagrams; where a bar stays below the dotted line, the model is surer than it is right. Third
# panel: the plain held-out loss during both runs.*
#
# In every seed smoothing takes away about a third of the gap between sure and right and lowers the held-out loss; the
# accuracy stays within a point. It is no cure: the bars still lie below the line. And where data are plenty (the live
# model above) there was nothing to cure.
#
# ## 9. Without the teacher
#
# In **regular training** (lecture 003) the model's own prediction is the next input, as it will be in generation. It
# sounds more honest. What happens? First, what does it look like? We feed the live model its own guesses and compare
# the two inputs for the same targets.

# %% tags=["nbval-ignore-output"]
one = next(random_windows(held_out, context, 1, lab.generator(4)))
own = next(free_running(model, [one.to(lab.device)])).inputs.cpu()  # its argmax fed back, position by position


def shown(ids):
    return "".join("⏎" if names[i] == "\n" else names[i] for i in ids.tolist())


print("the truth  ", shown(one.inputs[0]))
print("its own    ", shown(own[0]))
print("the targets", shown(one.targets[0]))

# %% [markdown]
# After the first character the model tells its own story, and the targets still tell Shakespeare's. **Before you run:**
# how well can *anyone* predict the targets from the middle line?

# %%
many = next(random_windows(held_out, context, 64, lab.generator())).to(lab.device)
itself = next(free_running(model, [many]))  # the same targets, its own inputs
with torch.no_grad():
    fed_truth = next_token_loss(model(many.inputs), many.targets).item()
    fed_own = next_token_loss(model(itself.inputs), itself.targets).item()
print(f"loss when fed the truth below 2.3: {fed_truth < 2.3}")
print(f"loss when fed its own words above ln V = {math.log(V):.2f}: {fed_own > math.log(V)}")

# %% [markdown]
# Worse than knowing nothing: the model trusts what it reads, and what it reads has nothing to do with the target. If
# you *train* like that, the best answer is to stop reading. In code only the batches differ:
# `train(model, free_running(model, batches), ...)`.
#
# Two tasks, and three runs in each (recorded): teacher forcing; regular training for **equally many steps**; and
# teacher forcing for **equally much compute**, that is for about as many CPU seconds as regular training took (the
# held-out loss is measured with the truth as input in each case). The first task is Shakespeare. The second is
# addition: `23+45=068`, where only the three digits of the answer are asked for and fed back.
#
# **Before you run:** regular training needs a pass for each position before the training pass. How much longer does a
# step take? And on which task will it fail?

# %%
text_runs, text_more = experiment("text")
sum_runs, sum_more = experiment("addition")
for task, runs in (("text", text_runs), ("addition", sum_runs)):
    print(f"{task:29}steps   CPU s   training loss   " + ("held-out loss" if task == "text" else "exact answers"))
    for name, steps in runs.items():
        end = steps[-1]
        quality = f"{end.validation_loss:13.2f}" if task == "text" else f"{sum_more['exact'][name][-1][2]:13.1%}"
        print(f"  {name:27}{end.step:5}{end.seconds:8.1f}{end.loss:16.2f}   {quality}")

# %% [markdown]
# Here are the three runs on text, against the CPU seconds of training: **equal compute**. Switch the horizontal axis to
# steps and you see **equal steps**; which curve is moved most? (Each recorded point is the mean over ten steps, the
# marks are the held-out loss.)

# %% tags=["nbval-ignore-output"]
unigram_of_training = -(unigram.exp() * unigram).sum().item()
compare = TrainingCurves(title="Text: teacher forcing and regular training", x="seconds", smoothing=1)
compare.line("entropy", unigram_of_training)
for name, steps in text_runs.items():
    compare.add(name.replace("teacher forcing", "forced"), steps, recorded=not RUN_IT)
compare

# %% [markdown]
# *Figure: training loss on text against CPU seconds; the dotted line is the entropy of single characters. Regular
# training goes straight down to it and stays there; teacher forcing passes it within a second.*
#
# **Questions to answer with the controls**
#
# 1. On the axis of steps, which two curves lie on top of each other, and why not exactly?
# 2. On the axis of seconds: at the moment when regular training ends, where are the two others?
#
# <details><summary>Answers</summary>
#
# 1. The two with teacher forcing: the same start and the same batches; only the learning rate falls later in the
#    longer run.
# 2. One ended long before; the other ends at about that time, at a lower loss than both.
#
# </details>

# %%
stuck = text_runs["regular"][-1].loss
print(f"regular training ends at {stuck:.2f}; the entropy of single characters is {unigram_of_training:.2f}\n")
for name, written in text_more["texts"].items():
    print(f"{name:29} {written!r}")

# %% [markdown]
# The model fed with its own text has learned to ignore it: the loss is the entropy of single characters, and the most
# probable character is a space, so it writes spaces, for ever. The curve is flat: more steps do not help. (The
# teacher-forced ones loop too, but on words: greedy decoding does that, notebook 09.)
#
# Now addition.

# %%
for name, points in sum_more["exact"].items():
    print(name, next((f"at 99 % after {n} steps, {s:.1f} s" for n, s, share in points if share >= 0.99), "not at 99 %"))

# %% tags=["nbval-ignore-output"]
looks = {"teacher forcing": (BLUE, "-"), "regular": (ORANGE, "--"), "teacher forcing, equal time": (SKY, ":")}
fig, axes = plt.subplots(1, 2, figsize=(9, 2.7), sharey=True, layout="constrained")
for name, points in sum_more["exact"].items():
    colour, style = looks[name]
    steps, seconds, share = zip(*points, strict=True)
    if "equal time" not in name:
        axes[0].plot(steps, share, color=colour, ls=style, marker="o", ms=4)
    axes[1].plot(seconds, share, color=colour, ls=style, marker="o", ms=4, label=name)
axes[0].set(xlabel="step", ylabel="share of exact answers", title=f"equal steps ({SOURCE})")
axes[1].set(xlabel="CPU seconds of training", title=f"equal compute ({SOURCE})")
axes[1].legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# *Figure: the share of unseen sums answered exactly, against steps and against CPU seconds. Both ways of training reach
# the top; teacher forcing gets there first.*
#
# Why does the same procedure fail on text and work here? Ask what the target depends on:
#
# - In **text**, the next character depends on the characters *before it*. In regular training they are gone, replaced
#   by the model's own, while the target still continues the original. Only the first character of each window stays
#   true, and it tells little about the rest. There is nothing left to learn but frequencies.
# - In **addition**, each digit of the answer depends on the *question*, which is never replaced. A wrong tens digit
#   that was fed back does not change what the units digit should be.
#
# In numbers: how uncertain is the target, given what regular training leaves to see?

# %%
answers = {}
for a in range(100):
    for b in range(100):
        answers.setdefault(f"{a:02}+{b:02}=", set()).add(f"{a + b:03}")
print(
    "addition: answers for each question, at most", max(len(found) for found in answers.values()), "-> 0.00 nats left"
)
print(f"text: nothing but the frequencies of characters -> {unigram_of_training:.2f} nats left")

# %% [markdown]
# And the cost? In multiplications, regular training needs one forward pass more than teacher forcing's forward and
# backward: 4 units instead of 3.
#
# **Before you run:** will a step take 4/3 of the time? The extra pass runs position by position.

# %%
for task, runs in (("text, 63 passes more a step", text_runs), ("addition, 7 passes more", sum_runs)):
    a, b = runs["teacher forcing"][-1], runs["regular"][-1]
    print(f"{task:28} a step of regular training takes {b.seconds / b.step / (a.seconds / a.step):.1f} times as long")

# %% [markdown]
# The longer the text, the worse: many narrow passes cost more than one wide pass with as many multiplications. On a
# GPU, which is made for wide passes, expect a larger factor still.
#
# So is teacher forcing simply right? It has a price of its own: in training the model never sees its own mistakes, in
# generation it does (**exposure bias**). Feeding back *some* of its own tokens is a compromise; notebook 16 measures
# what it brings.
#
# ## 10. Loss against tokens, for several sizes
#
# Lecture 001 shows the training loss of LLaMA's four sizes over a trillion tokens. Here it is in miniature: five widths
# $d$, two layers each, one million characters (recorded).
#
# **Before you run:** the largest model wins in the end. Does it lead from the start, per token? And per operation?

# %%
size_runs, size_more = experiment("sizes")
print("model     parameters   held-out loss   training loss after 20k, 50k, 100k, 1M tokens")
for name, steps in size_runs.items():
    at = [min(steps, key=lambda step: abs(step.tokens - n)).loss for n in (20_480, 51_200, 102_400, 1_024_000)]
    row = "  ".join(f"{loss:.2f}" for loss in at)
    print(f"{name:9} {size_more['parameters'][name]:10,}   {steps[-1].validation_loss:13.2f}   {row}")

# %% tags=["nbval-ignore-output"]
titles = [f"against tokens ({SOURCE})", f"against compute ({SOURCE})"]
fig = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=titles)
colours, dashes = (GREY, PURPLE, GREEN, ORANGE, BLUE), ("dot", "dashdot", "dash", "longdash", "solid")
for (name, steps), colour, dash in zip(size_runs.items(), colours, dashes, strict=True):
    tokens, loss = [step.tokens for step in steps], [round(step.loss, 4) for step in steps]
    operations = [6 * size_more["parameters"][name] * n for n in tokens]
    drawn = {"y": loss, "name": name, "mode": "lines", "line": {"color": colour, "dash": dash}, "legendgroup": name}
    fig.add_scatter(x=tokens, **drawn, row=1, col=1)
    fig.add_scatter(x=operations, **drawn, showlegend=False, row=1, col=2)
line = {"dash": "dot", "width": 1}
fig.add_hline(landmarks["bigram"], line=line, annotation={"text": "bigram", "xanchor": "left", "x": 0}, row=1, col=1)
fig.update_xaxes(type="log", title="training tokens", row=1, col=1)
fig.update_xaxes(type="log", title="about 6 x parameters x tokens (operations)", row=1, col=2)
fig.update_yaxes(title="training loss (nats)", row=1, col=1)
fig.update_layout(template="simple_white", width=900, height=380, margin={"t": 40, "b": 60}, hovermode="closest")
fig.show()

# %% [markdown]
# *Figure: training loss of five widths, against tokens (left) and against operations (right); the horizontal axes are
# logarithmic. Point at a curve to read it, click on a width to hide it, drag to enlarge.*
#
# What to read off? The order is the order of the sizes, from the start to the end: *per token* a larger model learns
# more. At the end the large ones still fall, the smallest hardly: it is nearly full. And *per operation* (about 6 for
# each parameter and token: 2 forward, 4 backward) the order is turned round on the left: for a small budget a large
# model is the wrong choice, since it has hardly begun. Which size is best for which budget is what *scaling laws*
# describe. (All five use the same learning rate. Tuned for each, the distances would change somewhat.)
#
# Look at the shelf at the bigram line, too: the two largest models learn pairs of characters first, rest there, and
# then find out how to use what stands before. The live run of section 6 paused at the same height.
#
# ## Questions to check yourself
#
# These are the lectures' own, in other words, and a few more.
#
# **1.** What is teacher forcing, and why is it used? (000)
#
# <details><summary>Answer</summary>
#
# In training, the input at every position is the true text, never the model's own prediction; the target is the same
# text one place further. Two reasons. All inputs are known beforehand, so with the causal mask one parallel pass trains
# every position (section 3). And the prefix always fits the target: a mistake at one position does not spoil the lesson
# of the next (section 9).
#
# </details>
#
# **2.** What would be the main challenge without it? (000)
#
# <details><summary>Answer</summary>
#
# The model would read its own mistakes and be asked for the continuation of something else. On text it then learns
# nothing but frequencies (it stuck at the unigram entropy); and each position has to wait for the one before, so a step
# takes several times as long. Where the target does not depend on the replaced tokens, as in addition, it does learn,
# only more slowly.
#
# </details>
#
# **3.** Start from "make $P(X)$ as large as possible" and derive $L = -\sum_t \log P_\theta(x_t \mid x_{<t})$. Where
# does $\hat y_{t,x_t}$ come in, and where the cross-entropy? (000)
#
# <details><summary>Answer</summary>
#
# Factorise by the chain rule; take the logarithm, which does not move the maximum and turns the product into a sum;
# change the sign, which turns a maximum into a minimum. Each conditional is one entry of the predicted vector,
# $\hat y_{t,x_t}$. With a one-hot target $q$, $-\sum_v q_v \log \hat y_{t,v}$ is that same entry's $-\log$: the
# cross-entropy.
#
# </details>
#
# **4.** In generation only the last position's output is used. In training? And is the loss computed from the predicted
# tokens? (003)
#
# <details><summary>Answer</summary>
#
# In training every position's logits enter the loss. It is computed from the logits: minus the log-probability of the
# true token. The predicted token, the argmax, has no slope.
#
# </details>
#
# **5.** Through which matrices of an attention layer does the gradient flow, and which of them gets the largest
# gradient? (001)
#
# <details><summary>Answer</summary>
#
# The output matrix $W^O$, and for each head $W^V$ directly and $W^Q$, $W^K$ through the attention weights. At the start
# the gradient of $W^V$ is by far the largest, since the gradients of $W^Q$ and $W^K$ carry a factor of the keys and
# queries, which are small. Under plain gradient descent $W^V$ would learn first; AdamW moves all three alike.
#
# </details>
#
# **6.** What is wrong with cross-entropy, what does label smoothing do, and how would you compare a smoothed with an
# unsmoothed model? (001)
#
# <details><summary>Answer</summary>
#
# It rewards ever larger logits on text that the model knows by heart, so the model becomes surer than it is right.
# Smoothing gives the other tokens a little of the target's mass; the optimum then lies at a finite logit. Compare both
# by plain NLL and calibration error on held-out text: the smoothed loss itself has a floor (.74 nats for $V = 65$).
#
# </details>
#
# **7.** Your first loss is 9.2, and the vocabulary has 10,000 tokens. Is that a good sign?
#
# <details><summary>Answer</summary>
#
# Yes: $\ln 10{,}000 = 9.21$. The model is uniform, as it should be before it has learned anything.
#
# </details>
#
# **8.** Two batches, one of 900 targets with a mean loss of 2.0, one of 100 with 3.0. What is the loss of both
# together?
#
# <details><summary>Answer</summary>
#
# $(900 \cdot 2.0 + 100 \cdot 3.0) / 1000 = 2.1$. The mean of the means would be 2.5.
#
# </details>
#
# ## What to try next
#
# - Set `RUN_IT = True` above section 8's experiment, and change the amount of text in
#   `arlab/recipes/teacher_forcing.py` (`ids[:10_000]`): from how many characters on does smoothing stop helping?
# - Feed back the model's own tokens only now and then:
#   `arlab.training.exposure.scheduled_sampling(model, batches, rate=0.2, generator=lab.generator())`. At which rate
#   does text training break down?
# - Train twice as long with `lr` ten times larger, and watch `grad_norm` in the explorer. What does clipping save you
#   from?
# - Print `head_gradient_norms` every 50 steps of the live run. When does $W^Q$ catch up with $W^V$?
#
# ## Where the idea comes from
#
# Teacher forcing: Williams and Zipser (1989). Its cost, and feeding back a part: Bengio et al. (2015), *Scheduled
# sampling*. Label smoothing: Szegedy et al. (2016); when it helps: Müller, Kornblith and Hinton (2019). Calibration:
# Guo et al. (2017). Clipping: Pascanu, Mikolov and Bengio (2013). AdamW: Loshchilov and Hutter (2019). Loss against
# tokens: Touvron et al. (2023), *LLaMA*; size against compute: Kaplan et al. (2020), Hoffmann et al. (2022).
#
# [← 05 The transformer block](05_transformer_block.ipynb) · [07 Context length →](07_context_length.ipynb)
