/*
 * What test_posix.c is run against: ERMFS, or (with -DORACLE) the kernel's tmpfs, which proves the expectations right.
 *
 * E(name) is the call `name` of the target. target_run() calls its argument where "/" and the working directory are the root
 * of an empty filesystem of the target, and cleans up afterwards.
 */
#ifndef ERMFS_C_TESTS_TARGET_H
#define ERMFS_C_TESTS_TARGET_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef ORACLE

#define E(name) name
#define E_AT_FDCWD AT_FDCWD
typedef DIR e_dir;

static int target_remove(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static bool target_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    return fd >= 0 && close(fd) == 0 && ok;
}

/* chroot to the working directory; a user who may not gets a user namespace in which both ids stay what they are. */
static bool target_enter(void)
{
    char uids[64], gids[64];

    snprintf(uids, sizeof uids, "%d %d 1", (int)geteuid(), (int)geteuid());
    snprintf(gids, sizeof gids, "%d %d 1", (int)getegid(), (int)getegid());
    if (chroot(".") == 0)
        return true;
    return unshare(CLONE_NEWUSER) == 0 && target_write("/proc/self/setgroups", "deny") && target_write("/proc/self/uid_map", uids)
        && target_write("/proc/self/gid_map", gids) && chroot(".") == 0;
}

/* In a child whose root directory is a directory of /dev/shm. */
static int target_run(int (*tests)(void))
{
    char root[64];
    int status = 0;
    pid_t child;

    snprintf(root, sizeof root, "/dev/shm/ermfs-oracle-%d", (int)getpid());
    if (mkdir(root, 0755) || (child = fork()) < 0) {
        perror(root);
        return 1;
    }
    if (child == 0) {
        if (chdir(root) || !target_enter()) {
            perror("chroot");
            exit(1);
        }
        umask(022);
        exit(tests());
    }
    waitpid(child, &status, 0);
    nftw(root, target_remove, 16, FTW_DEPTH | FTW_PHYS);
    if (WIFSIGNALED(status))
        fprintf(stderr, "the tests ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

#else

#include "ermfs.h"

#define E(name) ermfs_##name
#define E_AT_FDCWD ERMFS_AT_FDCWD
typedef ermfs_dir e_dir;

static int target_run(int (*tests)(void))
{
    return tests();
}

#endif
#endif
