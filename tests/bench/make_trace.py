#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A trace (docs/trace.md) of router choices by chance, with the statistics of a real model's.

    make_trace.py --tokens 2000 --repeat 0.41 --skew 0.7 > skewed.txt

An expert of the token before is chosen again with a probability that makes --repeat of all choices
such repeats.  The others are drawn with weights that fall as rank to the power of −SKEW; the order
of ranks is 3 parts the layer's own and 7 parts the topic's, which changes every --topic tokens.
What came out is printed on stderr."""
import argparse
import bisect
import itertools
import random
import sys


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--layers", default="3+58", help="DENSE+MOE")
    p.add_argument("--experts", type=int, default=256)
    p.add_argument("--used", type=int, default=8)
    p.add_argument("--prompt", type=int, default=0, help="tokens of a prompt before --tokens")
    p.add_argument("--chunk", type=int, default=512, help="tokens of the prompt in a pass")
    p.add_argument("--tokens", type=int, default=1000, help="generated")
    p.add_argument("--repeat", type=float, default=0.41)
    p.add_argument("--skew", type=float, default=0.7)
    p.add_argument("--topic", type=int, default=500)
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


def weights(rng, o):
    ranks = list(range(o.experts))
    rng.shuffle(ranks)
    return [(rank + 1) ** -o.skew for rank in ranks]


class Layer:
    def __init__(self, o, seed):
        self.o = o
        self.rng = random.Random(seed)
        self.own = weights(self.rng, o)
        self.chosen = []
        self.age = 0
        self.kept = o.repeat  # probability of choosing again
        self.choices = self.repeats = 0
        self.counts = [0] * o.experts

    def token(self):
        """The next token's experts, ascending."""
        if self.age % self.o.topic == 0:
            topic = weights(self.rng, self.o)
            self.sums = list(itertools.accumulate(0.3 * a + 0.7 * b
                                                  for a, b in zip(self.own, topic)))
        self.age += 1
        chosen = {e for e in self.chosen if self.rng.random() < self.kept}
        while len(chosen) < self.o.used:
            chosen.add(bisect.bisect(self.sums, self.rng.random() * self.sums[-1]))
        if self.chosen:
            repeats = len(chosen & set(self.chosen))
            self.repeats += repeats
            self.choices += self.o.used
            # chance repeats some, too: what is kept on purpose follows what came out
            self.kept += 0.02 * (self.o.repeat - repeats / self.o.used)
            self.kept = min(max(self.kept, 0), 1)
        self.chosen = sorted(chosen)
        for e in chosen:
            self.counts[e] += 1
        return self.chosen


def main():
    o = options()
    dense, moe = map(int, o.layers.split("+"))
    layers = [Layer(o, f"{o.seed}/{i}") for i in range(moe)]
    print(f"sluice-trace 1 layers {dense + moe} dense {dense} experts {o.experts} used {o.used}")
    start = 0
    while start < o.prompt + o.tokens:
        kind, n = "d", 1
        if start < o.prompt:
            kind, n = "p", min(o.chunk, o.prompt - start)
        for i, layer in enumerate(layers):
            for position in range(start, start + n):
                print(kind, position, dense + i, *layer.token())
        start += n
    total = sum(layer.choices for layer in layers) or 1
    top = sum(sum(sorted(layer.counts)[-o.experts // 4:]) for layer in layers)
    print(f"repeats of the token before: {sum(l.repeats for l in layers) / total:.1%}; "
          f"uses of the busiest quarter: {top / sum(sum(l.counts) for l in layers):.1%}",
          file=sys.stderr)


main()
