/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>

#include "objects/unix_name.h"
#include "objects/unix_outside.h"
#include "util/alloc.h"

enum { EXTERNAL = 1 }; /* of uflags, as other images have it */

/* Who has the other end. NULL: nobody whose descriptors can be seen, as the kernel. The caller frees. */
static char *holder_text(const struct unix_outside *socket)
{
	const struct stat peer = {.st_ino = socket->diag->peer, .st_dev = socket->file->stat.st_dev};
	pid_t pid = open_files_outsider(socket->file->all, &peer);

	return pid ? open_files_process_text(pid) : NULL;
}

static struct error *refusal(const struct unix_outside *socket)
{
	struct unix_name peer;

	TRY(unix_name_of(socket->fd, UNIX_PEER, &peer));
	auto_free char *holder = holder_text(socket);
	auto_free char *name = unix_name_text(&peer);
	return error_hint(
		error_new(ENOTSUP, "UNIX socket connected to process %s (%s)", holder ? holder : "unknown", name),
		"Connections to other processes of this host end here: close it, or start the program without "
		"it");
}

struct error *unix_outside_check(const struct unix_outside *socket)
{
	return refusal(socket);
}

struct error *unix_outside_save(const struct unix_outside *socket, UnixSkEntry *entry, GodwitSocketEntry *extras)
{
	(void)entry;
	(void)extras;
	return error_new(ENOTSUP, "UNIX socket %ju connected to another process", (uintmax_t)socket->file->stat.st_ino);
}

bool unix_outside_is(const UnixSkEntry *entry)
{
	return entry->uflags & EXTERNAL;
}

struct error *unix_outside_restore(const UnixSkEntry *entry, const GodwitSocketEntry *extras,
                                   struct restore_files *restore, int *ret_fd)
{
	(void)extras;
	(void)restore;
	(void)ret_fd;
	return error_new(ENOTSUP, "UNIX socket %u was connected to another process", entry->ino);
}
