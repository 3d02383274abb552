"""Checkpoints are whole or not there, and fit the model or are refused."""

import errno
import os
from dataclasses import replace

import pytest
import torch

from arlab.nn import model_file
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.model_file import load_model, save_model
from arlab.text.batches import random_windows
from arlab.text.tokenizers import BPETokenizer, CharTokenizer
from arlab.training import checkpoints, recordings
from arlab.training.loop import TrainStep, fit, train

CONFIG = DecoderConfig.gpt2(vocab_size=11, context_length=8, d_model=16, layers=2, heads=2)
IDS = torch.arange(11)[None, :8]


def some_batches():
    return random_windows(torch.arange(200) % 11, 8, 4, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", [CONFIG, DecoderConfig.llama(**{**CONFIG.__dict__, "norm": "rms", "tied": False})])
def test_a_model_comes_back_as_it_was(config, tmp_path):
    model, path = DecoderLM(config, seed=3).eval(), tmp_path / "model.safetensors"
    save_model(path, model, CharTokenizer("hello world", special=["<eos>"]), figure=1.5, name="a test")
    again, tokenizer, about = load_model(path)
    assert again.config == config and not again.training
    assert torch.equal(again(IDS), model(IDS))
    assert tokenizer.encode("hello") == CharTokenizer("hello world").encode("hello") and tokenizer.eos_id == 8
    assert about == {"figure": 1.5, "name": "a test"}


@pytest.mark.usefixtures("as_shipped")
def test_a_model_of_another_kind_is_refused(tmp_path):
    with pytest.raises(TypeError, match="save_model writes DecoderLM and Seq2SeqTransformer; got Linear"):
        save_model(tmp_path / "model.safetensors", torch.nn.Linear(2, 2))
    assert not list(tmp_path.iterdir())


def test_in_bfloat16_it_takes_two_bytes_a_weight(tmp_path):
    model, path = DecoderLM(CONFIG, seed=3).eval(), tmp_path / "model.safetensors"
    save_model(path, model, dtype=torch.bfloat16)
    weights = sum(p.numel() for p in model.parameters())
    assert 2 * weights < path.stat().st_size < 2 * weights + 8000
    again, tokenizer, _ = load_model(path)
    assert tokenizer is None and again.embed_tokens.weight.dtype == torch.float32
    assert torch.equal(again.embed_tokens.weight, model.embed_tokens.weight.bfloat16().float())


def test_buffers_travel_too(tmp_path):
    model = DecoderLM(replace(CONFIG, norm="batch"), seed=0)
    model.train()(IDS)
    again, _, _ = load_model(save_model(tmp_path / "model.safetensors", model))
    assert torch.equal(again.norm.running_mean, model.norm.running_mean) and int(again.norm.num_batches_tracked) == 1
    model.norm.num_batches_tracked.fill_(1001)  # which bfloat16 cannot tell from 1000
    again, _, _ = load_model(save_model(tmp_path / "model.safetensors", model, dtype=torch.bfloat16))
    assert int(again.norm.num_batches_tracked) == 1001


def test_a_config_from_another_version_is_refused_by_name(tmp_path):
    model, path = DecoderLM(CONFIG, seed=0), tmp_path / "model.safetensors"
    for key, value in (("experts", 8), ("norm", "group")):
        metadata = {"config": {**model.config.__dict__, key: value}, "tokenizer": None, "about": {}}
        model_file.write_tensors(path, model_file.own_tensors(model), metadata)
        with pytest.raises(ValueError, match=f"model.safetensors holds a config that .* not know: .*{key}"):
            load_model(path)


def test_a_bpe_tokenizer_travels_too(tmp_path):
    tokenizer = BPETokenizer.train("the cat the hat the bat " * 20, 280, special=["<eos>"])
    tokenizer.chat_template = "{{ messages[0].content }}"
    model = DecoderLM(replace(CONFIG, vocab_size=tokenizer.vocab_size), seed=0)
    _, again, _ = load_model(save_model(tmp_path / "model.safetensors", model, tokenizer))
    assert again.encode("the hat") == tokenizer.encode("the hat") and again.eos_id == tokenizer.eos_id
    assert again.chat([{"role": "user", "content": "the bat"}]) == tokenizer.encode("the bat")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_file_cut_off_anywhere_is_refused(keep, tmp_path):
    path = save_model(tmp_path / "model.safetensors", DecoderLM(CONFIG, seed=0))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model.safetensors \(\d+ bytes\) is not a whole checkpoint"):
        load_model(path)
    model = DecoderLM(CONFIG, seed=0)
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        fit(model, some_batches(), steps=2, checkpoint=path, resume=True)


def test_no_file_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint .*nothing.safetensors"):
        load_model(tmp_path / "nothing.safetensors")


def test_weights_of_another_config_are_refused_and_fill_nothing(tmp_path):
    path = tmp_path / "run.safetensors"
    fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=1, checkpoint=path)
    wider, deeper = replace(CONFIG, d_model=32), replace(CONFIG, layers=3)
    for config, message in [
        (wider, r"blocks.0.attn.out.bias is \(16,\) in the file and \(32,\) in the model"),
        (deeper, "the file lacks blocks.2"),
        (replace(CONFIG, layers=1), "the model has no blocks.1"),
    ]:
        model = DecoderLM(config, seed=5)
        before = [p.clone() for p in model.parameters()]
        with pytest.raises(ValueError, match=message):
            fit(model, some_batches(), steps=2, checkpoint=path, resume=True)
        assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_a_model_is_no_training_to_resume(tmp_path):
    path = save_model(tmp_path / "model.safetensors", DecoderLM(CONFIG, seed=0))
    with pytest.raises(ValueError, match="lacks model|holds a model, and no training"):
        fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=2, checkpoint=path, resume=True)


