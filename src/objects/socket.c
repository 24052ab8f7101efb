/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "objects/socket.h"
#include "objects/socket_options.h"

bool socket_kind_of(const struct open_file *file, struct socket_kind *ret_kind)
{
	int fd;

	if (!S_ISSOCK(file->stat.st_mode))
		return false;
	auto_error struct error *error = open_file_borrow(file, &fd);
	if (error)
		return false;
	return socket_get(fd, SOL_SOCKET, SO_DOMAIN, &ret_kind->family) == 0 &&
	       socket_get(fd, SOL_SOCKET, SO_TYPE, &ret_kind->type) == 0 &&
	       socket_get(fd, SOL_SOCKET, SO_PROTOCOL, &ret_kind->protocol) == 0;
}

struct error *socket_check_network(int fd)
{
	struct stat theirs;
	struct stat ours;
	auto_fd int network = ioctl(fd, SIOCGSKNS);

	/* Linux 4.9, and only with CAP_NET_ADMIN. Namespaces of the whole process are looked at elsewhere. */
	if (network < 0)
		return NULL;
	if (fstat(network, &theirs) < 0 || stat("/proc/self/ns/net", &ours) < 0)
		return error_new(errno, "stat of a network namespace");
	if (theirs.st_ino == ours.st_ino)
		return NULL;
	return error_hint(
		error_new(ENOTSUP, "socket of another network namespace (net:[%ju])", (uintmax_t)theirs.st_ino),
		"a program is carried with the network that it lives in, and no other");
}

struct error *socket_addresses(int fd, union socket_address *ret_own, union socket_address *ret_peer)
{
	socklen_t own_bytes = sizeof(*ret_own);
	socklen_t peer_bytes = sizeof(*ret_peer);

	memset(ret_own, 0, sizeof(*ret_own));
	memset(ret_peer, 0, sizeof(*ret_peer));
	if (getsockname(fd, &ret_own->any, &own_bytes) < 0)
		return error_new(errno, "getsockname");
	if (getpeername(fd, &ret_peer->any, &peer_bytes) < 0) {
		if (errno != ENOTCONN)
			return error_new(errno, "getpeername");
		ret_peer->any.sa_family = ret_own->any.sa_family;
	}
	return NULL;
}

uint16_t socket_port(const union socket_address *address)
{
	return address->any.sa_family == AF_INET ? address->v4.sin_port : address->v6.sin6_port;
}

size_t socket_address_words(const union socket_address *address, uint32_t ret_words[4])
{
	if (address->any.sa_family == AF_INET) {
		ret_words[0] = address->v4.sin_addr.s_addr;
		return 1;
	}
	memcpy(ret_words, &address->v6.sin6_addr, sizeof(address->v6.sin6_addr));
	return 4;
}

bool socket_address_of(uint32_t family, const uint32_t *words, size_t count, uint16_t port, const char *interface,
                       union socket_address *ret_address)
{
	if (count != (family == AF_INET ? 1 : 4))
		return false;
	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->any.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		ret_address->v4.sin_port = port;
		ret_address->v4.sin_addr.s_addr = words[0];
		return true;
	}
	ret_address->v6.sin6_port = port;
	memcpy(&ret_address->v6.sin6_addr, words, sizeof(ret_address->v6.sin6_addr));
	if (interface && IN6_IS_ADDR_LINKLOCAL(&ret_address->v6.sin6_addr))
		ret_address->v6.sin6_scope_id = if_nametoindex(interface);
	return true;
}

socklen_t socket_address_bytes(const union socket_address *address)
{
	return address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
}
