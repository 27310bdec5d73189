/*
 * Files of ERMFS as kernel descriptors, and kernel descriptors as files: export to memfds and gzip, import, execution.
 *
 * What the kernel and other programs (gunzip, gzip, sh, bgzip when installed) make of the descriptors is the judge. Data
 * passes through pipes and memfds only. With ERMFS_TEST_NO_EXEC nothing that was exported is executed: Valgrind cannot.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ermfs.h"

#include "check.h"

#define MIB ((size_t)1 << 20)
#define BUDGET (32 * MIB)
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static char *const environment[] = {"COLOUR=green", "PATH=/usr/bin:/bin", NULL};
static void *volatile nothing = NULL;

/* ---- data ---- */

enum kind { TEXT, RANDOM, ZERO, SPARSE, KINDS };

static uint64_t random_state = 88172645463325252;

static char *make(size_t size, enum kind kind)
{
    char *bytes = calloc(1, size + 1);

    if (!bytes)
        abort();
    for (size_t i = 0; i < size && kind <= RANDOM; i++) {
        random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
        bytes[i] = kind == RANDOM ? (char)random_state : "int main(void) { return "[(i + i / 1009) % 24];
    }
    if (kind == SPARSE)
        for (size_t i = 0; i < size; i += 200003)
            bytes[i] = 'x';
    return bytes;
}

static bool all_zero(const char *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Holes stay holes. The file is left open when `fd` is given. */
static bool put(const char *path, const char *bytes, size_t size, mode_t mode, int *fd)
{
    int file = ermfs_open(path, O_RDWR | O_CREAT | O_TRUNC, mode);
    bool ok = file >= 0 && ermfs_ftruncate(file, (off_t)size) == 0;

    for (size_t at = 0; ok && at < size; at += 4096) {
        size_t length = size - at < 4096 ? size - at : 4096;
        if (!all_zero(bytes + at, length))
            ok = ermfs_pwrite(file, bytes + at, length, (off_t)at) == (ssize_t)length;
    }
    if (fd)
        *fd = file;
    return ok && (fd || ermfs_close(file) == 0);
}

static bool file_holds(const char *path, const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    int fd = ermfs_open(path, O_RDONLY);
    bool same = copy && fd >= 0 && ermfs_read(fd, copy, size + 1) == (ssize_t)size && memcmp(copy, bytes, size) == 0;

    if (fd >= 0)
        ermfs_close(fd);
    free(copy);
    return same;
}

static bool absent(const char *path)
{
    struct stat status;

    return ermfs_lstat(path, &status) == -1 && errno == ENOENT;
}

/* ---- kernel descriptors ---- */

static struct stat kernel_stat(int fd)
{
    struct stat status = {0};

    CHECK(fstat(fd, &status) == 0);
    return status;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t done = write(fd, bytes, size);
        if (done <= 0)
            return false;
        bytes += done, size -= (size_t)done;
    }
    return true;
}

/* Everything up to the end of file; at most `room` bytes. */
static size_t read_all(int fd, char *bytes, size_t room)
{
    size_t size = 0;
    ssize_t done;

    while (size < room && (done = read(fd, bytes + size, room - size)) > 0)
        size += (size_t)done;
    return size;
}

static bool kernel_holds(int fd, const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    bool same = copy && lseek(fd, 0, SEEK_SET) == 0 && read_all(fd, copy, size + 1) == size && memcmp(copy, bytes, size) == 0;

    free(copy);
    return same;
}

static int memfd_of(const char *bytes, size_t size)
{
    int fd = memfd_create("source", MFD_CLOEXEC);

    CHECK(fd >= 0 && write_all(fd, bytes, size));
    return fd;
}

/* The reading end of a pipe that a child fills. */
static int pipe_of(const char *bytes, size_t size, pid_t *feeder)
{
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    *feeder = fork();
    if (*feeder == 0) {
        signal(SIGPIPE, SIG_DFL);
        close(ends[0]);
        _exit(write_all(ends[1], bytes, size) ? 0 : 1);
    }
    close(ends[1]);
    return ends[0];
}

