/*
 * Locked mode, lockless mode and a tmpfs beside one another, by many threads.
 *
 *   benchmark_lockless [--quick] [--rounds N] [--threads N] [--tmpfs DIRECTORY] [--csv FILE] [--only TEXT]
 *
 * For 1, 2, 4 ... and --threads (8) threads, each on files or names of its own and all on one file or in one directory,
 * every operation runs in locked mode, in lockless mode and on the tmpfs, in turn, --rounds (5) times. Throughput is measured
 * in a run without clocks between the calls, latency in another, where each operation is timed and what reading the clock costs
 * is taken off. "cpu" is the processor time of one operation in the first of these runs: beside other programs it says more
 * than the throughput, but a wait for a lock is not in it. A figure is the median of the rounds, except the maximum, which is
 * the largest of all. Files are not packed.
 * --only: the operations whose names hold the text. --quick: one round of short runs, to see that it works.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ermfs.h"

#include "histogram.h"

#define MOST_THREADS 256
#define MOST_ROUNDS 99
#define PAGE 4096
#define FILE_PAGES 256
#define APPEND_SIZE 64
#define APPENDS_TO_A_FILE 100000
#define TMPFS_TYPE 0x01021994

_Noreturn static void fail(const char *format, ...)
{
    int error = errno;
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, ": %s\n", strerror(error));
    exit(1);
}

/* ---- what is compared ---- */

/* The calls of one target, through pointers for all, so that none pays for them alone. */
struct calls {
    int (*open)(const char *, int, ...);
    int (*close)(int);
    ssize_t (*read)(int, void *, size_t);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pread)(int, void *, size_t, off_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    int (*stat)(const char *, struct stat *);
    int (*fstat)(int, struct stat *);
    int (*ftruncate)(int, off_t);
    int (*mkdir)(const char *, mode_t);
    int (*unlink)(const char *);
    int (*rename)(const char *, const char *);
};

static const struct calls ermfs_calls = {ermfs_open, ermfs_close, ermfs_read, ermfs_write, ermfs_pread, ermfs_pwrite, ermfs_stat,
    ermfs_fstat, ermfs_ftruncate, ermfs_mkdir, ermfs_unlink, ermfs_rename};
static const struct calls kernel_calls = {
    open, close, read, write, pread, pwrite, stat, fstat, ftruncate, mkdir, unlink, rename};

enum target { LOCKED, LOCKLESS, TMPFS, TARGETS };

static const char *const target_names[TARGETS] = {"locked", "lockless", "tmpfs"};
static bool target_there[TARGETS] = {true, true, true};

static const struct calls *calls_of(enum target target)
{
    return target == TMPFS ? &kernel_calls : &ermfs_calls;
}

/* ---- the operations ---- */

struct context {
    const struct calls *calls;
    char path[64]; /* an existing file */
    char name[64], other[64]; /* this thread's own, in its own directory or in the common one */
    int fd, any;
    uint64_t random;
    long count;
    char *page;
};

static off_t random_page(struct context *context)
{
    context->random ^= context->random << 13;
    context->random ^= context->random >> 7;
    context->random ^= context->random << 17;
    return (off_t)((context->random >> 20) % FILE_PAGES) * PAGE;
}

static bool do_open(struct context *context)
{
    int fd = context->calls->open(context->path, O_RDONLY | context->any);

    return fd >= 0 && context->calls->close(fd) == 0;
}

static bool do_open_read(struct context *context)
{
    int fd = context->calls->open(context->path, O_RDONLY | context->any);

    return fd >= 0 && context->calls->read(fd, context->page, PAGE) == PAGE && context->calls->close(fd) == 0;
}

static bool do_open_pread(struct context *context)
{
    int fd = context->calls->open(context->path, O_RDONLY | context->any);

    return fd >= 0 && context->calls->pread(fd, context->page, PAGE, 0) == PAGE && context->calls->close(fd) == 0;
}

static bool do_stat(struct context *context)
{
    struct stat status;

    return context->calls->stat(context->path, &status) == 0;
}

static bool do_fstat(struct context *context)
{
    struct stat status;

    return context->calls->fstat(context->fd, &status) == 0;
}

static bool do_pread(struct context *context)
{
    return context->calls->pread(context->fd, context->page, PAGE, random_page(context)) == PAGE;
}