def full_disk(_handle):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_neither_the_former_checkpoint_nor_the_model(tmp_path, monkeypatch):
    model, path = DecoderLM(CONFIG, seed=0), tmp_path / "run.safetensors"
    steps = train(model, some_batches(), steps=6, checkpoint=path, save_every=2)
    assert [next(steps).step for _ in range(3)] == [1, 2, 3]
    former = path.read_bytes()
    monkeypatch.setattr(model_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match="could not write .*No space left.*; the file that was there is untouched"):
        next(steps)
    monkeypatch.undo()
    assert path.read_bytes() == former and [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    again = fit(DecoderLM(CONFIG, seed=0), some_batches(), steps=6, checkpoint=path, resume=True)
    assert again[0].step == 3


def test_the_new_file_comes_into_its_place_in_one_move(tmp_path, monkeypatch):
    """On Windows the move fails while another program reads the file; the old one must be whole then."""
    path = save_model(tmp_path / "model.safetensors", DecoderLM(CONFIG, seed=0))
    former = path.read_bytes()

    def refused(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(model_file.os, "replace", refused)
    with pytest.raises(OSError, match="Permission denied.*; the file that was there is untouched"):
        save_model(path, DecoderLM(CONFIG, seed=1))
    assert path.read_bytes() == former and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="could not write .*; nothing was left behind"):
        save_model(tmp_path / "file" / "model.safetensors", DecoderLM(CONFIG, seed=0))


def test_moments_are_those_of_the_optimizer(tmp_path):
    model, path = DecoderLM(CONFIG, seed=0), tmp_path / "run.safetensors"
    optimizer = torch.optim.AdamW(model.parameters())
    model(IDS).sum().backward()
    optimizer.step()
    checkpoints.save_training(path, model, optimizer, step=1, batches=2, tokens=8, seconds=0.5)
    other = DecoderLM(CONFIG, seed=1)
    loaded = torch.optim.AdamW(other.parameters())
    done = {"step": 1, "batches": 2, "tokens": 8, "seconds": 0.5}
    assert checkpoints.load_training(path, other, loaded) == done
    content, moment = path.read_bytes(), loaded.state[other.embed_tokens.weight]["exp_avg"].clone()
    with path.open("r+b") as file:  # the moments are copies: the file may be written over
        file.write(b"\xff" * len(content))
    assert torch.equal(loaded.state[other.embed_tokens.weight]["exp_avg"], moment)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        for moment in checkpoints.MOMENTS:
            assert torch.equal(optimizer.state[ours][moment], loaded.state[theirs][moment])


def test_recordings_keep_six_digits_and_what_is_not_finite(tmp_path):
    steps = [TrainStep(1, 2.3456789, 10, 1e-3, 0.5, 0.25), TrainStep(2, float("nan"), 20, 1e-3, float("inf"), 0.5, 1.0)]
    path = recordings.save(tmp_path / "runs.json", {"a": steps}, machine="two cores")
    runs, about = recordings.load(path)
    assert about == {"machine": "two cores"} and runs["a"][0] == TrainStep(1, 2.34568, 10, 1e-3, 0.5, 0.25)
    assert runs["a"][1].loss != runs["a"][1].loss and runs["a"][1].grad_norm == float("inf")
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(ValueError, match="is not a recording"):
        recordings.load(other)
    with pytest.raises(FileNotFoundError, match="no recording"):
        recordings.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="plain numbers"):
        recordings.save(tmp_path / "z.json", {}, device=torch.device("cpu"))
