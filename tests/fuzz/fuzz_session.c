/* SPDX-License-Identifier: MIT */
/* The header of a saved session.  The input's last 8 bytes are the size that its file has. */
#include <string.h>

#include "runtime/container/container.h"
#include "runtime/session/snapshot.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t page[SL_SNAPSHOT_PAGE] = {0}, again[SL_SNAPSHOT_PAGE];
    struct sl_snapshot h;
    struct sluice_err err;
    uint64_t file_bytes, hash;
    if (size < sizeof file_bytes || size - sizeof file_bytes > sizeof page - sizeof hash)
        return 0;
    memcpy(page, data, size - sizeof file_bytes);
    memcpy(&file_bytes, data + size - sizeof file_bytes, sizeof file_bytes);
    fuzz_err_prepare(&err);
    fuzz_check(sl_snapshot_parse(&h, page, file_bytes, "page", &err) < 0, "no checksum is right");
    hash = sl_hash(page, sizeof page - sizeof hash);
    memcpy(page + sizeof page - sizeof hash, &hash, sizeof hash);
    fuzz_err_prepare(&err);
    if (!fuzz_succeeded(sl_snapshot_parse(&h, page, file_bytes, "page", &err), &err))
        return 0;
    fuzz_check(h.data_bytes < h.file_bytes && h.file_bytes == file_bytes && h.tokens > 0 &&
                   h.mtp_tokens <= h.tokens && 4 * h.tokens <= h.data_bytes &&
                   sl_snapshot_table_bytes(h.data_bytes) < h.file_bytes,
               "sizes that cannot be");
    sl_snapshot_print(&h, again);
    fuzz_check(memcmp(again, page, sizeof h) == 0, "printed otherwise than read");
    return 0;
}
