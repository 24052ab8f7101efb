/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * UNIX sockets: unix(7).
 *
 * Carried: pairs of all types, what waits in them with its borders, descriptors and credentials in it; closed halves and
 * ends; sockets that listen or are bound, to files or abstract names; options, SO_PEERCRED. Saved from a copy of the
 * descriptor and what sock_diag(7) tells, made again in the task (unix_restore.h).
 *
 * Traps: descriptors in flight may stand for files that nothing else has open, also for sockets with more in flight. A
 * connection that waits to be accepted belongs to no descriptor: the freeze waits until there is none. Sockets connected
 * to other processes are unix_outside.h's.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "objects/outlet.h"
#include "objects/socket.h"
#include "objects/socket_options.h"
#include "objects/unix_diag.h"
#include "objects/unix_name.h"
#include "objects/unix_outside.h"
#include "objects/unix_queue.h"
#include "objects/unix_restore.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { GROUPS_MAX = 65536, BOTH_WAYS = 3 };

static bool unixsk_recognizes(const struct open_file *file)
{
	struct socket_kind kind;

	return socket_kind_of(file, &kind) && kind.family == AF_UNIX;
}

/* ---- Looking ---- */

struct look {
	int fd; /* borrowed */
	int type;
	struct unix_diag diag;
};

static struct error *look_at(const struct open_file *file, struct look *look)
{
	TRY(open_file_borrow(file, &look->fd));
	TRY(unix_diag_ask(file->all, file->stat.st_ino, &look->diag));
	look->type = look->diag.type;
	return NULL;
}

static const struct open_file *find_socket(const struct open_files *files, uint32_t inode, dev_t sockfs)
{
	for (size_t i = 0; i < files->count; i++)
		if (files->list[i].stat.st_ino == inode && files->list[i].stat.st_dev == sockfs)
			return &files->list[i];
	return NULL;
}

static bool is_outside(const struct open_file *file, const struct look *look)
{
	return look->diag.has_peer && look->diag.peer && !find_socket(file->all, look->diag.peer, file->stat.st_dev);
}

static bool is_pair_type(const struct look *look)
{
	return look->type == SOCK_STREAM || look->type == SOCK_SEQPACKET;
}

/* Made, but not accepted: one whose other end has been closed is shut both ways. */
static bool is_waiting(const struct look *look)
{
	return is_pair_type(look) && look->diag.has_peer && !look->diag.peer && look->diag.shut != BOTH_WAYS;
}

static struct unix_queue queue_of(const struct open_file *file, const struct look *look)
{
	int passes = 0;

	(void)socket_get(look->fd, SOL_SOCKET, SO_PASSCRED, &passes);
	return (struct unix_queue){.file = file, .fd = look->fd, .type = look->type, .passes_credentials = passes != 0};
}

static bool has_event(int fd, short event)
{
	struct pollfd poll_fd = {.fd = fd, .events = event};

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & event);
}

/* ---- Before the freeze ---- */

/* Both ends of a connection are the program's: does anybody else have one of them? */
static struct error *check_shared(const struct open_file *file, const struct look *look)
{
	pid_t pid = look->diag.has_peer ? open_files_outsider(file->all, &file->stat) : 0;

	if (!pid)
		return NULL;
	auto_free char *process = open_files_process_text(pid);
	return error_hint(error_new(ENOTSUP, "connected UNIX socket, also open in process %s", process),
	                  "A connection is carried with both ends or not at all");
}

static struct error *unixsk_check(const struct open_file *file)
{
	auto_socket_options struct socket_options options = {0};
	struct look look;

	TRY(look_at(file, &look));
	TRY(socket_check_network(look.fd));
	if (is_outside(file, &look)) {
		const struct unix_outside outside = {.file = file, .diag = &look.diag, .fd = look.fd};

		return unix_outside_check(&outside);
	}
	TRY(check_shared(file, &look));
	if (has_event(look.fd, POLLPRI))
		return error_hint(error_new(ENOTSUP, "UNIX socket with urgent data (MSG_OOB)"),
		                  "try again when the program has read it");
	return socket_options_save(look.fd, SOCKET_UNIX, &options);
}

static struct error *unixsk_unsent(const struct open_file *file, struct unsent *ret_unsent)
{
	struct look look;

	TRY(look_at(file, &look));
	if (look.diag.state == UNIX_LISTENING)
		ret_unsent->connections += look.diag.queue;
	ret_unsent->connections += is_waiting(&look);
	return NULL;
}

static bool unixsk_stays(const struct open_file *file)
{
	struct look look;
	auto_error struct error *error = look_at(file, &look);

	return !error && is_outside(file, &look);
}

