// What the measured containers run. It ends at once; with `sleep` it sleeps until it
// is told to end, with `write MIB PIECE` it writes so much to its output, in lines of 100
// bytes and so many bytes a call, and leaves in /taken how many nanoseconds that took.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void end(int signal)
{
    (void)signal;
    _exit(0);
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int write_lines(long long left, size_t piece)
{
    static char lines[100 * 4096];
    char number[32];
    size_t at = 0;
    int file, length;

    memset(lines, 'x', sizeof lines);
    for (size_t line = 99; line < sizeof lines; line += 100)
        lines[line] = '\n';
    long long begin = now();
    while (left > 0) {
        size_t size = piece < sizeof lines - at ? piece : sizeof lines - at;
        ssize_t written = write(1, lines + at, size);
        if (written < 0)
            return 1;
        at = (at + written) % sizeof lines;
        left -= written;
    }
    length = snprintf(number, sizeof number, "%lld", now() - begin);
    file = open("/taken", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    return file < 0 || write(file, number, length) != length;
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return write_lines(atoll(argv[2]) << 20, atol(argv[3]));
    if (argc > 1) {
        signal(SIGTERM, end);
        for (;;)
            pause();
    }
    return 0;
}
