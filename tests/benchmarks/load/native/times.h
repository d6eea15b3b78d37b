/* Times in nanoseconds: the clock, and a histogram of 1,024 steps for each power of two, exact to .1 %. */

#define SECOND 1000000000LL
#define STEPS 1024
#define BUCKETS (40 * STEPS) /* up to 2^49 ns */

typedef struct {
    uint64_t counts[BUCKETS], calls, most;
} Histogram;

static Histogram all_times, ok_times;

static int64_t clock_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static void record(Histogram *histogram, uint64_t value)
{
    int shift = value < 2 * STEPS ? 0 : 53 - __builtin_clzll(value);
    uint64_t bucket = (uint64_t)shift * STEPS + (value >> shift);
    histogram->counts[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    histogram->calls++;
    if (value > histogram->most)
        histogram->most = value;
}

static uint64_t highest_of(uint64_t bucket) /* the highest value that is counted in this bucket */
{
    int shift = bucket < 2 * STEPS ? 0 : (int)(bucket / STEPS) - 1;
    return ((bucket - (uint64_t)shift * STEPS + 1) << shift) - 1;
}

static double quantile(const Histogram *histogram, double share) /* in microseconds */
{
    uint64_t rank = (uint64_t)(share * histogram->calls + 0.999999), seen = 0;
    for (uint64_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= rank && seen) {
            uint64_t value = highest_of(bucket);
            return (value < histogram->most ? value : histogram->most) / 1e3;
        }
    }
    return 0;
}
