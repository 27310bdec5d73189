/*
 * What the structures of lockless mode do, one thread at a time, in either mode of the process.
 *
 * The families of lockless_descriptors.h need the process's table, those of lockless_switch.h the default filesystem; those of
 * lockless_names.h and lockless_content.h run in the default filesystem, and in one of each mode beside it. Each family works
 * in a directory of its own, and the filesystem's statistics are afterwards what they were.
 * ERMFS_TEST_SEED gives other random sequences, ERMFS_TEST_SCALE (per cent) shorter ones.
 */
#define _GNU_SOURCE
#include "lockless_common.h"

static bool fd_holds(int fd, const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    bool same = copy && ermfs_pread(fd, copy, size + 1, 0) == (ssize_t)size && memcmp(copy, bytes, size) == 0;

    free(copy);
    return same;
}

static bool holds(const char *path, const char *text)
{
    int fd = ermfs_open(path, O_RDONLY);
    bool same = fd >= 0 && fd_holds(fd, text, strlen(text));

    return fd >= 0 && ermfs_close(fd) == 0 && same;
}

static struct stat stat_of_fd(int fd)
{
    struct stat status = {0};

    CHECK(ermfs_fstat(fd, &status) == 0);
    return status;
}

#include "lockless_content.h"
#include "lockless_descriptors.h"
#include "lockless_names.h"
#include "lockless_switch.h"

/* Runs one family in a directory of its own, below the working directory of the filesystem that `root` is in. */
static void run_family(const char *name, void (*family)(void), int root)
{
    struct ermfs_stats start = stats_of(root);

    CHECK(ermfs_mkdir(name, 0755) == 0);
    CHECK(ermfs_chdir(name) == 0);
    family();
    CHECK(ermfs_chdir("..") == 0);
    empty_directory(ermfs_open(name, O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir(name) == 0);
    check_same_stats(root, &start);
}

static void run_in_filesystem(int root)
{
    run_family("growth", growth, root);
    run_family("churn", churn, root);
    run_family("alike_names", alike_names, root);
    run_family("reading_while_changing", reading_while_changing, root);
    run_family("removed_directory", removed_directory, root);
    run_family("rename_model", rename_model, root);
    run_family("moving_directories", moving_directories, root);
    run_family("content_model", content_model, root);
    run_family("content_boundaries", content_boundaries, root);
    run_family("content_cut_and_append", content_cut_and_append, root);
    run_family("content_holes", content_holes, root);
    run_family("content_pictures", content_pictures, root);
}

/* In a filesystem of one mode, whichever the process's is. */
static void run_in_mode(uint32_t mode)
{
    struct ermfs_config config = {.struct_size = sizeof config, .mode = mode};
    int root = ermfs_fsmount(&config);

    if (!CHECK(root >= 0))
        return;
    CHECK(ermfs_fchdir(root) == 0);
    run_in_filesystem(root);
    CHECK(ermfs_chdir("/") == 0 && ermfs_close(root) == 0);
}

static void run_all(void)
{
    run_family("descriptor_model", descriptor_model, ERMFS_AT_FDCWD);
    run_family("descriptor_exhaustion", descriptor_exhaustion, ERMFS_AT_FDCWD);
    run_family("any_descriptor", any_descriptor, ERMFS_AT_FDCWD);
    run_family("shared_descriptions", shared_descriptions, ERMFS_AT_FDCWD);
    run_family("switch_refused", switch_refused, ERMFS_AT_FDCWD);
    run_family("switch_once", switch_once, ERMFS_AT_FDCWD);
    run_family("switch_elsewhere", switch_elsewhere, ERMFS_AT_FDCWD);
    run_family("switch_often", switch_often, ERMFS_AT_FDCWD);
    run_in_filesystem(ERMFS_AT_FDCWD);
    run_in_mode(ERMFS_MODE_LOCKED);
    run_in_mode(ERMFS_MODE_LOCKLESS);
}

int main(void)
{
    read_scale();
    printf("seed %#llx, scale %u %%\n", (unsigned long long)seed_of_run(), scale_percent);
    in_each_mode(run_all);
    return check_summary();
}
