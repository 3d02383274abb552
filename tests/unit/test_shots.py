"""Prompts with examples in them, and a model asked with 0, 1, 2, ... of them."""

import pytest
import torch
from torch import nn

from arlab.decoding import greedy
from arlab.decoding.shots import accuracy, ask, complete_lines
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.language_model import Recompute
from arlab.text.shots import ANTONYMS, TASKS, UPPER_CASE, ShotTask, draw_examples, shot_prompt, write_prompt
from arlab.text.tokenizers import CharTokenizer

SMALL = ShotTask("digits", "Next.", tuple((str(i), chr(97 + i)) for i in range(10)), pool=6)
SYMBOLS = CharTokenizer("".join(map(chr, range(32, 127))) + "\n")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Lookup(nn.Module):
    """Says the answer that the prompt's own lines give to the query; with no such line, a "?".

    It reads everything from the ids, as a real model does, and says an answer letter by letter, then a line break.
    """

    context_length, bos_id = None, None

    def __init__(self, answers):
        super().__init__()
        self.answers, self.vocab_size = answers, SYMBOLS.vocab_size

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, self.vocab_size)
        for row, tokens in enumerate(ids.tolist()):
            for t in range(len(tokens)):
                logits[row, t, self.follow(SYMBOLS.decode(tokens[: t + 1]))] = 9.0
        return logits

    def follow(self, text):
        examples, line = text.count("=> ") - 1, text.split("\n")[-1]
        query, _, begun = line.partition(" =>")
        full = " " + self.answers(query, examples) + "\n"
        return SYMBOLS.encode(full[len(begun) : len(begun) + 1] or "\n")[0]


# --- the tasks and their prompts


def test_the_four_tasks():
    assert [task.name for task in TASKS] == ["upper case", "plural", "capitals", "antonyms"]
    for task in TASKS:
        assert len(task.examples) >= 9 and len(task.queries) >= 24  # 8 shots, and one more to shuffle a single one
    assert all(answer == question.upper() for question, answer in UPPER_CASE.pairs)
    words = [word for pair in ANTONYMS.pairs for word in pair]
    assert len(set(words)) == len(words)  # no query's answer stands among the examples


def test_a_prompt_as_it_is_written():
    prompt = write_prompt(SMALL, (("0", "a"), ("1", "b")), "7")
    assert prompt == "Next.\n0 => a\n1 => b\n7 =>"
    assert write_prompt(SMALL, (), "7") == "Next.\n7 =>"
    assert write_prompt(SMALL, (), "7", describe=False) == "7 =>"
    assert shot_prompt(SMALL, "7", 2, generator=seeded()).count("\n") == 3


def test_fewer_examples_are_the_first_of_more():
    eight = draw_examples(ANTONYMS, 8, generator=seeded(3))
    for k in (0, 1, 2, 4):
        assert draw_examples(ANTONYMS, k, generator=seeded(3)) == eight[:k]
    assert draw_examples(ANTONYMS, 8, generator=seeded(4)) != eight


def test_examples_come_from_the_pool_and_never_hold_the_query():
    for seed in range(20):
        drawn = draw_examples(SMALL, 5, generator=seeded(seed), query="2")
        assert len(set(drawn)) == 5 and set(drawn) <= set(SMALL.examples) and "2" not in dict(drawn)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_shuffled_examples_keep_no_answer_of_their_own(k):
    for seed in range(20):
        real, mixed = (draw_examples(SMALL, k, shuffled=s, generator=seeded(seed)) for s in (False, True))
        assert [question for question, _ in mixed] == [question for question, _ in real]
        assert all(a != b for (_, a), (_, b) in zip(real, mixed, strict=True))
        if k > 1:  # the same answers, handed round
            assert sorted(answer for _, answer in mixed) == sorted(answer for _, answer in real)
        else:
            assert mixed[0][1] in dict((b, a) for a, b in SMALL.examples)


def test_every_way_to_hand_three_answers_round_occurs():
    """Two cyclic orders of three: 60 draws miss one with odds of 2 in 2^60."""
    seen = set()
    for seed in range(60):
        real = [answer for _, answer in draw_examples(SMALL, 3, generator=seeded(seed))]
        mixed = [answer for _, answer in draw_examples(SMALL, 3, shuffled=True, generator=seeded(seed))]
        seen.add(tuple(real.index(answer) for answer in mixed))
    assert seen == {(1, 2, 0), (2, 0, 1)}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pairs": (("a", "b"), ("a", "c"))}, "the question 'a' twice"),
        ({"pairs": (("a", "b"), ("c", " "))}, "' ' in the task"),
        ({"pairs": (("a\nx", "b"), ("c", "d"))}, "of one line"),
        ({"pairs": (("a", "b"), ("c", "d")), "pool": 2}, "between 1 and one fewer"),
        ({"pairs": (("a", "b"), ("c", "b"), ("e", "f")), "pool": 2}, "examples need different answers"),
    ],
)
def test_a_task_that_makes_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        ShotTask("bad", "Do it.", **{"pool": 1, **settings})


@pytest.mark.parametrize("k", [-1, 7, True])
def test_a_number_of_examples_that_there_is_not(k):
    with pytest.raises(ValueError, match="has examples for 0 to 6"):
        draw_examples(SMALL, k)


def test_a_single_example_with_nobody_to_swap_with():
    lonely = ShotTask("one", "Do it.", (("a", "b"), ("c", "d")), pool=1)
    assert draw_examples(lonely, 1) == (("a", "b"),)
    with pytest.raises(ValueError, match="has examples for 0 to 0"):
        draw_examples(lonely, 1, shuffled=True)


