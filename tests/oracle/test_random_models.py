"""Random GPT-2 and Llama models, saved by `transformers` and read by arlab: the same logits, the same tokens."""

import pytest
import torch

from arlab.decoding import greedy
from arlab.nn.decoder import DecoderConfig, DecoderLM
from arlab.nn.pretrained import from_transformers

transformers = pytest.importorskip("transformers", reason="the peer of these tests; pip install 'arlab[test]'")
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM  # noqa: E402

GPT2 = {"vocab_size": 101, "n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.3}
LLAMA = {
    "vocab_size": 101, "max_position_embeddings": 48, "hidden_size": 32, "num_hidden_layers": 3,
    "num_attention_heads": 4, "intermediate_size": 40, "initializer_range": 0.3,
}  # fmt: skip
MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "gpt2, exact gelu, own width": lambda: GPT2LMHeadModel(
        GPT2Config(**GPT2, activation_function="gelu", n_inner=50, layer_norm_epsilon=1e-3)
    ),
    "gpt2, untied, relu": lambda: GPT2LMHeadModel(
        GPT2Config(**GPT2, activation_function="relu", tie_word_embeddings=False)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama, grouped, tied": lambda: LlamaForCausalLM(
        LlamaConfig(**LLAMA, num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-3)
    ),
    "llama, one kv head, own head_dim and base": lambda: LlamaForCausalLM(
        LlamaConfig(
            **LLAMA, num_key_value_heads=1, head_dim=10, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
        )
    ),
}


@pytest.fixture(params=MODELS, ids=lambda name: name.replace(", ", "-").replace(" ", "_"))
def pair(request, tmp_path):
    """The peer, with every bias and norm moved away from its start at 0 and 1, and arlab's reading of its folder."""
    torch.manual_seed(0)
    peer = MODELS[request.param]().eval().requires_grad_(False)
    for parameter in peer.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
    peer.save_pretrained(tmp_path)
    ours, tokenizer = from_transformers(tmp_path)
    assert tokenizer is None
    return peer, ours


def test_logits(pair):
    peer, ours = pair
    ids = torch.randint(101, (3, 40), generator=torch.Generator().manual_seed(1))
    expected = peer(ids).logits
    assert expected.std() > 0.5, "a peer that says nothing would agree with anything"
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(ours.last_logits(ids), expected[:, -1], rtol=0, atol=1e-4)


def test_greedy_with_ragged_prompts(pair):
    peer, ours = pair
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6]]
    padded = torch.tensor([[0] * (5 - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (5 - len(p)) + [True] * len(p) for p in prompts])
    expected = peer.generate(
        padded, attention_mask=mask.long(), max_new_tokens=30, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    assert torch.equal(greedy(ours, prompts, max_new_tokens=30).ids[:, 0], expected[:, 5:])


def test_gradients(pair):
    peer, ours = pair
    ids = torch.randint(101, (2, 12), generator=torch.Generator().manual_seed(2))
    gradients = []
    for model in (peer, ours):
        model.requires_grad_(True)
        logits = getattr(model(ids), "logits", None)
        logits = model(ids) if logits is None else logits
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        table = model.get_input_embeddings() if model is peer else model.embed_tokens
        gradients.append(table.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


def test_a_saved_tokenizer_comes_along(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate([*alphabet, "<|end|>"])}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    peer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|end|>", eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
    peer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    config = LlamaConfig(**{**LLAMA, "vocab_size": 257}, bos_token_id=256, eos_token_id=256)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    peer.save_pretrained(tmp_path)
    _, tokenizer = from_transformers(tmp_path)
    for text in ("Hello, world 🙂", "a<|end|>b", " \n\n x"):
        assert tokenizer.encode(text) == peer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    for more in (True, False):
        expected = peer.apply_chat_template(messages, add_generation_prompt=more, return_dict=False)
        assert tokenizer.chat(messages, add_generation_prompt=more) == expected


def test_a_fresh_decoder_of_ours_in_the_peers_class():
    """The other way round: arlab's own initial weights, carried into the peer by hand."""
    sizes = {"vocab_size": 23, "context_length": 16, "d_model": 16, "layers": 2, "heads": 2}
    ours = DecoderLM(DecoderConfig.llama(**sizes), seed=0).eval()
    config = LlamaConfig(
        vocab_size=23, max_position_embeddings=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    peer = LlamaForCausalLM(config).eval()
    state = {"model.embed_tokens.weight": ours.embed_tokens.weight, "model.norm.weight": ours.norm.weight}
    for layer, block in enumerate(ours.blocks):
        prefix = f"model.layers.{layer}."
        for name, weight in zip("qkv", block.attn.qkv.weight.chunk(3), strict=True):
            state[f"{prefix}self_attn.{name}_proj.weight"] = weight
        gate, up = block.ffn.gate_up.weight.chunk(2)
        state |= {
            f"{prefix}self_attn.o_proj.weight": block.attn.out.weight,
            f"{prefix}mlp.gate_proj.weight": gate,
            f"{prefix}mlp.up_proj.weight": up,
            f"{prefix}mlp.down_proj.weight": block.ffn.down.weight,
            f"{prefix}input_layernorm.weight": block.norm1.weight,
            f"{prefix}post_attention_layernorm.weight": block.norm2.weight,
        }
    missing, unexpected = peer.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected
    ids = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), peer(ids).logits, rtol=0, atol=1e-5)
