/* The command line. */

#define MOST_CONNECTIONS 1024
#define MOST_HEADERS 16
#define MOST_PREFIX 117 /* with ten digits, a length that takes one byte */

static struct {
    const char *address, *path, *prefix, *known_prefix;
    char *headers[MOST_HEADERS];
    int connections, concurrency, batch, header_count;
    double rate, seconds, warm_up, returning, timeout;
    uint64_t calls, first, pool;
    bool varying, histogram;
} options = {.path = "/samplit.allocation.v1.AllocationService/AllocateUser", .prefix = "", .known_prefix = "",
             .connections = 4, .concurrency = 32, .seconds = 10, .calls = UINT64_MAX};

static const char help[] =
    "load [options] ADDRESS < REQUESTS: ADDRESS is HOST:PORT, [IPV6]:PORT or unix:PATH\n"
    "  --path PATH            of the method (AllocateUser)\n"
    "  --header NAME:VALUE    of every call; may be repeated\n"
    "  --connections N        (4)\n"
    "  --concurrency N        calls that are always under way: the closed loop (32)\n"
    "  --rate N               calls a second, come what may: the open loop\n"
    "  --seconds N            of load (10)\n"
    "  --calls N              at most\n"
    "  --warm-up N            seconds before them, which are not counted (0)\n"
    "  --timeout N            seconds until a call is given up, told to the server as grpc-timeout\n"
    "  --prefix TEXT          of user identifiers; ten digits follow\n"
    "  --first N              number of the first call (0)\n"
    "  --returning SHARE      of the calls that users of the pool make (0)\n"
    "  --pool N               users in it\n"
    "  --known-prefix TEXT    of their identifiers\n"
    "  --batch N              users a call, as an AllocateUsersRequest\n"
    "  --varying              with a grpc-timeout and a traceparent that differ in each call\n"
    "  --histogram            print all latencies: [nanoseconds at most, calls]\n";

static _Noreturn void explain(void)
{
    fputs(help, stderr);
    exit(2);
}

static void read_options(int count, char **arguments)
{
    static const struct option known[] = {
        {"path", 1, 0, 'p'}, {"header", 1, 0, 'h'}, {"connections", 1, 0, 'c'}, {"concurrency", 1, 0, 'm'},
        {"rate", 1, 0, 'r'}, {"seconds", 1, 0, 's'}, {"calls", 1, 0, 'n'}, {"warm-up", 1, 0, 'w'},
        {"timeout", 1, 0, 't'}, {"prefix", 1, 0, 'x'}, {"first", 1, 0, 'f'}, {"returning", 1, 0, 'R'},
        {"pool", 1, 0, 'P'}, {"known-prefix", 1, 0, 'k'}, {"batch", 1, 0, 'b'}, {"varying", 0, 0, 'v'},
        {"histogram", 0, 0, 'H'}, {"help", 0, 0, '?'}, {0}};
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;)
        switch (option) {
        case 'p': options.path = optarg; break;
        case 'h':
            if (options.header_count == MOST_HEADERS || !*optarg || !strchr(optarg + 1, ':'))
                explain();
            options.headers[options.header_count++] = optarg;
            break;
        case 'c': options.connections = atoi(optarg); break;
        case 'm': options.concurrency = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'n': options.calls = strtoull(optarg, NULL, 10); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 't': options.timeout = atof(optarg); break;
        case 'x': options.prefix = optarg; break;
        case 'f': options.first = strtoull(optarg, NULL, 10); break;
        case 'R': options.returning = atof(optarg); break;
        case 'P': options.pool = strtoull(optarg, NULL, 10); break;
        case 'k': options.known_prefix = optarg; break;
        case 'b': options.batch = atoi(optarg); break;
        case 'v': options.varying = true; break;
        case 'H': options.histogram = true; break;
        default: explain();
        }
    if (optind != count - 1 || options.connections < 1 || options.connections > MOST_CONNECTIONS ||
        options.concurrency < 1 || strlen(options.prefix) > MOST_PREFIX || strlen(options.known_prefix) > MOST_PREFIX ||
        (options.returning > 0 && !options.pool))
        explain();
    options.address = arguments[optind];
    if (options.rate > 0) {
        double most = (options.warm_up + options.seconds) * options.rate;
        options.calls = options.calls < most ? options.calls : most < 1 ? 1 : (uint64_t)most;
    }
}
