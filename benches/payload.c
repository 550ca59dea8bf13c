// What the measured containers run. It ends at once; with an argument it
// sleeps until it is told to end.
#include <signal.h>
#include <unistd.h>

static void end(int signal)
{
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        signal(SIGTERM, end);
        for (;;)
            pause();
    }
    return 0;
}
