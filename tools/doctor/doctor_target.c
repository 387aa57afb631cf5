/* SPDX-License-Identifier: MIT */
/* Where a model lies: the file system, its room, and whether the model suits the memory. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "runtime/base/err.h"
#include "runtime/container/container.h"
#include "runtime/base/available.h"
#include "tools/common/status.h"
#include "tools/doctor/doctor.h"

/* Kinds of file systems, by statfs(2). */
enum kind { LOCAL, REMOTE, LAYERED, MEMORY };

static const struct {
    unsigned magic;
    enum kind kind;
    const char *name;
} systems[] = {
    {0xef53, LOCAL, "ext4"},       {0x58465342, LOCAL, "xfs"},
    {0x9123683e, LOCAL, "btrfs"},  {0x2fc12fc1, LOCAL, "zfs"},
    {0xf2f52010, LOCAL, "f2fs"},   {0xca451a4e, LOCAL, "bcachefs"},
    {0x7366746e, LOCAL, "ntfs3"},  {0x01021994, MEMORY, "tmpfs"},
    {0x858458f6, MEMORY, "ramfs"}, {0x6969, REMOTE, "nfs"},
    {0xff534d42, REMOTE, "cifs"},  {0xfe534d42, REMOTE, "smb2"},
    {0x01021997, REMOTE, "9p"},    {0x00c36400, REMOTE, "ceph"},
    {0x65735546, REMOTE, "fuse"},  {0x794c7630, LAYERED, "overlay"},
};

static void check_file_system(struct sl_findings *f, struct sl_doctor_target *t,
                              const struct statfs *fs)
{
    static const char *const fixes[] = {
        NULL,
        "put models on a drive of this machine: others answer slowly",
        "in a container: mount the models as a volume",
        "put models on a drive: here they take memory themselves",
    };
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++)
        if (systems[i].magic == (unsigned)fs->f_type) {
            enum kind kind = systems[i].kind;
            t->in_memory = kind == MEMORY;
            sl_find(f, kind == LOCAL ? SL_FINE : SL_WARN, "file system", fixes[kind], "%s",
                    systems[i].name);
            return;
        }
    sl_find(f, SL_FINE, "file system", NULL, "unknown type 0x%x", (unsigned)fs->f_type);
}

/* Bytes of the shards of a checkpoint; 0 when DIR has no index of a checkpoint. */
static uint64_t checkpoint_bytes(const char *dir)
{
    char path[SL_PATH_MAX];
    struct stat st;
    uint64_t sum = 0;
    if (sl_path_join(path, dir, "model.safetensors.index.json", NULL) < 0 || !sl_file_exists(path))
        return 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (sl_is_tensor_file(e->d_name) && sl_path_join(path, dir, e->d_name, NULL) == 0 &&
            stat(path, &st) == 0)
            sum += (uint64_t)st.st_size;
    if (d)
        closedir(d);
    return sum;
}

/* The smaller profiles keep a little more than half of the bytes of an FP8 checkpoint
 * (docs/quantisation.md). */
static void check_space(struct sl_findings *f, const struct sl_doctor_target *t,
                        const struct statfs *fs)
{
    uint64_t free_bytes = (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;
    uint64_t wanted = checkpoint_bytes(t->path) / 100 * 54;
    if (wanted > free_bytes)
        sl_find(f, SL_WARN, "space", "quantise to another drive, or make room",
                "%s free; a container of this checkpoint takes about %s",
                sl_human_bytes(free_bytes).text, sl_human_bytes(wanted).text);
    else
        sl_find(f, SL_FINE, "space", NULL, "%s free", sl_human_bytes(free_bytes).text);
}

/* What `run` would do with the experts, but for the session's share. */
static const char *experts_are(uint64_t all, double available)
{
    return all <= sl_memory_budget((uint64_t)available) ? "mapped: they fit"
                                                        : "read from the drive when wanted";
}

static void compare(struct sl_findings *f, const struct sl_manifest *m, double available)
{
    uint64_t experts = 0, rest = 0, budget = sl_memory_budget((uint64_t)available);
    for (size_t i = 0; i < m->n_files; i++)
        *(strncmp(m->files[i].name, "experts-", 8) == 0 ? &experts : &rest) += m->files[i].bytes;
    if (available > 0 && rest > budget)
        sl_find(f, SL_BAD, "model", "more memory, or a smaller profile: see 'sluice plan'",
                "%s are needed for every token, %s of memory may be used",
                sl_human_bytes(rest).text, sl_human_bytes(budget).text);
    else
        sl_find(f, SL_FINE, "model", NULL, "%s for every token; experts, %s, are %s",
                sl_human_bytes(rest).text, sl_human_bytes(experts).text,
                available > 0 ? experts_are(rest + experts, available) : "in memory if they fit");
}

static void check_model(struct sl_findings *f, const char *path, double available)
{
    char manifest[SL_PATH_MAX];
    struct sl_manifest *m = NULL;
    struct sluice_err err = {0};
    if (sl_path_join(manifest, path, SL_MANIFEST, NULL) < 0 || !sl_file_exists(manifest))
        return;
    if (sl_manifest_open(&m, path, &err) < 0)
        sl_find(f, SL_BAD, "model", "'sluice verify' tells more; 'sluice quantize' makes it anew",
                "%s", err.msg);
    else
        compare(f, m, available);
    sl_manifest_close(&m);
}

bool sl_doctor_target(struct sl_findings *f, struct sl_doctor_target *t, const char *path,
                      double available)
{
    struct statfs fs;
    struct sluice_err err = {0};
    char text[128];
    *t = (struct sl_doctor_target){.path = path};
    if (!path)
        return true;
    if (statfs(path, &fs) != 0) {
        sl_find(f, SL_BAD, "files", "give a container, a checkpoint or any large file", "%s: %s",
                path, strerror_r(errno, text, sizeof text));
        return false;
    }
    check_file_system(f, t, &fs);
    check_space(f, t, &fs);
    check_model(f, path, available);
    if (sl_drive_files_find(&t->files, path, &err) < 0)
        sl_find(f, SL_WARN, "files", "give a container, a checkpoint or any large file", "%s",
                err.msg);
    return true;
}