static int end_of(pid_t pid)
{
    int status = 0;

    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What a child does last: returns only on error, with errno. */
typedef void (*last_call)(const void *argument, char *const argv[]);

/* Runs `call` in a child with the given standard input; its output lands in `out`. The exit code, or the call's errno + 1000. */
static int run(last_call call, const void *argument, char *const argv[], int input, char *out, size_t room, size_t *size)
{
    int ends[2], error[2], failure = 0, code;
    pid_t child;

    CHECK(pipe2(ends, O_CLOEXEC) == 0 && pipe2(error, O_CLOEXEC) == 0);
    child = fork();
    if (child == 0) {
        if (input >= 0)
            dup2(input, 0);
        dup2(ends[1], 1);
        call(argument, argv);
        failure = errno;
        _exit(write(error[1], &failure, sizeof failure) != sizeof failure);
    }
    close(ends[1]), close(error[1]);
    *size = read_all(ends[0], out, room);
    if (read(error[0], &failure, sizeof failure) != sizeof failure)
        failure = 0;
    close(ends[0]), close(error[0]);
    code = end_of(child);
    return failure ? failure + 1000 : code;
}

static void by_descriptor(const void *argument, char *const argv[])
{
    fexecve(*(const int *)argument, argv, environment);
}

static void by_ermfs(const void *argument, char *const argv[])
{
    ermfs_execve(argument, argv, environment);
}

static void by_path(const void *argument, char *const argv[])
{
    execvp(argument, argv);
}

/* Bytes through a program, pipes on both sides. */
static int filter(char *const argv[], const char *in, size_t in_size, char *out, size_t room, size_t *size)
{
    pid_t feeder;
    int input = pipe_of(in, in_size, &feeder), code;

    code = run(by_path, argv[0], argv, input, out, room, size);
    close(input);
    end_of(feeder);
    return code;
}

/* ---- export ---- */

static void check_export(int fd, const char *bytes, size_t size)
{
    char *map, byte;

    if (!CHECK(fd >= 0 && fd < 1048576))
        return;
    CHECK(lseek(fd, 0, SEEK_CUR) == 0);
    CHECK(kernel_stat(fd).st_size == (off_t)size && S_ISREG(kernel_stat(fd).st_mode));
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(kernel_holds(fd, bytes, size));
    if (size) {
        CHECK(lseek(fd, -1, SEEK_END) == (off_t)size - 1 && read(fd, &byte, 1) == 1 && byte == bytes[size - 1]);
        CHECK(pread(fd, &byte, 1, (off_t)(size / 2)) == 1 && byte == bytes[size / 2]);
        map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED && memcmp(map, bytes, size) == 0 && munmap(map, size) == 0);
    }
    CHECK(close(fd) == 0);
}

static void export_contents(void)
{
    static const size_t sizes[] = {0, 1, 100, 4096, 65536, 65537, 3 * MIB + 77};

    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            char *bytes = make(sizes[i], kind);
            int fd;
            CHECK(put("/content", bytes, sizes[i], 0644, NULL));
            check_export(ermfs_export_memfd("/content", 0), bytes, sizes[i]);
            check_export(ermfs_export_memfd("content", ERMFS_EXPORT_SEALED), bytes, sizes[i]);
            check_export(ermfs_export_memfd("/content", ERMFS_EXPORT_NOEXEC), bytes, sizes[i]);
            CHECK(put("/content", bytes, sizes[i], 0644, &fd));
            check_export(ermfs_export_memfd("/content", 0), bytes, sizes[i]);
            check_export(ermfs_fexport_memfd(fd, ERMFS_EXPORT_SEALED), bytes, sizes[i]);
            CHECK(ermfs_unlink("/content") == 0);
            check_export(ermfs_fexport_memfd(fd, 0), bytes, sizes[i]);
            CHECK(ermfs_close(fd) == 0);
            free(bytes);
        }
}

/* The link of /proc/self/fd shows the memfd's name: the tail of the path. */
static bool named(int fd, const char *tail)
{
    char link[64], shown[512], wanted[512];
    ssize_t length;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, shown, sizeof shown - 1);
    snprintf(wanted, sizeof wanted, "%s (deleted)", tail);
    close(fd);
    if (length < (ssize_t)strlen(wanted))
        return false;
    shown[length] = 0;
    return strncmp(shown, "/memfd:", 7) == 0 && strcmp(shown + length - strlen(wanted), wanted) == 0;
}

static void export_names(void)
{
    char path[520] = "/", wanted[600];

    CHECK(ermfs_mkdir("/names", 0755) == 0 && put("/names/plain.txt", "x", 1, 0644, NULL));
    CHECK(named(ermfs_export_memfd("/names/plain.txt", 0), "/memfd:/names/plain.txt"));
    CHECK(named(ermfs_export_memfd("/names/plain.txt", ERMFS_EXPORT_SEALED), "plain.txt"));
    memset(path + 1, 'a', 200), path[201] = 0;
    CHECK(ermfs_mkdir(path, 0755) == 0);
    memset(path + 201, '/', 1), memset(path + 202, 'b', 255), path[457] = 0;
    CHECK(put(path, "long", 4, 0644, NULL));
    snprintf(wanted, sizeof wanted, "/memfd:%s", path + 457 - 249);
    CHECK(named(ermfs_export_memfd(path, 0), wanted));
    path[210] = 0;
    CHECK(put(path, "not quite", 9, 0644, NULL));
    snprintf(wanted, sizeof wanted, "/memfd:%s", path);
    CHECK(named(ermfs_export_memfd(path, 0), wanted));
    CHECK(put("/odd \xff\xfe\n", "x", 1, 0644, NULL));
    CHECK(close(ermfs_export_memfd("/odd \xff\xfe\n", 0)) == 0);
}

