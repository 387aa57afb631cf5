# SPDX-License-Identifier: MIT
"""A GGUF file of noise with the shapes of DeepSeek-V3 or V3.2, few layers and few experts: what
`sluice synth` makes, for llama.cpp.  `run` uses it.  Weights are random blocks, scaled so that
activations stay of order 1; logits are noise, times are real."""
import math
import random
import struct

HIDDEN, HEADS, Q_RANK, KV_RANK, NOPE, ROPE, VALUE = 7168, 128, 1536, 512, 128, 64, 128
EXPERT, DENSE, TOP_EXPERTS = 2048, 18432, 8
INDEX_HEADS, INDEX_KEY, TOP_KEYS = 64, 128, 2048

ALIGNMENT = 4096
PIECE = 16 << 20
IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def rms(values):
    return math.sqrt(sum(v * v for v in values) / len(values))


# name: number in the file, weights per block, bytes per block, rms of the weights that random
# bytes behind a scale of 1 make; None: no blocks
TYPES = {
    "f32": (0, 1, 4, None),
    "q4_0": (2, 32, 18, rms(range(-8, 8))),
    "q8_0": (8, 32, 34, rms(range(-128, 128))),
    "iq4_nl": (20, 32, 18, rms(IQ4_NL)),
}


def tensors(arch, dense_layers, moe_layers, experts, vocab, expert_type, other_type):
    """(name, dimensions, type) of every tensor; the first dimension is the contiguous one."""
    out = [
        ("token_embd.weight", (HIDDEN, vocab), other_type),
        ("output_norm.weight", (HIDDEN,), "f32"),
        ("output.weight", (HIDDEN, vocab), other_type),
    ]
    for layer in range(dense_layers + moe_layers):
        rows = [
            ("attn_norm.weight", (HIDDEN,), "f32"),
            ("attn_q_a_norm.weight", (Q_RANK,), "f32"),
            ("attn_kv_a_norm.weight", (KV_RANK,), "f32"),
            ("ffn_norm.weight", (HIDDEN,), "f32"),
            ("attn_q_a.weight", (HIDDEN, Q_RANK), other_type),
            ("attn_q_b.weight", (Q_RANK, HEADS * (NOPE + ROPE)), other_type),
            ("attn_kv_a_mqa.weight", (HIDDEN, KV_RANK + ROPE), other_type),
            ("attn_k_b.weight", (NOPE, KV_RANK, HEADS), other_type),
            ("attn_v_b.weight", (KV_RANK, VALUE, HEADS), other_type),
            ("attn_output.weight", (HEADS * VALUE, HIDDEN), other_type),
        ]
        if arch == "deepseek32":
            rows += [
                ("indexer.k_norm.weight", (INDEX_KEY,), "f32"),
                ("indexer.k_norm.bias", (INDEX_KEY,), "f32"),
                ("indexer.proj.weight", (HIDDEN, INDEX_HEADS), "f32"),
                ("indexer.attn_k.weight", (HIDDEN, INDEX_KEY), other_type),
                ("indexer.attn_q_b.weight", (Q_RANK, INDEX_HEADS * INDEX_KEY), other_type),
            ]
        if layer < dense_layers:
            rows += ffn("", DENSE, (), other_type)
        else:
            rows += [
                ("ffn_gate_inp.weight", (HIDDEN, experts), "f32"),
                ("exp_probs_b.bias", (experts,), "f32"),
            ]
            rows += ffn("_exps", EXPERT, (experts,), expert_type)
            rows += ffn("_shexp", EXPERT, (), other_type)
        out += [(f"blk.{layer}.{name}", shape, kind) for name, shape, kind in rows]
    return out


def ffn(suffix, inner, outer, kind):
    return [
        (f"ffn_gate{suffix}.weight", (HIDDEN, inner, *outer), kind),
        (f"ffn_up{suffix}.weight", (HIDDEN, inner, *outer), kind),
        (f"ffn_down{suffix}.weight", (inner, HIDDEN, *outer), kind),
    ]


def size(shape, kind):
    _, weights, block, _ = TYPES[kind]
    return math.prod(shape) // weights * block


