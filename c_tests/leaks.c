/*
 * A program under LeakSanitizer that ends with a filesystem full of files: what the filesystem holds is not lost.
 *
 *   leaks none | own
 *
 * `own`: it loses a hundred bytes of its own, which are to be reported. scripts/test-checkers.sh builds it with
 * -fsanitize=address, against the library that programs use, and looks at the report.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ermfs.h"

#define FILES 3000
#define LARGEST_FILE 70000

static char bytes[LARGEST_FILE];

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int make_file(int number)
{
    char name[64];
    size_t size = (size_t)number * sizeof bytes / FILES;
    int fd;

    snprintf(name, sizeof name, "/dir/a name that is too long for its entry %d", number);
    fd = ermfs_open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0 || ermfs_write(fd, bytes, size) != (ssize_t)size)
        return fail(name);
    /* Some stay open, some are without a name. */
    if (number % 3 != 0 && ermfs_close(fd) != 0)
        return fail("close");
    if (number % 5 == 0 && ermfs_unlink(name) != 0)
        return fail("unlink");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    memset(bytes, 'y', sizeof bytes);
    if (ermfs_mkdir("/dir", 0755) != 0)
        return fail("mkdir");
    for (int number = 0; number < FILES; number++)
        if (make_file(number) != 0)
            return 1;
    if (ermfs_symlink("a target", "/dir/link") != 0 || ermfs_setxattr("/dir", "user.name", "value", 5, 0) != 0)
        return fail("symlink, setxattr");
    if (strcmp(argv[1], "own") == 0) {
        void *volatile lost = malloc(100);
        lost = NULL;
        (void)lost;
    }
    return 0;
}