static void export_sparse(void)
{
    off_t size = 256 * (off_t)MIB, at = 128 * (off_t)MIB;
    int file = ermfs_open("/sparse", O_RDWR | O_CREAT, 0644), fd;

    CHECK(ermfs_pwrite(file, "island", 6, at) == 6 && ermfs_ftruncate(file, size) == 0);
    for (int turn = 0; turn < 2; turn++) {
        char bytes[6];
        fd = ermfs_export_memfd("/sparse", turn ? ERMFS_EXPORT_SEALED : 0);
        CHECK(fd >= 0 && kernel_stat(fd).st_size == size && kernel_stat(fd).st_blocks * 512 < (off_t)MIB);
        CHECK(lseek(fd, 0, SEEK_HOLE) == 0 && lseek(fd, 0, SEEK_DATA) == at && lseek(fd, at, SEEK_HOLE) <= at + 65536);
        CHECK(pread(fd, bytes, 6, at) == 6 && memcmp(bytes, "island", 6) == 0);
        CHECK(close(fd) == 0);
        if (turn == 0)
            CHECK(ermfs_close(file) == 0);
    }
}

static void export_snapshot(void)
{
    char *bytes = make(MIB, TEXT), *other = make(MIB, RANDOM);
    int fd, second, file;

    CHECK(put("/snap", bytes, MIB, 0644, NULL));
    fd = ermfs_export_memfd("/snap", 0);
    CHECK(put("/snap", other, MIB, 0644, &file));
    CHECK(kernel_holds(fd, bytes, MIB));
    second = ermfs_fexport_memfd(file, 0);
    CHECK(ermfs_ftruncate(file, 0) == 0 && kernel_holds(second, other, MIB));
    CHECK(ermfs_pwrite(file, other, MIB, 0) == (ssize_t)MIB && ermfs_close(file) == 0);
    CHECK(pwrite(fd, "CHANGED", 7, 100) == 7 && ftruncate(fd, 2000) == 0 && pwrite(second, "CHANGED", 7, 5) == 7);
    CHECK(file_holds("/snap", other, MIB));
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0 || errno == EPERM);
    CHECK(kernel_stat(fd).st_ino != kernel_stat(second).st_ino);
    CHECK(close(fd) == 0 && close(second) == 0);
    free(bytes);
    free(other);
}

static void sealed_is_unchangeable(int fd, const char *bytes, size_t size)
{
    char link[64], *map;
    int again;

    CHECK((fcntl(fd, F_GET_SEALS) & ALL_SEALS) == ALL_SEALS);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(write(fd, "x", 1) == -1);
    CHECK(ftruncate(fd, 0) == -1 && ftruncate(fd, (off_t)size + 1) == -1);
    CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED && (map[0] = '!') && munmap(map, size) == 0);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    again = open(link, O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        CHECK_ERRNO(pwrite(again, "x", 1, 0), EPERM);
        CHECK_ERRNO(ftruncate(again, 0), EPERM);
        CHECK_ERRNO(ftruncate(again, (off_t)size + 1), EPERM);
        CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
        close(again);
    }
    CHECK(kernel_holds(fd, bytes, size));
}