static bool unixsk_outlet(const struct open_file *file, struct outlet *ret_outlet)
{
	struct look look;
	auto_error struct error *error = look_at(file, &look);

	if (error || !is_outside(file, &look))
		return false;
	const struct unix_outside outside = {.file = file, .diag = &look.diag, .fd = look.fd};
	ret_outlet->kind = look.type == SOCK_STREAM ? OUTLET_STREAM : OUTLET_DATAGRAM;
	ret_outlet->path = unix_outside_service(&outside);
	return ret_outlet->path;
}

/* ---- Saving ---- */

static bool unixsk_needs_hold(const struct open_file *file)
{
	struct look look;
	auto_error struct error *error = look_at(file, &look);
	const struct unix_queue queue = {.file = file, .fd = look.fd, .type = look.type};

	return !error && look.diag.state != UNIX_LISTENING && !unix_queue_is_empty(&queue);
}

static struct error *unixsk_hold(const struct open_file *file, int *ret_fd, uint32_t *ret_before)
{
	int before;

	TRY(open_file_copy(file, ret_fd));
	TRY(socket_peek_offset(*ret_fd, &before));
	*ret_before = (uint32_t)before;
	return NULL;
}

static struct error *unixsk_go_on(int fd, uint32_t before)
{
	return socket_set_peek_offset(fd, (int)before);
}

static struct error *unixsk_in_flight(const struct open_file *file, int **ret_fds, size_t *ret_count)
{
	struct look look;
	uint64_t count = 0;

	/* Linux 5.6 tells how many there are; without that, we look. */
	if (procfs_number(file->fdinfo, "scm_fds", 10, &count) == 0 && count == 0)
		return NULL;
	TRY(look_at(file, &look));
	if (look.diag.state == UNIX_LISTENING)
		return NULL;
	const struct unix_queue queue = queue_of(file, &look);
	return unix_queue_in_flight(&queue, ret_fds, ret_count);
}

/* Where what an entry points to lives while it is put into the image. */
struct entry_parts {
	struct unix_name name, gone;
	FilePermsEntry access;
	uint32_t *groups; /* owned */
	char *path;       /* owned */
	GodwitSocketEntry extras;
	struct unix_outside_parts outside;
};

static void parts_free(struct entry_parts *parts)
{
	free(parts->groups);
	free(parts->path);
	unix_queue_free_extras(&parts->extras);
	unix_outside_parts_free(&parts->outside);
}

static struct error *fill_path(const struct look *look, UnixSkEntry *entry, struct entry_parts *parts)
{
	struct stat stat;
	bool is_deleted;

	if (!look->diag.has_path)
		return NULL;
	TRY(unix_name_file(look->fd, &parts->path, &is_deleted, &stat));
	entry->has_deleted = true;
	entry->deleted = is_deleted;
	file_perms_entry__init(&parts->access);
	parts->access.mode = stat.st_mode;
	parts->access.uid = stat.st_uid;
	parts->access.gid = stat.st_gid;
	entry->file_perms = &parts->access;
	if (strncmp(parts->path, parts->name.address.sun_path, sizeof(parts->name.address.sun_path)) != 0)
		parts->extras.path = parts->path;
	return NULL;
}