static bool do_stat_pread(struct context *context)
{
    return do_stat(context) && do_pread(context);
}

static bool do_pwrite(struct context *context)
{
    return context->calls->pwrite(context->fd, context->page, PAGE, random_page(context)) == PAGE;
}

static bool do_append(struct context *context)
{
    if (++context->count % APPENDS_TO_A_FILE == 0 && context->calls->ftruncate(context->fd, 0) != 0)
        return false;
    return context->calls->write(context->fd, context->page, APPEND_SIZE) == APPEND_SIZE;
}

static bool do_create(struct context *context)
{
    int fd = context->calls->open(context->name, O_RDWR | O_CREAT | O_EXCL, 0644);

    return fd >= 0 && context->calls->close(fd) == 0 && context->calls->unlink(context->name) == 0;
}

static bool do_rename(struct context *context)
{
    bool back = context->count++ % 2;

    return context->calls->rename(back ? context->other : context->name, back ? context->name : context->other) == 0;
}

enum on { ON_FILE, ON_LOG, ON_NAMES };

static const struct operation {
    const char *name;
    bool (*once)(struct context *);
    enum on on;
    int flags; /* of the descriptor that stays open; -1 for none */
    bool any;
} operations[] = {
    {"open+close", do_open, ON_FILE, -1, false},
    {"open+close, ANYFD", do_open, ON_FILE, -1, true},
    {"open+read 4K+close", do_open_read, ON_FILE, -1, false},
    {"open+read 4K+close, ANYFD", do_open_read, ON_FILE, -1, true},
    {"open+pread 4K+close", do_open_pread, ON_FILE, -1, false},
    {"open+pread 4K+close, ANYFD", do_open_pread, ON_FILE, -1, true},
    {"stat", do_stat, ON_FILE, -1, false},
    {"fstat", do_fstat, ON_FILE, O_RDONLY, false},
    {"pread 4K", do_pread, ON_FILE, O_RDONLY, false},
    {"stat+pread 4K", do_stat_pread, ON_FILE, O_RDONLY, false},
    {"pwrite 4K", do_pwrite, ON_FILE, O_RDWR, false},
    {"append 64 B", do_append, ON_LOG, O_WRONLY | O_APPEND | O_CREAT | O_TRUNC, false},
    {"create+close+unlink", do_create, ON_NAMES, -1, false},
    {"rename", do_rename, ON_NAMES, -1, false},
};

#define OPERATIONS (sizeof operations / sizeof *operations)

/* ---- the files ---- */

/* Paths are relative and the same everywhere: d/f<n> and d/<n>/ for thread n, d/shared and d/common/ for all. */
static void make_file(const struct calls *calls, const char *path, char *page)
{
    int fd = calls->open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    for (int i = 0; i < FILE_PAGES; i++)
        if (fd < 0 || calls->pwrite(fd, page, PAGE, (off_t)i * PAGE) != PAGE)
            fail("%s", path);
    if (calls->close(fd))
        fail("%s", path);
}

static void make_files(const struct calls *calls, unsigned threads)
{
    char path[64], page[PAGE];

    memset(page, 'p', sizeof page);
    if (calls->mkdir("d", 0755) || calls->mkdir("d/common", 0755))
        fail("mkdir d");
    make_file(calls, "d/shared", page);
    for (unsigned i = 0; i < threads; i++) {
        snprintf(path, sizeof path, "d/f%u", i);
        make_file(calls, path, page);
        snprintf(path, sizeof path, "d/%u", i);
        if (calls->mkdir(path, 0755))
            fail("mkdir %s", path);
    }
}

/* ---- one run ---- */

struct run {
    const struct operation *operation;
    enum target target;
    unsigned threads;
    bool shared, timed;
    atomic_bool stop;
    pthread_barrier_t start;
};

struct worker {
    struct run *run;
    unsigned id;
    uint64_t start, processor;
    long count;
    struct histogram histogram;
};

