# SPDX-License-Identifier: MIT
# Sourced by the command-line tests: a scratch directory, the program, and what to expect of it.
set -eu
top=$(cd "${top_srcdir:-.}" && pwd)
sluice=$(cd "${top_builddir:-build}" && pwd)/sluice
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-cli-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

failures=0
bad() {
    echo "FAIL: $*" >&2
    failures=$((failures + 1))
}

# expect CODE WORDS… -- COMMAND…: the exit code, and words (fixed strings) that stderr or stdout has.
expect() {
    code=$1
    shift
    : > words
    while [ "$1" != -- ]; do
        printf '%s\n' "$1" >> words
        shift
    done
    shift
    found=0
    "$@" > out 2> err || found=$?
    [ "$found" -eq "$code" ] || bad "exit code $found, $code wanted: $*: $(head -c 400 err)"
    while IFS= read -r word; do
        cat out err | grep -qF -- "$word" || bad "'$word' not in the output of $*: $(head -c 400 err)"
    done < words
}

finish() {
    [ "$failures" -eq 0 ] || { echo "$failures failures" >&2; exit 1; }
}

# same DIR WHAT: the directory has the files of ./want, and no others.
same() {
    for file in want/*; do
        cmp "$file" "$1/${file#want/}" || bad "$2: ${file#want/} differs"
    done
    [ "$(find want | wc -l)" -eq "$(find "$1" | wc -l)" ] || bad "$2: other files: $(ls "$1")"
}

# fresh NAME: a copy of a small checkpoint to spoil, in ./src.
fresh() {
    rm -rf src dst
    cp -R "$top/tests/golden/$1/checkpoint" src
    chmod -R u+w src
}

# large_experts DIR: a checkpoint of noise whose experts take 5 chunks of 1 MiB as `reference`.
large_experts() {
    cat > large.json << 'END'
{"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "hidden_size": 1024,
 "intermediate_size": 256, "moe_intermediate_size": 384, "num_hidden_layers": 3,
 "first_k_dense_replace": 1, "n_routed_experts": 6, "num_experts_per_tok": 3, "n_shared_experts": 1,
 "n_group": 1, "topk_group": 1, "num_attention_heads": 4, "kv_lora_rank": 512, "q_lora_rank": 192,
 "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 512,
 "max_position_embeddings": 4096, "rope_theta": 10000.0, "rms_norm_eps": 1e-06,
 "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
 "norm_topk_prob": true, "hidden_act": "silu", "index_head_dim": 128, "index_n_heads": 8,
 "index_topk": 128}
END
    expect 0 -- "$sluice" synth "$1" --checkpoint --like large.json --layers 1+2
}

# poke FILE OFFSET HEX: overwrites one byte.
poke() {
    printf "\\$(printf %03o "0x$3")" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# flip FILE OFFSET: flips the lowest bit of one byte.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    poke "$1" "$2" "$(printf %02x $((byte ^ 1)))"
}

size_of() {
    wc -c < "$1" | tr -d ' '
}
