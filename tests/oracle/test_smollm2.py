"""SmolLM2 against `transformers`, which reads the same GGUF file by itself.

The peer ignores the file's own pre-tokenizer rule (`smollm`: single digits first), so that is set right before ids
are compared. Everything stands in one file: the two models are loaded once, by one worker.
"""

import random

import pytest
import torch

from arlab import assets
from arlab.decoding import TopK, greedy, sample
from arlab.nn.attention import record_attention
from arlab.nn.language_model import last_logits
from arlab.nn.pretrained import smollm2

transformers = pytest.importorskip("transformers", reason="the peer of these tests; pip install 'arlab[test]'")

PROMPTS = [
    "The capital of France is",
    "The cat sat on the",
    "def fibonacci(n):\n    if n < 2:\n        return",
    "1. First\n\n2. Second\n\n3.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen",
    "<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n",
    "🙂🙃",
    "a",
]


@pytest.fixture(scope="module")
def ours():
    return smollm2()


@pytest.fixture(scope="module")
def peer():
    file = assets.path("smollm2")
    model = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model.generation_config.eos_token_id = None  # each test says for itself where to stop
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def peer_tokenizer():
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    file = assets.path("smollm2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    rule = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.backend_tokenizer.pre_tokenizer = rule
    return tokenizer


# --- weights


def test_the_model_is_the_one_that_the_course_describes(ours):
    model, tokenizer = ours
    config = model.config
    assert (config.layers, config.heads, config.kv_heads, config.d_model, config.vocab_size) == (30, 9, 3, 576, 49152)
    assert (config.context_length, config.norm_eps, config.rotary_base, config.tied) == (8192, 1e-5, 100_000.0, True)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert tokenizer.vocab_size == 49152 and model.bos_id == tokenizer.bos_id == 1 and tokenizer.eos_id == 2


@pytest.mark.parametrize("prompt", PROMPTS)
def test_logits_at_every_position(ours, peer, prompt):
    model, tokenizer = ours
    ids = torch.tensor([tokenizer.encode(prompt)])
    with torch.no_grad():
        torch.testing.assert_close(model(ids), peer(ids).logits, rtol=0, atol=1e-3)


def test_logits_of_a_long_text(ours, peer):
    """600 tokens: rotary angles far from 0, where an error in the base or in the pairing would have grown."""
    model, tokenizer = ours
    text = assets.path("tiny_shakespeare").read_text(encoding="utf-8")[:4000]
    ids = torch.tensor([tokenizer.encode(text)[:600]])
    with torch.no_grad():
        expected = peer(ids).logits[:, -1]
        torch.testing.assert_close(model.last_logits(ids), expected, rtol=0, atol=1e-3)
        cache = model.new_cache(1, 600)
        for part in ids[:, :-1].split(250, dim=1):
            model.last_logits(part, cache)
        torch.testing.assert_close(model.last_logits(ids[:, -1:], cache), expected, rtol=0, atol=1e-3)


def test_attention_maps_of_every_head(ours, peer):
    """The peer returns its weights when its attention is the explicit one."""
    model, tokenizer = ours
    ids = torch.tensor([tokenizer.encode(PROMPTS[1])])
    peer.set_attn_implementation("eager")
    with record_attention(model) as maps:
        model(ids)
        expected = peer(ids, output_attentions=True).attentions
    peer.set_attn_implementation("sdpa")
    torch.testing.assert_close(maps.stack(), torch.stack(expected), rtol=0, atol=1e-4)


def test_bfloat16_is_near(ours):
    model, tokenizer = ours
    half, _ = smollm2(dtype=torch.bfloat16)
    ids = torch.tensor([tokenizer.encode(PROMPTS[0])])
    with torch.no_grad():
        exact, rough = model(ids)[0, -1], half(ids)[0, -1].float()
    assert rough.argmax() == exact.argmax()
    assert (exact.softmax(-1) - rough.softmax(-1)).abs().max() < 0.05


def test_what_the_lectures_will_show(ours):
    """The figures that notebooks and design quote, by definition and not by our own filters."""
    model, tokenizer = ours

    def next_tokens(prompt):
        with torch.no_grad():
            p = last_logits(model, torch.tensor([tokenizer.encode(prompt)]))[0].double().softmax(-1)
        p, ids = p.sort(descending=True)
        return [(tokenizer.decode([i]), q) for i, q in zip(ids[:3].tolist(), p.tolist(), strict=False)], (
            int((p.cumsum(0) < 0.9).sum()) + 1
        )

    (best, *_), nucleus = next_tokens("The capital of France is")
    assert best == (" Paris", pytest.approx(0.77, abs=0.005)) and nucleus == 10
    (first, second, _), nucleus = next_tokens("The cat sat on the")
    assert first == (" cat", pytest.approx(0.071, abs=0.0005)) and second == (" moon", pytest.approx(0.050, abs=0.0005))
    assert nucleus == 533


# --- decoding


@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS[2]])
def test_a_hundred_greedy_tokens(ours, peer, prompt):
    model, tokenizer = ours
    ids = torch.tensor([tokenizer.encode(prompt)])
    expected = peer.generate(ids, max_new_tokens=100, do_sample=False, pad_token_id=0)[0, ids.size(1) :]
    assert greedy(model, ids, max_new_tokens=100).tokens() == expected.tolist()


