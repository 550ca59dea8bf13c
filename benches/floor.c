// The kernel's floor: the system calls a container needs, and nothing around
// them. What a runtime takes longer than this is its own.
//
//   floor [--cgroup DIR] run  ROOTFS COMMAND...      new net, pid, ipc, uts and mount namespaces
//   floor [--cgroup DIR] join ROOTFS PID COMMAND...  PID's net, pid, ipc and uts, a new mount namespace
//   floor hold                                       an empty pod, until standard input ends
//
// `run` and `join` do what the default OCI configuration asks for: seven
// mounts, six devices, five links, masked and read-only paths, pivot_root,
// capabilities, no_new_privs. With --cgroup the process is born in a new
// cgroup DIR, which is removed at the end.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void must(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
}

static const unsigned long STRICT = MS_NOSUID | MS_NOEXEC | MS_NODEV;

static const struct {
    const char *type, *target;
    unsigned long flags;
    const char *data;
} MOUNTS[] = {
    {"proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0},
    {"tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"},
    {"devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
    {"tmpfs", "dev/shm", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"},
    {"mqueue", "dev/mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0},
    {"sysfs", "sys", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, 0},
};
static const struct {
    const char *path;
    int major, minor;
} DEVICES[] = {
    {"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
    {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
};
static const char *const LINKS[][2] = {
    {"/proc/self/fd", "dev/fd"},         {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
    {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},
};
static const char *const MASKED_DIRS[] = {"proc/acpi", "proc/scsi", "sys/firmware"};
static const char *const MASKED_FILES[] = {
    "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug",
};
static const char *const READ_ONLY[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};

// The 14 capabilities podman and docker give.
static const int GIVEN[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31};

static void give_up_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {0};
    for (size_t i = 0; i < COUNT(GIVEN); i++)
        data[0].effective |= 1u << GIVEN[i];
    data[0].permitted = data[0].effective;
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (cap >= 32 || !(data[0].effective >> cap & 1))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    must(syscall(SYS_capset, &header, data), "capset");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

// In the new process: from the machine's root to the container's.
static void become_container(const char *rootfs, char **command, int joined)
{
    must(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "private root");
    must(mount(rootfs, rootfs, 0, MS_BIND | MS_REC, 0), rootfs);
    must(chdir(rootfs), rootfs);
    umask(0);
    for (size_t i = 0; i < COUNT(MOUNTS); i++) {
        if (mkdir(MOUNTS[i].target, 0755) < 0 && errno != EEXIST)
            must(-1, MOUNTS[i].target);
        must(mount(MOUNTS[i].type, MOUNTS[i].target, MOUNTS[i].type, MOUNTS[i].flags, MOUNTS[i].data),
             MOUNTS[i].target);
    }
    for (size_t i = 0; i < COUNT(DEVICES); i++)
        must(mknod(DEVICES[i].path, S_IFCHR | 0666, makedev(DEVICES[i].major, DEVICES[i].minor)), DEVICES[i].path);
    for (size_t i = 0; i < COUNT(LINKS); i++)
        must(symlink(LINKS[i][0], LINKS[i][1]), LINKS[i][1]);
    // What is not there needs no cover.
    for (size_t i = 0; i < COUNT(MASKED_DIRS); i++)
        mount("tmpfs", MASKED_DIRS[i], "tmpfs", MS_RDONLY, 0);
    for (size_t i = 0; i < COUNT(MASKED_FILES); i++)
        mount("dev/null", MASKED_FILES[i], 0, MS_BIND, 0);
    for (size_t i = 0; i < COUNT(READ_ONLY); i++)
        if (mount(READ_ONLY[i], READ_ONLY[i], 0, MS_BIND | MS_REC, 0) == 0)
            mount(0, READ_ONLY[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | STRICT, 0);
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "the old root");
    must(chdir("/"), "/");
    if (!joined)
        must(sethostname("floor", 5), "sethostname");
    give_up_capabilities();
    char *environment[] = {"PATH=/bin", 0};
    execve(command[0], command, environment);
    must(-1, command[0]);
}

static pid_t born(unsigned long flags, int cgroup)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup;
    }
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    must(pid, "clone3");
    return pid;
}

static const unsigned long OWN = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

// A pod with nothing in it: an empty root with the kernel's own file systems.
static int hold(void)
{
    int ready[2];
    char byte;
    must(pipe2(ready, O_CLOEXEC), "pipe");
    pid_t pid = born(OWN, -1);
    if (pid == 0) {
        static const char *const KINDS[] = {"proc", "sysfs", "mqueue", "tmpfs"};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        must(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "private root");
        must(mount("tmpfs", "/tmp", "tmpfs", 0, "mode=0755"), "root");
        must(chdir("/tmp"), "root");
        for (size_t i = 0; i < COUNT(KINDS); i++) {
            must(mkdir(KINDS[i], 0755), KINDS[i]);
            must(mount(KINDS[i], KINDS[i], KINDS[i], STRICT, 0), KINDS[i]);
        }
        must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
        must(umount2(".", MNT_DETACH), "the old root");
        must(sethostname("floor", 5), "sethostname");
        must(write(ready[1], "!", 1), "ready");
        close(ready[0]);
        close(ready[1]);
        for (;;)
            pause();
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) == 1)
        must(write(1, "!", 1), "ready");
    // The benchmark keeps the other end.
    while (read(0, &byte, 1) > 0)
        ;
    kill(pid, SIGKILL);
    waitpid(pid, 0, 0);
    return 0;
}

int main(int argc, char **argv)
{
    const char *cgroup = 0;
    int cgroup_fd = -1;
    if (argc > 2 && !strcmp(argv[1], "--cgroup")) {
        cgroup = argv[2];
        argc -= 2;
        argv += 2;
        must(mkdir(cgroup, 0755), cgroup);
        must(cgroup_fd = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC), cgroup);
    }
    if (argc == 2 && !strcmp(argv[1], "hold"))
        return hold();
    int join = argc > 4 && !strcmp(argv[1], "join");
    if (!join && !(argc > 3 && !strcmp(argv[1], "run"))) {
        fprintf(stderr, "floor: see the head of floor.c for how to call it\n");
        return 125;
    }
    unsigned long flags = OWN;
    if (join) {
        int target = syscall(SYS_pidfd_open, atoi(argv[3]), 0);
        must(target, "pidfd_open");
        must(setns(target, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID), "setns");
        close(target);
        flags = CLONE_NEWNS;
    }
    pid_t pid = born(flags | CLONE_VFORK, cgroup_fd);
    if (pid == 0)
        become_container(argv[2], argv + (join ? 4 : 3), join);
    int status;
    must(waitpid(pid, &status, 0), "waitpid");
    if (cgroup)
        must(rmdir(cgroup), cgroup);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