def bytes_per_token(table, experts, depth):
    """What decoding one token behind DEPTH others goes over: of the routed experts 8, of the
    embedding a row, everything else once; of each layer's F16 cache the rows attended to, and all
    keys of the indexer."""
    total = 0
    layers = sum(name.endswith("attn_output.weight") for name, _, _ in table)
    sparse = any("indexer" in name for name, _, _ in table)
    for name, shape, kind in table:
        if "_exps." in name:
            total += size(shape, kind) * TOP_EXPERTS // experts
        elif name.startswith("token_embd"):
            total += size((HIDDEN,), kind)
        else:
            total += size(shape, kind)
    rows = min(depth, TOP_KEYS) if sparse else depth
    total += layers * 2 * (rows * (KV_RANK + ROPE) + sparse * depth * INDEX_KEY)
    return total


# ---- the file --------------------------------------------------------------------------------

def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def encode(value):
    """A value of the metadata, its type's number first."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value[0], int):
        return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(item) for item in value)


def byte_names():
    """GPT-2's printable stand-ins for the 256 bytes."""
    out, spare = [], 256
    for byte in range(256):
        printable = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte
        out.append(chr(byte if printable else spare))
        spare += not printable
    return out


def metadata(arch, dense_layers, moe_layers, experts, vocab):
    hyper = {
        "block_count": dense_layers + moe_layers,
        "context_length": 163840,
        "embedding_length": HIDDEN,
        "feed_forward_length": DENSE,
        "vocab_size": vocab,
        "attention.head_count": HEADS,
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.layer_norm_epsilon": 1e-6,
        "attention.q_lora_rank": Q_RANK,
        "attention.kv_lora_rank": KV_RANK,
        "attention.key_length": KV_RANK + ROPE,
        "attention.value_length": KV_RANK,
        "attention.key_length_mla": NOPE + ROPE,
        "attention.value_length_mla": VALUE,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": ROPE,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 40.0,
        "rope.scaling.original_context_length": 4096,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "leading_dense_block_count": dense_layers,
        "expert_count": experts,
        "expert_used_count": TOP_EXPERTS,
        "expert_shared_count": 1,
        "expert_group_count": 8,
        "expert_group_used_count": 4,
        "expert_feed_forward_length": EXPERT,
        "expert_weights_scale": 2.5,
        "expert_weights_norm": True,
        "expert_gating_func": 2,  # sigmoid
    }
    if arch == "deepseek32":
        hyper["attention.indexer.head_count"] = INDEX_HEADS
        hyper["attention.indexer.key_length"] = INDEX_KEY
        hyper["attention.indexer.top_k"] = TOP_KEYS
    names = ["<bos>", "<eos>"] + byte_names()
    names += [f"token{i}" for i in range(vocab - len(names))]
    return {
        "general.architecture": arch,
        "general.name": "noise",
        "general.alignment": ALIGNMENT,
        "general.quantization_version": 2,
        **{f"{arch}.{key}": value for key, value in hyper.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "deepseek-v3",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (vocab - 2),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }


def noise(rng, name, shape, kind):
    """A tensor's bytes, in pieces.  Blocks of a large one repeat after PIECE bytes."""
    total = size(shape, kind)
    _, _, block, block_rms = TYPES[kind]
    if kind == "f32":
        def draw():
            if "norm.weight" in name:
                return 1.0
            return rng.gauss(0, 1e-3 if name.endswith("bias") else shape[0] ** -0.5)
        yield struct.pack(f"<{total // 4}f", *(draw() for _ in range(total // 4)))
        return
    scale = struct.pack("<e", shape[0] ** -0.5 / block_rms)
    piece = bytearray(rng.randbytes(min(total, PIECE // block * block)))
    for i in range(2):
        piece[i::block] = scale[i : i + 1] * (len(piece) // block)
    for done in range(0, total, len(piece)):
        yield piece[: total - done]


def write(path, arch, dense_layers, moe_layers, experts, vocab, table):
    rng = random.Random(1)
    pairs = metadata(arch, dense_layers, moe_layers, experts, vocab)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(pairs))
    head += b"".join(text(key) + encode(value) for key, value in pairs.items())
    offset = 0
    for name, shape, kind in table:
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", TYPES[kind][0], offset)
        offset += -(-size(shape, kind) // ALIGNMENT) * ALIGNMENT
    with open(path, "wb") as out:
        out.write(head + bytes(-len(head) % ALIGNMENT))
        for name, shape, kind in table:
            for piece in noise(rng, name, shape, kind):
                out.write(piece)
            out.write(bytes(-size(shape, kind) % ALIGNMENT))