def test_greedy_stops_where_the_peer_stops(ours, peer):
    model, tokenizer = ours
    ids = tokenizer.chat([{"role": "user", "content": "What is the capital of France?"}])
    expected = peer.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False, eos_token_id=2, pad_token_id=0)
    generation = greedy(model, ids, max_new_tokens=60, eos_id=tokenizer.eos_id)
    assert generation.tokens() == expected[0, len(ids) :].tolist() and generation.finished.all()
    assert "Paris" in tokenizer.decode(generation.tokens())


def test_a_ragged_batch_is_the_peers_and_each_row_alone(ours, peer):
    model, tokenizer = ours
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS[:4]]
    width = max(map(len, prompts))
    padded = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    generation = greedy(model, padded, mask=mask, max_new_tokens=20)
    expected = peer.generate(padded, attention_mask=mask.long(), max_new_tokens=20, do_sample=False, pad_token_id=0)
    assert torch.equal(generation.ids[:, 0], expected[:, width:])
    for row, prompt in enumerate(prompts):
        alone = greedy(model, prompt, max_new_tokens=20)
        assert alone.tokens() == generation.tokens(row)
        torch.testing.assert_close(alone.logprobs[0], generation.logprobs[row], rtol=0, atol=1e-3)


def test_scores_are_those_of_the_peers_one_pass_over_the_text(ours, peer):
    model, tokenizer = ours
    prompt = tokenizer.encode(PROMPTS[1])
    generator = torch.Generator().manual_seed(0)
    generation = sample(model, prompt, max_new_tokens=15, n=3, filters=[TopK(50)], generator=generator)
    for n in range(3):
        new = generation.tokens(0, n)
        logprobs = peer(torch.tensor([prompt + new])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = logprobs.gather(-1, torch.tensor(new)[:, None])[:, 0]
        torch.testing.assert_close(generation.logprobs[0, n], expected, rtol=0, atol=1e-3)
        assert generation.scores[0, n].item() == pytest.approx(expected.sum().item(), abs=1e-2)


# --- the tokenizer

FRAGMENTS = [
    # words, contractions, capitals, hyphens
    "The quick brown fox", " jumps", "over the lazy dog.", "don't", "I'll we've they're it's he'd I'm", "DON'T",
    "naïve", "state-of-the-art", "O'Neill's", "e.g.", "...", "?!?!", "--", "—", "“quoted”", "«dit-il»",
    # digits, the rule that the peer gets wrong by itself
    "1. First", "2024", " 3.14159", "1,000,000", "12:30:45", "x1y22z333", "0xDEADBEEF", "1e-9", "٣٤٥", "½²³", "Ⅷ", " 7",
    # whitespace runs
    " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", " \n ", "\r\n", "        indented", "trailing   ", "\u00a0",
    "\u2003em", "\u200b", "a  b   c    d", "\n    \n", "\x0b\x0c",
    # code
    "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) { a[i] += 1; }", "\\frac{1}{2}",
    "SELECT * FROM t WHERE a >= 10;", "#include <stdio.h>\n", "lambda *args, **kw: {**kw}", "a_b-c.d/e\\f",
    "<div class=\"a\">&amp;</div>",
    "https://example.org/path?q=1&r=%20#top", "user@example.org", "$PATH:${HOME}", "```python\nprint('hi')\n```",
    # other scripts, accents composed and not, right to left
    "café", "cafe\u0301", "Ångström", "straße", "İstanbul", "Привет, мир", "Ελληνικά", "שלום עולם", "مرحبا بالعالم",
    "हिन्दी", "ภาษาไทย", "日本語のテキスト", "한국어", "中文字符", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ﬁ ligature", "ĳ", "\ufeffBOM", "\ufffd",
    # emoji, with joiners, skin tones and flags
    "🙂", "👩\u200d👩\u200d👧\u200d👦", "👍🏽", "🇫🇷🇩🇪", "❤️", "🤖🚀✨", "☃",
    # special tokens, whole, doubled, and nearly
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|><|im_end|>",
    "<|im_end", "<repo_name>", "<file_sep>", "<|im_start |>", "a<|endoftext|>b", "<jupyter_code>",
    # control characters and odd ends
    "\x00", "\x7f", "\u0085", "\u2028", "\u2029", "\x1b[31m",
]  # fmt: skip


def varied_texts():
    rng = random.Random(0)
    mixed = ["".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(2, 7))) for _ in range(150)]
    return list(dict.fromkeys(["", *FRAGMENTS, *mixed]))


