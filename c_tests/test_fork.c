/*
 * fork while other threads are inside the library.
 *
 * Threads create, write, read, close, rename and unlink without pause while the main thread forks a hundred times. Each child
 * must find whole files and use the library at once: it opens, writes, packs, reads back, exports. A child that hangs is ended
 * by its alarm, and the step it hung in is told. What a child does must not be seen here. Then the same among threads that use
 * streams and flush all of them, which brings stdio's own locks in; a fork that hangs ends the test by its alarm.
 * ERMFS_TEST_SCALE (per cent) asks for fewer forks, and allows each the more time: checkers are slow.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ermfs.h"

#include "check.h"

#define THREADS 3
#define KEPT 4
#define KEPT_SIZE 200000

static int forks = 100, stream_forks = 50;
static unsigned child_seconds = 5, stream_seconds = 60;

static atomic_bool stop;
static atomic_long rounds;

/* The step the present child is in, seen by both sides. */
static atomic_int *step;

static void pattern(char *bytes, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + (i / 61 * 7 + i % 17 + seed) % 26);
}

static bool write_file(const char *path, const char *bytes, size_t size)
{
    int fd = ermfs_open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    bool ok = fd >= 0;

    for (size_t at = 0; ok && at < size; at += 50000) {
        size_t length = size - at < 50000 ? size - at : 50000;
        ok = ermfs_write(fd, bytes + at, length) == (ssize_t)length;
    }
    return fd >= 0 && ermfs_close(fd) == 0 && ok;
}

static bool file_holds(const char *path, const char *bytes, size_t size, char *scratch)
{
    int fd = ermfs_open(path, O_RDONLY);
    bool same = fd >= 0 && ermfs_pread(fd, scratch, size + 1, 0) == (ssize_t)size && memcmp(scratch, bytes, size) == 0;

    return fd >= 0 && ermfs_close(fd) == 0 && same;
}

/* ---- the threads ---- */

static bool one_round(unsigned id, unsigned round, char *bytes, char *scratch)
{
    char name[32], moved[32];
    size_t size = round * 7919u % 150000;
    bool ok;

    snprintf(name, sizeof name, "/t%u/f%u", id, round % 8);
    snprintf(moved, sizeof moved, "/t%u/g%u", id, round % 5);
    pattern(bytes, size, id + round);
    ok = write_file(name, bytes, size) && file_holds(name, bytes, size, scratch);
    ok = ok && ermfs_rename(name, moved) == 0 && file_holds(moved, bytes, size, scratch);
    if (round % 3 == 0)
        ok = ok && ermfs_unlink(moved) == 0;
    return ok;
}

static void *hammer(void *argument)
{
    unsigned id = (unsigned)(uintptr_t)argument, round = 0;
    char *bytes = malloc(KEPT_SIZE), *scratch = malloc(KEPT_SIZE);

    while (!atomic_load(&stop) && CHECK(one_round(id, round, bytes, scratch))) {
        round++;
        atomic_fetch_add(&rounds, 1);
    }
    free(bytes);
    free(scratch);
    return NULL;
}

/* ---- the child ---- */

/* Exit code 0, or 1 with *step left at what failed. No stdio: another thread may have held its lock. */
static int child(int shared_fd, char *bytes, char *scratch)
{
    char kept[] = "/kept0", own[] = "/own";
    struct stat status;
    int memfd;

    alarm(child_seconds);
    for (int i = 0; i < KEPT; i++) {
        atomic_store(step, 1 + i);
        kept[5] = (char)('0' + i);
        pattern(bytes, KEPT_SIZE, (unsigned)i);
        if (!file_holds(kept, bytes, KEPT_SIZE, scratch))
            return 1;
    }
    atomic_store(step, 10);
    if (ermfs_lseek(shared_fd, 77, SEEK_SET) != 77 || ermfs_close(shared_fd) || ermfs_fstat(shared_fd, &status) != -1)
        return 1;
    atomic_store(step, 11);
    pattern(bytes, KEPT_SIZE, 1000);
    if (!write_file(own, bytes, KEPT_SIZE))
        return 1;
    atomic_store(step, 12);
    if (!file_holds(own, bytes, KEPT_SIZE, scratch) || ermfs_stat(own, &status) || status.st_blocks * 512 >= KEPT_SIZE)
        return 1;
    atomic_store(step, 13);
    if ((memfd = ermfs_export_memfd(own, 0)) < 0 || pread(memfd, scratch, KEPT_SIZE, 0) != KEPT_SIZE)
        return 1;
    if (memcmp(scratch, bytes, KEPT_SIZE) || close(memfd))
        return 1;
    atomic_store(step, 14);
    if (!write_file("/kept0", "the child was here", 18) || ermfs_unlink("/kept1") || ermfs_rename("/kept2", "/kept3"))
        return 1;
    atomic_store(step, 15);
    if (ermfs_mkdir("/made", 0755) || ermfs_rename("/t0", "/made/t0") || ermfs_stat("/made/t0", &status))
        return 1;
    return 0;
}

