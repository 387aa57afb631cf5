/* SPDX-License-Identifier: MIT */
/*
 * What is asked for is found in a slot, or read: into a slot for a few tokens, into a stage for a
 * prompt, from where it moves to a slot when it deserves one.  Guesses wait in stages, too.  Slots
 * that hold something and stages in use have a block, the other blocks are free; for a prompt slots
 * lend some of theirs.  All functions are for one thread; the reader's threads only see
 * `struct sl_read`.
 */
#include "runtime/stream/streamed.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/huge.h"
#include "runtime/base/pressure.h"
#include "runtime/stream/usage.h"

enum {
    PRELOAD = 8,      /* experts read at a time */
    TRIAL_WINDOW = 8, /* tokens guessed, or not, in a row, to see what pays */
    LENT_PART = 4,    /* of the slots, at most */
};

static const double patience = 0.02; /* seconds between two looks at the stop sign */

/* A read, and whether it is anybody's. */
struct fetch {
    struct sl_read read;
    bool busy;
};

/* A block that an expert passes through. */
struct stage {
    struct fetch *fetch; /* NULL: the stage is free and has no block */
    uint32_t block;
    unsigned layer;
    bool guess;   /* nobody asked for it yet */
    bool refused; /* nobody will: free when the drive is done with its memory */
};

/* One expert asked for. */
struct wanted {
    int32_t slot;        /* that holds or receives it, pinned; -1: none */
    struct stage *stage; /* that it passes through, or NULL */
    struct fetch *fetch; /* NULL: it was in memory, or has not been begun */
    bool begun;
    bool gate_up, down; /* taken */
};

struct sl_streamed {
    const struct sl_expert_file *files;
    unsigned n_layers;
    struct sl_slots *slots;
    uint32_t n_slots;
    struct sl_reader *reader;
    struct sl_pressure pressure;
    bool pinned; /* blocks cannot be given back */
    size_t block_bytes;
    struct sl_huge blocks;
    uint32_t *block_of;   /* [n_layers][n_slots]: of slots that hold an expert */
    uint32_t *free_block; /* [n_free] */
    size_t n_free;
    size_t unwanted; /* so many blocks are given back as they become free */
    struct stage stages[SL_STAGES];
    unsigned n_stages; /* that have blocks of their own */
    uint32_t lent;     /* slots of each layer, whose blocks are for more stages */
    struct fetch fetches[SL_WAVE_MAX + SL_STAGES];
    const atomic_int *stop; /* or NULL */

    bool asked;
    unsigned layer;
    struct sl_ask ask;
    struct wanted *wanted;         /* [experts of a layer] */
    size_t begun, taken, released; /* in order: ids[0..begun) are in memory or being read, … */
    uint64_t seen;                 /* of the reader's changes */
    struct sl_experts_use use;
    struct sl_experts_use before; /* the ask */
    double landed;                /* the last of what was taken */

    size_t pass;  /* tokens of the pass at hand; 0: none yet */
    double spent; /* on waiting and guessing in it */
};

/* ---- opening -------------------------------------------------------------------------------- */

static uint32_t *block_of(struct sl_streamed *s, unsigned layer, int32_t slot)
{
    return &s->block_of[layer * s->n_slots + (uint32_t)slot];
}

static uint8_t *block_at(const struct sl_streamed *s, uint32_t block)
{
    return s->blocks.base + block * s->block_bytes;
}

static void take_back(struct sl_streamed *s, uint32_t block)
{
    if (s->unwanted == 0) {
        s->free_block[s->n_free++] = block;
        return;
    }
    s->unwanted--;
    madvise(block_at(s, block), s->block_bytes, MADV_DONTNEED);
}

/* The one of the free blocks that became free last: its memory is in use. */
static uint32_t give_block(struct sl_streamed *s)
{
    return s->free_block[--s->n_free];
}

