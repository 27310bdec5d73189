/*
 * The family of test_posix.c about extended attributes. Included by test_posix.c only.
 */

#include <sys/xattr.h>

#define XATTR_MOST 65536

/* Whether a list of names, size bytes long, has this one. */
static bool has_name(const char *list, ssize_t size, const char *name)
{
    for (const char *at = list; at < list + size; at += strlen(at) + 1)
        if (strcmp(at, name) == 0)
            return true;
    return false;
}

/* A descriptor of a new file. */
static int make_anew(const char *path)
{
    CHECK(E(unlink)(path) == 0 || errno == ENOENT);
    return make_open(path);
}

static void attribute_values(void)
{
    char value[64] = "untouched", list[64];
    int fd = make_anew("f");
    ssize_t size;

    CHECK(E(getxattr)("f", "user.a", value, sizeof value) == -1 && errno == ENODATA);
    CHECK(E(listxattr)("f", list, sizeof list) == 0 && E(listxattr)("f", nothing, sizeof list) == 0);
    CHECK(E(setxattr)("f", "user.a", "one", 3, 0) == 0);
    CHECK(E(getxattr)("f", "user.a", value, sizeof value) == 3 && memcmp(value, "oneouched", 10) == 0);
    CHECK(E(fgetxattr)(fd, "user.a", value, 3) == 3 && E(lgetxattr)("f", "user.a", nothing, 0) == 3);
    CHECK_ERRNO(E(getxattr)("f", "user.a", value, 2), ERANGE);
    CHECK_ERRNO(E(getxattr)("f", "user.A", value, sizeof value), ENODATA);
    CHECK(E(fsetxattr)(fd, "user.a", "longer", 6, 0) == 0 && E(getxattr)("f", "user.a", value, sizeof value) == 6);
    CHECK(memcmp(value, "longer", 6) == 0);

    CHECK(E(setxattr)("f", "user.none", nothing, 0, 0) == 0 && E(getxattr)("f", "user.none", value, 9) == 0);
    CHECK(E(getxattr)("f", "user.none", nothing, 5) == 0);
    size = E(flistxattr)(fd, list, sizeof list);
    CHECK(size == 17 && has_name(list, size, "user.a") && has_name(list, size, "user.none"));
    CHECK(E(listxattr)("f", nothing, 0) == 17 && E(llistxattr)("f", list, 17) == 17);
    CHECK_ERRNO(E(listxattr)("f", list, 16), ERANGE);

    CHECK_ERRNO(E(removexattr)("f", "user.b"), ENODATA);
    CHECK(E(removexattr)("f", "user.a") == 0 && E(fremovexattr)(fd, "user.none") == 0);
    CHECK_ERRNO(E(lremovexattr)("f", "user.a"), ENODATA);
    CHECK(E(listxattr)("f", nothing, 0) == 0);
    CHECK(E(close)(fd) == 0);
}

static void attribute_flags(void)
{
    char value[8];

    CHECK(E(close)(make_anew("f")) == 0);
    CHECK_ERRNO(E(setxattr)("f", "user.a", "1", 1, XATTR_REPLACE), ENODATA);
    CHECK_ERRNO(E(setxattr)("f", "user.a", "1", 1, XATTR_CREATE | XATTR_REPLACE), ENODATA);
    CHECK(E(setxattr)("f", "user.a", "1", 1, XATTR_CREATE) == 0);
    CHECK_ERRNO(E(setxattr)("f", "user.a", "2", 1, XATTR_CREATE), EEXIST);
    CHECK_ERRNO(E(setxattr)("f", "user.a", "2", 1, XATTR_CREATE | XATTR_REPLACE), EEXIST);
    CHECK(E(getxattr)("f", "user.a", value, sizeof value) == 1 && *value == '1');
    CHECK(E(setxattr)("f", "user.a", "3", 1, XATTR_REPLACE) == 0);
    CHECK(E(getxattr)("f", "user.a", value, sizeof value) == 1 && *value == '3');
    CHECK_ERRNO(E(setxattr)("f", "user.a", "4", 1, 4), EINVAL);
    CHECK_ERRNO(E(setxattr)("f", "user.a", "4", 1, minus_one), EINVAL);
}