/* ---- the parent ---- */

static void fork_once(int number, int shared_fd, char *bytes, char *scratch)
{
    struct timespec pause = {0, 1000000 * (number % 5)};
    int status = 0;
    pid_t pid;

    nanosleep(&pause, NULL);
    atomic_store(step, 0);
    pid = fork();
    if (pid == 0)
        _exit(child(shared_fd, bytes, scratch));
    if (!CHECK(pid > 0) || !CHECK(waitpid(pid, &status, 0) == pid))
        return;
    if (!CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        fprintf(stderr, "  child %d: step %d, %s %d\n", number, atomic_load(step), WIFSIGNALED(status) ? "signal" : "exit code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static void parent_is_untouched(int shared_fd, char *bytes, char *scratch)
{
    char kept[] = "/kept0";
    struct stat status;

    for (int i = 0; i < KEPT; i++) {
        kept[5] = (char)('0' + i);
        pattern(bytes, KEPT_SIZE, (unsigned)i);
        CHECK(file_holds(kept, bytes, KEPT_SIZE, scratch));
    }
    CHECK(ermfs_lseek(shared_fd, 0, SEEK_CUR) == 5);
    CHECK_ERRNO(ermfs_stat("/own", &status), ENOENT);
    CHECK_ERRNO(ermfs_stat("/made", &status), ENOENT);
    CHECK(ermfs_stat("/t0", &status) == 0);
}

/* ---- streams ---- */

static void *write_stream(void *path)
{
    FILE *stream = ermfs_fopen(path, "w");

    if (CHECK(stream != NULL)) {
        while (!atomic_load(&stop)) {
            fputs("line\n", stream);
            rewind(stream);
        }
        CHECK(fclose(stream) == 0);
    }
    return NULL;
}

static void *flush_streams(void *argument)
{
    while (!atomic_load(&stop))
        fflush(NULL);
    return argument;
}

static bool child_of_streams(void)
{
    FILE *stream = ermfs_fopen("/stream", "w");

    alarm(child_seconds);
    return stream && fputs("from the child", stream) >= 0 && fclose(stream) == 0;
}

static void fork_among_streams(void)
{
    pthread_t threads[THREADS];
    int status;
    pid_t pid;

    atomic_store(&stop, false);
    CHECK(pthread_create(&threads[0], NULL, write_stream, "/stream0") == 0);
    CHECK(pthread_create(&threads[1], NULL, write_stream, "/stream1") == 0);
    CHECK(pthread_create(&threads[2], NULL, flush_streams, NULL) == 0);
    alarm(stream_seconds);
    for (int i = 0; i < stream_forks; i++) {
        pid = fork();
        if (pid == 0)
            _exit(child_of_streams() ? 0 : 1);
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    alarm(0);
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void read_scale(void)
{
    const char *text = getenv("ERMFS_TEST_SCALE");
    int percent = text ? atoi(text) : 100;

    if (percent <= 0 || percent >= 100)
        return;
    forks = (forks * percent + 99) / 100;
    stream_forks = (stream_forks * percent + 99) / 100;
    child_seconds *= 20;
    stream_seconds *= 20;
}

int main(void)
{
    char *bytes = malloc(KEPT_SIZE + 1), *scratch = malloc(KEPT_SIZE + 1), name[16];
    pthread_t threads[THREADS];
    long before;
    int shared_fd;

    read_scale();
    step = mmap(NULL, sizeof *step, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (step == MAP_FAILED || !bytes || !scratch)
        return 1;
    for (unsigned i = 0; i < KEPT; i++) {
        snprintf(name, sizeof name, "/kept%u", i);
        pattern(bytes, KEPT_SIZE, i);
        CHECK(write_file(name, bytes, KEPT_SIZE));
    }
    shared_fd = ermfs_open("/kept0", O_RDWR);
    CHECK(ermfs_lseek(shared_fd, 5, SEEK_SET) == 5);
    for (unsigned i = 0; i < THREADS; i++) {
        snprintf(name, sizeof name, "/t%u", i);
        CHECK(ermfs_mkdir(name, 0755) == 0);
        CHECK(pthread_create(&threads[i], NULL, hammer, (void *)(uintptr_t)i) == 0);
    }
    before = atomic_load(&rounds);
    for (int i = 0; i < forks; i++) {
        fork_once(i, shared_fd, bytes, scratch);
        if (i % 10 == 9)
            parent_is_untouched(shared_fd, bytes, scratch);
    }
    CHECK(atomic_load(&rounds) > before + forks);
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    parent_is_untouched(shared_fd, bytes, scratch);
    CHECK(ermfs_close(shared_fd) == 0);
    fork_among_streams();
    free(bytes);
    free(scratch);
    return check_summary();
}