static int open_blocks(struct sl_streamed *s, struct sluice_err *err)
{
    size_t n = (size_t)s->n_layers * s->n_slots, blocks = n + s->n_stages, bytes;
    if (!sl_mul(blocks, s->block_bytes, &bytes))
        return sl_fail(err, SLUICE_ENOMEM, "expert slots would need more than 2^64 bytes");
    int status = sl_huge_open(&s->blocks, bytes, "expert slots", err);
    if (status < 0)
        return status;
    if (!(s->block_of = calloc(sl_max(n, 1), sizeof *s->block_of)))
        return sl_fail_nomem(err, "slot table", n * sizeof *s->block_of);
    if (!(s->free_block = calloc(blocks, sizeof *s->free_block)))
        return sl_fail_nomem(err, "list of blocks", blocks * sizeof *s->free_block);
    for (size_t i = blocks; i-- > 0;)
        take_back(s, (uint32_t)i);
    return 0;
}

/* Blocks are registered where pages are small: pinning them then saves work at each read.  It takes
 * all of them into use at once, and none can be given back. */
static int open_reader(struct sl_streamed *s, enum sluice_reader kind, struct sluice_err *err)
{
    s->pinned = !sl_huge_given();
    const struct sl_reader_opts opts = {
        .kind = kind,
        .memory = s->pinned ? s->blocks.base : NULL,
        .memory_bytes = s->pinned ? s->blocks.size : 0,
    };
    return sl_reader_open(&s->reader, &opts, s->files, s->n_layers, err);
}

int sl_streamed_open(struct sl_streamed **out, const struct sl_expert_file *files, unsigned n,
                     const struct sl_experts_opts *opts, struct sluice_err *err)
{
    uint32_t experts = 1;
    struct sl_streamed *s = *out = calloc(1, sizeof *s);
    if (!s)
        return sl_fail_nomem(err, "expert slots", sizeof *s);
    sl_pressure_open(&s->pressure, "");
    s->files = files;
    s->n_layers = n;
    for (unsigned i = 0; i < n; i++) {
        experts = (uint32_t)sl_max(experts, files[i].n_experts);
        s->block_bytes = sl_max(s->block_bytes, files[i].layout.stride);
    }
    s->n_slots = (uint32_t)sl_max(sl_min(opts->slots, experts), 1);
    s->use.slots = s->n_slots;
    s->use.guesses.window = TRIAL_WINDOW;
    s->n_stages = (unsigned)sl_max(sl_min(opts->stages, SL_STAGES), SL_STAGES_MIN);
    const struct sl_slots_opts slots = {n, experts, s->n_slots, SL_POLICY_SLUICE};
    int status = sl_slots_open(&s->slots, &slots, err);
    if (status == 0 && !(s->wanted = calloc(experts, sizeof *s->wanted)))
        status = sl_fail_nomem(err, "table of experts", experts * sizeof *s->wanted);
    if (status == 0)
        status = open_blocks(s, err);
    if (status == 0)
        status = open_reader(s, opts->reader, err);
    if (status < 0)
        sl_streamed_close(out);
    return status;
}

void sl_streamed_close(struct sl_streamed **out)
{
    struct sl_streamed *s = *out;
    if (!s)
        return;
    sl_reader_close(&s->reader);
    sl_slots_close(&s->slots);
    sl_pressure_close(&s->pressure);
    sl_huge_close(&s->blocks);
    free(s->block_of);
    free(s->free_block);
    free(s->wanted);
    free(s);
    *out = NULL;
}

/* ---- reads ---------------------------------------------------------------------------------- */

static enum sl_read_state state_of(const struct sl_streamed *s, const struct fetch *f)
{
    return f ? sl_reader_state(s->reader, &f->read) : SL_READ_DONE;
}

static bool settled(enum sl_read_state state)
{
    return state == SL_READ_DONE || state == SL_READ_FAILED || state == SL_READ_WITHDRAWN;
}

static void end_read(struct fetch **f)
{
    if (*f)
        (*f)->busy = false;
    *f = NULL;
}

