/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "objects/services.h"
#include "util/own.h"

const char journal_path[] = "/run/systemd/journal/stdout";

static const struct service {
	const char *path;
	int type;
	const char *other; /* path of the same service on hosts that have it elsewhere; NULL: none */
	const char *what;
} services[] = {
	{journal_path, SOCK_STREAM, NULL, "the journal of systemd"},
	{"/run/systemd/journal/socket", SOCK_DGRAM, NULL, "the journal of systemd"},
	{"/run/systemd/journal/dev-log", SOCK_DGRAM, "/dev/log", "syslog"},
	{"/dev/log", SOCK_DGRAM, "/run/systemd/journal/dev-log", "syslog"},
};

static const struct service *find_service(const char *path, int type)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		if (services[i].type == type && strcmp(services[i].path, path) == 0)
			return &services[i];
	return NULL;
}

bool service_is_known(const char *path, int type)
{
	return find_service(path, type);
}

/* 0 or a negative errno. */
static int try(const char *path, int type, struct sockaddr_un *ret_address)
{
	auto_fd int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	strncpy(ret_address->sun_path, path, sizeof(ret_address->sun_path) - 1);
	if (fd < 0 || connect(fd, (const struct sockaddr *)ret_address, sizeof(*ret_address)) < 0)
		return -errno;
	return 0;
}

struct error *service_find(const char *path, int type, struct sockaddr_un *ret_address)
{
	const struct service *service = find_service(path, type);

	if (!service)
		return error_new(EBADMSG, "%.108s, which is no service that every host has", path);
	int r = try(service->path, type, ret_address);
	if (r < 0 && service->other && try(service->other, type, ret_address) == 0)
		return NULL;
	return r < 0 ? error_new(-r, "%s isn't there: connect to %s", service->what, service->path) : NULL;
}

struct error *service_check(const char *path, int type)
{
	struct sockaddr_un address;

	return service_find(path, type, &address);
}