static void export_sealed(void)
{
    char *bytes = make(MIB, TEXT), byte;
    struct ermfs_stats stats;
    int one, two, three, file;

    CHECK(put("/sealed", bytes, MIB, 0644, NULL));
    one = ermfs_export_memfd("/sealed", ERMFS_EXPORT_SEALED);
    two = ermfs_export_memfd("/sealed", ERMFS_EXPORT_SEALED);
    CHECK(one >= 0 && two >= 0 && one != two);
    sealed_is_unchangeable(one, bytes, MIB);
    CHECK(kernel_stat(one).st_ino == kernel_stat(two).st_ino);
    CHECK(lseek(one, 5, SEEK_SET) == 5 && lseek(two, 0, SEEK_CUR) == 0);
    CHECK(ermfs_get_stats(ERMFS_AT_FDCWD, &stats, sizeof stats) == 0 && stats.exported_bytes >= MIB);

    /* Reading and renaming change nothing; writing does. */
    CHECK(file_holds("/sealed", bytes, MIB) && ermfs_rename("/sealed", "/sealed2") == 0);
    three = ermfs_export_memfd("/sealed2", ERMFS_EXPORT_SEALED);
    CHECK(kernel_stat(three).st_ino == kernel_stat(one).st_ino && close(three) == 0);
    file = ermfs_open("/sealed2", O_WRONLY);
    CHECK(ermfs_pwrite(file, "#", 1, 77) == 1 && ermfs_close(file) == 0);
    three = ermfs_export_memfd("/sealed2", ERMFS_EXPORT_SEALED);
    CHECK(kernel_stat(three).st_ino != kernel_stat(one).st_ino);
    CHECK(pread(three, &byte, 1, 77) == 1 && byte == '#');
    CHECK(kernel_holds(one, bytes, MIB) && kernel_holds(two, bytes, MIB));
    CHECK(close(one) == 0 && close(two) == 0 && close(three) == 0);
    CHECK(ermfs_truncate("/sealed2", 10) == 0);
    one = ermfs_export_memfd("/sealed2", ERMFS_EXPORT_SEALED);
    CHECK(kernel_holds(one, bytes, 10) && close(one) == 0);
    CHECK(ermfs_unlink("/sealed2") == 0);
    CHECK(ermfs_get_stats(ERMFS_AT_FDCWD, &stats, sizeof stats) == 0);
    free(bytes);
}

static void export_to_another_process(void)
{
    char *bytes = make(MIB, TEXT), control[CMSG_SPACE(sizeof(int))] = {0}, dummy = 0;
    struct iovec data = {&dummy, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int sockets[2], fd;
    pid_t child;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    child = fork();
    if (child == 0) {
        struct cmsghdr *header;
        close(sockets[0]);
        if (recvmsg(sockets[1], &message, MSG_CMSG_CLOEXEC) != 1 || !(header = CMSG_FIRSTHDR(&message)))
            _exit(2);
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
        _exit(kernel_holds(fd, bytes, MIB) ? 0 : 3);
    }
    close(sockets[1]);
    CHECK(put("/passed", bytes, MIB, 0644, NULL));
    fd = ermfs_export_memfd("/passed", ERMFS_EXPORT_SEALED);
    CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
    CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
    CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof fd);
    CHECK(sendmsg(sockets[0], &message, 0) == 1);
    CHECK(close(fd) == 0 && ermfs_unlink("/passed") == 0);
    CHECK(end_of(child) == 0);
    close(sockets[0]);
    free(bytes);
}

static void export_errors(void)
{
    struct rlimit limit, none;
    int dir, fd;

    CHECK(ermfs_mkdir("/dir", 0755) == 0 && put("/dir/f", "inside", 6, 0644, NULL) && put("/f", "root", 4, 0644, NULL));
    CHECK_ERRNO(ermfs_export_memfd("/missing", 0), ENOENT);
    CHECK_ERRNO(ermfs_export_memfd("", 0), ENOENT);
    CHECK_ERRNO(ermfs_export_memfd("/f/x", 0), ENOTDIR);
    CHECK_ERRNO(ermfs_export_memfd("/dir", 0), EISDIR);
    CHECK_ERRNO(ermfs_export_memfd("/f", 8), EINVAL);
    CHECK_ERRNO(ermfs_export_memfd("/f", -1), EINVAL);
    CHECK_ERRNO(ermfs_export_memfd(nothing, 0), EFAULT);
    CHECK_ERRNO(ermfs_export_memfdat(-1, "f", 0), EBADF);
    CHECK_ERRNO(ermfs_fexport_memfd(-1, 0), EBADF);
    CHECK_ERRNO(ermfs_fexport_memfd(1, 0), EBADF);
    dir = ermfs_open("/dir", O_RDONLY | O_DIRECTORY);
    CHECK_ERRNO(ermfs_fexport_memfd(dir, 0), EISDIR);
    CHECK_ERRNO(ermfs_export_memfdat(dir, "missing", 0), ENOENT);
    CHECK_ERRNO(ermfs_export_memfdat(dir, "f", 64), EINVAL);
    fd = ermfs_export_memfdat(dir, "f", 0);
    CHECK(kernel_holds(fd, "inside", 6) && close(fd) == 0);
    CHECK(ermfs_symlink("dir/f", "/link") == 0 && ermfs_symlink("loop", "/loop") == 0);
    fd = ermfs_export_memfd("/link", 0);
    CHECK(kernel_holds(fd, "inside", 6) && close(fd) == 0);
    CHECK_ERRNO(ermfs_export_memfd("/loop", 0), ELOOP);
    fd = ermfs_open("/dir/f", O_RDONLY);
    CHECK_ERRNO(ermfs_fexport_memfd(fd, 8), EINVAL);
    CHECK_ERRNO(ermfs_export_memfdat(fd, "f", 0), ENOTDIR);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit, none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK_ERRNO(ermfs_export_memfd("/f", 0), EMFILE);
    CHECK_ERRNO(ermfs_export_memfd("/f", ERMFS_EXPORT_SEALED), EMFILE);
    CHECK_ERRNO(ermfs_export_gzip("/f", 0), EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(ermfs_close(fd) == 0 && ermfs_close(dir) == 0);
    CHECK(file_holds("/f", "root", 4));
}

/* ---- execution ---- */

static bool import_program(const char *from, const char *to)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && ermfs_import_fd(to, fd, 0755) == 0;

    return close(fd) == 0 && ok;
}

