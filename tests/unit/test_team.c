/* SPDX-License-Identifier: MIT */
/* The thread team: every item once, ranges by grain, thread numbers in range; and in a build with
 * ThreadSanitizer, that a race between two pieces of one phase is still reported.  Besides, that
 * other threads of the library leave signals alone. */
#include <omp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/base/team.h"
#include "runtime/base/thread.h"

enum { ITEMS = 1000 };

struct phase {
    size_t n, grain;
    unsigned threads;
    unsigned char seen[ITEMS];
    int wrong;
};

static void see(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct phase *p = arg;
    size_t grain = p->grain ? p->grain : 1;
    if (thread >= p->threads || begin >= end || end > p->n)
        __atomic_store_n(&p->wrong, 1, __ATOMIC_RELAXED);
    if (p->threads > 1 && p->n > grain && (begin % grain || end - begin > grain))
        __atomic_store_n(&p->wrong, 1, __ATOMIC_RELAXED);
    for (size_t i = begin; i < end; i++)
        p->seen[i]++;
}

static void every_item_once(void **unused)
{
    static const size_t sizes[] = {0, 1, 2, 7, 64, 999, ITEMS}, grains[] = {0, 1, 3, 64, 5000};
    (void)unused;
    for (unsigned threads = 1; threads <= 4; threads++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
                struct phase p = {.n = sizes[s], .grain = grains[g], .threads = threads};
                struct sl_team team = sl_team_make(threads);
                sl_team_run(&team, p.n, p.grain, see, &p);
                assert_int_equal(p.wrong, 0);
                for (size_t i = 0; i < ITEMS; i++)
                    assert_int_equal(p.seen[i], i < p.n);
            }
}

/* What one phase wrote the next one reads, on whatever thread, without a lock. */
static void phases_are_ordered(void **unused)
{
    struct phase p = {.n = ITEMS, .grain = 10, .threads = 3};
    struct sl_team team = sl_team_make(p.threads);
    (void)unused;
    for (int i = 0; i < 100; i++)
        sl_team_run(&team, p.n, p.grain, see, &p);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(p.seen[i], 100);
}

enum { PATIENCE = 60 }; /* seconds */

/* Waits until N pieces of a phase are here, so that no thread does two.  Relaxed counting orders
 * nothing between them. */
static void meet(unsigned *here, unsigned n)
{
    time_t late = time(NULL) + PATIENCE;
    __atomic_fetch_add(here, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(here, __ATOMIC_RELAXED) < n && time(NULL) < late)
        sched_yield();
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

struct lending {
    unsigned threads, here;
};

static void interrupt_itself(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct lending *l = arg;
    (void)begin, (void)end, (void)thread;
    meet(&l->here, l->threads);
    raise(SIGUSR1);
}

/* What OpenMP tells another library, as long as the team is lent, and that signals do not interrupt
 * its threads, old or new, until then.  (test_onednn runs such a library.) */
static void lends_its_threads(void **unused)
{
    struct sigaction action = {.sa_handler = count_signal}, old;
    int wanted = omp_get_max_threads();
    (void)unused;
    sigaction(SIGUSR1, &action, &old);
    for (unsigned threads = 1; threads <= 4; threads++) {
        struct sl_team team = sl_team_make(threads);
        struct lending l = {.threads = threads};
        signals = 0;
        struct sl_lent lent = sl_team_lend(&team);
        assert_int_equal(omp_get_max_threads(), threads);
        sl_team_run(&team, threads, 1, interrupt_itself, &l);
        assert_int_equal(signals, 0);
        sl_team_take_back(&lent);
        assert_int_equal(signals, 1); /* this thread's own; workers go on without */
        assert_int_equal(omp_get_max_threads(), wanted);
    }
    sigaction(SIGUSR1, &old, NULL);
}

static void *get_mask(void *mask)
{
    pthread_sigmask(SIG_SETMASK, NULL, mask);
    return NULL;
}

/* Which of the classic signals that can be blocked are; emulators lack some of the others. */
static void assert_mask(const sigset_t *mask, int but, bool blocked)
{
    for (int number = 1; number < 32; number++)
        if (number != SIGKILL && number != SIGSTOP)
            assert_int_equal(sigismember(mask, number), (number == but) != blocked);
}

/* In the new thread all are blocked, in the caller those that were. */
static void a_thread_blocks_signals(void **unused)
{
    sigset_t one, old, mask;
    pthread_t thread;
    (void)unused;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &one, &old);
    assert_int_equal(sl_thread_start(&thread, get_mask, &mask), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_mask(&mask, 0, true);
    get_mask(&mask);
    assert_mask(&mask, SIGUSR2, false);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

struct race {
    unsigned here;
    size_t shared;
};

static void race(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct race *r = arg;
    (void)begin, (void)end, (void)thread;
    meet(&r->here, 2);
    r->shared++;
}

static int run_race(void)
{
    struct race r = {0};
    struct sl_team team = sl_team_make(2);
    sl_team_run(&team, 2, 1, race, &r);
    return r.shared == 0;
}

static const char *program;

static void races_are_found(void **unused)
{
#ifdef __SANITIZE_THREAD__
    char command[4200];
    (void)unused;
    snprintf(command, sizeof command, "TSAN_OPTIONS=exitcode=66 '%s' race 2>&1", program);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    bool found = false;
    while (fgets(command, sizeof command, out))
        found = found || strstr(command, "ThreadSanitizer: data race");
    assert_int_equal(WEXITSTATUS(pclose(out)), 66);
    assert_true(found);
#else
    (void)unused;
    skip();
#endif
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_once),   cmocka_unit_test(phases_are_ordered),
        cmocka_unit_test(lends_its_threads), cmocka_unit_test(a_thread_blocks_signals),
        cmocka_unit_test(races_are_found),
    };
    program = argv[0];
    if (argc == 2 && strcmp(argv[1], "race") == 0)
        return run_race();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
