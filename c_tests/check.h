/*
 * Checks for the C tests.
 *
 * A failed check prints file:line, the expression and errno on standard error and is counted; the test goes on. check_summary()
 * prints "N passed, N failed" alone on a line and gives the exit code. Checks may be made from several threads.
 * This header needs GNU C (statement expressions).
 */
#ifndef ERMFS_C_TESTS_CHECK_H
#define ERMFS_C_TESTS_CHECK_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static atomic_int check_passed;
static atomic_int check_failed;

static inline bool check_report(bool ok, int error, const char *file, int line, const char *expression, const char *wanted)
{
    if (ok) {
        atomic_fetch_add(&check_passed, 1);
        return true;
    }
    atomic_fetch_add(&check_failed, 1);
    fprintf(stderr, "%s:%d: %s%s%s [errno %d, %s]\n", file, line, expression, *wanted ? ", wanted " : "", wanted, error,
            error ? strerror(error) : "none");
    return false;
}

/* The condition holds. */
#define CHECK(cond)                                                            \
    ({                                                                         \
        errno = 0;                                                             \
        bool check_ok_ = (cond);                                               \
        check_report(check_ok_, errno, __FILE__, __LINE__, #cond, "");         \
    })

/* The call fails: it gives -1 and leaves the expected errno. */
#define CHECK_ERRNO(call, expected)                                            \
    ({                                                                         \
        errno = 0;                                                             \
        intmax_t check_result_ = (intmax_t)(call);                             \
        int check_errno_ = errno;                                              \
        check_report(check_result_ == -1 && check_errno_ == (expected),        \
                     check_errno_, __FILE__, __LINE__, #call, #expected);      \
    })

/* The call fails: it gives NULL and leaves the expected errno. */
#define CHECK_NULL_ERRNO(call, expected)                                       \
    ({                                                                         \
        errno = 0;                                                             \
        const void *check_pointer_ = (call);                                   \
        int check_errno_ = errno;                                              \
        check_report(check_pointer_ == NULL && check_errno_ == (expected),     \
                     check_errno_, __FILE__, __LINE__, #call, #expected);      \
    })

/* The closing line; 0 when every check held, else 1. */
static inline int check_summary(void)
{
    int failed = atomic_load(&check_failed);

    fflush(stderr);
    printf("%d passed, %d failed\n", atomic_load(&check_passed), failed);
    fflush(stdout);
    return failed ? 1 : 0;
}

#endif
