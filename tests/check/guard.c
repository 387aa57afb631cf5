/* SPDX-License-Identifier: MIT */
/* Owns the mappings between guard pages, the canaries and the signal handlers. */
#include "tests/check/guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CANARY = 256, STEPS = 16 };

static struct slot {
    uint8_t *base; /* the first byte behind the first guard page */
    size_t room;   /* up to the second one */
    uint8_t *at;
    size_t bytes;
} slots[GUARD_SLOTS];

static uint8_t canary(const uint8_t *p)
{
    return (uint8_t)((uintptr_t)p * 73 + 0x5b);
}

static void map_slot(struct slot *s, size_t room)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (s->base)
        munmap(s->base - page, s->room + 2 * page);
    s->room = (room + page - 1) / page * page;
    uint8_t *all = mmap(NULL, s->room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all + page, s->room, PROT_READ | PROT_WRITE)) {
        perror("guard pages");
        exit(2);
    }
    s->base = all + page;
}

/* The canaries around the buffer: what lies within CANARY bytes between the guard pages. */
static uint8_t *canary_begin(const struct slot *s)
{
    return s->at - s->base > CANARY ? s->at - CANARY : s->base;
}

static uint8_t *canary_end(const struct slot *s)
{
    uint8_t *end = s->at + s->bytes, *last = s->base + s->room;
    return last - end > CANARY ? end + CANARY : last;
}

uint8_t *guard_place(size_t slot, size_t bytes, enum place place, size_t step, size_t shift)
{
    struct slot *s = &slots[slot];
    if (s->room < bytes + CANARY + STEPS * step)
        map_slot(s, 2 * bytes + CANARY + STEPS * step);
    s->bytes = bytes;
    s->at = place == PLACE_END ? s->base + s->room - bytes : s->base;
    if (place == PLACE_SHIFTED)
        s->at += shift % STEPS * step;
    for (uint8_t *p = canary_begin(s); p < s->at; p++)
        *p = canary(p);
    for (uint8_t *p = s->at + bytes; p < canary_end(s); p++)
        *p = canary(p);
    return s->at;
}

bool guard_written(size_t slot, ptrdiff_t *offset)
{
    const struct slot *s = &slots[slot];
    for (uint8_t *p = canary_begin(s); p < canary_end(s); p++) {
        if (p == s->at)
            p += s->bytes;
        if (p < canary_end(s) && *p != canary(p)) {
            *offset = p - s->at;
            return true;
        }
    }
    return false;
}

/* ---- crashes -------------------------------------------------------------------------------- */

static sigjmp_buf escape;
static volatile sig_atomic_t armed;
static struct crash last;
static const char *running;

static void find_slot(const uint8_t *address)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    last.known = false;
    for (size_t i = 0; i < GUARD_SLOTS; i++)
        if (slots[i].base && address >= slots[i].base - page &&
            address < slots[i].base + slots[i].room + page) {
            last.known = true;
            last.slot = i;
            last.offset = address - slots[i].at;
        }
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!armed) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    armed = 0;
    last.signal = number;
    find_slot(info->si_addr);
    siglongjmp(escape, 1);
}

/* Sanitizers end the program with their own report; this adds what was running. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void on_death(void)
{
    if (running)
        fprintf(stderr, "while running %s\n", running);
}

static void install(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    static bool done;
    if (done)
        return;
    done = true;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(on_death);
}

struct crash guard_call(void (*call)(const void *context), const void *context, const char *name)
{
    install();
    last = (struct crash){0};
    running = name;
    if (sigsetjmp(escape, 1) == 0) { /* TSan blocks all signals in handlers */
        armed = 1;
        call(context);
        armed = 0;
    }
    running = NULL;
    return last;
}
