/* SPDX-License-Identifier: MIT */
/* The progress line.  Writes to the one stream it was given; allocates nothing. */
#include "tools/common/progress.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "tools/common/status.h"

#define REDRAW_SECONDS 0.2

enum { LINE_BYTES = 256 };

void sl_progress_open(struct sl_progress *progress, FILE *out, const char *what,
                      enum sl_progress_unit unit)
{
    *progress = (struct sl_progress){.out = out, .what = what, .unit = unit};
    progress->terminal = isatty(fileno(out)) == 1;
}

/* ", 1.2 GiB of 3.4 GiB", ", 12 of 163 tokens" */
static void format_amount(char *out, size_t size, enum sl_progress_unit unit, uint64_t done,
                          uint64_t total)
{
    if (unit == SL_PROGRESS_BYTES)
        snprintf(out, size, ", %s of %s", sl_human_bytes(done).text, sl_human_bytes(total).text);
    else if (unit == SL_PROGRESS_TOKENS)
        snprintf(out, size, ", %" PRIu64 " of %" PRIu64 " tokens", done, total);
}

static void format_line(const struct sl_progress *progress, char line[LINE_BYTES], double elapsed,
                        uint64_t done, uint64_t total)
{
    char amount[96] = "", left[48] = "";
    format_amount(amount, sizeof amount, progress->unit, done, total);
    if (elapsed > 1 && done > progress->first && done < total) {
        double rate = (double)(done - progress->first) / elapsed;
        snprintf(left, sizeof left, ", %s left",
                 sl_human_seconds((double)(total - done) / rate).text);
    }
    double percent = total ? 100.0 * (double)done / (double)total : 100.0;
    snprintf(line, LINE_BYTES, "%.100s: %u %%%s%s", progress->what, (unsigned)percent, amount,
             left);
}

static unsigned terminal_columns(FILE *out)
{
    struct winsize window;
    if (ioctl(fileno(out), TIOCGWINSZ, &window) == 0 && window.ws_col > 1)
        return window.ws_col;
    return 80;
}

/* A line that wraps could not be cleared: cut it one short of the edge. */
static void draw_terminal(struct sl_progress *progress, const char *line, double now)
{
    int columns = (int)terminal_columns(progress->out) - 1;
    fprintf(progress->out, "\r%.*s\033[K", columns, line);
    fflush(progress->out);
    progress->drawn = true;
    progress->drawn_at = now;
}

void sl_progress_update(struct sl_progress *progress, uint64_t done, uint64_t total)
{
    double now = sl_now();
    char line[LINE_BYTES];
    if (!progress->terminal)
        return;
    if (done > total)
        done = total;
    if (!progress->begun) {
        progress->begun = true;
        progress->started = now;
        progress->first = done;
    }
    if (progress->drawn && now - progress->drawn_at < REDRAW_SECONDS)
        return;
    format_line(progress, line, now - progress->started, done, total);
    draw_terminal(progress, line, now);
}

void sl_progress_close(struct sl_progress *progress)
{
    if (progress->drawn) {
        fputs("\r\033[K", progress->out);
        fflush(progress->out);
    }
    progress->drawn = false;
}
