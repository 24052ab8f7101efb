/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/save/refusal.h"
#include "util/alloc.h"

#define SEE_OBJECTS "godwit-objects(7) lists what can be carried"

/* What /proc/PID/fd/N points to: anon_inode:[NAME]. */
static const struct {
	const char *link, *what, *hint;
} anonymous[] = {
	{"anon_inode:[io_uring]", "a ring of io_uring",
         "many programs can do without, such as node with UV_USE_IO_URING=0"},
	{"anon_inode:[perf_event]", "a performance counter", "end what measures it (perf)"},
	{"anon_inode:[userfaultfd]", "a userfaultfd of its own", SEE_OBJECTS},
	{"anon_inode:[fanotify]", "a watch on a whole file system (fanotify)", SEE_OBJECTS},
	{"anon_inode:[pidfd]", "a descriptor of a process (pidfd)", "it names a process that stays here"},
	{"anon_inode:bpf-prog", "a BPF program", SEE_OBJECTS},
	{"anon_inode:bpf-map", "a BPF map", SEE_OBJECTS},
	{"anon_inode:kvm-vm", "a virtual machine (KVM)", "its own migration moves it: that of QEMU, say"},
	{"anon_inode:seccomp notify", "the listener of a seccomp filter", SEE_OBJECTS},
	{"anon_inode:[fscontext]", "a file system that is only being mounted", SEE_OBJECTS},
};

static const struct {
	int family;
	const char *what, *hint;
} families[] = {
	{AF_PACKET, "a packet socket", "end the capture before the program is moved"},
	{AF_VSOCK, "a socket to a virtual machine's host (vsock)", SEE_OBJECTS},
	{AF_ALG, "a socket of the kernel's cryptography (AF_ALG)", SEE_OBJECTS},
	{AF_BLUETOOTH, "a Bluetooth socket", SEE_OBJECTS},
	{AF_CAN, "a CAN socket", SEE_OBJECTS},
	{AF_XDP, "an XDP socket", SEE_OBJECTS},
	{AF_TIPC, "a TIPC socket", SEE_OBJECTS},
	{AF_RDS, "an RDS socket", SEE_OBJECTS},
};

/* Of AF_INET and AF_INET6, those that are neither TCP nor UDP. */
static const struct {
	int protocol;
	const char *what, *hint;
} protocols[] = {
	{IPPROTO_SCTP, "an SCTP socket", SEE_OBJECTS},
	{IPPROTO_ICMP, "a socket for ping (ICMP)", "end it before the program is moved"},
	{IPPROTO_ICMPV6, "a socket for ping (ICMP)", "end it before the program is moved"},
};

static int option_of(int fd, int option)
{
	int value = 0;
	socklen_t size_bytes = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &size_bytes) == 0 ? value : -1;
}

/* Where packets come from: ", on eth0". The caller frees. */
static char *place_of(int fd, int family)
{
	struct sockaddr_ll address = {0};
	socklen_t size_bytes = sizeof(address);
	char name[IF_NAMESIZE];

	if (family != AF_PACKET || getsockname(fd, (struct sockaddr *)&address, &size_bytes) < 0)
		return xformat("%s", "");
	if (address.sll_ifindex == 0 || !if_indextoname((unsigned)address.sll_ifindex, name))
		return xformat(", on all interfaces");
	return xformat(", listening on %s", name);
}

static struct error *refuse_socket(const struct open_file *file)
{
	auto_fd int fd = (int)syscall(SYS_pidfd_getfd, file->pidfd, file->fd, 0);
	int family = fd < 0 ? -1 : option_of(fd, SO_DOMAIN);
	auto_free char *place = place_of(fd, family);

	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (families[i].family == family)
			return error_hint(error_new(ENOTSUP, "fd %d: %s%s", file->fd, families[i].what, place), "%s",
			                  families[i].hint);
	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if ((family == AF_INET || family == AF_INET6) && protocols[i].protocol == option_of(fd, SO_PROTOCOL))
			return error_hint(error_new(ENOTSUP, "fd %d: %s", file->fd, protocols[i].what), "%s",
			                  protocols[i].hint);
	return error_hint(error_new(ENOTSUP, "fd %d: a socket of family %d, type %d, protocol %d", file->fd, family,
	                            option_of(fd, SO_TYPE), option_of(fd, SO_PROTOCOL)),
	                  SEE_OBJECTS);
}

struct error *refuse_file(const struct open_file *file)
{
	if (S_ISSOCK(file->stat.st_mode))
		return refuse_socket(file);
	for (size_t i = 0; i < sizeof(anonymous) / sizeof(anonymous[0]); i++)
		if (strcmp(file->link, anonymous[i].link) == 0)
			return error_hint(error_new(ENOTSUP, "fd %d: %s", file->fd, anonymous[i].what), "%s",
			                  anonymous[i].hint);
	return error_hint(error_new(ENOTSUP, "fd %d: %s can't be carried", file->fd, file->link), SEE_OBJECTS);
}
