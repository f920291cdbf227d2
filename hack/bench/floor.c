// The floor of one RUN step: what the kernel alone asks for. For each of COUNT steps: make an upper directory, start a
// child in new user, mount, PID, IPC and UTS namespaces, copy the id maps into it, mount an overlay of LOWER and the upper
// directory, /proc, a /dev of its own, /sys, hide what a container must not see, pivot_root, run /bin/sh -c COMMAND,
// wait, and remove the directories. Prints the milliseconds of each step, one a line.
//
// It must run as root of a user namespace:
//   unshare --map-root-user --map-auto --mount ./floor COUNT LOWER SCRATCH 'COMMAND'
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATHS = 4096 };

struct step {
	char dir[PATHS], upper[PATHS], work[PATHS], root[PATHS], options[4 * PATHS];
};

static void check(long result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
}

static double milliseconds(void)
{
	struct timespec t;
	check(clock_gettime(CLOCK_MONOTONIC, &t), "clock_gettime");
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void format(char *to, size_t size, const char *format, const char *a, const char *b)
{
	if (snprintf(to, size, format, a, b) >= (int)size)
		errx(1, "path too long: %s", a);
}

static void prepare(struct step *s, const char *scratch, int number)
{
	char name[32];
	snprintf(name, sizeof name, "%d", number);
	format(s->dir, sizeof s->dir, "%s/%s", scratch, name);
	format(s->upper, sizeof s->upper, "%s/%s", s->dir, "upper");
	format(s->work, sizeof s->work, "%s/%s", s->dir, "work");
	format(s->root, sizeof s->root, "%s/%s", s->dir, "root");
	check(mkdir(s->dir, 0755), s->dir);
	check(mkdir(s->upper, 0755), s->upper);
	check(mkdir(s->work, 0755), s->work);
	check(mkdir(s->root, 0755), s->root);
}

static void clean(const struct step *s, const char *made)
{
	char path[PATHS];
	format(path, sizeof path, "%s%s", s->upper, made);
	unlink(path);
	format(path, sizeof path, "%s/%s", s->work, "work");
	rmdir(path);
	check(rmdir(s->upper), s->upper);
	check(rmdir(s->work), s->work);
	check(rmdir(s->root), s->root);
	check(rmdir(s->dir), s->dir);
}

// devices makes /dev: a tmpfs with the six devices of the host, pts, shm and mqueue. The root is the working directory.
static void devices(void)
{
	static const char *const names[] = {"null", "zero", "full", "random", "urandom", "tty"};
	check(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char host[32], here[32];
		snprintf(host, sizeof host, "/dev/%s", names[i]);
		snprintf(here, sizeof here, "dev/%s", names[i]);
		int fd = open(here, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
		check(fd, here);
		close(fd);
		check(mount(host, here, NULL, MS_BIND, NULL), here);
	}
	check(mkdir("dev/pts", 0755), "dev/pts");
	check(mkdir("dev/shm", 01777), "dev/shm");
	check(mkdir("dev/mqueue", 0755), "dev/mqueue");
	check(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "dev/pts");
	check(mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777"), "dev/shm");
	check(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "dev/mqueue");
	check(symlink("/proc/self/fd", "dev/fd"), "dev/fd");
	check(symlink("/proc/self/fd/0", "dev/stdin"), "dev/stdin");
	check(symlink("/proc/self/fd/1", "dev/stdout"), "dev/stdout");
	check(symlink("/proc/self/fd/2", "dev/stderr"), "dev/stderr");
	check(symlink("pts/ptmx", "dev/ptmx"), "dev/ptmx");
}

// hide masks files of /proc and makes others read-only; which of them exist depends on the kernel.
static void hide(void)
{
	static const char *const masked[] = {"proc/kcore", "proc/keys", "proc/timer_list"};
	static const char *const fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys"};
	for (size_t i = 0; i < sizeof masked / sizeof *masked; i++)
		mount("/dev/null", masked[i], NULL, MS_BIND, NULL);
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
		if (mount(fixed[i], fixed[i], NULL, MS_BIND | MS_REC, NULL) == 0)
			check(mount(NULL, fixed[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), fixed[i]);
	}
}

static void child(const struct step *s, int ready, const char *command)
{
	char byte;
	check(read(ready, &byte, 1) - 1, "waiting for the id maps");
	check(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "/");
	check(mount("overlay", s->root, "overlay", 0, s->options), "overlay");
	check(chdir(s->root), s->root);
	check(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "proc");
	devices();
	check(mount("/sys", "sys", NULL, MS_BIND | MS_REC, NULL), "sys");
	hide();
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(umount2(".", MNT_DETACH), "old root");
	check(chdir("/"), "/");
	char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	execle("/bin/sh", "sh", "-c", command, NULL, environment);
	err(1, "/bin/sh");
}

// copy_map gives the child the ids that this process has, extent by extent.
static void copy_map(pid_t pid, const char *file)
{
	char path[64], from[4096], to[4096];
	size_t used = 0;
	snprintf(path, sizeof path, "/proc/self/%s", file);
	FILE *in = fopen(path, "re");
	if (in == NULL)
		err(1, "%s", path);
	unsigned inside, outside, count;
	while (fgets(from, sizeof from, in) != NULL && sscanf(from, "%u %u %u", &inside, &outside, &count) == 3)
		used += snprintf(to + used, sizeof to - used, "%u %u %u\n", inside, inside, count);
	fclose(in);
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd, path);
	check(write(fd, to, used), path);
	close(fd);
}

static void run(const struct step *s, const char *command)
{
	int ready[2], status;
	check(pipe2(ready, O_CLOEXEC), "pipe");
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	check(pid, "clone3");
	if (pid == 0) {
		close(ready[1]);
		child(s, ready[0], command);
	}
	copy_map(pid, "uid_map");
	copy_map(pid, "gid_map");
	check(write(ready[1], "x", 1), "starting the child");
	close(ready[0]);
	close(ready[1]);
	check(waitpid(pid, &status, 0), "waitpid");
	if (status != 0)
		errx(1, "the step ended with status %#x", status);
}

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: %s COUNT LOWER SCRATCH COMMAND (it may write /f only)", argv[0]);
	for (int i = 0; i < atoi(argv[1]); i++) {
		struct step s;
		double start = milliseconds();
		prepare(&s, argv[3], i);
		if (snprintf(s.options, sizeof s.options, "lowerdir=%s,upperdir=%s,workdir=%s,userxattr", argv[2], s.upper, s.work) >= (int)sizeof s.options)
			errx(1, "path too long: %s", argv[2]);
		run(&s, argv[4]);
		clean(&s, "/f");
		printf("%.3f\n", milliseconds() - start);
	}
	return 0;
}
