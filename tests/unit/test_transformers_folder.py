"""Folders as `transformers` writes them, whole and damaged: the right model or a clear error, never a pickle."""

import json
import pickle
import random

import pytest
import torch
from safetensors.torch import save_file

from arlab.nn import transformers_folder
from arlab.nn.decoder import DecoderConfig
from arlab.nn.pretrained import from_transformers
from arlab.text.tokenizers import BPETokenizer

LLAMA_SETTINGS = {
    "model_type": "llama",
    "vocab_size": 17,
    "max_position_embeddings": 16,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 12,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama_tensors():
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "embed_tokens": (17, 8),
        "layers.0.self_attn.q_proj": (8, 8),
        "layers.0.self_attn.k_proj": (4, 8),
        "layers.0.self_attn.v_proj": (4, 8),
        "layers.0.self_attn.o_proj": (8, 8),
        "layers.0.mlp.gate_proj": (12, 8),
        "layers.0.mlp.up_proj": (12, 8),
        "layers.0.mlp.down_proj": (8, 12),
        "layers.0.input_layernorm": (8,),
        "layers.0.post_attention_layernorm": (8,),
        "norm": (8,),
    }
    return {f"model.{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write_folder(folder, settings=None, tensors=None, **changed):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**(settings or LLAMA_SETTINGS), **changed}))
    save_file(tensors if tensors is not None else llama_tensors(), str(folder / "model.safetensors"))
    return folder


def test_a_folder_becomes_a_model(tmp_path):
    folder = write_folder(tmp_path / "m")
    model, tokenizer = from_transformers(str(folder))
    config = DecoderConfig.llama(
        vocab_size=17, context_length=16, d_model=8, layers=1, heads=2, kv_heads=1, d_ff=12, norm_eps=1e-6,
        rotary_base=500.0, bos_id=1,
    )  # fmt: skip
    assert model.config == config and tokenizer is None
    assert torch.equal(model.embed_tokens.weight, llama_tensors()["model.embed_tokens.weight"])
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    half, _ = from_transformers(folder, dtype=torch.bfloat16)
    assert half(torch.tensor([[1, 2]])).dtype == torch.bfloat16


def test_weights_in_several_files(tmp_path):
    tensors = llama_tensors()
    names = list(tensors)
    folder = write_folder(tmp_path / "m", tensors={n: tensors[n] for n in names[:5]})
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ValueError, match="m lacks 'model"):
        from_transformers(folder)
    save_file({n: tensors[n] for n in names[5:]}, str(folder / "model-00002-of-00002.safetensors"))
    assert from_transformers(folder)[0](torch.tensor([[1]])).isfinite().all()


def test_a_tokenizer_in_the_folder_comes_along(tmp_path):
    folder = write_folder(tmp_path / "m")
    BPETokenizer.train("the cat", 256).tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages[0].content }}"}))
    _, tokenizer = from_transformers(folder)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, None)
    assert tokenizer.decode(tokenizer.chat([{"role": "user", "content": "cat"}])) == "cat"


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_unopened(tmp_path, name):
    folder = write_folder(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="only pickled weights, which can run code when opened; save it with"):
        from_transformers(folder)


def test_pickled_weights_beside_safe_ones_are_left_alone(tmp_path):
    folder = write_folder(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    from_transformers(folder)


def test_safetensors_cut_short_anywhere(tmp_path):
    folder = write_folder(tmp_path / "m")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        file.write_bytes(data[:length])
        with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file"):
            from_transformers(folder)
    file.write_bytes(b"\xff" * 8 + data[8:])  # a header of 2^64 - 1 bytes
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        from_transformers(folder)


def test_safetensors_with_flipped_header_bytes(tmp_path):
    folder = write_folder(tmp_path / "m")
    file = folder / "model.safetensors"
    data, rng = file.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.randrange(header)] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        try:
            from_transformers(folder)  # a flip may fall on a space, and change nothing
        except ValueError as error:
            assert str(folder) in str(error) or "shape" in str(error) or "fit" in str(error)


BAD_FOLDERS = [
    ({"model_type": "bert"}, "model of type 'bert'; arlab reads gpt2, llama"),
    ({"model_type": None}, "model of type None"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'; arlab knows 'silu'"),
    ({"attention_bias": True}, "attention_bias = True; arlab knows False"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope settings .*llama3"),
    ({"num_hidden_layers": 2}, "lacks 'model.layers.1"),
    ({"num_hidden_layers": 0}, "layers is 0"),
    ({"tensors": llama_tensors() | {"model.layers.1.mlp.up_proj.weight": torch.ones(12, 8)}}, "also holds .*layers.1"),
    (
        {"tensors": llama_tensors() | {"model.layers.0.self_attn.q_proj.bias": torch.ones(8)}},
        "also holds .*q_proj.bias",
    ),
    ({"vocab_size": 16}, r"embed_tokens.weight has shape \(17, 8\); the config asks for \(16, 8\)"),
    ({"num_key_value_heads": 2}, "attn.qkv.weight has shape"),
    ({"tie_word_embeddings": False}, "lacks 'lm_head.weight'"),
    ({"hidden_size": "8"}, "d_model is '8'"),
    ({"num_attention_heads": 0}, "heads is 0"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_FOLDERS)
def test_configs_that_arlab_would_get_wrong(tmp_path, changed, message, as_shipped):
    with pytest.raises(ValueError, match=message):
        from_transformers(write_folder(tmp_path / "m", **changed))


def test_folders_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*missing"):
        from_transformers(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="has no config.json; is it a model folder"):
        from_transformers(tmp_path)
    for text in ("{", "", "[]", "3"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="config.json is not JSON|config.json holds a"):
            from_transformers(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_SETTINGS))
    with pytest.raises(ValueError, match=r"has no \*.safetensors file"):
        from_transformers(tmp_path)


def test_a_name_that_the_hub_does_not_give(monkeypatch):
    import huggingface_hub

    asked = {}

    def no_network(name, **options):
        asked.update(name=name, **options)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    with pytest.raises(FileNotFoundError, match="'someone/model' is no folder here and the hub .*no network"):
        from_transformers("someone/model")
    assert asked == {"name": "someone/model", "allow_patterns": transformers_folder.FILES}
    assert not any("bin" in pattern for pattern in asked["allow_patterns"]), "pickles are not even fetched"