static void attribute_names(void)
{
    char name[257] = "user.", value[4];

    CHECK(E(close)(make_anew("f")) == 0);
    memset(name + 5, 'n', sizeof name - 5);
    name[256] = 0;
    CHECK_ERRNO(E(setxattr)("f", name, "v", 1, 0), ERANGE);
    CHECK_ERRNO(E(getxattr)("f", name, value, sizeof value), ERANGE);
    CHECK_ERRNO(E(removexattr)("f", name), ERANGE);
    name[255] = 0;
    CHECK(E(setxattr)("f", name, "v", 1, 0) == 0 && E(listxattr)("f", nothing, 0) == 256 && E(removexattr)("f", name) == 0);
    CHECK_ERRNO(E(setxattr)("f", "", "v", 1, 0), ERANGE);
    CHECK_ERRNO(E(getxattr)("f", "", value, sizeof value), ERANGE);
    CHECK_ERRNO(E(setxattr)("f", "user.", "v", 1, 0), EINVAL);
    CHECK_ERRNO(E(getxattr)("f", "user.", value, sizeof value), EINVAL);
    CHECK_ERRNO(E(removexattr)("f", "user."), EINVAL);
    for (int i = 0; i < 4; i++) {
        const char *unknown = (const char *[]){"user", "User.a", "a", "system.a"}[i];
        CHECK_ERRNO(E(setxattr)("f", unknown, "v", 1, 0), EOPNOTSUPP);
        CHECK_ERRNO(E(getxattr)("f", unknown, value, sizeof value), EOPNOTSUPP);
        CHECK_ERRNO(E(removexattr)("f", unknown), EOPNOTSUPP);
    }
    /* What is wrong with flags, name and value is told before anything of the file, in this order. */
    CHECK_ERRNO(E(setxattr)("missing", "", nothing, XATTR_MOST + 1, 4), EINVAL);
    CHECK_ERRNO(E(setxattr)("missing", nothing, nothing, XATTR_MOST + 1, 0), EFAULT);
    CHECK_ERRNO(E(setxattr)("missing", "", nothing, XATTR_MOST + 1, 0), ERANGE);
    CHECK_ERRNO(E(setxattr)("missing", "user.a", nothing, XATTR_MOST + 1, 0), E2BIG);
    CHECK_ERRNO(E(setxattr)("missing", "user.a", nothing, 1, 0), EFAULT);
    CHECK_ERRNO(E(setxattr)("missing", "a", "v", 1, 0), ENOENT);
    CHECK_ERRNO(E(getxattr)("missing", "", value, 1), ERANGE);
    CHECK_ERRNO(E(getxattr)("missing", "user.a", value, 1), ENOENT);
    CHECK_ERRNO(E(listxattr)("missing", value, 1), ENOENT);
    CHECK_ERRNO(E(listxattr)("f/x", value, 1), ENOTDIR);
    CHECK_ERRNO(E(removexattr)("", "user.a"), ENOENT);
    CHECK_ERRNO(E(getxattr)(nothing, "user.a", value, 1), EFAULT);
    CHECK_ERRNO(E(getxattr)("f", nothing, value, 1), EFAULT);
    CHECK_ERRNO(E(removexattr)("f", nothing), EFAULT);
    CHECK(E(setxattr)("f", "user.a", "v", 1, 0) == 0);
    CHECK_ERRNO(E(getxattr)("f", "user.a", nothing, 1), EFAULT);
    CHECK_ERRNO(E(listxattr)("f", nothing, 100), EFAULT);
}

static void attribute_sizes(void)
{
    char *bytes = calloc(2, XATTR_MOST), name[32];
    int fd = make_anew("f"), set = 0, removed = 0;

    memset(bytes, 'b', XATTR_MOST);
    CHECK_ERRNO(E(setxattr)("f", "user.big", bytes, XATTR_MOST + 1, 0), E2BIG);
    CHECK(E(setxattr)("f", "user.big", bytes, XATTR_MOST, 0) == 0);
    CHECK(E(getxattr)("f", "user.big", bytes + XATTR_MOST, XATTR_MOST) == XATTR_MOST);
    CHECK(memcmp(bytes, bytes + XATTR_MOST, XATTR_MOST) == 0);
    CHECK_ERRNO(E(getxattr)("f", "user.big", bytes, XATTR_MOST - 1), ERANGE);
    CHECK(E(removexattr)("f", "user.big") == 0);
    /* More names than a call can list. */
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "user.%025d", i);
        set += E(fsetxattr)(fd, name, &i, sizeof i, XATTR_CREATE) == 0;
    }
    CHECK(set == 600 && E(flistxattr)(fd, nothing, 0) == 600 * 31 && E(flistxattr)(fd, bytes, XATTR_MOST) == 600 * 31);
    for (int i = 600; i < 2200; i++) {
        snprintf(name, sizeof name, "user.%025d", i);
        set += E(fsetxattr)(fd, name, &i, sizeof i, XATTR_CREATE) == 0;
    }
    CHECK(set == 2200 && E(flistxattr)(fd, nothing, 0) == 2200 * 31);
    CHECK_ERRNO(E(flistxattr)(fd, bytes, 2 * XATTR_MOST), E2BIG);
    CHECK_ERRNO(E(flistxattr)(fd, bytes, XATTR_MOST - 1), ERANGE);
    for (int i = 0; i < 2200; i++) {
        int value = -1;
        snprintf(name, sizeof name, "user.%025d", i);
        removed += E(fgetxattr)(fd, name, &value, sizeof value) == sizeof value && value == i && E(fremovexattr)(fd, name) == 0;
    }
    CHECK(removed == 2200 && E(flistxattr)(fd, nothing, 0) == 0);
    CHECK(E(close)(fd) == 0);
    free(bytes);
}

