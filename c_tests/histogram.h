/*
 * Latencies for the benchmark: a histogram, what is read off it, and the clock with what reading it costs.
 */
#ifndef ERMFS_C_TESTS_HISTOGRAM_H
#define ERMFS_C_TESTS_HISTOGRAM_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds by powers of two, each in 32 steps: what is read off is at most 3 % too high. */
#define STEPS 32
#define BUCKETS (60 * STEPS)

struct histogram {
    uint64_t counts[BUCKETS], total, largest;
};

static unsigned bucket_of(uint64_t value)
{
    unsigned shift;

    if (value < STEPS)
        return (unsigned)value;
    shift = (unsigned)(63 - __builtin_clzll(value)) - 5;
    return (shift + 1) * STEPS + (unsigned)((value >> shift) - STEPS);
}

static uint64_t bucket_end(unsigned bucket)
{
    unsigned shift = bucket / STEPS;

    if (shift == 0)
        return bucket;
    return (((uint64_t)(bucket % STEPS) + STEPS + 1) << (shift - 1)) - 1;
}

static void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
    if (value > histogram->largest)
        histogram->largest = value;
}

static void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->largest > into->largest)
        into->largest = from->largest;
}

/* The value that the given share of all does not exceed. */
static double percentile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->total), seen = 0;

    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen > wanted) {
            uint64_t end = bucket_end(i);
            return (double)(end < histogram->largest ? end : histogram->largest);
        }
    }
    return (double)histogram->largest;
}

static uint64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t clock_cost;

static void measure_clock(void)
{
    static struct histogram histogram;
    uint64_t last = nanoseconds();

    for (int i = 0; i < 100000; i++) {
        uint64_t now = nanoseconds();
        histogram_add(&histogram, now - last);
        last = now;
    }
    clock_cost = (uint64_t)percentile(&histogram, 0.5);
}

#endif