/* socket(7); the numbers of a struct ucred are those of our user namespace. */
static struct error *fill_peer(const struct look *look, struct entry_parts *parts)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	socklen_t groups_size = 0;

	if (getsockopt(look->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return error_new(errno, "getsockopt(SO_PEERCRED)");
	if (peer.pid == 0)
		return NULL;
	parts->extras.has_peer_uid = true;
	parts->extras.peer_uid = peer.uid;
	parts->extras.has_peer_gid = true;
	parts->extras.peer_gid = peer.gid;
	/* Asked without room, it says how much it needs. */
	if (getsockopt(look->fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &groups_size) == 0 || errno != ERANGE)
		return NULL;
	if (groups_size > GROUPS_MAX * sizeof(uint32_t))
		return error_new(EOVERFLOW, "getsockopt(SO_PEERGROUPS): %u bytes", groups_size);
	parts->groups = xalloc(groups_size);
	if (getsockopt(look->fd, SOL_SOCKET, SO_PEERGROUPS, parts->groups, &groups_size) < 0)
		return error_new(errno, "getsockopt(SO_PEERGROUPS)");
	parts->extras.peer_groups = parts->groups;
	parts->extras.n_peer_groups = groups_size / sizeof(uint32_t);
	return NULL;
}

/* A closed other end keeps its name, and what it left unread is an error that waits. */
static struct error *fill_gone(const struct look *look, struct entry_parts *parts)
{
	if (!look->diag.has_peer || look->diag.peer)
		return NULL;
	TRY(unix_name_of(look->fd, UNIX_PEER, &parts->gone));
	parts->extras.has_gone_name = true;
	parts->extras.gone_name.data = (uint8_t *)parts->gone.address.sun_path;
	parts->extras.gone_name.len = unix_name_bytes(&parts->gone);
	parts->extras.has_is_reset = true;
	parts->extras.is_reset = has_event(look->fd, POLLERR);
	return NULL;
}

static struct error *fill(const struct open_file *file, const struct look *look, UnixSkEntry *entry,
                          struct entry_parts *parts)
{
	static const SkShutdown shutdowns[] = {SK_SHUTDOWN__NONE, SK_SHUTDOWN__READ, SK_SHUTDOWN__WRITE,
	                                       SK_SHUTDOWN__BOTH};

	entry->id = file->id;
	entry->ino = (uint32_t)file->stat.st_ino;
	entry->type = (uint32_t)look->type;
	/* The kernel also calls a datagram socket so that others are connected to. */
	entry->state = look->diag.has_peer                  ? UNIX_ESTABLISHED
	               : look->diag.state == UNIX_LISTENING ? UNIX_LISTENING
	                                                    : UNIX_CLOSED;
	entry->flags = file->status_flags;
	entry->backlog = look->diag.state == UNIX_LISTENING ? look->diag.backlog : 0;
	entry->peer = look->diag.peer;
	entry->fown = file->owner;
	entry->has_shutdown = true;
	entry->shutdown = shutdowns[look->diag.shut & BOTH_WAYS];
	TRY(unix_name_of(look->fd, UNIX_OWN, &parts->name));
	entry->name.data = (uint8_t *)parts->name.address.sun_path;
	entry->name.len = unix_name_bytes(&parts->name);
	TRY(fill_path(look, entry, parts));
	TRY(fill_peer(look, parts));
	return fill_gone(look, parts);
}

static const struct open_file *find_name(const struct open_files *files, const void *name, size_t size_bytes)
{
	struct unix_name wanted = {.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size_bytes)};

	memcpy(wanted.address.sun_path, name, size_bytes);
	for (size_t i = 0; i < files->count; i++) {
		struct unix_name own;
		int fd;

		if (!unixsk_recognizes(&files->list[i]))
			continue;
		auto_error struct error *error = open_file_borrow(&files->list[i], &fd);
		if (!error)
			error = unix_name_of(fd, UNIX_OWN, &own);
		if (!error && unix_name_is_equal(&own, &wanted))
			return &files->list[i];
	}
	return NULL;
}

static struct error *save_outside(const struct open_file *file, const struct look *look, UnixSkEntry *entry,
                                  struct entry_parts *parts)
{
	const struct unix_outside outside = {.file = file, .diag = &look->diag, .fd = look->fd};

	return is_outside(file, look) ? unix_outside_save(&outside, entry, &parts->extras, &parts->outside) : NULL;
}

static struct error *unixsk_save(const struct open_file *file, struct image_store *store)
{
	UnixSkEntry socket = UNIX_SK_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	__attribute__((cleanup(parts_free))) struct entry_parts parts = {.extras = GODWIT_SOCKET_ENTRY__INIT};
	auto_socket_options struct socket_options options = {0};
	struct look look;

	TRY(look_at(file, &look));
	if (has_event(look.fd, POLLPRI))
		return error_new(ENOTSUP, "UNIX socket with urgent data (MSG_OOB)");
	TRY(socket_options_save(look.fd, SOCKET_UNIX, &options));
	socket.opts = &options.entry;
	TRY(fill(file, &look, &socket, &parts));
	TRY(save_outside(file, &look, &socket, &parts));
	if (look.diag.state != UNIX_LISTENING) {
		const struct unix_queue queue = queue_of(file, &look);
		if (!file->all->is_sketch)
			TRY(unix_queue_save(&queue, find_name, &parts.extras, store));
	}
	TRY(socket_extras_save(look.fd, file, SOCKET_UNIX, &parts.extras, store));

	entry.type = FD_TYPES__UNIXSK;
	entry.id = file->id;
	entry.usk = &socket;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static bool unixsk_entry_stays(const FileEntry *entry, const struct restore_files *restore)
{
	(void)restore;
	return entry->usk && unix_outside_is(entry->usk);
}

const struct file_ops unixsk_ops = {
	.name = "unixsk",
	.type = FD_TYPES__UNIXSK,
	.recognizes = unixsk_recognizes,
	.check = unixsk_check,
	.stays = unixsk_stays,
	.outlet = unixsk_outlet,
	.unsent = unixsk_unsent,
	.needs_hold = unixsk_needs_hold,
	.hold = unixsk_hold,
	.go_on = unixsk_go_on,
	.in_flight = unixsk_in_flight,
	.save = unixsk_save,
	.entry_stays = unixsk_entry_stays,
	.preflight = unix_verify,
	.restore = unix_restore,
	.finish = unix_finish,
	.resume = unix_resume,
};
