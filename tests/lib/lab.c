/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "lab.h"

#define EXIT_SKIPPED 77
#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)

struct host {
	const char *name;
	unsigned int number;   /* last byte of its addresses */
	const char *first_pid; /* where its PIDs begin: far from its neighbours' */
};

static const struct host hosts[LAB_HOSTS_MAX] = {
	{.name = "a", .number = 1, .first_pid = "1000"},
	{.name = "b", .number = 2, .first_pid = "10000"},
	{.name = "client", .number = 3, .first_pid = "20000"},
};

/* fork() into new namespaces. */
static pid_t fork_into(unsigned long namespaces)
{
	pid_t pid = (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, 0, 0, 0, 0);

	if (pid < 0)
		err(1, "clone with namespaces");
	return pid;
}

/*
 * Ties our life to that of the parent, who holds the other end of the pipe alive: if it is gone already, the signal
 * was lost, but the pipe tells.
 */
static void die_with_parent(int alive)
{
	struct pollfd polled = {.fd = alive};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		err(1, "PR_SET_PDEATHSIG");
	if (poll(&polled, 1, 0) != 0)
		_exit(1);
}

static void mount_or_die(const char *type, const char *target, unsigned long flags, const char *options)
{
	if (mkdir(target, 0755) != 0 && errno != EEXIST)
		err(1, "mkdir %s", target);
	if (mount(type, target, type, flags, options) != 0)
		err(1, "mount %s on %s", type, target);
}

static void leave_machine_mounts(void)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		err(1, "make mounts private");
	mount_or_die("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t size = (ssize_t)strlen(text);

	if (fd < 0 || write(fd, text, (size_t)size) != size)
		err(1, "%s", path);
	close(fd);
}

/* ---- A host ---- */

/* A copy of the mounts under path, to be put back after something is mounted over it. */
static int lift_mounts(const char *path)
{
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, AT_RECURSIVE | OPEN_TREE_CLONE | O_CLOEXEC);

	if (fd < 0)
		err(1, "open_tree(%s)", path);
	return fd;
}

static void put_mounts(int tree, const char *path)
{
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) != 0)
		err(1, "move_mount(%s)", path);
	close(tree);
}