def test_unknown_questions_and_empty_queries():
    assert SMALL.answer("3") == "d"
    with pytest.raises(ValueError, match="no question '99'"):
        SMALL.answer("99")
    for query in ("", " ", "a\nb"):
        with pytest.raises(ValueError, match="of one line"):
            shot_prompt(SMALL, query, 1)


# --- asking


def test_a_model_that_needs_two_examples():
    """Right from two examples on, and what it says is read up to the end of its line."""
    model = Recompute(Lookup(lambda query, k: dict(SMALL.pairs).get(query, "?") if k >= 2 else "hm ?"))
    results = ask(model, SYMBOLS, SMALL, ks=(0, 1, 2, 4))
    assert accuracy(results) == {("digits", k, s): float(k >= 2) for k in (0, 1, 2, 4) for s in (False, True)}
    assert [each.query for each in results[:4]] == ["6", "7", "8", "9"]
    first = results[0]
    assert (first.said, first.correct, first.answer, first.k) == ("hm ?", False, "g", 0)
    assert first.prompt == "Next.\n6 =>" and first.tokens == len(first.prompt) and first.examples == ()
    assert results[-1].said == "j" and results[-1].correct and len(results[-1].examples) == 4


def test_an_answer_that_ends_early_leaves_the_others_as_they_are():
    """The first row ends first: those behind it must keep their own caches."""
    answers = {"6": "a", "7": "efgh", "8": "bc", "9": "ijklmn"}
    model = Recompute(Lookup(lambda query, k: answers.get(query, "?")))
    results = ask(model, SYMBOLS, SMALL, ks=(1,), shuffled=(False,), max_new_tokens=6)
    assert [each.said for each in results] == ["a", "efgh", "bc", "ijklm"]  # a space and five letters: cut


def test_an_answer_ends_with_the_text_too():
    class Ending:
        eos_id = SYMBOLS.encode("~")[0]

        def __getattr__(self, name):
            return getattr(SYMBOLS, name)

    model = Recompute(Lookup(lambda query, k: "yes~no"))
    (line,) = complete_lines(model, Ending(), ["a =>"], ["yes"])
    assert line.said == "yes"


def test_the_grid_is_complete_and_k_0_is_the_same_both_ways():
    model = Recompute(Lookup(lambda query, k: "x"))
    results = ask(model, SYMBOLS, [SMALL, UPPER_CASE], ks=(0, 2), queries=3)
    assert len(results) == 2 * 2 * 2 * 3
    plain, mixed = results[:3], results[3:6]
    assert [each.shuffled for each in plain + mixed] == [False] * 3 + [True] * 3
    assert [each.prompt for each in plain] == [each.prompt for each in mixed]
    assert [each.said for each in plain] == [each.said for each in mixed]
    assert results[6].prompt != results[9].prompt and results[6].query == results[9].query


def test_probabilities_against_one_pass_over_each_prompt():
    """p_answer, top and what is said, with the shared cache, equal to a pass over each prompt alone."""
    config = DecoderConfig.llama(vocab_size=SYMBOLS.vocab_size, context_length=96, d_model=16, layers=2, heads=2)
    model = DecoderLM(config, seed=5).eval()
    with torch.no_grad():
        model.head.weight.mul_(40)  # opinions worth comparing
    task = ShotTask("names", "Name.", (("ab", "c d"), ("e", "fgh"), ("ij", "kl"), ("mno", "p"), ("q", "rs")), pool=2)
    for each in ask(model, SYMBOLS, task, ks=(0, 1, 2), shuffled=(False,), max_new_tokens=6, top=4):
        prompt, answer = SYMBOLS.encode(each.prompt), SYMBOLS.encode(" " + each.answer)
        logprobs = model(torch.tensor([prompt + answer]))[0].detach().log_softmax(-1)
        expected = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))
        assert each.p_answer == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-4)
        best = logprobs[len(prompt) - 1].exp().topk(4)
        assert [text for text, _ in each.top] == [SYMBOLS.token_strings()[i] for i in best.indices.tolist()]
        assert [p for _, p in each.top] == pytest.approx(best.values.tolist(), rel=1e-4)
        alone = SYMBOLS.decode(greedy(model, prompt, max_new_tokens=6).tokens())
        assert each.said == alone.strip().split("\n")[0].strip()


def test_the_weights_stay():
    config = DecoderConfig.gpt2(vocab_size=SYMBOLS.vocab_size, context_length=64, d_model=16, layers=1, heads=2)
    model = DecoderLM(config, seed=0).train()
    before = [parameter.clone() for parameter in model.parameters()]
    ask(model, SYMBOLS, SMALL, ks=(0, 2), queries=2)
    assert model.training and all(map(torch.equal, before, model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_prompt_that_does_not_fit_is_named():
    config = DecoderConfig.gpt2(vocab_size=SYMBOLS.vocab_size, context_length=24, d_model=16, layers=1, heads=2)
    with pytest.raises(ValueError, match="take fewer examples"):
        ask(DecoderLM(config, seed=0), SYMBOLS, SMALL, ks=(4,))


def test_one_query_and_bad_input():
    model = Recompute(Lookup(lambda query, k: "yes"))
    (line,) = complete_lines(model, SYMBOLS, ["a =>"], ["yes"])
    assert line.said == "yes" and line.tokens == 4 and line.p_answer > 0.5
    for prompts, answers, message in (([], [], "0 prompts"), (["a"], [], "0 answers"), ([""], ["b"], "is empty")):
        with pytest.raises(ValueError, match=message):
            complete_lines(model, SYMBOLS, prompts, answers)
    with pytest.raises(ValueError, match="nothing to ask"):
        ask(model, SYMBOLS, [], ks=(1,))
    with pytest.raises(ValueError, match="queries is 0"):
        ask(model, SYMBOLS, SMALL, queries=0)
