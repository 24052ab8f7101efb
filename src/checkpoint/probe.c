/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/probe.h"
#include "checkpoint/probe_child.h"
#include "network/lock.h"
#include "util/alloc.h"
#include "util/netlink.h"
#include "util/procfs.h"

static struct error *probe_kcmp(void)
{
	pid_t self = getpid();

	return syscall(SYS_kcmp, self, self, KCMP_FILE, 0, 0) < 0 && errno != EBADF ? error_new(errno, "kcmp") : NULL;
}

static struct error *probe_pidfd_getfd(void)
{
	auto_fd int own = open("/dev/null", O_RDONLY | O_CLOEXEC);
	auto_fd int pidfd = procfs_open_pid(getpid());

	if (pidfd < 0)
		return error_new(-pidfd, "pidfd_open");
	auto_fd int copy = (int)syscall(SYS_pidfd_getfd, pidfd, own, 0);
	return copy < 0 ? error_new(errno, "pidfd_getfd") : NULL;
}

/* ---- Network ---- */

static struct error *probe_tcp_repair(void)
{
	const int one = 1;
	struct tcp_repair_window window;
	socklen_t size_bytes = sizeof(window);
	auto_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return error_new(errno, "socket");
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)) < 0)
		return error_new(errno, "setsockopt(TCP_REPAIR)");
	if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, &size_bytes) < 0)
		return error_new(errno, "getsockopt(TCP_REPAIR_WINDOW)");
	return NULL;
}

static struct error *probe_lock(void)
{
	auto_net_lock struct net_lock *lock = NULL;

	return net_lock_open(&lock);
}

static struct error *probe_sock_diag(void)
{
	auto_netlink struct netlink *netlink = NULL;

	return netlink_open(NETLINK_SOCK_DIAG, &netlink);
}

/* ---- What /proc tells ---- */

static struct error *probe_eventfd(void)
{
	auto_fd int fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	auto_free char *name = xformat("fdinfo/%d", fd);
	auto_free char *fdinfo = NULL;
	uint64_t is_semaphore;

	if (fd < 0)
		return error_new(errno, "eventfd");
	int r = procfs_read(getpid(), name, &fdinfo, NULL);
	if (r == 0)
		r = procfs_number(fdinfo, "eventfd-semaphore", 10, &is_semaphore);
	return r < 0 ? error_new(-r, "eventfd-semaphore in fdinfo") : NULL;
}

/* ---- All of them ---- */

static const struct probe table[] = {
	{
		.names = {"freeze"},
		.is_needed = true,
		.purpose = "stopping a program and making calls in it",
		.without = "nothing can be carried",
		.run = probe_freeze,
	},
	{
		.names = {"round_trip"},
		.is_needed = true,
		.purpose = "saving a small program and bringing it back",
		.without = "nothing can be carried",
		.run = probe_round_trip,
	},
	{
		.names = {"set_tid", "clone3_set_tid"},
		.is_needed = true,
		.purpose = "the same PIDs as before",
		.without = "nothing can be brought back",
		.run = probe_set_tid,
	},
	{
		.names = {"kcmp"},
		.is_needed = true,
		.purpose = "telling which descriptors are the same open file",
		.without = "nothing can be carried",
		.run = probe_kcmp,
	},
	{
		.names = {"pidfd_getfd"},
		.is_needed = true,
		.purpose = "looking at a program's open files",
		.without = "nothing can be carried",
		.run = probe_pidfd_getfd,
	},
	{
		.names = {"tracking", "mem_dirty_track", "pagemap_scan"},
		.purpose = "the kernel tells which memory was written",
		.without = "all memory is read in each round, and once more while the program stands still",
		.run = probe_tracking,
	},
	{
		.names = {"tcp_repair"},
		.purpose = "carrying TCP connections",
		.without = "programs with TCP connections can't be carried",
		.run = probe_tcp_repair,
	},
	{
		.names = {"network_lock", "network_lock_nftables", "nftables"},
		.purpose = "keeping packets away while TCP connections are on their way",
		.without = "programs with TCP or UDP sockets can't be carried",
		.run = probe_lock,
	},
	{
		.names = {"sock_diag", "net_diag_raw"},
		.purpose = "looking at sockets",
		.without = "programs with TCP connections can't be carried",
		.run = probe_sock_diag,
	},
	{
		.names = {"timens"},
		.purpose = "clocks that go on where a program comes from another machine",
		.without = "programs of other machines can't be taken",
		.run = probe_time_namespace,
	},
	{
		.names = {"seccomp", "seccomp_filters", "seccomp_suspend"},
		.purpose = "programs with seccomp filters",
		.without = "programs with seccomp filters can't be carried",
		.run = probe_seccomp,
	},
	{
		.names = {"eventfd"},
		.purpose = "eventfds",
		.without = "programs with eventfds can't be carried",
		.run = probe_eventfd,
	},
};
enum { PROBE_COUNT = sizeof(table) / sizeof(table[0]) };

const struct probe *probes(size_t *ret_count)
{
	*ret_count = PROBE_COUNT;
	return table;
}

const struct probe *probe_find(const char *name)
{
	for (size_t i = 0; i < PROBE_COUNT; i++)
		for (size_t n = 0; n < PROBE_NAMES_MAX && table[i].names[n]; n++)
			if (strcmp(table[i].names[n], name) == 0)
				return &table[i];
	return NULL;
}