static void context_open(struct context *context, const struct worker *worker)
{
    const struct operation *operation = worker->run->operation;
    bool shared = worker->run->shared;
    char own[12], directory[16];

    *context = (struct context){.calls = calls_of(worker->run->target), .fd = -1, .random = 88172645463325252 + worker->id};
    context->any = operation->any && worker->run->target != TMPFS ? ERMFS_O_ANYFD : 0;
    context->page = malloc(PAGE);
    memset(context->page, 'w', PAGE);
    snprintf(own, sizeof own, "%u", worker->id);
    snprintf(directory, sizeof directory, "d/%s", shared ? "common" : own);
    snprintf(context->path, sizeof context->path, shared ? "d/shared" : "d/f%s", own);
    snprintf(context->name, sizeof context->name, "%s/n%s", directory, own);
    snprintf(context->other, sizeof context->other, "%s/o%s", directory, own);
    if (operation->on == ON_LOG)
        snprintf(context->path, sizeof context->path, "%s/log", directory);
    if (operation->flags >= 0 && (context->fd = context->calls->open(context->path, operation->flags, 0644)) < 0)
        fail("%s", context->path);
    if (operation->once == do_rename && context->calls->close(context->calls->open(context->name, O_RDWR | O_CREAT, 0644)))
        fail("%s", context->name);
}

static void context_close(struct context *context, const struct worker *worker)
{
    const struct operation *operation = worker->run->operation;

    if (context->fd >= 0)
        context->calls->close(context->fd);
    if (operation->once == do_rename)
        context->calls->unlink(context->count % 2 ? context->other : context->name);
    free(context->page);
}

static uint64_t processor_time(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct run *run = worker->run;
    bool (*once)(struct context *) = run->operation->once;
    struct context context;
    uint64_t last;
    bool ok = true;

    context_open(&context, worker);
    for (int i = 0; i < 64; i++)
        ok &= once(&context);
    pthread_barrier_wait(&run->start);
    worker->processor = processor_time();
    worker->start = last = nanoseconds();
    while (ok && !atomic_load_explicit(&run->stop, memory_order_relaxed)) {
        ok = once(&context);
        worker->count++;
        if (run->timed) {
            uint64_t now = nanoseconds(), spent = now - last;
            histogram_add(&worker->histogram, spent > clock_cost ? spent - clock_cost : 0);
            last = nanoseconds();
        }
    }
    worker->processor = processor_time() - worker->processor;
    if (!ok)
        fail("%s, %s, thread %u", run->operation->name, target_names[run->target], worker->id);
    /* Nobody takes away what others still use. */
    pthread_barrier_wait(&run->start);
    context_close(&context, worker);
    return NULL;
}

/*
 * All threads' operations a second, from when the first starts until they are told to stop; one that has to wait for a processor
 * counts as it does for a user. The latencies go to `histogram` when there is one, the processor time of one to `processor`.
 */
static double run_once(const struct operation *operation, enum target target, unsigned threads, bool shared, long milliseconds,
    struct histogram *histogram, double *processor)
{
    struct run run = {.operation = operation, .target = target, .threads = threads, .shared = shared, .timed = histogram != NULL};
    struct worker *workers = calloc(threads, sizeof *workers);
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    uint64_t start = UINT64_MAX, end;
    pthread_t ids[MOST_THREADS];
    uint64_t processors = 0;
    long count = 0;

    if (target != TMPFS && ermfs_set_lockless_mode(target == LOCKLESS))
        fail("ermfs_set_lockless_mode");
    pthread_barrier_init(&run.start, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        workers[i].run = &run, workers[i].id = i;
        if ((errno = pthread_create(&ids[i], NULL, work, &workers[i])) != 0)
            fail("pthread_create");
    }
    pthread_barrier_wait(&run.start);
    nanosleep(&pause, NULL);
    atomic_store(&run.stop, true);
    end = nanoseconds();
    pthread_barrier_wait(&run.start);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        count += workers[i].count;
        processors += workers[i].processor;
        start = workers[i].start < start ? workers[i].start : start;
        if (histogram)
            histogram_merge(histogram, &workers[i].histogram);
    }
    if (operation->on == ON_LOG)
        for (unsigned i = 0; i < (shared ? 1 : threads); i++) {
            char path[64];
            snprintf(path, sizeof path, shared ? "d/common/log" : "d/%u/log", i);
            calls_of(target)->unlink(path);
        }
    pthread_barrier_destroy(&run.start);
    free(workers);
    if (processor)
        *processor = (double)processors / (double)count;
    return (double)count * 1e9 / (double)(end - start);
}

/* ---- rounds and tables ---- */