/* Guesses that were refused or that failed leave their stages, and blocks. */
static void collect_stages(struct sl_streamed *s)
{
    for (unsigned i = 0; i < SL_STAGES; i++) {
        struct stage *g = &s->stages[i];
        enum sl_read_state state = state_of(s, g->fetch);
        if (g->fetch && g->guess && settled(state) && (g->refused || state != SL_READ_DONE)) {
            end_read(&g->fetch);
            take_back(s, g->block);
        }
    }
}

/* How many stages there are now. */
static unsigned stages(const struct sl_streamed *s)
{
    return (unsigned)sl_min(s->n_stages + (size_t)s->lent * s->n_layers, SL_STAGES);
}

/* Gives a free stage its block, if more than SPARE are free. */
static struct stage *free_stage(struct sl_streamed *s, unsigned spare)
{
    if (s->n_free <= spare)
        return NULL;
    for (unsigned i = 0; i < stages(s); i++) {
        if (s->stages[i].fetch || spare-- > 0)
            continue;
        s->stages[i].block = give_block(s);
        return &s->stages[i];
    }
    return NULL;
}

/* There is always one: an expert asked for out of order, or a stage, has no more than one. */
static struct fetch *begin_read(struct sl_streamed *s, unsigned layer, uint32_t expert,
                                uint32_t block, bool ahead, bool halves)
{
    struct fetch *f = s->fetches;
    while (f->busy)
        f++;
    *f = (struct fetch){
        .read = {.file = &s->files[layer],
                 .expert = expert,
                 .buffer = block_at(s, block),
                 .ahead = ahead,
                 .halves = halves},
        .busy = true,
    };
    sl_reader_submit(s->reader, &f->read, NULL); /* never too many */
    s->use.misses += !ahead;
    return f;
}

/* ---- what was done --------------------------------------------------------------------------- */

struct sl_experts_use sl_streamed_use(const struct sl_streamed *s)
{
    struct sl_experts_use use = s->use;
    use.drives = sl_reader_drives(s->reader);
    for (unsigned i = 0; i < use.drives; i++) {
        const struct sl_reader_use drive = sl_reader_use(s->reader, i);
        use.bytes_read += drive.bytes;
        use.read_seconds += drive.seconds;
    }
    return use;
}

bool sl_streamed_drive(const struct sl_streamed *s, unsigned i, struct sluice_drive *drive)
{
    if (i >= sl_reader_drives(s->reader))
        return false;
    const struct sl_reader_use use = sl_reader_use(s->reader, i);
    *drive = (struct sluice_drive){
        .path = s->files[0].parts[i].path,
        .depth = use.depth,
        .bytes = use.bytes,
        .seconds = use.seconds,
    };
    return true;
}

struct sl_asked sl_streamed_asked(const struct sl_streamed *s)
{
    const struct sl_experts_use now = sl_streamed_use(s), *before = &s->before;
    return (struct sl_asked){
        .hits = (uint32_t)(now.hits - before->hits),
        .misses = (uint32_t)(now.misses - before->misses),
        .ahead = (uint32_t)(now.ahead - before->ahead),
        .bytes = now.bytes_read - before->bytes_read,
        .landed = s->landed,
    };
}

/* ---- asking --------------------------------------------------------------------------------- */

/* EXPERT, in BLOCK or on its way there, has a slot from now on. */
static void move_in(struct sl_streamed *s, unsigned layer, int32_t slot, uint32_t expert,
                    uint32_t block)
{
    uint32_t *its = block_of(s, layer, slot);
    if (sl_slots_expert(s->slots, layer, slot) >= 0)
        take_back(s, *its);
    sl_slots_put(s->slots, layer, slot, expert);
    *its = block;
}

/* Its expert is forgotten. */
static void empty_slot(struct sl_streamed *s, unsigned layer, int32_t slot)
{
    sl_slots_drop(s->slots, layer, slot);
    take_back(s, *block_of(s, layer, slot));
}

