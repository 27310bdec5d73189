/*
 * What the two lockless test programs share: the modes, seeded random numbers, files and listings, statistics.
 */
#ifndef ERMFS_C_TESTS_LOCKLESS_COMMON_H
#define ERMFS_C_TESTS_LOCKLESS_COMMON_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ermfs.h"

#include "check.h"

#define FIRST_FD (1 << 20)
#define PAGE 4096
#define BLOCK 65536
#define MIB ((size_t)1 << 20)

static const char *mode_name(bool lockless)
{
    return lockless ? "lockless" : "locked";
}

/* ---- how much ---- */

/* How many descriptors there are. */
static int capacity(void)
{
    const char *text = getenv("ERMFS_MAX_FDS");

    return text ? atoi(text) : 65536;
}

/* In per cent; ERMFS_TEST_SCALE, or an argument, sets it. Sanitizers and Valgrind ask for less. */
static unsigned scale_percent = 100;

static long scaled(long number)
{
    long result = number * (long)scale_percent / 100;

    return result > 0 ? result : 1;
}

static void read_scale(void)
{
    const char *text = getenv("ERMFS_TEST_SCALE");

    if (text && atoi(text) > 0)
        scale_percent = (unsigned)atoi(text);
}

/* ---- random numbers ---- */

struct random {
    uint64_t state;
};

/* Numbers one after another make unlike sequences. */
static struct random random_of(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111eb;
    return (struct random){(seed ^ (seed >> 31)) | 1};
}

static uint32_t random_next(struct random *random)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return (uint32_t)(random->state >> 16);
}

static uint32_t random_below(struct random *random, uint32_t limit)
{
    return (uint32_t)(((uint64_t)random_next(random) * limit) >> 32);
}

static uint64_t seed_of_run(void)
{
    const char *text = getenv("ERMFS_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 0x5eed;
}

/* ---- files ---- */

static int make_open(const char *path)
{
    int fd = ermfs_open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    CHECK(fd >= 0);
    return fd;
}

static void make_file(const char *path, const char *text)
{
    int fd = make_open(path);

    CHECK(ermfs_write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(ermfs_close(fd) == 0);
}

static struct stat stat_of(const char *path)
{
    struct stat status = {0};

    CHECK(ermfs_lstat(path, &status) == 0);
    return status;
}

static bool absent(const char *path)
{
    struct stat status;

    return ermfs_lstat(path, &status) == -1 && errno == ENOENT;
}

static bool dot_name(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Calls `visit` for each entry but "." and ".."; answers how many there were, or -1. */
static long each_entry(const char *path, void (*visit)(void *, const struct dirent *), void *context)
{
    ermfs_dir *dir = ermfs_opendir(path);
    struct dirent *entry;
    long count = 0;

    if (!dir)
        return -1;
    while ((entry = ermfs_readdir(dir)) != NULL) {
        if (dot_name(entry->d_name))
            continue;
        if (visit)
            visit(context, entry);
        count++;
    }
    return ermfs_closedir(dir) == 0 ? count : -1;
}

static long entries_of(const char *path)
{
    return each_entry(path, NULL, NULL);
}

/* Removes everything below an open directory, whose descriptor it takes. */
static void empty_directory(int fd)
{
    ermfs_dir *dir = ermfs_fdopendir(fd);
    struct dirent *entry;

    if (!CHECK(dir != NULL))
        return;
    while ((entry = ermfs_readdir(dir)) != NULL) {
        if (dot_name(entry->d_name))
            continue;
        if (entry->d_type == DT_DIR)
            empty_directory(ermfs_openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY));
        CHECK(ermfs_unlinkat(fd, entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0) == 0);
    }
    CHECK(ermfs_closedir(dir) == 0);
}

/* ---- statistics ---- */

/* What retired memory and empty tables may still weigh when all files are gone. */
#define LEFT_OVER ((uint64_t)256 << 10)

static struct ermfs_stats stats_of(int dirfd)
{
    struct ermfs_stats stats = {0};

    CHECK(ermfs_get_stats(dirfd, &stats, sizeof stats) == 0);
    return stats;
}

/* Memory is reclaimed when threads come and go, so calls are made until it is, or for long enough. */
static struct ermfs_stats settled_stats(int dirfd, const struct ermfs_stats *start)
{
    struct ermfs_stats stats = stats_of(dirfd);

    for (int i = 0; i < 10000 && stats.bytes_in_use > start->bytes_in_use + LEFT_OVER; i++) {
        CHECK(ermfs_close(ermfs_openat(dirfd, ".", O_RDONLY)) == 0);
        stats = stats_of(dirfd);
    }
    return stats;
}

static void check_same_stats(int dirfd, const struct ermfs_stats *start)
{
    struct ermfs_stats now = settled_stats(dirfd, start);

    CHECK(now.files == start->files);
    CHECK(now.directories == start->directories);
    CHECK(now.open_descriptions == start->open_descriptions);
    CHECK(now.logical_bytes == start->logical_bytes);
    CHECK(now.bytes_in_use <= start->bytes_in_use + LEFT_OVER);
    CHECK(now.errors == start->errors);
}

/* ---- modes ---- */

/* Runs `tests` in each mode, and leaves the process as it was. */
static void in_each_mode(void (*tests)(void))
{
    bool started = ermfs_is_lockless();

    for (int lockless = 0; lockless < 2; lockless++) {
        if (!CHECK(ermfs_set_lockless_mode(lockless) == 0))
            continue;
        printf("== %s\n", mode_name(lockless));
        fflush(stdout);
        CHECK(ermfs_is_lockless() == lockless);
        tests();
    }
    CHECK(ermfs_set_lockless_mode(started) == 0);
}

#endif