static void execute_exports(void)
{
    static const int flags[] = {0, ERMFS_EXPORT_SEALED, ERMFS_EXPORT_NOCLOEXEC, ERMFS_EXPORT_SEALED | ERMFS_EXPORT_NOCLOEXEC};
    char *arguments[] = {"echo", "from", "memory", NULL}, out[256];
    static const char script[] = "#!/bin/sh\necho \"script $1 $COLOUR\"\n";
    size_t size;
    int fd;

    CHECK(import_program("/bin/true", "/true") && import_program("/bin/echo", "/echo"));
    CHECK(put("/script", script, sizeof script - 1, 0755, NULL));
    for (int i = 0; i < 4; i++) {
        fd = ermfs_export_memfd("/true", flags[i]);
        CHECK(fd >= 0 && (kernel_stat(fd).st_mode & 0111));
        CHECK(fcntl(fd, F_GETFD) == (i < 2 ? FD_CLOEXEC : 0));
        CHECK(run(by_descriptor, &fd, arguments, -1, out, sizeof out, &size) == 0 && size == 0 && close(fd) == 0);
        fd = ermfs_export_memfd("/echo", flags[i]);
        CHECK(run(by_descriptor, &fd, arguments, -1, out, sizeof out, &size) == 0 && size == 12);
        CHECK(memcmp(out, "from memory\n", 12) == 0 && close(fd) == 0);
        fd = ermfs_export_memfd("/script", flags[i]);
        if (i < 2) {
            CHECK(run(by_descriptor, &fd, arguments, -1, out, sizeof out, &size) == 1000 + ENOENT);
        } else {
            CHECK(run(by_descriptor, &fd, arguments, -1, out, sizeof out, &size) == 0);
            CHECK(size == 18 && memcmp(out, "script from green\n", 18) == 0);
        }
        CHECK(close(fd) == 0);
        fd = ermfs_export_memfd("/true", flags[i] | ERMFS_EXPORT_NOEXEC);
        CHECK(fd >= 0 && (kernel_stat(fd).st_mode & 0111) == 0);
        CHECK(run(by_descriptor, &fd, arguments, -1, out, sizeof out, &size) == 1000 + EACCES);
        CHECK(close(fd) == 0);
    }
}

static void execute_directly(void)
{
    char *arguments[] = {"echo", "one", "two", NULL}, out[512];
    static const char script[] = "#!/bin/sh\necho \"$0|$1|$COLOUR\"\nexit 7\n";
    size_t size;

    CHECK(run(by_ermfs, "/echo", arguments, -1, out, sizeof out, &size) == 0 && size == 8 && memcmp(out, "one two\n", 8) == 0);
    CHECK(run(by_ermfs, "true", arguments, -1, out, sizeof out, &size) == 0 && size == 0);
    CHECK(put("/script7", script, sizeof script - 1, 0755, NULL));
    CHECK(run(by_ermfs, "/script7", arguments, -1, out, sizeof out - 1, &size) == 7);
    out[size] = 0;
    CHECK(strncmp(out, "/proc/self/fd/", 14) == 0 && strstr(out, "|one|green\n"));
    CHECK(put("/plain", "no program", 10, 0644, NULL) && put("/nonsense", "no program", 10, 0755, NULL));
    CHECK_ERRNO(ermfs_execve("/missing", arguments, environment), ENOENT);
    CHECK_ERRNO(ermfs_execve("/plain", arguments, environment), EACCES);
    CHECK_ERRNO(ermfs_execve("/dir", arguments, environment), EACCES);
    CHECK_ERRNO(ermfs_execve("/plain/x", arguments, environment), ENOTDIR);
    CHECK_ERRNO(ermfs_execve("/nonsense", arguments, environment), ENOEXEC);
    CHECK_ERRNO(ermfs_execve(nothing, arguments, environment), EFAULT);
}