/* Reads EXPERT, or lets it move in from the stage where it was guessed. */
static bool begin_in_slot(struct sl_streamed *s, struct wanted *w, uint32_t expert)
{
    int32_t slot = sl_slots_victim(s->slots, s->layer);
    if (slot < 0)
        return false;
    if (w->stage) {
        move_in(s, s->layer, slot, expert, w->stage->block);
        w->fetch = w->stage->fetch;
        w->stage->fetch = NULL;
        w->stage = NULL;
    } else {
        if (sl_slots_expert(s->slots, s->layer, slot) >= 0)
            empty_slot(s, s->layer, slot);
        if (s->n_free == 0)
            return false;
        uint32_t block = give_block(s);
        move_in(s, s->layer, slot, expert, block);
        w->fetch = begin_read(s, s->layer, expert, block, false, true);
    }
    w->slot = slot;
    sl_slots_pin(s->slots, s->layer, slot);
    return w->begun = true;
}

static bool begin_in_stage(struct sl_streamed *s, struct wanted *w, uint32_t expert)
{
    if (!w->stage) {
        struct stage *g = free_stage(s, 0);
        if (!g)
            return false;
        g->layer = s->layer;
        g->guess = g->refused = false;
        g->fetch = begin_read(s, s->layer, expert, g->block, false, !s->ask.in_order);
        w->stage = g;
    }
    w->fetch = w->stage->fetch;
    return w->begun = true;
}

static bool begin(struct sl_streamed *s, struct wanted *w, uint32_t expert)
{
    return (!s->ask.in_order && begin_in_slot(s, w, expert)) || begin_in_stage(s, w, expert);
}

/* Begins reads in the order of the ask until there is no room for another. */
static void begin_more(struct sl_streamed *s)
{
    collect_stages(s);
    while (s->begun < s->ask.n &&
           (s->wanted[s->begun].begun || begin(s, &s->wanted[s->begun], s->ask.ids[s->begun])))
        s->begun++;
}

/* Finds what was asked for among the slots and holds it there. */
static void find_held(struct sl_streamed *s)
{
    for (size_t i = 0; i < s->ask.n; i++) {
        int32_t slot = sl_slots_find(s->slots, s->layer, s->ask.ids[i]);
        s->wanted[i] = (struct wanted){.slot = slot, .begun = slot >= 0};
        if (slot >= 0) {
            sl_slots_pin(s->slots, s->layer, slot);
            s->use.hits++;
        }
        if (s->ask.uses)
            sl_slots_use(s->slots, s->layer, s->ask.ids[i], s->ask.uses[i]);
    }
}

/* The place of EXPERT in what was asked for, or NULL. */
static struct wanted *wanted_of(struct sl_streamed *s, uint32_t expert)
{
    size_t low = 0, high = s->ask.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->ask.ids[middle] < expert)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->ask.n && s->ask.ids[low] == expert ? &s->wanted[low] : NULL;
}

static bool is_guess(const struct stage *g, unsigned layer)
{
    return g->fetch && g->guess && !g->refused && g->layer == layer;
}

/* Guesses that were right are raised to what is needed; the others are refused. */
static void judge_guesses(struct sl_streamed *s)
{
    collect_stages(s);
    for (unsigned i = 0; i < SL_STAGES; i++) {
        struct stage *g = &s->stages[i];
        if (!g->fetch || !g->guess || g->refused)
            continue;
        struct wanted *w = is_guess(g, s->layer) ? wanted_of(s, g->fetch->read.expert) : NULL;
        if (w && !w->begun) {
            g->guess = false;
            w->stage = g;
            s->use.ahead++;
            sl_reader_raise(s->reader, &g->fetch->read);
            begin(s, w, g->fetch->read.expert);
        } else {
            g->refused = true;
            sl_reader_withdraw(s->reader, &g->fetch->read);
        }
    }
}

