/*
 * Twelve key calls, each repeated in one function, `measured`, for scripts/count-instructions.sh to count under callgrind.
 *
 *   instructions [--only TEXT]
 *
 * Prints a line per operation, in the order in which `measured` is run: its name and how often it was repeated. The first
 * one, "nothing", is what the loop costs and is taken off the others. Every operation has files and a directory of its own
 * and is repeated before it is counted, so that no count depends on what was measured before it. The mode is that of the
 * environment (ERMFS_LOCKLESS). It asks for nothing that older libraries lack, so that one can be compared with another.
 * Nothing is timed: under callgrind, or without it, it only says that all of it works.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ermfs.h"

#define PAGE 4096
#define FILE_PAGES 256
#define APPEND_SIZE 64
#define ENTRIES 1024
/* A multiple of what the library does once in a while: each 128th pin collects, each 64th append has a new page. */
#define REPEATED 2048
#define WARM_UP 512

struct operation {
    const char *name;
    void (*prepare)(void); /* in a directory of its own, which is the working directory */
    bool (*once)(long number);
    long repeated;
};

static char page[PAGE];
static char path[64], other[64]; /* two names in the operation's directory, each of three components */
static int fd;
static ermfs_dir *directory;

_Noreturn static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Every page once in 256 repetitions, and seldom neighbours one after the other. */
static off_t some_page(long number)
{
    return (off_t)(number * 37 % FILE_PAGES) * PAGE;
}

/* ---- what is prepared ---- */

static void no_file(void)
{
}

static int new_file(int pages)
{
    int file = ermfs_open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);

    for (int number = 0; number < pages; number++) {
        for (int at = 0; at < PAGE; at++)
            page[at] = (char)((at % 64) + number);
        if (ermfs_write(file, page, PAGE) != PAGE)
            fail("write");
    }
    if (file < 0)
        fail("open");
    return file;
}

static void empty_file(void)
{
    if (ermfs_close(new_file(0)) != 0)
        fail("close");
}

static void one_page(void)
{
    fd = new_file(1);
}

static void raw_file(void)
{
    fd = new_file(FILE_PAGES);
}

static void append_file(void)
{
    if (ermfs_close(new_file(0)) != 0 || (fd = ermfs_open("file", O_WRONLY | O_APPEND)) < 0)
        fail("close, open");
}

/* Closed and so packed; two rounds of reads leave inflated copies of all blocks. */
static void packed_file(void)
{
    if (ermfs_close(new_file(FILE_PAGES)) != 0 || (fd = ermfs_open("file", O_RDONLY)) < 0)
        fail("close, open");
    for (long number = 0; number < 2 * FILE_PAGES; number++)
        if (ermfs_pread(fd, page, PAGE, some_page(number)) != PAGE)
            fail("pread");
}

static void many_files(void)
{
    char name[16];

    for (int number = 0; number < ENTRIES; number++) {
        snprintf(name, sizeof name, "entry%d", number);
        int file = ermfs_open(name, O_WRONLY | O_CREAT, 0644);

        if (file < 0 || ermfs_close(file) != 0)
            fail("open, close");
    }
    directory = ermfs_opendir(".");
    if (directory == NULL)
        fail("opendir");
}

/* ---- what is counted ---- */

static bool do_nothing(long number)
{
    return number >= 0;
}

static bool do_stat(long number)
{
    struct stat status;

    (void)number;
    return ermfs_stat(path, &status) == 0;
}

static bool do_fstat(long number)
{
    struct stat status;

    (void)number;
    return ermfs_fstat(fd, &status) == 0;
}

static bool do_open(long number)
{
    int file = ermfs_open(path, O_RDONLY);

    (void)number;
    return file >= 0 && ermfs_close(file) == 0;
}

static bool do_open_create(long number)
{
    int file = ermfs_open(path, O_RDWR | O_CREAT, 0644);

    (void)number;
    return file >= 0 && ermfs_close(file) == 0;
}