/* ---- gzip out ---- */

static char *slurp(int fd, size_t *size)
{
    char *bytes;

    *size = (size_t)kernel_stat(fd).st_size;
    bytes = calloc(1, *size + 1);
    if (!bytes)
        abort();
    CHECK(pread(fd, bytes, *size, 0) == (ssize_t)*size);
    return bytes;
}

static void check_gzip(const char *path, const char *bytes, size_t size, int flags, bool bgzip)
{
    static const char ending[] = "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0";
    char *gunzip[] = {"gunzip", "-c", NULL}, *blocks[] = {"bgzip", "-dc", NULL};
    char *compressed, *out = malloc(size + 1);
    size_t compressed_size, out_size;
    int fd = ermfs_export_gzip(path, flags);

    if (!CHECK(fd >= 0 && lseek(fd, 0, SEEK_CUR) == 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC))
        return;
    compressed = slurp(fd, &compressed_size);
    CHECK(compressed_size >= 28 && memcmp(compressed + compressed_size - 28, ending, 28) == 0);
    CHECK(memcmp(compressed, "\x1f\x8b\x08\x04", 4) == 0 && memcmp(compressed + 12, "BC\x02", 3) == 0);
    CHECK(filter(gunzip, compressed, compressed_size, out, size + 1, &out_size) == 0);
    CHECK(out_size == size && memcmp(out, bytes, size) == 0);
    if (bgzip) {
        CHECK(filter(blocks, compressed, compressed_size, out, size + 1, &out_size) == 0);
        CHECK(out_size == size && memcmp(out, bytes, size) == 0);
    }
    CHECK(run(by_path, "gunzip", gunzip, fd, out, size + 1, &out_size) == 0);
    CHECK(out_size == size && memcmp(out, bytes, size) == 0);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && ermfs_import_gzip("/round", fd, 0644) == 0 && file_holds("/round", bytes, size));
    if (flags & ERMFS_EXPORT_SEALED)
        CHECK((fcntl(fd, F_GET_SEALS) & ALL_SEALS) == ALL_SEALS && write(fd, "x", 1) == -1);
    CHECK(close(fd) == 0 && ermfs_unlink("/round") == 0);
    free(compressed);
    free(out);
}

static void gzip_exports(void)
{
    static const size_t sizes[] = {0, 1, 100, 4097, 65535, 65536, 65537, 2 * MIB + 5};
    char *version[] = {"bgzip", "--version", NULL}, out[512];
    size_t size;
    bool bgzip = run(by_path, "bgzip", version, -1, out, sizeof out, &size) == 0;
    int file;

    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            char *bytes = make(sizes[i], kind);
            CHECK(put("/gz", bytes, sizes[i], 0644, NULL));
            check_gzip("/gz", bytes, sizes[i], i % 2 ? ERMFS_EXPORT_SEALED : 0, bgzip);
            CHECK(put("/gz", bytes, sizes[i], 0644, &file));
            check_gzip("/gz", bytes, sizes[i], 0, bgzip);
            CHECK(ermfs_close(file) == 0);
            free(bytes);
        }
    CHECK_ERRNO(ermfs_export_gzip("/missing", 0), ENOENT);
    CHECK_ERRNO(ermfs_export_gzip("/dir", 0), EISDIR);
    CHECK_ERRNO(ermfs_export_gzip("/gz", 8), EINVAL);
    CHECK_ERRNO(ermfs_export_gzip(nothing, 0), EFAULT);
    if (!bgzip)
        fprintf(stderr, "note: bgzip is not installed; gunzip alone judged the exports\n");
}

/* ---- import ---- */