def test_token_ids_of_varied_texts(ours, peer_tokenizer):
    _, tokenizer = ours
    texts = varied_texts()
    assert len(texts) >= 200
    wrong = {
        text: (tokenizer.encode(text), expected)
        for text in texts
        if tokenizer.encode(text) != (expected := peer_tokenizer.encode(text, add_special_tokens=False))
    }
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, such as {next(iter(wrong.items()))}"


def test_decoding_gives_back_every_text(ours, peer_tokenizer):
    _, tokenizer = ours
    for text in varied_texts():
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert peer_tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
        assert tokenizer.decode(tokenizer.encode(text, allow_special=False)) == text


def test_token_ids_of_a_play(ours, peer_tokenizer):
    _, tokenizer = ours
    text = assets.path("tiny_shakespeare").read_text(encoding="utf-8")[:200_000]
    ids = tokenizer.encode(text)
    assert ids == peer_tokenizer.encode(text, add_special_tokens=False) and tokenizer.decode(ids) == text


def test_every_token_has_its_bytes(ours, peer_tokenizer):
    """Each id alone: the same text from both, the pieces of characters that are no text included."""
    _, tokenizer = ours
    strings = tokenizer.token_strings()
    assert len(strings) == 49152 and all(strings)
    decoded = peer_tokenizer.batch_decode([[i] for i in range(49152)], clean_up_tokenization_spaces=False)
    for i, (ours_, theirs) in enumerate(zip(strings, decoded, strict=True)):
        assert tokenizer.decode([i]) == theirs
        if "\ufffd" not in theirs:
            assert ours_ == theirs
    assert len(tokenizer.special_ids) == 17 and tokenizer.token_bytes(2) == b"<|im_end|>"


@pytest.mark.parametrize("generation_prompt", [True, False])
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hello!"}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?\n\n5 words."}],
        [
            {"role": "user", "content": "  1+1?  "},
            {"role": "assistant", "content": "2 🙂"},
            {"role": "user", "content": "And {{ 2 }} <|im_end|> more?"},
        ],
    ],
)
def test_the_chat_template(ours, peer_tokenizer, messages, generation_prompt):
    _, tokenizer = ours
    expected = peer_tokenizer.apply_chat_template(
        messages, add_generation_prompt=generation_prompt, tokenize=True, return_dict=False
    )
    assert tokenizer.chat(messages, add_generation_prompt=generation_prompt) == expected