static bool do_pread(long number)
{
    return ermfs_pread(fd, page, PAGE, some_page(number)) == PAGE;
}

static bool do_pwrite(long number)
{
    return ermfs_pwrite(fd, page, PAGE, some_page(number)) == PAGE;
}

static bool do_append(long number)
{
    (void)number;
    return ermfs_write(fd, page, APPEND_SIZE) == APPEND_SIZE;
}

static bool do_create(long number)
{
    int file = ermfs_open(path, O_RDWR | O_CREAT | O_EXCL, 0644);

    (void)number;
    return file >= 0 && ermfs_close(file) == 0 && ermfs_unlink(path) == 0;
}

static bool do_rename(long number)
{
    (void)number;
    return ermfs_rename(path, other) == 0 && ermfs_rename(other, path) == 0;
}

static bool do_readdir(long number)
{
    (void)number;
    if (ermfs_readdir(directory) != NULL)
        return true;
    ermfs_rewinddir(directory);
    return ermfs_readdir(directory) != NULL;
}

static bool do_dup(long number)
{
    int copy = ermfs_dup(fd);

    (void)number;
    return copy >= 0 && ermfs_close(copy) == 0;
}

static const struct operation operations[] = {
    {"nothing", no_file, do_nothing, REPEATED},
    {"stat, 3 components", empty_file, do_stat, REPEATED},
    {"fstat", one_page, do_fstat, REPEATED},
    {"open + close, 3 components", empty_file, do_open, REPEATED},
    {"open with O_CREAT of what is there + close", empty_file, do_open_create, REPEATED},
    {"pread 4 KiB, raw", raw_file, do_pread, REPEATED},
    {"pread 4 KiB, inflated copy", packed_file, do_pread, REPEATED},
    {"pwrite 4 KiB over what is there", raw_file, do_pwrite, REPEATED},
    {"append 64 bytes", append_file, do_append, REPEATED},
    {"create + close + unlink", no_file, do_create, REPEATED},
    {"rename, there and back", empty_file, do_rename, REPEATED},
    {"readdir, per entry", many_files, do_readdir, 2 * (ENTRIES + 2)},
    {"dup + close", one_page, do_dup, REPEATED},
};

/* What callgrind counts between entering and leaving; so it must be called, by its name. */
__attribute__((noinline)) void measured(const struct operation *operation)
{
    for (long number = 0; number < operation->repeated; number++)
        if (!operation->once(number))
            fail(operation->name);
}

static void enter_directory(int number)
{
    char name[16];

    snprintf(name, sizeof name, "/top/part%02d", number);
    snprintf(path, sizeof path, "%s/file", name);
    snprintf(other, sizeof other, "%s/other", name);
    if (ermfs_mkdir(name, 0755) != 0 || ermfs_chdir(name) != 0)
        fail("mkdir, chdir");
}

int main(int argc, char **argv)
{
    const char *only = argc == 3 && strcmp(argv[1], "--only") == 0 ? argv[2] : "";

    if (argc != 1 && *only == '\0') {
        fprintf(stderr, "usage: instructions [--only TEXT]\n");
        return 2;
    }
    if (ermfs_mkdir("/top", 0755) != 0)
        fail("mkdir");
    for (int at = 0; at < (int)(sizeof operations / sizeof *operations); at++) {
        const struct operation *operation = &operations[at];

        if (at > 0 && strstr(operation->name, only) == NULL)
            continue;
        enter_directory(at);
        operation->prepare();
        /* A listing ends with a whole round, so that each round of it is counted from the start. */
        for (long number = 0; number < (operation->once == do_readdir ? operation->repeated : WARM_UP); number++)
            if (!operation->once(number))
                fail(operation->name);
        measured(operation);
        printf("%ld\t%s\n", operation->repeated, operation->name);
    }
    return 0;
}