static void attribute_kinds(void)
{
    char value[8], list[64];
    ssize_t size;

    CHECK(E(close)(make_anew("f")) == 0);
    CHECK(E(symlink)("f", "s") == 0 && E(mkdir)("d", 0755) == 0);
    CHECK(E(setxattr)("d", "user.a", "dir", 3, 0) == 0 && E(getxattr)("d", "user.a", value, sizeof value) == 3);
    CHECK(E(setxattr)("s", "user.a", "file", 4, 0) == 0 && E(getxattr)("f", "user.a", value, sizeof value) == 4);
    CHECK_ERRNO(E(lsetxattr)("s", "user.a", "link", 4, 0), EPERM);
    CHECK_ERRNO(E(lsetxattr)("s", "user.", "link", 4, 0), EPERM);
    CHECK_ERRNO(E(lremovexattr)("s", "user.a"), EPERM);
    CHECK_ERRNO(E(lgetxattr)("s", "user.a", value, sizeof value), ENODATA);
    CHECK(E(llistxattr)("s", list, sizeof list) == 0);
    if (geteuid() != 0)
        return;
    CHECK(E(lsetxattr)("s", "trusted.t", "tt", 2, 0) == 0 && E(lgetxattr)("s", "trusted.t", value, sizeof value) == 2);
    CHECK_ERRNO(E(getxattr)("s", "trusted.t", value, sizeof value), ENODATA);
    CHECK(E(setxattr)("f", "security.e", "e", 1, 0) == 0 && E(setxattr)("f", "trusted.t", "", 0, 0) == 0);
    size = E(listxattr)("f", list, sizeof list);
    CHECK(size == 28 && has_name(list, size, "user.a") && has_name(list, size, "security.e") && has_name(list, size, "trusted.t"));
    CHECK_ERRNO(E(setxattr)("f", "trusted.", "v", 1, 0), EINVAL);
    CHECK_ERRNO(E(setxattr)("f", "security.", "v", 1, 0), EINVAL);
    CHECK(E(removexattr)("f", "security.e") == 0 && E(removexattr)("f", "trusted.t") == 0 && E(listxattr)("f", list, 7) == 7);
}

static void attribute_descriptors(void)
{
    int wrong[3] = {-1, INT_MAX, 0};
    char value[8];
    int fd;

    CHECK(E(close)(make_anew("f")) == 0);
    wrong[2] = E(open)("f", O_PATH);
    for (int i = 0; i < 3; i++) {
        CHECK_ERRNO(E(fsetxattr)(wrong[i], "user.a", "v", 1, 0), EBADF);
        CHECK_ERRNO(E(fgetxattr)(wrong[i], "user.a", value, sizeof value), EBADF);
        CHECK_ERRNO(E(flistxattr)(wrong[i], value, sizeof value), EBADF);
        CHECK_ERRNO(E(fremovexattr)(wrong[i], "user.a"), EBADF);
        CHECK_ERRNO(E(fsetxattr)(wrong[i], "", "v", 1, 0), ERANGE);
    }
    CHECK(E(close)(wrong[2]) == 0);
    /* They are the file's: other names show them, and a file that only a descriptor holds keeps them. */
    fd = E(open)("f", O_RDONLY);
    CHECK(E(fsetxattr)(fd, "user.a", "v", 1, 0) == 0 && E(link)("f", "g") == 0 && E(rename)("f", "h") == 0);
    CHECK(E(getxattr)("g", "user.a", value, sizeof value) == 1 && E(getxattr)("h", "user.a", value, sizeof value) == 1);
    CHECK(E(unlink)("g") == 0 && E(unlink)("h") == 0 && E(fgetxattr)(fd, "user.a", value, sizeof value) == 1);
    CHECK(E(fsetxattr)(fd, "user.b", "w", 1, 0) == 0 && E(flistxattr)(fd, nothing, 0) == 14);
    CHECK(E(close)(fd) == 0);
    make_file("f", "a new one");
    CHECK(E(listxattr)("f", nothing, 0) == 0);
}

