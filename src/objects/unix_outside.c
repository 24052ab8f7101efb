/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "objects/journal_stream.h"
#include "objects/services.h"
#include "objects/unix_make.h"
#include "objects/unix_name.h"
#include "objects/unix_outside.h"
#include "util/alloc.h"

enum { EXTERNAL = 1 }; /* of uflags, as other images have it */

/* ---- Looking ---- */

/* Who has the other end. NULL: nobody whose descriptors can be seen, as the kernel. The caller frees. */
static char *holder_text(const struct unix_outside *socket)
{
	const struct stat peer = {.st_ino = socket->diag->peer, .st_dev = socket->file->stat.st_dev};
	pid_t pid = open_files_outsider(socket->file->all, &peer);

	return pid ? open_files_process_text(pid) : NULL;
}

static struct error *refusal(const struct unix_outside *socket, const char *peer)
{
	auto_free char *holder = holder_text(socket);

	return error_hint(
		error_new(ENOTSUP, "UNIX socket connected to process %s (%s)", holder ? holder : "unknown", peer),
		"Connections to other processes of this host end here: close it, or start the program without "
		"it");
}

static bool has_unread(const struct unix_outside *socket)
{
	struct pollfd unread = {.fd = socket->fd, .events = POLLIN};
	char byte;

	/* One that is shut for reading can always be read: then there is nothing. */
	return poll(&unread, 1, 0) == 1 && recv(socket->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) > 0;
}

/* The caller frees. */
static struct error *peer_text(const struct unix_outside *socket, char **ret_text)
{
	struct unix_name peer;

	TRY(unix_name_of(socket->fd, UNIX_PEER, &peer));
	*ret_text = unix_name_text(&peer);
	return NULL;
}

struct error *unix_outside_check(const struct unix_outside *socket)
{
	auto_free char *peer = NULL;

	TRY(peer_text(socket, &peer));
	if (!service_is_known(peer, socket->diag->type))
		return refusal(socket, peer);
	if (has_unread(socket))
		return error_hint(error_new(ENOTSUP, "UNIX socket with an answer from %s that waits to be read", peer),
		                  "try again when the program has read it");
	return NULL;
}

char *unix_outside_service(const struct unix_outside *socket)
{
	auto_free char *peer = NULL;
	auto_error struct error *error = peer_text(socket, &peer);

	return !error && service_is_known(peer, socket->diag->type) ? take(peer) : NULL;
}

/* ---- In images ---- */

void unix_outside_parts_free(struct unix_outside_parts *parts)
{
	free(parts->service);
	journal_stream_free(parts->journal);
}

struct error *unix_outside_save(const struct unix_outside *socket, UnixSkEntry *entry, GodwitSocketEntry *extras,
                                struct unix_outside_parts *parts)
{
	parts->service = unix_outside_service(socket);
	if (!parts->service || has_unread(socket))
		return error_new(ENOTSUP, "UNIX socket %ju connected to another process",
		                 (uintmax_t)socket->file->stat.st_ino);
	unix_outside_mark(entry);
	extras->service = parts->service;
	if (strcmp(parts->service, journal_path) == 0)
		parts->journal = journal_stream_of(socket->file, socket->diag->peer);
	extras->journal = parts->journal;
	return NULL;
}

void unix_outside_mark(UnixSkEntry *entry)
{
	entry->uflags |= EXTERNAL;
}

bool unix_outside_is(const UnixSkEntry *entry)
{
	return entry->uflags & EXTERNAL;
}

static struct error *check_extras(const UnixSkEntry *entry, const GodwitSocketEntry *extras)
{
	if (!extras || !extras->service)
		return error_new(ENOTSUP, "UNIX socket %u was connected to another process", entry->ino);
	return NULL;
}

struct error *unix_outside_verify(const UnixSkEntry *entry, const GodwitSocketEntry *extras)
{
	TRY(check_extras(entry, extras));
	return service_check(extras->service, (int)entry->type);
}

/* By the task, as it is by now: whom the service sees there is the program. */
struct error *unix_outside_restore(const UnixSkEntry *entry, const GodwitSocketEntry *extras,
                                   struct restore_files *restore, int *ret_fd)
{
	struct unix_name to = {.bytes = sizeof(to.address)};

	TRY(check_extras(entry, extras));
	TRY(service_find(extras->service, (int)entry->type, &to.address));
	auto_fd int fd = socket(AF_UNIX, (int)entry->type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_new(errno, "socket(AF_UNIX, %u)", entry->type);
	TRY(unix_make_connection(restore, fd, &to, NULL), "%s", to.address.sun_path);
	if (strcmp(extras->service, journal_path) == 0)
		TRY(journal_stream_begin(fd, extras->journal));
	*ret_fd = take(fd);
	return NULL;
}