static void import_sources(void)
{
    char *bytes = make(3 * MIB + 11, TEXT), *empty[] = {"", NULL};
    size_t size = 3 * MIB + 11;
    struct stat status;
    pid_t feeder;
    int fd = pipe_of(bytes, size, &feeder);

    CHECK(ermfs_import_fd("/piped", fd, 0640) == 0 && file_holds("/piped", bytes, size));
    CHECK(close(fd) == 0 && end_of(feeder) == 0);
    CHECK(ermfs_stat("/piped", &status) == 0 && (status.st_mode & 07777) == 0640 && status.st_nlink == 1);
    CHECK((size_t)status.st_blocks * 512 < size / 2);
    fd = memfd_of(bytes, size);
    CHECK(lseek(fd, 12345, SEEK_SET) == 12345 && ermfs_import_fd("/memory", fd, 0644) == 0);
    CHECK(lseek(fd, 0, SEEK_CUR) == 12345 && file_holds("/memory", bytes, size));

    /* An existing file is replaced; a longer one leaves nothing behind. */
    CHECK(ftruncate(fd, 1000) == 0 && ermfs_import_fd("/memory", fd, 0600) == 0 && file_holds("/memory", bytes, 1000));
    CHECK(ftruncate(fd, 0) == 0 && ermfs_import_fd("/none", fd, 0600) == 0 && file_holds("/none", empty[0], 0));
    CHECK(ftruncate(fd, 256 * (off_t)MIB) == 0 && pwrite(fd, "island", 6, 128 * (off_t)MIB) == 6);
    CHECK(ermfs_import_fd("/holes", fd, 0600) == 0 && ermfs_stat("/holes", &status) == 0);
    CHECK(status.st_size == 256 * (off_t)MIB && status.st_blocks * 512 < (off_t)MIB && close(fd) == 0);
    fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write_all(fd, bytes, size) && ermfs_import_fd("/regular", fd, 0644) == 0);
    CHECK(file_holds("/regular", bytes, size) && close(fd) == 0);
    fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    CHECK(ermfs_import_fd("/proc", fd, 0644) == 0 && ermfs_stat("/proc", &status) == 0 && status.st_size > 100);
    CHECK(close(fd) == 0);
    free(bytes);
}

static void import_errors(void)
{
    size_t size = 40 * MIB;
    char *big = make(size, RANDOM);
    int fd = memfd_of(big, size), other;

    CHECK_ERRNO(ermfs_import_fd("/toobig", fd, 0644), ENOSPC);
    CHECK(absent("/toobig"));
    CHECK(put("/existing", "stays", 5, 0644, NULL));
    CHECK_ERRNO(ermfs_import_fd("/existing", fd, 0644), ENOSPC);
    CHECK(file_holds("/existing", "stays", 5));
    free(big);
    CHECK(ftruncate(fd, 10) == 0);
    CHECK_ERRNO(ermfs_import_fd("/dir", fd, 0644), EISDIR);
    CHECK_ERRNO(ermfs_import_fd("/missing/x", fd, 0644), ENOENT);
    CHECK_ERRNO(ermfs_import_fd("/f/x", fd, 0644), ENOTDIR);
    CHECK_ERRNO(ermfs_import_fd(nothing, fd, 0644), EFAULT);
    CHECK_ERRNO(ermfs_import_fd("", fd, 0644), ENOENT);
    CHECK_ERRNO(ermfs_import_fd("/bad", -1, 0644), EBADF);
    other = ermfs_open("/existing", O_RDONLY);
    CHECK_ERRNO(ermfs_import_fd("/bad", other, 0644), EBADF);
    CHECK(ermfs_close(other) == 0);
    other = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK_ERRNO(ermfs_import_fd("/bad", other, 0644), EBADF);
    CHECK_ERRNO(ermfs_import_gzip("/bad", other, 0644), EBADF);
    CHECK(close(other) == 0);
    other = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_ERRNO(ermfs_import_fd("/bad", other, 0644), EISDIR);
    CHECK_ERRNO(ermfs_import_fd("/existing", other, 0644), EISDIR);
    CHECK(close(other) == 0 && absent("/bad") && file_holds("/existing", "stays", 5));
    CHECK(close(fd) == 0);
}

/* ---- gzip in ---- */

/* What `gzip -c` makes of the bytes. */
static char *gzip_of(const char *bytes, size_t size, size_t *compressed_size)
{
    char *arguments[] = {"gzip", "-c", NULL}, *out = malloc(size + size / 100 + 1000);

    if (!out)
        abort();
    CHECK(filter(arguments, bytes, size, out, size + size / 100 + 1000, compressed_size) == 0);
    return out;
}

static int import_through_pipe(const char *path, const char *bytes, size_t size)
{
    pid_t feeder;
    int fd = pipe_of(bytes, size, &feeder), result = ermfs_import_gzip(path, fd, 0644), error = errno;

    close(fd);
    end_of(feeder);
    errno = error;
    return result;
}