static bool same_time(struct timespec a, struct timespec b)
{
    return !later(a, b) && !later(b, a);
}

static void attribute_times(void)
{
    struct stat before, after;
    char value[8];

    CHECK(E(close)(make_anew("f")) == 0);
    before = stat_of("f");
    CHECK(E(setxattr)("f", "user.a", "v", 1, 0) == 0);
    after = stat_of("f");
    CHECK(later(after.st_ctim, before.st_ctim) && same_time(after.st_mtim, before.st_mtim));
    CHECK(E(getxattr)("f", "user.a", value, sizeof value) == 1 && E(listxattr)("f", nothing, 0) == 7);
    CHECK_ERRNO(E(setxattr)("f", "user.a", "w", 1, XATTR_CREATE), EEXIST);
    CHECK_ERRNO(E(removexattr)("f", "user.b"), ENODATA);
    before = stat_of("f");
    CHECK(same_time(before.st_ctim, after.st_ctim) && same_time(before.st_atim, after.st_atim));
    CHECK(E(setxattr)("f", "user.a", "v", 1, 0) == 0);
    after = stat_of("f");
    CHECK(later(after.st_ctim, before.st_ctim));
    CHECK(E(removexattr)("f", "user.a") == 0);
    before = stat_of("f");
    CHECK(later(before.st_ctim, after.st_ctim) && same_time(before.st_mtim, after.st_mtim));
}

static void attributes(void)
{
    attribute_values();
    attribute_flags();
    attribute_names();
    attribute_sizes();
    attribute_kinds();
    attribute_descriptors();
    attribute_times();
}

#ifndef ORACLE
/* A full filesystem refuses an attribute, which leaves the old one, and has its room back when the file goes. */
static void own_attributes(void)
{
    struct ermfs_config config = {.struct_size = sizeof config, .max_bytes = 1 << 20};
    int root = ermfs_fsmount(&config), fd, set = 0, error;
    char *bytes = calloc(1, XATTR_MOST), name[32];
    struct ermfs_stats empty, full;

    CHECK(root >= 0 && ermfs_get_stats(root, &empty, sizeof empty) == 0);
    fd = ermfs_openat(root, "f", O_RDWR | O_CREAT, 0644);
    CHECK(fd >= 0 && ermfs_fsetxattr(fd, "user.kept", "kept", 4, 0) == 0);
    do
        snprintf(name, sizeof name, "user.%d", set);
    while (ermfs_fsetxattr(fd, name, bytes, XATTR_MOST, 0) == 0 && ++set < 100);
    error = errno;
    CHECK(set > 5 && set < 16 && error == ENOSPC);
    CHECK_ERRNO(ermfs_fsetxattr(fd, "user.kept", bytes, XATTR_MOST, 0), ENOSPC);
    CHECK(ermfs_fgetxattr(fd, "user.kept", bytes, XATTR_MOST) == 4 && memcmp(bytes, "kept", 4) == 0);
    CHECK(ermfs_get_stats(root, &full, sizeof full) == 0 && full.metadata_bytes > (uint64_t)set * XATTR_MOST);
    CHECK_ERRNO(ermfs_fsetxattr(fd, "security.capability", bytes, 20, 0), EOPNOTSUPP);
    CHECK_ERRNO(ermfs_fsetxattr(fd, "system.posix_acl_access", bytes, 4, 0), EOPNOTSUPP);
    CHECK(ermfs_unlinkat(root, "f", 0) == 0 && ermfs_close(fd) == 0);
    CHECK(ermfs_get_stats(root, &full, sizeof full) == 0 && full.metadata_bytes < empty.metadata_bytes + 4096);
    CHECK(ermfs_close(root) == 0);
    free(bytes);
}
#endif
