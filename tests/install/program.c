/* What a program outside the tree is: strict C99, the installed header, the installed library. Exits 0 if all is well. */
#define _POSIX_C_SOURCE 200809L
#include <ermfs.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT "the same line again and again\n"
#define LINES 10000

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            exit(1); \
        } \
    } while (0)

static void write_and_pack(void)
{
    ermfs_file_info info;
    size_t i;
    int fd = ermfs_open("/log", O_CREAT | O_WRONLY | O_EXCL, 0644);

    CHECK(fd >= 1048576);
    for (i = 0; i < LINES; i++)
        CHECK(ermfs_write(fd, TEXT, strlen(TEXT)) == (ssize_t)strlen(TEXT));
    CHECK(ermfs_close(fd) == 0);

    fd = ermfs_open("/log", O_RDONLY);
    CHECK(ermfs_fget_info(fd, &info, sizeof info) == 0);
    CHECK(info.size == LINES * strlen(TEXT) && info.form == ERMFS_FORM_PACKED && info.stored_bytes < info.size / 10);
    CHECK(ermfs_close(fd) == 0);
}

static void read_back(void)
{
    char line[sizeof TEXT];
    FILE *stream = ermfs_fopen("/log", "r");
    long lines = 0;

    CHECK(stream != NULL);
    while (fgets(line, sizeof line, stream) != NULL) {
        CHECK(strcmp(line, TEXT) == 0);
        lines++;
    }
    CHECK(lines == LINES && fclose(stream) == 0);
}

static void export_it(void)
{
    char text[sizeof TEXT] = "";
    int fd = ermfs_export_memfd("/log", ERMFS_EXPORT_SEALED);

    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1);
    CHECK(strcmp(text, TEXT) == 0 && close(fd) == 0);
}

static void fork_it(void)
{
    int status;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        read_back();
        _exit(ermfs_unlink("/log") == 0 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    read_back();
}

int main(int argc, char **argv)
{
    char version[32];

    snprintf(version, sizeof version, "%d.%d.%d", ERMFS_VERSION_MAJOR, ERMFS_VERSION_MINOR, ERMFS_VERSION_PATCH);
    CHECK(strcmp(version, ermfs_version()) == 0);
    CHECK(argc < 2 || strcmp(version, argv[1]) == 0);

    write_and_pack();
    read_back();
    export_it();
    fork_it();
    CHECK(ermfs_open("/none", O_RDONLY) == -1 && errno == ENOENT);
    return 0;
}
