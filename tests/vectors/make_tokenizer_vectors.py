#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the test vectors of the tokenizer with the Hugging Face `tokenizers` library.

    make_tokenizer_vectors.py          (from anywhere; needs: pip install tokenizers==0.23.3)

Reads tokenizer-demo.json (a copy of the demo's, so that another demo may take its place) and
writes, beside this script,
    tokenizer-variant.json      a small tokenizer that differs from the demo in all it may differ in
    tokenizer-demo.bin          10 000 texts and 1 500 id sequences for tokenizer-demo.json
    tokenizer-variant.bin       2 500 texts and 500 id sequences for tokenizer-variant.json

A .bin file is a line "sluice tokenizer vectors 1\\n" and records until the end:
    kind     one byte: e  encode with added tokens recognised, and decode the ids again
                       p  encode with SLUICE_PLAIN_TEXT (the library without its added tokens)
                       d  decode only: ids -> text
    text     length (LEB128), bytes of UTF-8
    ids      count (LEB128), each id (LEB128)

Code points: the library's regular expressions (Oniguruma) and PCRE2 may know different versions of
Unicode.  Texts therefore use only code points that were assigned in Unicode 3.2 and have the same
general category today, hand-picked newer ones up to Unicode 12, private-use code points, and
noncharacters, which will never be assigned.
"""
import json
import pathlib
import random
import sys
import unicodedata

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE / "tokenizer-demo.json"


def stable(*ranges):
    old = unicodedata.ucd_3_2_0.category
    return [chr(c) for low, high in ranges for c in range(low, high + 1)
            if old(chr(c)) == unicodedata.category(chr(c)) not in ("Cn", "Cs")]


SCRIPTS = {
    "latin": stable((0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "greek": stable((0x370, 0x3FF)),
    "cyrillic": stable((0x400, 0x4FF)),
    "hebrew": stable((0x591, 0x5F4)),
    "arabic": stable((0x60C, 0x6FF), (0xFB50, 0xFBB1)),
    "devanagari": stable((0x901, 0x970)),
    "thai": stable((0xE01, 0xE5B)),
    "hangul": stable((0xAC00, 0xD7A3), (0x1100, 0x11F9)),
    "kana": stable((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF61, 0xFF9F)),
    "cjk": stable((0x4E00, 0x9FA5)),
    "cjk more": stable((0x3400, 0x4DB5), (0xF900, 0xFA2D), (0x20000, 0x2A6D6)) + ["\u9fa6", "々"],
    "cjk marks": stable((0x3000, 0x303F), (0xFF01, 0xFF60)),
    "marks": stable((0x300, 0x36F), (0x20D0, 0x20EA), (0xFE20, 0xFE23)),
    "punctuation": stable((0x2010, 0x2027), (0x2030, 0x205E), (0xA1, 0xBF)),
    "symbols": stable((0x20A0, 0x20B1), (0x2100, 0x214B), (0x2190, 0x22FF), (0x2500, 0x25FF)),
    "numbers": stable((0x660, 0x669), (0x966, 0x96F), (0x2070, 0x2079), (0x2080, 0x2089),
                      (0x2150, 0x2188), (0x2460, 0x249B), (0xFF10, 0xFF19)) + list("²³¹¼½¾〇〣"),
    "space": list(" \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
                  "\u2028\u2029\u202f\u205f\u3000\u0085\t\n\v\f\r\u180e\u200b\ufeff"),
    "control": [chr(c) for c in range(32)] + [chr(c) for c in range(0x7F, 0xA0)],
    "format": list("\u00ad\u200c\u200d\u200e\u200f\u202a\u202e\u2060\ufe0e\ufe0f\ufffd\ufffc"),
    "nothing": [chr(c) for c in (0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF, 0xE000, 0xF8FF,
                                 0xF0000, 0x10FFFD)],
    "emoji": list("😀😂🙏🚀🔥🎉👍👩💻🧠🤖🦄🥐🏳🌈👨👧👦🇩🇪🇯🇵🏽🏿❤☠✨") + ["👩\u200d💻", "🏳\ufe0f\u200d🌈",
                  "👨\u200d👩\u200d👧\u200d👦", "👍🏽", "❤\ufe0f", "1\ufe0f\u20e3", "🇩🇪"],
    "math letters": stable((0x1D400, 0x1D454), (0x1D7CE, 0x1D7FF)),
}
WORDS = ("the of and a to in is you that it he was for on are as with his they I at be this have "
         "from or one had by word but not what all were we when your can said there use an each "
         "which she do how their if will up other about out many then them these so some her "
         "would make like him into time has look two more write go see number no way could "
         "people my than first water been call who oil its now find long down day did get come "
         "made may part tokenizer DeepSeek mixture experts CamelCase snake_case HTTPServer don't "
         "we'll I'D you'VE it's O'Neil naïve café straße ſ's K'T привет мир язык слово こんにちは "
         "世界 机器学习 模型 東京 नमस्ते हिन्दी مرحبا العالم שלום สวัสดี 안녕하세요").split()
CODE = ["int main(void)\n{\n    return 0;\n}\n", "for (i = 0; i < n; i++)\n\tx[i] += 2.5e-3f;",
        "->", "#include <stdio.h>\n", "def f(x):\n    return x**2\n\n\n",
        "{\"a\": [1, 2, {\"b\": null}]}",
        "https://example.com/a?b=c&d=%20#e", "```c\n", "// TODO\r\n", "<div class=\"x\">", "&&",
        "||", "!=", "===", "::", "\\n\\t", "$HOME/.config", "__init__", "a.b.c", "x := y",
        "<!-- -->",
        "\\", "@decorator", "(foo", "[bar]", ".com", "'s", "'LL", "1+1=2", "3.14159", "0xDEADBEEF"]


def fragment(rng, added):
    kind = rng.randrange(20)
    if kind < 6:
        return rng.choice(["", " ", " ", " ", "  "]) + rng.choice(WORDS)
    if kind < 8:
        return rng.choice(CODE)
    if kind == 8:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 9)))
    if kind == 9:
        return "".join(rng.choice(SCRIPTS["space"]) for _ in range(rng.randint(1, 4)))
    if kind == 10:
        return rng.choice(["\n", "\r\n", "\n\n", " \n", "\n ", "  ", "   ", "\t", " \r", "\n\t\n"])
    if kind == 11:
        return "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(1, 8)))
    if kind == 12:
        return rng.choice(added)
    if kind == 13:
        token = rng.choice(added)
        cut = rng.randint(0, len(token))
        return rng.choice([token[:cut], token[cut:], token[:cut] + rng.choice(added),
                           token.upper()])
    if kind == 14:
        unit = rng.choice(["a", " ", "\n", "!", "1", "é", "の", "ab", " x", "-", "="])
        return unit * rng.randint(2, 40)
    script = SCRIPTS[rng.choice(sorted(SCRIPTS))]
    return "".join(rng.choice(script) for _ in range(rng.randint(1, 6)))


def texts(rng, added, count):
    out = ["", " ", "\n", "\0", "a", "\ufffd"] + added
    out += [c * n for c in ("a", " ", "の", "1", "<", "\n", "é ") for n in (500, 2000)]
    while len(out) < count:
        size = 1 if rng.random() < 0.2 else rng.randint(2, 8) if rng.random() < 0.98 else 60
        out.append("".join(fragment(rng, added) for _ in range(size)))
    return out[:count]


def leb(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def record(kind, text, ids):
    data = text.encode()
    return kind + leb(len(data)) + data + leb(len(ids)) + b"".join(map(leb, ids))


def write_vectors(tokenizer_file, out_file, n_encode, n_plain, n_decode, seed):
    rng = random.Random(seed)
    source = json.loads(tokenizer_file.read_text())
    full = Tokenizer.from_str(json.dumps(source))
    plain = Tokenizer.from_str(json.dumps(dict(source, added_tokens=[])))
    added = [a["content"] for a in source["added_tokens"]]
    size = 1 + max([a["id"] for a in source["added_tokens"]] +
                   list(source["model"]["vocab"].values()))
    for a in source["added_tokens"]:
        assert full.token_to_id(a["content"]) == a["id"]
    out = [b"sluice tokenizer vectors 1\n"]
    for text in texts(rng, added, n_encode):
        ids = full.encode(text, add_special_tokens=False).ids
        assert full.decode(ids, skip_special_tokens=False) == text
        out.append(record(b"e", text, ids))
    for text in texts(rng, added, n_plain):
        out.append(record(b"p", text, plain.encode(text, add_special_tokens=False).ids))
    short = [i for i in range(size) if len(full.id_to_token(i) or "") == 1]
    for _ in range(n_decode):
        pool = rng.choice([range(size + 20), short, list(range(size)) + short * 20])
        ids = [rng.choice(pool) for _ in range(rng.randint(1, 20))]
        out.append(record(b"d", full.decode(ids, skip_special_tokens=False), ids))
    out_file.write_bytes(b"".join(out))
    print(out_file.name, out_file.stat().st_size, "bytes")


def make_variant(out_file):
    """Other patterns, merges as strings (one of them twice), ignore_merges, gaps between ids,
    tokens no merge leads to, added tokens that overlap and of both kinds of "normalized"."""
    rng = random.Random(7)
    split = lambda regex: {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
                           "invert": False}
    stages = [
        split(r"(?<=\d)[A-Z]+|\.{3,}"),
        split(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{Nd}{1,2}|"
              r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?=\S)|\s+?"),
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
    ]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    corpus = ["".join(fragment(rng, ["<|user|>"]) for _ in range(20)) for _ in range(3000)]
    trained.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=700, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(trained.to_str())["model"]
    vocab = {token: 2 * id for token, id in model["vocab"].items()}
    for token in ["Ġqqzz", "xyzzy", "ĊĊĊĊĊ", "...", "âĢĵâĢĵ"]:
        vocab.setdefault(token, max(vocab.values()) + 3)
    contents = ["<|user|>", "<|user|>x", "<a>", "<a><b>", "<b>", "a><", "<my token>", "\n\n<cut>",
                "｜終｜", "終", "the", "<think>", "</think>"]
    added = []
    for i, content in enumerate(contents):
        id = vocab.setdefault(content, max(vocab.values()) + 1)
        added.append({"id": id, "content": content, "single_word": False, "lstrip": False,
                      "rstrip": False, "normalized": i % 3 == 2, "special": i % 2 == 0})
    added.sort(key=lambda a: a["id"])
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    root = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": stages},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
                           "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": True, "vocab": vocab,
                  "merges": merges + [merges[3]]},
    }
    out_file.write_text(json.dumps(root, ensure_ascii=False, indent=0) + "\n")
    print(out_file.name, out_file.stat().st_size, "bytes")


def main():
    print("tokenizers", tokenizers.__version__, "Python", sys.version.split()[0])
    make_variant(HERE / "tokenizer-variant.json")
    write_vectors(DEMO, HERE / "tokenizer-demo.bin", 9000, 1000, 1500, 1)
    write_vectors(HERE / "tokenizer-variant.json", HERE / "tokenizer-variant.bin", 2000, 500,
                  500, 2)


main()