static void gzip_imports(void)
{
    size_t size = 2 * MIB + 3, packed, small, total = 0;
    char *bytes = make(size, TEXT), *gz = gzip_of(bytes, size, &packed), *little = gzip_of("little", 6, &small);
    char *joined = malloc(packed * 2 + small + 4096), *twice = malloc(2 * size + 6);
    static const char extra[] = "\x1f\x8b\x08\x1c\1\2\3\4\0\3\5\0ab\1\0zname.txt\0a comment";
    int fd;

    CHECK(import_through_pipe("/gz1", gz, packed) == 0 && file_holds("/gz1", bytes, size));
    fd = memfd_of(gz, packed);
    CHECK(lseek(fd, 99, SEEK_SET) == 99 && ermfs_import_gzip("/gz2", fd, 0600) == 0 && file_holds("/gz2", bytes, size));
    CHECK(close(fd) == 0);

    memcpy(joined, gz, packed), memcpy(joined + packed, little, small), memcpy(joined + packed + small, gz, packed);
    memcpy(twice, bytes, size), memcpy(twice + size, "little", 6), memcpy(twice + size + 6, bytes, size);
    total = 2 * packed + small;
    CHECK(import_through_pipe("/gz3", joined, total) == 0 && file_holds("/gz3", twice, 2 * size + 6));
    memset(joined + total, 0, 1024);
    CHECK(import_through_pipe("/gz3", joined, total + 1024) == 0 && file_holds("/gz3", twice, 2 * size + 6));

    /* A header with an extra field, a name and a comment, before the deflate stream of `little`. */
    memcpy(joined, extra, sizeof extra), memcpy(joined + sizeof extra, little + 10, small - 10);
    CHECK(little[3] == 0 && import_through_pipe("/gz4", joined, sizeof extra + small - 10) == 0);
    CHECK(file_holds("/gz4", "little", 6));
    free(bytes), free(gz), free(little), free(joined), free(twice);
}

static void gzip_refused(void)
{
    size_t size = 300000, packed;
    char *bytes = make(size, RANDOM), *gz = gzip_of(bytes, size, &packed);
    size_t cuts[] = {0, 1, 5, 10, 18, 1000, packed / 2, packed - 8, packed - 1};
    size_t flips[] = {0, 1, 2, packed / 3, packed / 2, packed - 8, packed - 4, packed - 1};

    CHECK(put("/target", "as it was", 9, 0644, NULL));
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        CHECK_ERRNO(import_through_pipe("/broken", gz, cuts[i]), EIO);
        CHECK(absent("/broken"));
        CHECK_ERRNO(import_through_pipe("/target", gz, cuts[i]), EIO);
    }
    for (size_t i = 0; i < sizeof flips / sizeof *flips; i++) {
        gz[flips[i]] ^= 0x10;
        CHECK_ERRNO(import_through_pipe("/broken", gz, packed), EIO);
        CHECK(absent("/broken"));
        CHECK_ERRNO(import_through_pipe("/target", gz, packed), EIO);
        gz[flips[i]] ^= 0x10;
    }
    CHECK_ERRNO(import_through_pipe("/broken", "no gzip at all, just text", 25), EIO);
    CHECK(file_holds("/target", "as it was", 9));
    CHECK(import_through_pipe("/target", gz, packed) == 0 && file_holds("/target", bytes, size));
    CHECK_ERRNO(ermfs_import_gzip("/broken", -1, 0644), EBADF);
    CHECK_ERRNO(import_through_pipe("/missing/x", gz, packed), ENOENT);
    CHECK_ERRNO(import_through_pipe("/dir", gz, packed), EISDIR);
    CHECK_ERRNO(import_through_pipe(nothing, gz, packed), EFAULT);
    free(bytes), free(gz);

    size = 40 * MIB;
    bytes = make(size, RANDOM), gz = gzip_of(bytes, size, &packed);
    CHECK_ERRNO(import_through_pipe("/toobig", gz, packed), ENOSPC);
    CHECK(absent("/toobig"));
    free(bytes), free(gz);
}

int main(void)
{
    struct ermfs_config config = {.struct_size = sizeof config, .max_bytes = BUDGET};
    struct ermfs_stats stats;

    signal(SIGPIPE, SIG_IGN);
    CHECK(ermfs_configure_default(&config) == 0);
    export_contents();
    export_names();
    export_sparse();
    export_snapshot();
    export_sealed();
    export_to_another_process();
    export_errors();
    if (getenv("ERMFS_TEST_NO_EXEC")) {
        fprintf(stderr, "SKIPPED: executing what was exported\n");
    } else {
        execute_exports();
        execute_directly();
    }
    gzip_exports();
    import_sources();
    import_errors();
    gzip_imports();
    gzip_refused();
    CHECK(ermfs_get_stats(ERMFS_AT_FDCWD, &stats, sizeof stats) == 0);
    CHECK(stats.open_descriptions == 0 && stats.max_bytes == BUDGET && stats.peak_bytes <= BUDGET);
    return check_summary();
}
