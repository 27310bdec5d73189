/*
 * The family of test_posix.c about record locks and flock. Included by test_posix.c only.
 *
 * A process's own record locks never conflict, and another process would have an ERMFS of its own; so it is open file
 * descriptions that conflict here, with one another and with the process.
 */

#include <pthread.h>
#include <signal.h>
#include <sys/file.h>

#define LAST INT64_MAX

static struct flock range(int type, off_t start, off_t length)
{
    return (struct flock){.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static int set_lock(int fd, int command, int type, off_t start, off_t length)
{
    struct flock lock = range(type, start, length);

    return E(fcntl)(fd, command, &lock);
}

/* Whether F_OFD_GETLK or F_GETLK for a write lock finds this one first; type F_UNLCK: none. */
static bool finds(int fd, int command, off_t start, off_t length, int type, off_t found, off_t found_length, pid_t pid)
{
    struct flock lock = range(F_WRLCK, start, length);

    if (E(fcntl)(fd, command, &lock) || lock.l_type != type)
        return false;
    if (type == F_UNLCK)
        return lock.l_start == start && lock.l_len == length && lock.l_pid == 0;
    return lock.l_whence == SEEK_SET && lock.l_start == found && lock.l_len == found_length && lock.l_pid == pid;
}

static void lock_ranges(void)
{
    int one = make_open("f"), two = E(open)("f", O_RDWR);

    CHECK(set_lock(one, F_OFD_SETLK, F_WRLCK, 10, 10) == 0);
    CHECK_ERRNO(set_lock(two, F_OFD_SETLK, F_RDLCK, 19, 1), EAGAIN);
    CHECK_ERRNO(set_lock(two, F_OFD_SETLK, F_RDLCK, 0, 11), EAGAIN);
    CHECK_ERRNO(set_lock(two, F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
    CHECK(set_lock(two, F_OFD_SETLK, F_WRLCK, 0, 10) == 0 && set_lock(two, F_OFD_SETLK, F_WRLCK, 20, 0) == 0);
    CHECK(finds(two, F_OFD_GETLK, 0, 0, F_WRLCK, 10, 10, -1) && finds(one, F_OFD_GETLK, 15, 0, F_WRLCK, 20, 0, -1));
    CHECK(finds(one, F_OFD_GETLK, 10, 10, F_UNLCK, 0, 0, 0) && finds(one, F_GETLK, 0, 0, F_WRLCK, 10, 10, -1));
    /* A hole in the middle, and its edges given another type. */
    CHECK(set_lock(one, F_OFD_SETLK, F_UNLCK, 13, 4) == 0 && set_lock(one, F_OFD_SETLK, F_RDLCK, 17, 1) == 0);
    CHECK(finds(two, F_OFD_GETLK, 11, 9, F_WRLCK, 10, 3, -1) && finds(two, F_OFD_GETLK, 13, 7, F_RDLCK, 17, 1, -1));
    CHECK(finds(two, F_OFD_GETLK, 18, 0, F_WRLCK, 18, 2, -1) && finds(two, F_OFD_GETLK, 13, 4, F_UNLCK, 0, 0, 0));
    CHECK(set_lock(two, F_OFD_SETLK, F_RDLCK, 17, 1) == 0);
    CHECK_ERRNO(set_lock(one, F_OFD_SETLK, F_WRLCK, 17, 1), EAGAIN);
    CHECK(set_lock(one, F_OFD_SETLK, F_RDLCK, 10, 8) == 0 && finds(two, F_OFD_GETLK, 0, 0, F_RDLCK, 10, 8, -1));
    CHECK(set_lock(one, F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && set_lock(two, F_OFD_SETLK, F_WRLCK, 0, 0) == 0);
    CHECK(finds(one, F_OFD_GETLK, 5, 1, F_WRLCK, 0, 0, -1));
    CHECK(set_lock(two, F_OFD_SETLK, F_UNLCK, LAST, 1) == 0 && finds(one, F_OFD_GETLK, 5, 0, F_WRLCK, 0, LAST, -1));
    CHECK(E(close)(one) == 0 && E(close)(two) == 0);
}

static void lock_arguments(void)
{
    int fd = make_open("f"), other = E(open)("f", O_RDWR), reader = E(open)("f", O_RDONLY), writer = E(open)("f", O_WRONLY);
    int path = E(open)("f", O_PATH), directory = E(open)(".", O_RDONLY);
    struct flock lock;
    static const int commands[] = {F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW};

    CHECK(E(write)(fd, "0123456789", 10) == 10 && E(lseek)(fd, 4, SEEK_SET) == 4);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        int command = commands[i];
        lock = range(F_WRLCK, 0, 0);
        CHECK_ERRNO(E(fcntl)(minus_one, command, &lock), EBADF);
        CHECK_ERRNO(E(fcntl)(path, command, &lock), EBADF);
        CHECK_ERRNO(E(fcntl)(path, command, nothing), EBADF);
        CHECK_ERRNO(E(fcntl)(fd, command, nothing), EFAULT);
        lock.l_whence = 3;
        CHECK_ERRNO(E(fcntl)(fd, command, &lock), EINVAL);
        lock.l_whence = -1;
        CHECK_ERRNO(E(fcntl)(fd, command, &lock), EINVAL);
        CHECK_ERRNO(set_lock(fd, command, 3, 0, 0), EINVAL);
        CHECK_ERRNO(set_lock(fd, command, minus_one, 0, 0), EINVAL);
        CHECK_ERRNO(set_lock(fd, command, F_WRLCK, -1, 0), EINVAL);
        CHECK_ERRNO(set_lock(fd, command, F_WRLCK, 5, -6), EINVAL);
        CHECK_ERRNO(set_lock(fd, command, F_WRLCK, 5, INT64_MIN), EINVAL);
        CHECK_ERRNO(set_lock(fd, command, F_WRLCK, LAST, 2), EOVERFLOW);
        CHECK_ERRNO(set_lock(fd, command, F_WRLCK, 2, LAST), EOVERFLOW);
        lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = LAST - 9};
        CHECK_ERRNO(E(fcntl)(fd, command, &lock), EOVERFLOW);
        lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -11};
        CHECK_ERRNO(E(fcntl)(fd, command, &lock), EINVAL);
        if (i >= 3) {
            lock = range(F_WRLCK, 0, 0);
            lock.l_pid = 1;
            CHECK_ERRNO(E(fcntl)(fd, command, &lock), EINVAL);
        }
        if (i == 0 || i == 3) {
            CHECK(set_lock(reader, command, F_WRLCK, 0, 0) == 0 && set_lock(writer, command, F_RDLCK, 0, 0) == 0);
            continue;
        }
        CHECK_ERRNO(set_lock(reader, command, F_WRLCK, 0, 0), EBADF);
        CHECK_ERRNO(set_lock(writer, command, F_RDLCK, 0, 0), EBADF);
        CHECK_ERRNO(set_lock(reader, command, F_WRLCK, 0, -1), EINVAL);
        CHECK(set_lock(reader, command, F_RDLCK, 0, 0) == 0 && set_lock(reader, command, F_UNLCK, 0, 0) == 0);
        CHECK(set_lock(writer, command, F_WRLCK, 0, 0) == 0 && set_lock(writer, command, F_UNLCK, 0, 0) == 0);
        CHECK_ERRNO(set_lock(directory, command, F_WRLCK, 0, 0), EBADF);
        CHECK(set_lock(directory, command, F_RDLCK, 0, 0) == 0 && set_lock(directory, command, F_UNLCK, 0, 0) == 0);
    }
    CHECK_ERRNO(set_lock(fd, F_GETLK, F_UNLCK, 0, 0), EINVAL);
    CHECK(set_lock(fd, F_OFD_SETLK, F_RDLCK, 3, 4) == 0);
    lock = range(F_UNLCK, 0, 5);
    CHECK(E(fcntl)(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_RDLCK && lock.l_start == 3 && lock.l_len == 4 && lock.l_pid == -1);
    lock = range(F_UNLCK, 0, 5);
    CHECK(E(fcntl)(other, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK && lock.l_start == 0);
    CHECK(set_lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0) == 0);
    /* From the offset, from the end, and backwards. */
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -1, .l_len = 2};
    CHECK(E(fcntl)(fd, F_OFD_SETLK, &lock) == 0 && finds(other, F_OFD_GETLK, 0, 0, F_WRLCK, 3, 2, -1));
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -2};
    CHECK(E(fcntl)(fd, F_OFD_SETLK, &lock) == 0 && finds(other, F_OFD_GETLK, 5, 0, F_WRLCK, 8, 0, -1));
    CHECK(set_lock(fd, F_OFD_SETLK, F_WRLCK, 3, -3) == 0 && finds(other, F_OFD_GETLK, 0, 0, F_WRLCK, 0, 5, -1));
    CHECK(set_lock(fd, F_OFD_SETLK, F_WRLCK, LAST, 1) == 0 && set_lock(fd, F_OFD_SETLK, F_WRLCK, LAST, -LAST) == 0);
    CHECK(finds(other, F_OFD_GETLK, 0, 0, F_WRLCK, 0, 0, -1));
    CHECK(E(close)(fd) == 0 && E(close)(other) == 0 && E(close)(reader) == 0 && E(close)(writer) == 0);
    CHECK(E(close)(path) == 0 && E(close)(directory) == 0);
}

/* Locks of the process: they see one another only through descriptions, and go with any descriptor of the file. */
static void lock_owners(void)
{
    int fd = make_open("f"), other = E(open)("f", O_RDWR), third, path;
    pid_t self = getpid();

    CHECK(set_lock(fd, F_SETLK, F_WRLCK, 0, 10) == 0 && set_lock(other, F_SETLK, F_WRLCK, 5, 10) == 0);
    CHECK(finds(fd, F_GETLK, 0, 0, F_UNLCK, 0, 0, 0) && finds(fd, F_OFD_GETLK, 0, 0, F_WRLCK, 0, 15, self));
    CHECK_ERRNO(set_lock(fd, F_OFD_SETLK, F_RDLCK, 14, 1), EAGAIN);
    CHECK(set_lock(fd, F_OFD_SETLK, F_RDLCK, 15, 1) == 0);
    CHECK_ERRNO(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
    CHECK(set_lock(fd, F_SETLK, F_RDLCK, 0, 0) == 0 && set_lock(fd, F_SETLK, F_WRLCK, 0, 10) == 0);
    /* flock sees neither. */
    CHECK(E(flock)(other, LOCK_EX | LOCK_NB) == 0 && E(flock)(other, LOCK_UN) == 0);
    /* Not by closing one that was opened for its path only, but by any other. */
    path = E(open)("f", O_PATH);
    CHECK(E(close)(path) == 0 && finds(fd, F_OFD_GETLK, 0, 0, F_WRLCK, 0, 10, self));
    third = E(open)("f", O_RDONLY);
    CHECK(E(close)(third) == 0 && finds(fd, F_OFD_GETLK, 0, 0, F_UNLCK, 0, 0, 0));
    CHECK(finds(other, F_GETLK, 0, 0, F_RDLCK, 15, 1, -1));
    /* A duplicate's close, and one by dup2. */
    CHECK(set_lock(fd, F_SETLK, F_WRLCK, 0, 10) == 0 && E(close)(E(dup)(fd)) == 0 && finds(fd, F_OFD_GETLK, 0, 0, F_UNLCK, 0, 0, 0));
    CHECK(set_lock(fd, F_SETLK, F_WRLCK, 0, 10) == 0 && E(dup2)(fd, other) == other && finds(fd, F_OFD_GETLK, 0, 0, F_UNLCK, 0, 0, 0));
    /* The description's stay until its last descriptor goes; a file that has no name has them too. */
    third = E(open)("f", O_RDWR);
    CHECK(E(unlink)("f") == 0 && E(close)(fd) == 0);
    CHECK_ERRNO(set_lock(third, F_OFD_SETLK, F_WRLCK, 15, 1), EAGAIN);
    CHECK(E(close)(other) == 0 && set_lock(third, F_OFD_SETLK, F_WRLCK, 15, 1) == 0);
    CHECK(E(close)(third) == 0);
}

static void whole_file_locks(void)
{
    int one = make_open("f"), two = E(open)("f", O_RDONLY), three = E(open)("f", O_WRONLY), path = E(open)("f", O_PATH);
    int neither = E(open)("f", O_ACCMODE), again, directory = E(open)(".", O_RDONLY);

    CHECK(E(flock)(one, LOCK_SH) == 0 && E(flock)(two, LOCK_SH | LOCK_NB) == 0);
    CHECK_ERRNO(E(flock)(three, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    /* Who fails to change a lock has lost it. */
    CHECK_ERRNO(E(flock)(one, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK(E(flock)(two, LOCK_EX | LOCK_NB) == 0 && E(flock)(two, LOCK_EX) == 0);
    CHECK_ERRNO(E(flock)(one, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    CHECK(E(flock)(one, LOCK_UN) == 0 && E(flock)(one, LOCK_UN | LOCK_NB) == 0);
    /* A duplicate is the same description, and its lock goes with the last of them. */
    again = E(dup)(two);
    CHECK(E(flock)(again, LOCK_SH | LOCK_NB) == 0 && E(close)(two) == 0);
    CHECK_ERRNO(E(flock)(three, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK(E(close)(again) == 0 && E(flock)(three, LOCK_EX | LOCK_NB) == 0 && E(flock)(three, LOCK_UN) == 0);
    for (int i = 0; i < 5; i++)
        CHECK_ERRNO(E(flock)(one, (int[]){0, LOCK_NB, LOCK_SH | LOCK_EX, 16, minus_one & ~32}[i]), EINVAL);
    CHECK_ERRNO(E(flock)(minus_one, 0), EINVAL);
    CHECK_ERRNO(E(flock)(minus_one, LOCK_UN), EBADF);
    CHECK(E(flock)(minus_one, 32) == 0);
    CHECK_ERRNO(E(flock)(path, LOCK_SH), EBADF);
    CHECK_ERRNO(E(flock)(path, LOCK_UN), EBADF);
    CHECK_ERRNO(E(flock)(neither, LOCK_SH), EBADF);
    CHECK(E(flock)(neither, LOCK_UN) == 0);
    CHECK(E(flock)(directory, LOCK_EX) == 0 && E(flock)(directory, LOCK_UN) == 0);
    CHECK(E(close)(one) == 0 && E(close)(three) == 0 && E(close)(path) == 0 && E(close)(neither) == 0 && E(close)(directory) == 0);
}

/* ---- waiting ---- */

struct wait_for {
    int fd, command, type;
    off_t start;
    int result, error;
    atomic_int started, done;
};

static void *wait_for_lock(void *argument)
{
    struct wait_for *wait = argument;

    atomic_store(&wait->started, 1);
    wait->result = wait->command ? set_lock(wait->fd, wait->command, wait->type, wait->start, 1) : E(flock)(wait->fd, wait->type);
    wait->error = errno;
    atomic_store(&wait->done, 1);
    return NULL;
}

static void a_while(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
}

static pthread_t begin_wait(struct wait_for *wait)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, wait_for_lock, wait) == 0);
    while (!atomic_load(&wait->started))
        a_while();
    a_while();
    CHECK(!atomic_load(&wait->done));
    return thread;
}

static void on_signal(int signal)
{
    (void)signal;
}

static void lock_waits(void)
{
    int one = make_open("f"), two = E(open)("f", O_RDWR), number;
    struct sigaction interrupt = {.sa_handler = on_signal}, before;
    static const int commands[] = {F_OFD_SETLKW, F_SETLKW, 0};

    CHECK(sigaction(SIGUSR1, &interrupt, &before) == 0);
    for (int i = 0; i < 3; i++) {
        struct wait_for wait = {.fd = two, .command = commands[i], .type = commands[i] ? F_WRLCK : LOCK_EX, .start = 7};
        struct wait_for again = wait, closed = wait;
        pthread_t thread;

        CHECK(set_lock(one, F_OFD_SETLK, F_WRLCK, 0, 10) == 0 && E(flock)(one, LOCK_SH) == 0);
        thread = begin_wait(&wait);
        /* What is unlocked elsewhere does not help; what is wanted does. */
        CHECK(set_lock(one, F_OFD_SETLK, F_UNLCK, 0, 7) == 0 && set_lock(one, F_OFD_SETLK, F_UNLCK, 8, 0) == 0);
        a_while();
        CHECK(!atomic_load(&wait.done));
        CHECK(set_lock(one, F_OFD_SETLK, F_UNLCK, 7, 1) == 0 && E(flock)(one, LOCK_UN) == 0);
        CHECK(pthread_join(thread, NULL) == 0 && wait.result == 0);
        CHECK(set_lock(two, F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && set_lock(two, F_SETLK, F_UNLCK, 0, 0) == 0 && E(flock)(two, LOCK_UN) == 0);
        /* A signal handler ends the wait. */
        CHECK(set_lock(one, F_OFD_SETLK, F_WRLCK, 0, 10) == 0 && E(flock)(one, LOCK_SH) == 0);
        thread = begin_wait(&again);
        while (!atomic_load(&again.done)) {
            CHECK(pthread_kill(thread, SIGUSR1) == 0);
            a_while();
        }
        CHECK(pthread_join(thread, NULL) == 0 && again.result == -1 && again.error == EINTR);
        /* The close of the descriptor does not end it; a lock that the process would have got is gone with it. */
        closed.fd = number = E(open)("f", O_RDWR);
        thread = begin_wait(&closed);
        CHECK(E(close)(number) == 0);
        a_while();
        CHECK(!atomic_load(&closed.done));
        CHECK(set_lock(one, F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && E(flock)(one, LOCK_UN) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(commands[i] == F_SETLKW ? closed.result == -1 && closed.error == EBADF : closed.result == 0);
        CHECK(finds(one, F_OFD_GETLK, 0, 0, F_UNLCK, 0, 0, 0) && E(flock)(one, LOCK_EX | LOCK_NB) == 0 && E(flock)(one, LOCK_UN) == 0);
    }
    CHECK(sigaction(SIGUSR1, &before, NULL) == 0);
    CHECK(E(close)(one) == 0 && E(close)(two) == 0);
}

/* A process that would wait for a description which waits for the process is told; a description never is. */
static void lock_cycles(void)
{
    int one = make_open("f"), two = E(open)("f", O_RDWR);
    struct wait_for wait = {.fd = two, .command = F_OFD_SETLKW, .type = F_WRLCK, .start = 0};
    struct wait_for own = {.fd = one, .command = F_SETLKW, .type = F_WRLCK, .start = 1};
    pthread_t thread, other;

    CHECK(set_lock(one, F_SETLK, F_WRLCK, 0, 1) == 0 && set_lock(two, F_OFD_SETLK, F_WRLCK, 1, 1) == 0);
    thread = begin_wait(&wait);
    CHECK_ERRNO(set_lock(one, F_SETLKW, F_RDLCK, 1, 1), EDEADLK);
    CHECK_ERRNO(set_lock(one, F_SETLKW, F_WRLCK, 0, 0), EDEADLK);
    CHECK_ERRNO(set_lock(one, F_SETLK, F_WRLCK, 1, 1), EAGAIN);
    CHECK(!atomic_load(&wait.done) && set_lock(one, F_SETLK, F_UNLCK, 0, 0) == 0);
    CHECK(pthread_join(thread, NULL) == 0 && wait.result == 0);
    CHECK(set_lock(two, F_OFD_SETLK, F_UNLCK, 0, 1) == 0 && set_lock(one, F_SETLK, F_WRLCK, 0, 1) == 0);
    other = begin_wait(&own);
    atomic_store(&wait.started, 0);
    atomic_store(&wait.done, 0);
    thread = begin_wait(&wait);
    CHECK(set_lock(one, F_SETLK, F_UNLCK, 0, 1) == 0 && pthread_join(thread, NULL) == 0 && wait.result == 0);
    CHECK(set_lock(two, F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && pthread_join(other, NULL) == 0 && own.result == 0);
    CHECK(E(close)(one) == 0 && E(close)(two) == 0);
}

static void locks(void)
{
    lock_ranges();
    lock_arguments();
    lock_owners();
    whole_file_locks();
    lock_waits();
    lock_cycles();
}

#ifndef ORACLE
/* A fork child has its descriptions' locks, and neither those of its parent nor who waits there for them. */
static int locks_in_child(int one, int two)
{
    if (!finds(one, F_OFD_GETLK, 0, 100, F_UNLCK, 0, 0, 0))
        return 1;
    if (!finds(two, F_OFD_GETLK, 0, 0, F_WRLCK, 100, 5, -1) || ermfs_flock(two, LOCK_EX | LOCK_NB) == 0)
        return 2;
    /* The description that a thread of the parent waits with ends with its descriptor. */
    if (ermfs_close(two) || !finds(one, F_OFD_GETLK, 0, 0, F_UNLCK, 0, 0, 0))
        return 3;
    if (set_lock(one, F_SETLKW, F_WRLCK, 0, 50) || set_lock(one, F_OFD_SETLKW, F_WRLCK, 200, 0))
        return 4;
    return ermfs_close(one) ? 5 : 0;
}

static void own_locks(void)
{
    int one = make_open("f"), two = ermfs_open("f", O_RDWR), status = -1;
    struct wait_for wait = {.fd = two, .command = F_OFD_SETLKW, .type = F_WRLCK, .start = 100};
    pthread_t thread;
    pid_t child;

    CHECK(set_lock(one, F_SETLK, F_WRLCK, 0, 10) == 0 && set_lock(one, F_OFD_SETLK, F_WRLCK, 100, 5) == 0);
    CHECK(set_lock(two, F_OFD_SETLK, F_WRLCK, 300, 5) == 0 && ermfs_flock(one, LOCK_EX) == 0);
    thread = begin_wait(&wait);
    child = fork();
    if (child == 0)
        _exit(locks_in_child(one, two));
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(!atomic_load(&wait.done) && finds(two, F_OFD_GETLK, 0, 50, F_WRLCK, 0, 10, getpid()));
    CHECK(set_lock(one, F_OFD_SETLK, F_UNLCK, 0, 0) == 0 && pthread_join(thread, NULL) == 0 && wait.result == 0);
    CHECK(ermfs_close(one) == 0 && ermfs_close(two) == 0);
}
#endif