int sl_streamed_ask(struct sl_streamed *s, unsigned layer, const struct sl_ask *ask,
                    struct sluice_err *err)
{
    if (s->asked || ask->n > s->files[layer].n_experts)
        return sl_fail(err, SLUICE_EARG, "%zu experts asked for at a time; the layer has %u",
                       ask->n, s->files[layer].n_experts);
    s->asked = true;
    s->before = sl_streamed_use(s);
    s->landed = 0;
    s->layer = layer;
    s->ask = *ask;
    s->begun = s->taken = s->released = 0;
    find_held(s);
    judge_guesses(s);
    begin_more(s);
    return 0;
}

/* ---- taking --------------------------------------------------------------------------------- */

static struct sl_ready ready_of(struct sl_streamed *s, size_t i, bool gate_up, bool down)
{
    const struct wanted *w = &s->wanted[i];
    uint32_t block = w->slot >= 0 ? *block_of(s, s->layer, w->slot) : w->stage->block;
    return (struct sl_ready){(uint32_t)i, gate_up, down, w->fetch != NULL, block_at(s, block)};
}

/* The caller is done with ids[i]: what passed through may stay now, if it deserves a slot. */
static void let_go(struct sl_streamed *s, size_t i)
{
    struct wanted *w = &s->wanted[i];
    uint32_t expert = s->ask.ids[i];
    if (w->slot >= 0) {
        sl_slots_unpin(s->slots, s->layer, w->slot);
    } else if (w->stage) {
        int32_t slot = s->ask.uses && sl_slots_deserves(s->slots, s->layer, expert)
                           ? sl_slots_victim(s->slots, s->layer)
                           : -1;
        if (slot >= 0)
            move_in(s, s->layer, slot, expert, w->stage->block);
        else
            take_back(s, w->stage->block);
        w->stage->fetch = NULL;
    }
    end_read(&w->fetch);
    w->begun = false;
}

static void note_landing(struct sl_streamed *s, const struct wanted *w)
{
    if (w->fetch && w->fetch->read.landed > s->landed)
        s->landed = w->fetch->read.landed;
}

/* Fills READY with the next experts that are there, in order. */
static size_t next_in_order(struct sl_streamed *s, struct sl_ready *ready, size_t max)
{
    size_t n = 0;
    for (; n < max && s->taken < s->begun; s->taken++) {
        const struct wanted *w = &s->wanted[s->taken];
        if (state_of(s, w->fetch) != SL_READ_DONE)
            break;
        note_landing(s, w);
        ready[n++] = ready_of(s, s->taken, true, true);
    }
    return n;
}

/* Fills READY with halves that are there and were not taken yet. */
static size_t next_halves(struct sl_streamed *s, struct sl_ready *ready, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < s->begun && n < max; i++) {
        struct wanted *w = &s->wanted[i];
        enum sl_read_state state = w->down ? SL_READ_DONE : state_of(s, w->fetch);
        bool down = state == SL_READ_DONE && !w->down;
        bool gate_up = (down || state == SL_READ_HALF) && !w->gate_up;
        if (!gate_up && !down)
            continue;
        ready[n++] = ready_of(s, i, gate_up, down);
        if (down)
            note_landing(s, w);
        w->gate_up |= gate_up;
        w->down |= down;
        s->taken += down;
    }
    return n;
}

/* The first read of the ask that failed. */
static int failure(const struct sl_streamed *s, struct sluice_err *err)
{
    for (size_t i = 0; i < s->begun; i++) {
        const struct wanted *w = &s->wanted[i];
        if (state_of(s, w->fetch) == SL_READ_FAILED) {
            if (err)
                *err = w->fetch->read.err;
            return w->fetch->read.err.code;
        }
    }
    return 0;
}

static void wait_for_reader(struct sl_streamed *s)
{
    double begin = sl_now();
    sl_reader_wait(s->reader, &s->seen, patience);
    double seconds = sl_now() - begin;
    s->use.wait_seconds += seconds;
    s->spent += seconds;
}

