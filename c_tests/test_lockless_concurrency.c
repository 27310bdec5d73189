/*
 * Many threads on shared and own files, in either mode: every answer is checked against what is allowed.
 *
 *   test_lockless_concurrency [threads]        8 threads unless said
 *
 * The scenes lie in lockless_scenes_content.h, lockless_scenes_names.h and lockless_scenes_descriptors.h. Each leaves nothing
 * behind, which the filesystem's statistics must bear out: no file, no description and no memory. ERMFS_TEST_SEED gives other
 * random sequences, ERMFS_TEST_SCALE (per cent) longer or shorter scenes.
 */
#define _GNU_SOURCE
#include "lockless_common.h"

#include "lockless_threads.h"

#include "lockless_scenes_content.h"
#include "lockless_scenes_descriptors.h"
#include "lockless_scenes_names.h"

static void (*const scenes[])(void) = {append_scene, truncate_scene, block_scene, last_close_scene, offset_scene, shift_scene,
    rename_scenes, replace_scene, contest_scene, fickle_scene, listing_scene, crowd_scene, brief_scene, link_scene, open_scene,
    fill_scene, storm_scene, close_scene, switch_scene};

static void run_all(void)
{
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        struct ermfs_stats start = stats_of(ERMFS_AT_FDCWD);
        scenes[i]();
        CHECK(entries_of("/") == 0);
        check_same_stats(ERMFS_AT_FDCWD, &start);
    }
}

int main(int count, char **arguments)
{
    if (count > 1)
        threads = (unsigned)atoi(arguments[1]);
    if (count > 2 || threads < 2 || threads > MOST_THREADS) {
        fprintf(stderr, "usage: %s [threads, 2 to %d]\n", arguments[0], MOST_THREADS);
        return 2;
    }
    read_scale();
    printf("seed %#llx, scale %u %%\n", (unsigned long long)seed_of_run(), scale_percent);
    in_each_mode(run_all);
    return check_summary();
}
