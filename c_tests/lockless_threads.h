/*
 * Scenes of many threads, for test_lockless_concurrency.c: how they start, when they stop, how they check.
 *
 * A scene's threads work until its time is over or a check of one of them fails. They check with HOLD, which, unlike CHECK,
 * writes nothing that threads share: that would order their calls, and hide from ThreadSanitizer what is not ordered.
 */
#ifndef ERMFS_C_TESTS_LOCKLESS_THREADS_H
#define ERMFS_C_TESTS_LOCKLESS_THREADS_H

#include <pthread.h>
#include <sched.h>

#define MOST_THREADS 64

/* How many threads a scene has, and for how long one with work without end goes on. */
static unsigned threads = 8;
static long scene_milliseconds = 600;

static atomic_bool scene_over;
static _Thread_local long held;

struct worker {
    unsigned id;
    struct random random;
    long operations;
    void *(*role)(struct worker *);
    void *scene;
    pthread_barrier_t *start;
};

#define HOLD(cond)                                                             \
    ({                                                                         \
        bool hold_ok_ = (cond);                                                \
        if (hold_ok_)                                                          \
            held++;                                                            \
        else                                                                   \
            hold_failed(errno, __FILE__, __LINE__, #cond);                     \
        hold_ok_;                                                              \
    })

static void hold_failed(int error, const char *file, int line, const char *expression)
{
    atomic_store_explicit(&scene_over, true, memory_order_relaxed);
    check_report(false, error, file, line, expression, "");
}

static bool going_on(void)
{
    return !atomic_load_explicit(&scene_over, memory_order_relaxed);
}

/* What a call answered, or -errno. */
static long result(long answer)
{
    return answer < 0 ? -errno : answer;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;

    held = 0;
    pthread_barrier_wait(worker->start);
    worker->role(worker);
    atomic_fetch_add(&check_passed, (int)held);
    return NULL;
}

static long milliseconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* `roles` are given out in turn. Ends early when a check fails; answers all operations together. */
static long run_scene(const char *name, void *scene, void *(*const roles[])(struct worker *), unsigned role_count)
{
    static unsigned number;
    struct worker workers[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    pthread_barrier_t start;
    uint64_t seed = seed_of_run() + ++number * 1000;
    long operations = 0, end;

    atomic_store(&scene_over, false);
    pthread_barrier_init(&start, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.id = i, .role = roles[i % role_count], .scene = scene, .start = &start};
        workers[i].random = random_of(seed + i);
        if (pthread_create(&ids[i], NULL, worker_main, &workers[i])) {
            perror("pthread_create");
            exit(1);
        }
    }
    end = milliseconds_now() + scaled(scene_milliseconds);
    pthread_barrier_wait(&start);
    while (going_on() && milliseconds_now() < end)
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    atomic_store(&scene_over, true);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        CHECK(workers[i].operations > 0);
        operations += workers[i].operations;
    }
    pthread_barrier_destroy(&start);
    printf("%-28s seed %#llx, %u threads, %ld operations\n", name, (unsigned long long)seed, threads, operations);
    fflush(stdout);
    return operations;
}

#define RUN_SCENE(name, scene, ...)                                            \
    ({                                                                         \
        void *(*const roles_[])(struct worker *) = {__VA_ARGS__};              \
        run_scene(name, scene, roles_, sizeof roles_ / sizeof *roles_);        \
    })

#endif