int sl_streamed_take(struct sl_streamed *s, struct sl_ready *ready, size_t max,
                     struct sluice_err *err)
{
    if (s->ask.in_order) {
        while (s->released < s->taken)
            let_go(s, s->released++);
        max = sl_min(max, sl_max(stages(s) / 2, 1)); /* while these are computed, others come */
    }
    for (;;) {
        begin_more(s);
        if (s->taken == s->ask.n)
            return 0;
        size_t n = s->ask.in_order ? next_in_order(s, ready, max) : next_halves(s, ready, max);
        if (n > 0)
            return (int)n;
        int status = failure(s, err);
        if (status < 0)
            return status;
        if (s->stop && atomic_load(s->stop))
            return sl_fail(err, SLUICE_ECANCELLED, "cancelled");
        wait_for_reader(s);
    }
}

/* Stops what was not yet read, and waits until the drive is done with its memory. */
static void abandon(struct sl_streamed *s)
{
    for (size_t i = s->released; i < s->ask.n; i++)
        if (!settled(state_of(s, s->wanted[i].fetch)))
            sl_reader_withdraw(s->reader, &s->wanted[i].fetch->read);
    for (size_t i = s->released; i < s->ask.n; i++)
        while (!settled(state_of(s, s->wanted[i].fetch)))
            sl_reader_wait(s->reader, &s->seen, patience);
}

/* What did not arrive leaves its slot or stage. */
static void lose(struct sl_streamed *s, struct wanted *w)
{
    if (w->slot >= 0) {
        sl_slots_unpin(s->slots, s->layer, w->slot);
        empty_slot(s, s->layer, w->slot);
    } else {
        take_back(s, w->stage->block);
        w->stage->fetch = NULL;
    }
    end_read(&w->fetch);
}

void sl_streamed_release(struct sl_streamed *s)
{
    if (!s->asked)
        return;
    abandon(s);
    for (size_t i = s->released; i < s->ask.n; i++) {
        struct wanted *w = &s->wanted[i];
        if (w->begun && state_of(s, w->fetch) == SL_READ_DONE)
            let_go(s, i);
        else if (w->begun)
            lose(s, w);
    }
    s->asked = false;
    uint64_t wanted = sl_pressure_check(&s->pressure, sl_now());
    if (wanted > 0)
        sl_streamed_shrink(s, wanted);
}

/* ---- guessing, and passes ------------------------------------------------------------------- */

static bool guessed(const struct sl_streamed *s, unsigned layer, uint32_t expert)
{
    for (unsigned i = 0; i < SL_STAGES; i++) {
        const struct stage *g = &s->stages[i];
        if (is_guess(g, layer) && g->fetch->read.expert == expert)
            return true;
    }
    return false;
}

/* One stage stays free: guesses for experts that come late in order must not keep out the first. */
void sl_streamed_expect(struct sl_streamed *s, unsigned layer, const uint32_t *ids, size_t n,
                        double cost)
{
    struct stage *g;
    s->spent += cost;
    collect_stages(s);
    for (size_t i = 0; i < n; i++) {
        if (sl_slots_find(s->slots, layer, ids[i]) >= 0 || guessed(s, layer, ids[i]))
            continue;
        if (!(g = free_stage(s, 1)))
            return;
        g->layer = layer;
        g->guess = true;
        g->refused = false;
        g->fetch = begin_read(s, layer, ids[i], g->block, true, false);
    }
}

/* How many slots of each layer may hold an expert. */
static uint32_t usable(const struct sl_streamed *s)
{
    return s->use.slots > s->lent ? s->use.slots - s->lent : 1;
}

static void keep_fewer(struct sl_streamed *s)
{
    int32_t slot;
    sl_slots_limit(s->slots, usable(s));
    for (unsigned layer = 0; layer < s->n_layers; layer++)
        while ((slot = sl_slots_surplus(s->slots, layer)) >= 0)
            take_back(s, *block_of(s, layer, slot));
}

void sl_streamed_shrink(struct sl_streamed *s, uint64_t bytes)
{
    size_t slot_bytes = s->n_layers * s->block_bytes, fewer = sl_ceil_div(bytes, slot_bytes);
    if (s->pinned || s->asked || s->use.slots == 1)
        return;
    uint32_t slots = s->use.slots > fewer ? s->use.slots - (uint32_t)fewer : 1;
    s->unwanted += (size_t)(s->use.slots - slots) * s->n_layers;
    s->use.slots = slots;
    keep_fewer(s);
    while (s->unwanted > 0 && s->n_free > 0)
        take_back(s, give_block(s));
}

