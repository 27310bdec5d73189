/*
 * glibc's fork takes the lock of stdio's list of streams after the fork handlers have run. A thread in fflush(NULL) holds that
 * lock while it calls the functions of our streams, which wait at the library's gate while a fork is under way: each would
 * wait for the other for ever. Here the forking thread takes the lock, which nests, before the gate closes. The names are
 * glibc's public ones since 2.2.5, in no header; where a C library lacks them, its fork takes no such lock.
 */
#include <pthread.h>
#include <stddef.h>

extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

__attribute__((visibility("hidden"))) int ermfs_fixed_guard_streams(void);

/* 0 or an error number. Handlers that are put up later run earlier before a fork, and later after it. */
int ermfs_fixed_guard_streams(void)
{
    if (_IO_list_lock == NULL || _IO_list_unlock == NULL || _IO_list_resetlock == NULL)
        return 0;
    /* In the child the lock is made anew, as glibc does when there are several threads. */
    return pthread_atfork(_IO_list_lock, _IO_list_unlock, _IO_list_resetlock);
}