static void mount_host(void)
{
	int shared = lift_mounts(LAB_SHARED);
	int cgroups = lift_mounts("/sys/fs/cgroup");

	leave_machine_mounts();
	/* The new /sys shows the devices of the host's network namespace. */
	mount_or_die("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	put_mounts(cgroups, "/sys/fs/cgroup");
	mount_or_die("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
	mount_or_die("tmpfs", "/run/lock", MS_NOSUID | MS_NODEV, "mode=1777");
	if (mkdir(LAB_SHARED, 0755) != 0)
		err(1, "mkdir %s", LAB_SHARED);
	put_mounts(shared, LAB_SHARED);
	mount_or_die("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_or_die("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5");
	mount_or_die("tmpfs", "/var/lib/godwit", MS_NOSUID | MS_NODEV, "mode=700");
}

static _Noreturn void host_main(const struct host *host, int alive, int ready)
{
	die_with_parent(alive);
	if (sethostname(host->name, strlen(host->name)) != 0)
		err(1, "sethostname");
	mount_host();
	write_file("/proc/sys/kernel/ns_last_pid", host->first_pid);
	int listener = agent_listen(host->name);

	if (write(ready, "", 1) != 1)
		err(1, "host %s: ready", host->name);
	close(ready);
	agent_serve(listener);
}

/* ---- The network ---- */

/* Runs ip(8) on a batch of its commands, in the network namespace of a process (0: here). */
static void ip_batch(pid_t where, const char *format, ...)
{
	va_list args;
	int batch = memfd_create("ip", 0);
	int status;

	va_start(args, format);
	if (batch < 0 || vdprintf(batch, format, args) < 0 || lseek(batch, 0, SEEK_SET) != 0)
		err(1, "batch for ip");
	va_end(args);
	pid_t pid = fork();
	if (pid == 0) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/ns/net", where);
		if (where && setns(open(path, O_RDONLY | O_CLOEXEC), CLONE_NEWNET) != 0)
			err(1, "enter %s", path);
		/* Duplicate address detection would keep IPv6 addresses unusable for more than a second. */
		write_file("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
		write_file("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
		dup2(batch, 0);
		execlp("ip", "ip", "-batch", "-", (char *)NULL);
		err(127, "ip");
	}
	close(batch);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "ip failed to set up the network");
}

static void join_hosts(const pid_t *pids, unsigned int count)
{
	/* The same interface has another number on each host, as on hosts of other makes. The kernel takes the peer's only beside one's own. */
	ip_batch(0, "link add name bridge type bridge forward_delay 0\nlink set bridge up\nlink set lo up\n");
	for (unsigned int i = 0; i < count; i++) {
		ip_batch(0,
		         "link add name %s index %u type veth peer name eth0 index %u netns %d\n"
		         "link set dev %s master bridge up\n",
		         hosts[i].name, 40 + hosts[i].number, 20 + hosts[i].number, pids[i], hosts[i].name);
		ip_batch(pids[i],
		         "link set lo up\nlink set eth0 up\n"
		         "addr add 10.77.0.%u/24 dev eth0\naddr add fd77::%u/64 dev eth0 nodad\n",
		         hosts[i].number, hosts[i].number);
	}
}

/* ---- The lab ---- */

static void start_hosts(unsigned int count)
{
	pid_t pids[LAB_HOSTS_MAX] = {0};
	int alive[2];
	int ready[2];
	char byte;

	if (pipe2(alive, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0)
		err(1, "pipe");
	for (unsigned int i = 0; i < count; i++) {
		pids[i] = fork_into(NAMESPACES);
		if (pids[i] == 0) {
			close(alive[1]);
			close(ready[0]);
			host_main(&hosts[i], alive[0], ready[1]);
		}
	}
	close(ready[1]);
	if (count > 1)
		join_hosts(pids, count);
	else
		ip_batch(pids[0], "link set lo up\n");
	for (unsigned int i = 0; i < count; i++)
		if (read(ready[0], &byte, 1) != 1)
			errx(1, "a host ended before it was ready");
	close(ready[0]);
	close(alive[0]); /* alive[1] stays open for as long as we live */
}

static int shell_status(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

static _Noreturn void lab_main(unsigned int host_count, char **argv, int alive)
{
	int status;
	pid_t ended;

	die_with_parent(alive);
	leave_machine_mounts();
	mount_or_die("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
	mount_or_die("tmpfs", LAB_SHARED, MS_NOSUID | MS_NODEV, "mode=1777");
	start_hosts(host_count);
	pid_t script = fork();
	if (script == 0) {
		execvp(argv[0], argv);
		err(127, "%s", argv[0]);
	}
	do
		ended = wait(&status);
	while (ended != script);
	_exit(shell_status(status)); /* and the kernel ends all the rest, as we are init */
}

int lab_run(unsigned int host_count, char **argv)
{
	int alive[2];
	int status;

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: only root can make hosts from namespaces\n");
		return EXIT_SKIPPED;
	}
	/* The mount point for the hosts' own state; nothing of a test is written into it. */
	if (mkdir("/var/lib/godwit", 0700) != 0 && errno != EEXIST)
		err(1, "mkdir /var/lib/godwit");
	if (pipe2(alive, O_CLOEXEC) != 0)
		err(1, "pipe");
	pid_t lab = fork_into(NAMESPACES);
	if (lab == 0) {
		close(alive[1]);
		lab_main(host_count, argv, alive[0]);
	}
	close(alive[0]);
	if (waitpid(lab, &status, 0) != lab)
		err(1, "wait for the lab");
	return shell_status(status);
}