struct settings {
    unsigned threads, rounds;
    long throughput_milliseconds, latency_milliseconds;
    const char *tmpfs, *only;
    FILE *csv;
};

enum figure { PER_SECOND, PROCESSOR, P50, P99, P999, FIGURES };

struct figures {
    double values[FIGURES][MOST_ROUNDS], largest;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void one_round(const struct settings *settings, const struct operation *operation, enum target target, unsigned threads,
    bool shared, unsigned round, struct figures *figures)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);

    figures->values[PER_SECOND][round] = run_once(operation, target, threads, shared, settings->throughput_milliseconds, NULL,
        &figures->values[PROCESSOR][round]);
    run_once(operation, target, threads, shared, settings->latency_milliseconds, histogram, NULL);
    figures->values[P50][round] = percentile(histogram, 0.5);
    figures->values[P99][round] = percentile(histogram, 0.99);
    figures->values[P999][round] = percentile(histogram, 0.999);
    if ((double)histogram->largest > figures->largest)
        figures->largest = (double)histogram->largest;
    free(histogram);
}

/* A duration in a few characters. */
static const char *spell(char *text, double ns)
{
    if (ns < 10000)
        sprintf(text, "%.0f ns", ns);
    else if (ns < 1e7)
        sprintf(text, "%.0f us", ns / 1e3);
    else
        sprintf(text, "%.0f ms", ns / 1e6);
    return text;
}

/* A line of the table: what was measured, with what, and the figures in one order for both forms. */
struct line {
    const char *operation, *files, *mode;
    unsigned threads;
    double values[FIGURES], largest, times_single, times_tmpfs;
};

static void print_line(const struct settings *settings, const struct line *line)
{
    const double *values = line->values;
    char a[32], b[32], c[32], d[32], e[32];

    printf("%-27s %-15s %3u  %-8s %10.0f %6.2f %7.2f %8s %8s %8s %8s %8s\n", line->operation, line->files, line->threads,
        line->mode, values[PER_SECOND], line->times_single, line->times_tmpfs, spell(a, values[PROCESSOR]), spell(b, values[P50]),
        spell(c, values[P99]), spell(d, values[P999]), spell(e, line->largest));
    if (settings->csv)
        fprintf(settings->csv, "\"%s\",%s,%u,%s,%.0f,%.3f,%.3f,%.0f,%.0f,%.0f,%.0f,%.0f\n", line->operation, line->files,
            line->threads, line->mode, values[PER_SECOND], line->times_single, line->times_tmpfs, values[PROCESSOR], values[P50],
            values[P99], values[P999], line->largest);
}

static const char *files_of(const struct operation *operation, bool shared)
{
    if (operation->on == ON_NAMES)
        return shared ? "one directory" : "own directories";
    return shared ? "one file" : "own files";
}

/* One operation with one number of threads; `singles` keeps what one thread reached. */
static void compare_targets(const struct settings *settings, const struct operation *operation, bool shared, unsigned threads,
    double singles[TARGETS])
{
    static struct figures figures[TARGETS];
    double tmpfs;

    memset(figures, 0, sizeof figures);
    for (unsigned round = 0; round < settings->rounds; round++)
        for (int target = 0; target < TARGETS; target++)
            if (target_there[target])
                one_round(settings, operation, target, threads, shared, round, &figures[target]);
    tmpfs = median(figures[TMPFS].values[PER_SECOND], settings->rounds);
    for (int target = 0; target < TARGETS; target++) {
        struct line line = {.operation = operation->name, .files = files_of(operation, shared), .mode = target_names[target]};
        if (!target_there[target])
            continue;
        line.threads = threads, line.largest = figures[target].largest;
        for (int figure = 0; figure < FIGURES; figure++)
            line.values[figure] = median(figures[target].values[figure], settings->rounds);
        if (threads == 1)
            singles[target] = line.values[PER_SECOND];
        line.times_single = line.values[PER_SECOND] / singles[target];
        line.times_tmpfs = tmpfs > 0 ? line.values[PER_SECOND] / tmpfs : 0;
        print_line(settings, &line);
    }
    fflush(stdout);
}

