# SPDX-License-Identifier: MIT
# A trace (docs/trace.md) of choices with the locality of trained models, for `sluice bench --routes`:
#     awk -f routes.awk -v layers=3 -v dense=1 -v tokens=2000 | gzip > routes.gz
# With the chance STAY (0.3) an expert is one that the token before had; others are drawn with a
# chance of rank^-SKEW (1), whose ranks every layer shuffles.  These numbers give what others
# measured: 41 % of choices repeated, 35 % of them among the 8 most frequent of 256, 73 % among 64.
function shuffle(layer,    i, j, swap) {
    for (i = 0; i < experts; i++)
        name[layer, i] = i
    for (i = experts - 1; i > 0; i--) {
        j = int(rand() * (i + 1))
        swap = name[layer, i]
        name[layer, i] = name[layer, j]
        name[layer, j] = swap
    }
}

function draw(    low, high, middle, x) {
    x = rand() * sum[experts]
    low = 0
    high = experts - 1
    while (low < high) {
        middle = int((low + high) / 2)
        if (sum[middle + 1] > x)
            high = middle
        else
            low = middle + 1
    }
    return low
}

function choose(layer, token,    i, n, e, line, chosen) {
    split("", chosen)
    n = 0
    for (i = 0; i < used && token > 0; i++)
        if (rand() < stay) {
            chosen[before[layer, i]] = 1
            n++
        }
    while (n < used) {
        e = name[layer, draw()]
        if (!(e in chosen)) {
            chosen[e] = 1
            n++
        }
    }
    line = "d " token " " layer
    n = 0
    for (e = 0; e < experts; e++)
        if (e in chosen) {
            before[layer, n++] = e
            line = line " " e
        }
    print line
}

BEGIN {
    if (!experts) experts = 256
    if (!used) used = 8
    if (stay == "") stay = 0.3
    if (skew == "") skew = 1
    srand(seed + 1)
    for (i = 0; i < experts; i++)
        sum[i + 1] = sum[i] + (i + 1) ^ -skew
    for (layer = dense; layer < layers; layer++)
        shuffle(layer)
    print "sluice-trace 1 layers " layers " dense " dense " experts " experts " used " used
    for (token = 0; token < tokens; token++)
        for (layer = dense; layer < layers; layer++)
            choose(layer, token)
}