/* Blocks that the slots of each layer lend to a prompt, which will want nearly all experts: it
 * reads ahead into them while attention is computed. */
static uint32_t to_lend(const struct sl_streamed *s)
{
    uint32_t experts = s->files->n_experts, slots = s->use.slots;
    uint32_t missing = experts > slots ? experts - slots : 0;
    uint32_t more = (uint32_t)sl_ceil_div(SL_STAGES - s->n_stages, s->n_layers);
    return (uint32_t)sl_min(sl_min(slots / LENT_PART, missing), more);
}

void sl_streamed_pass(struct sl_streamed *s, size_t tokens, bool most, const atomic_int *stop)
{
    if (s->pass == 1)
        sl_trial_count(&s->use.guesses, s->spent, 1);
    s->pass = tokens;
    s->spent = 0;
    s->stop = stop;
    sl_slots_tick(s->slots, (uint32_t)sl_min(tokens, UINT32_MAX));
    uint32_t lent = most ? to_lend(s) : 0;
    if (lent != s->lent) {
        s->lent = lent;
        keep_fewer(s);
    }
}

bool sl_streamed_guessing(const struct sl_streamed *s)
{
    return s->pass == 1 && s->use.slots < s->files->n_experts && sl_trial_wanted(&s->use.guesses);
}

/* ---- from one run to the next --------------------------------------------------------------- */

/* The experts of LAYER that were hot, ids[0..n), a few at a time. */
static int preload_layer(struct sl_streamed *s, unsigned layer, const uint32_t *ids, uint32_t n,
                         struct sluice_err *err)
{
    struct sl_ready ready[PRELOAD];
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < n; i += PRELOAD) {
        const struct sl_ask ask = {.ids = ids + i, .n = sl_min(PRELOAD, n - i)};
        status = sl_streamed_ask(s, layer, &ask, err);
        while (status == 0 && (status = sl_streamed_take(s, ready, PRELOAD, err)) > 0)
            status = 0;
        sl_streamed_release(s);
    }
    return status;
}

int sl_streamed_preload(struct sl_streamed *s, const char *path, const char *source,
                        sluice_loading_fn *progress, void *user, struct sluice_err *err)
{
    int status = sl_usage_load(s->slots, path, source, err);
    uint32_t slots = s->use.slots, *ids = status > 0 ? calloc(slots, sizeof *ids) : NULL;
    if (status <= 0)
        return status;
    if (!ids)
        return sl_fail_nomem(err, "preload", slots * sizeof *ids);
    uint64_t layer_bytes = slots * (uint64_t)s->block_bytes;
    status = 0;
    for (unsigned layer = 0; status == 0 && layer < s->n_layers; layer++) {
        uint32_t n = sl_slots_best(s->slots, layer, ids, slots);
        status = preload_layer(s, layer, ids, n, err);
        if (status == 0 && progress &&
            progress(user, (layer + 1) * layer_bytes, s->n_layers * layer_bytes))
            status = sl_fail(err, SLUICE_ECANCELLED, "cancelled");
    }
    const struct sl_experts_use none = {.slots = slots, .guesses.window = TRIAL_WINDOW};
    s->use = none; /* what was asked for here counts for nothing */
    free(ids);
    return status;
}

int sl_streamed_save_usage(const struct sl_streamed *s, const char *path, const char *source,
                           struct sluice_err *err)
{
    return sl_usage_save(s->slots, path, source, err);
}

/* Every expert of such an ask finds a slot. */
size_t sl_streamed_at_once(const struct sl_streamed *s)
{
    return sl_min(usable(s), SL_WAVE_MAX);
}

const struct sl_reader *sl_streamed_reader(const struct sl_streamed *s)
{
    return s->reader;
}