static void compare_all(const struct settings *settings)
{
    printf("%-27s %-15s %3s  %-8s %10s %6s %7s %8s %8s %8s %8s %8s\n", "operation", "on", "thr", "mode", "per s", "x 1", "x tmpfs",
        "cpu", "p50", "p99", "p99.9", "max");
    if (settings->csv)
        fprintf(settings->csv, "operation,on,threads,mode,per_second,times_one_thread,times_tmpfs,cpu_ns,p50_ns,p99_ns,"
                               "p999_ns,max_ns\n");
    for (size_t i = 0; i < OPERATIONS; i++)
        for (int shared = 0; shared < 2; shared++) {
            double singles[TARGETS] = {0};
            if (settings->only && !strstr(operations[i].name, settings->only))
                continue;
            for (unsigned threads = 1; threads < settings->threads; threads *= 2)
                compare_targets(settings, &operations[i], shared, threads, singles);
            compare_targets(settings, &operations[i], shared, settings->threads, singles);
        }
}

/* ---- setting up ---- */

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

/*
 * Goes to a new directory of the tmpfs in a child, and returns there only; the parent waits, removes the directory whatever
 * became of the child, and ends as the child did.
 */
static void enter_tmpfs(const char *directory)
{
    char made[4096];
    struct statfs type;
    int status = 0;
    pid_t child;

    snprintf(made, sizeof made, "%s/ermfs-benchmark-%d", directory, (int)getpid());
    if (statfs(directory, &type) == 0 && type.f_type != TMPFS_TYPE)
        printf("note: %s is no tmpfs\n", directory);
    if (mkdir(made, 0755)) {
        printf("SKIPPED: tmpfs, %s: %s\n", made, strerror(errno));
        target_there[TMPFS] = false;
        return;
    }
    fflush(stdout);
    child = fork();
    if (child == 0 && chdir(made) == 0)
        return;
    if (child == 0)
        fail("%s", made);
    signal(SIGINT, SIG_IGN), signal(SIGTERM, SIG_IGN), signal(SIGPIPE, SIG_IGN);
    if (child > 0)
        waitpid(child, &status, 0);
    nftw(made, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    exit(child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void parse(struct settings *settings, int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(name, "--quick") == 0) {
            settings->rounds = 1, settings->throughput_milliseconds = 10, settings->latency_milliseconds = 10;
            continue;
        }
        if (value && strcmp(name, "--rounds") == 0)
            settings->rounds = (unsigned)atoi(value);
        else if (value && strcmp(name, "--threads") == 0)
            settings->threads = (unsigned)atoi(value);
        else if (value && strcmp(name, "--tmpfs") == 0)
            settings->tmpfs = value;
        else if (value && strcmp(name, "--only") == 0)
            settings->only = value;
        else if (value && strcmp(name, "--csv") == 0) {
            if (!(settings->csv = fopen(value, "w")))
                fail("%s", value);
        } else {
            fprintf(stderr, "benchmark_lockless: unknown argument %s, or its value is missing\n", name);
            exit(2);
        }
        i++;
    }
    if (settings->threads < 1 || settings->threads > MOST_THREADS || settings->rounds < 1 || settings->rounds > MOST_ROUNDS) {
        fprintf(stderr, "benchmark_lockless: 1 to %d threads, 1 to %d rounds\n", MOST_THREADS, MOST_ROUNDS);
        exit(2);
    }
}

int main(int count, char **arguments)
{
    struct settings settings = {
        .threads = 8, .rounds = 5, .throughput_milliseconds = 120, .latency_milliseconds = 60, .tmpfs = "/dev/shm"};
    struct ermfs_config config = {.struct_size = sizeof config, .compress = ERMFS_COMPRESS_NEVER};

    parse(&settings, count, arguments);
    enter_tmpfs(settings.tmpfs);
    if (ermfs_configure_default(&config))
        fail("ermfs_configure_default");
    if (ermfs_set_lockless_mode(true))
        fail("ermfs_set_lockless_mode");
    measure_clock();
    printf("%ld processors, %u rounds; reading the clock takes %lu ns, which is taken off each latency\n",
        sysconf(_SC_NPROCESSORS_ONLN), settings.rounds, (unsigned long)clock_cost);
    make_files(&ermfs_calls, settings.threads);
    if (target_there[TMPFS])
        make_files(&kernel_calls, settings.threads);
    compare_all(&settings);
    if (settings.csv && fclose(settings.csv))
        fail("the CSV file");
    return 0;
}
