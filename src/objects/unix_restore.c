/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "objects/socket_options.h"
#include "objects/unix_diag.h"
#include "objects/unix_entries.h"
#include "objects/unix_make.h"
#include "objects/unix_name.h"
#include "objects/unix_outside.h"
#include "objects/unix_queue.h"
#include "objects/unix_restore.h"
#include "task/process.h"
#include "util/alloc.h"

enum {
	ROOM_BYTES = 64 * 1024 * 1024, /* for a sender that fills a queue */
	STRANGERS_MAX = 1000,          /* that connect while we do */
};

/* ---- Making ---- */

static struct error *accept_one(struct open_files *files, int listener, ino_t client, int *ret_fd, bool *ret_is_client)
{
	struct unix_diag diag = {0};
	auto_fd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return error_new(errno, "accept4");
	TRY(unix_diag_ask(files, stat.st_ino, &diag));
	*ret_is_client = diag.peer == client;
	*ret_fd = take(fd);
	return NULL;
}

/* An abstract listener may get strangers, too: they are sent away, as if they had come a moment earlier. */
static struct error *accept_from(int listener, int client, int *ret_fd)
{
	auto_open_files struct open_files files = {0};
	struct stat client_stat;
	bool is_client = false;

	if (fstat(client, &client_stat) < 0)
		return error_new(errno, "fstat of a UNIX socket");
	for (int i = 0; i < STRANGERS_MAX; i++) {
		auto_fd int fd = -1;

		TRY(accept_one(&files, listener, client_stat.st_ino, &fd, &is_client));
		if (!is_client)
			continue;
		*ret_fd = take(fd);
		return NULL;
	}
	return error_new(EBUSY, "too many clients connect");
}

/* The program's own one, which is ready by now; or one for the moment. */
static struct error *listener_for(const UnixSkEntry *accepted, struct restore_files *restore, int *ret_fd)
{
	const UnixSkEntry *listener = unix_entry_namesake(restore, accepted, true);
	const struct unix_name name = unix_entry_name(&accepted->name);
	auto_fd int fd = -1;

	fd = listener ? fcntl(unix_entry_borrow(restore, UNIX_KEY_HANDLE, listener->ino), F_DUPFD_CLOEXEC, 0)
	              : socket(AF_UNIX, (int)accepted->type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_new(errno, "socket");
	if (!listener && (bind(fd, (const struct sockaddr *)&name.address, name.bytes) < 0 || listen(fd, 1) < 0))
		return error_new(errno, "bind to an abstract UNIX address");
	*ret_fd = take(fd);
	return NULL;
}

/* Several sockets can share an abstract name only if they come from one listener. */
static struct error *make_accepted(const UnixSkEntry *accepted, const UnixSkEntry *client,
                                   const GodwitSocketEntry *extras, struct restore_files *restore)
{
	const struct unix_name name = unix_entry_name(&accepted->name);
	auto_fd int listener = -1;
	auto_fd int fd = socket(AF_UNIX, (int)accepted->type | SOCK_CLOEXEC, 0);
	int accepted_fd = -1;

	if (fd < 0)
		return error_new(errno, "socket");
	TRY(listener_for(accepted, restore, &listener));
	TRY(unix_make_connection(restore, fd, &name, extras));
	TRY(accept_from(listener, fd, &accepted_fd));
	unix_entry_give(restore, UNIX_KEY_HANDLE, accepted->ino, accepted_fd);
	if (client)
		unix_entry_give(restore, UNIX_KEY_HANDLE, client->ino, take(fd));
	else
		unix_entry_give(restore, UNIX_KEY_GONE, accepted->ino, take(fd));
	return NULL;
}

static bool shares_abstract_name(const struct restore_files *restore, const UnixSkEntry *entry)
{
	return entry && entry->type != SOCK_DGRAM && entry->name.len > 0 && entry->name.data[0] == '\0' &&
	       unix_entry_namesake(restore, entry, false);
}

/* The name of an end that has been closed: an abstract one may be somebody else's by now, and is not missed. */
static struct error *name_gone(int fd, const GodwitSocketEntry *extras, struct restore_files *restore)
{
	struct unix_binding binding = {0};

	if (!extras || !extras->has_gone_name || extras->gone_name.len == 0)
		return NULL;
	TRY(unix_name_from(&extras->gone_name, &binding.name));
	struct error *error = unix_name_bind(fd, &binding, restore);
	if (error && error_errnum(error) == EADDRINUSE) {
		error_free(error);
		return NULL;
	}
	return error;
}

static struct error *make_pair(const UnixSkEntry *entry, const UnixSkEntry *peer, const GodwitSocketEntry *extras,
                               struct restore_files *restore)
{
	int fds[2];

	if (shares_abstract_name(restore, entry))
		return make_accepted(entry, peer, extras, restore);
	if (shares_abstract_name(restore, peer))
		return make_accepted(peer, entry, extras, restore);
	TRY(unix_make_pair(restore, (int)entry->type, extras, fds));
	unix_entry_give(restore, UNIX_KEY_HANDLE, entry->ino, fds[0]);
	if (peer) {
		unix_entry_give(restore, UNIX_KEY_HANDLE, peer->ino, fds[1]);
		return NULL;
	}
	unix_entry_give(restore, UNIX_KEY_GONE, entry->ino, fds[1]);
	return name_gone(fds[1], extras, restore);
}

static struct error *make(const UnixSkEntry *entry, const GodwitSocketEntry *extras, struct restore_files *restore)
{
	const UnixSkEntry *peer;
	bool is_one_of_two;
	int fd;

	TRY(unix_entry_is_pair(restore, entry, extras, &is_one_of_two, &peer));
	if (is_one_of_two)
		return make_pair(entry, peer, extras, restore);
	if (unix_outside_is(entry)) {
		TRY(unix_outside_restore(entry, extras, restore, &fd));
	} else {
		fd = socket(AF_UNIX, (int)entry->type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return error_new(errno, "socket(AF_UNIX, %u)", entry->type);
	}
	unix_entry_give(restore, UNIX_KEY_HANDLE, entry->ino, fd);
	return NULL;
}

/* The path that its file is to have; NULL: none. The caller frees. */
static char *final_path(const struct restore_files *restore, const UnixSkEntry *entry, const GodwitSocketEntry *extras)
{
	const struct unix_name name = unix_entry_name(&entry->name);
	auto_free char *text = unix_name_text(&name);

	if (!unix_name_is_path(&name) || (entry->has_deleted && entry->deleted))
		return NULL;
	/* What came in through a listener has its name, but not its file. */
	if (entry->state == UNIX_ESTABLISHED && unix_entry_namesake(restore, entry, true))
		return NULL;
	if (extras && extras->path)
		return xformat("%s", extras->path);
	return text[0] == '/' || !entry->name_dir ? xformat("%s", text) : xformat("%s/%s", entry->name_dir, text);
}

static struct error *bind_and_listen(const UnixSkEntry *entry, const GodwitSocketEntry *extras, int fd,
                                     struct restore_files *restore)
{
	auto_free char *path = final_path(restore, entry, extras);
	const struct unix_binding binding = {
		.name = unix_entry_name(&entry->name),
		.path = path,
		.access = entry->file_perms,
	};
	struct unix_name own;

	TRY(unix_name_of(fd, UNIX_OWN, &own));
	if (unix_name_bytes(&own) == 0)
		TRY(unix_name_bind(fd, &binding, restore));
	if (entry->state != UNIX_LISTENING)
		return NULL;
	return unix_make_listener(restore, fd, (int)entry->backlog, extras);
}

/* Made, unless it is; with options, bound, listening. */
static struct error *prepare(const UnixSkEntry *entry, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	SkOptsEntry early = *entry->opts;

	if (!restore_note(restore, FD_TYPES__UNIXSK, unix_key(UNIX_KEY_READY, entry->ino), 0))
		return NULL;
	TRY(socket_extras_find(restore, entry->id, &extras));
	if (unix_entry_borrow(restore, UNIX_KEY_HANDLE, entry->ino) < 0)
		TRY(make(entry, extras, restore));
	int fd = unix_entry_borrow(restore, UNIX_KEY_HANDLE, entry->ino);
	/* Packets that are sent while this is set get our credentials. */
	early.has_so_passcred = false;
	TRY(socket_options_restore(fd, &early));
	TRY(socket_extras_restore(fd, extras, SOCKET_UNIX));
	return bind_and_listen(entry, extras, fd, restore);
}

typedef struct error *on_entry(const UnixSkEntry *entry, struct restore_files *restore);

static struct error *each_entry(struct restore_files *restore, on_entry *call)
{
	for (uint32_t i = 0; i < unix_entries_count(restore); i++) {
		const UnixSkEntry *entry = unix_entry_noted(restore, UNIX_KEY_NTH, i);

		assert(entry);
		TRY(call(entry, restore), "UNIX socket %#x", entry->id);
	}
	return NULL;
}

/* They come first, for those that are accepted from them. */
static struct error *prepare_listener(const UnixSkEntry *entry, struct restore_files *restore)
{
	return entry->state == UNIX_LISTENING ? prepare(entry, restore) : NULL;
}

struct error *unix_restore(const FileEntry *file, struct restore_files *restore, struct batch *batch,
                           struct made_file *ret_made)
{
	const UnixSkEntry *entry = file->usk;

	(void)batch;
	TRY(unix_entry_check(entry));
	TRY(unix_entries_find(restore));
	entry = unix_entry_noted(restore, UNIX_KEY_ID, file->id);
	if (!entry)
		return error_new(EBADMSG, "UNIX socket %u, which isn't in files.img", file->id);
	TRY(each_entry(restore, prepare_listener));
	TRY(prepare(entry, restore));
	int fd = fcntl(unix_entry_borrow(restore, UNIX_KEY_HANDLE, entry->ino), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return error_new(errno, "F_DUPFD_CLOEXEC");
	*ret_made = (struct made_file){
		.local_fd = fd,
		.status_flags = entry->flags & ~(uint32_t)O_ACCMODE,
		.owner = entry->fown,
	};
	return NULL;
}

/* ---- Filling queues ---- */

/* Makes a file that is in flight and nowhere else. */
static struct error *make_right(const FileEntry *entry, struct restore_files *restore, int *ret_fd)
{
	const struct restore_task *task = restore_task(restore);
	const struct file_ops *ops = file_ops_of_type(entry->type);
	struct made_file made;

	if (!ops || !task)
		return error_new(ENOTSUP, "file %u of type %d in flight", entry->id, (int)entry->type);
	auto_batch struct batch *batch = process_batch(task->process, 0);
	batch_about(batch, ops->name, entry->id);
	TRY(ops->restore(entry, restore, batch, &made), "%s %u", ops->name, entry->id);
	if (made.local_fd < 0)
		TRY(process_make_fd(task->process, batch, made.fd, &made.local_fd));
	auto_fd int fd = made.local_fd;
	if (!(made.status_flags & O_PATH) && fcntl(fd, F_SETFL, made.status_flags) < 0)
		return error_new(errno, "F_SETFL");
	*ret_fd = take(fd);
	return NULL;
}

static void free_entry(FileEntry **entry)
{
	if (*entry)
		file_entry__free_unpacked(*entry, NULL);
}

/* A copy of the description with that id, wherever it is. */
static struct error *copy_right(uint32_t id, struct restore_files *restore, int *ret_fd)
{
	const UnixSkEntry *socket = unix_entry_noted(restore, UNIX_KEY_ID, id);
	int from = socket ? unix_entry_borrow(restore, UNIX_KEY_HANDLE, socket->ino)
	                  : unix_entry_borrow(restore, UNIX_KEY_RIGHT, id);
	bool is_placed;

	if (from < 0) {
		TRY(restore_copy_placed(restore, id, &is_placed, ret_fd));
		if (is_placed)
			return NULL;
	}
	if (from < 0) {
		__attribute__((cleanup(free_entry))) FileEntry *entry = NULL;

		TRY(restore_file_entry(restore, id, &entry));
		TRY(make_right(entry, restore, &from));
		unix_entry_give(restore, UNIX_KEY_RIGHT, id, from);
	}
	*ret_fd = fcntl(from, F_DUPFD_CLOEXEC, 0);
	return *ret_fd < 0 ? error_new(errno, "F_DUPFD_CLOEXEC") : NULL;
}

struct rights {
	int fds[UNIX_RIGHTS_MAX]; /* owned */
	size_t count;
};

static void rights_free(struct rights *rights)
{
	for (size_t i = 0; i < rights->count; i++)
		close(rights->fds[i]);
}

static struct error *copy_all(const uint32_t *ids, size_t count, struct restore_files *restore, struct rights *rights)
{
	for (size_t i = 0; i < count; i++) {
		TRY(copy_right(ids[i], restore, &rights->fds[rights->count]));
		rights->count++;
	}
	return NULL;
}

static struct error *copy_rights(const SkPacketEntry *packet, struct restore_files *restore, struct rights *rights)
{
	for (size_t i = 0; i < packet->n_scm; i++) {
		const ScmEntry *scm = packet->scm[i];

		if (scm->type != SCM_RIGHTS || rights->count + scm->n_rights > UNIX_RIGHTS_MAX)
			return error_new(ENOTSUP, "message with control data of type %u and %zu descriptors", scm->type,
			                 scm->n_rights);
		TRY(copy_all(scm->rights, scm->n_rights, restore, rights));
	}
	return NULL;
}

/* Who a packet comes from, and with what address. */
struct sender {
	int fd;       /* borrowed */
	int own_fd;   /* owned: of a sender that was nobody */
	int place_fd; /* owned: what address leads through */
	struct unix_name address;
};

static void sender_free(struct sender *sender)
{
	if (sender->own_fd >= 0)
		close(sender->own_fd);
	if (sender->place_fd >= 0)
		close(sender->place_fd);
}

static struct error *find_sender(const UnixSkEntry *entry, const GodwitPacket *more, struct restore_files *restore,
                                 struct sender *sender)
{
	int gone = unix_entry_borrow(restore, UNIX_KEY_GONE, entry->ino);
	const UnixSkEntry *from = more && more->has_from ? unix_entry_noted(restore, UNIX_KEY_ID, more->from) : NULL;

	if (!from && unix_entry_is_connected(entry) && entry->peer)
		from = unix_entry_noted(restore, UNIX_KEY_INODE, entry->peer);
	sender->fd = from ? unix_entry_borrow(restore, UNIX_KEY_HANDLE, from->ino) : gone;
	if (sender->fd < 0)
		sender->fd = sender->own_fd = socket(AF_UNIX, (int)entry->type | SOCK_CLOEXEC, 0);
	if (sender->fd < 0)
		return error_new(errno, "socket");
	/* Only a socket with a name has others than the other end of its pair to receive from. */
	if (entry->type != SOCK_DGRAM || entry->name.len == 0 || sender->fd == gone)
		return NULL;
	return unix_name_reach(unix_entry_borrow(restore, UNIX_KEY_HANDLE, entry->ino), &sender->address,
	                       &sender->place_fd);
}

static struct error *fill_one(const UnixSkEntry *entry, const struct unix_packet *packet, struct restore_files *restore)
{
	__attribute__((cleanup(rights_free))) struct rights rights = {.count = 0};
	__attribute__((cleanup(sender_free))) struct sender sender = {.own_fd = -1, .place_fd = -1};
	struct unix_packet whole = *packet;

	TRY(copy_rights(packet->entry, restore, &rights));
	TRY(find_sender(entry, packet->more, restore, &sender));
	/* Taken back by socket_options_finish(), where the socket stays. */
	TRY(socket_set(sender.fd, SOL_SOCKET, SO_SNDBUFFORCE, ROOM_BYTES, "SO_SNDBUFFORCE"));
	whole.rights = rights.fds;
	whole.right_count = rights.count;
	/* Only those of the program itself are carried: unix_queue.c. */
	const struct restore_task *task = restore_task(restore);
	whole.sender = task ? task->process->pid : packet->more ? (pid_t)packet->more->pid : 0;
	return unix_packet_send(sender.fd, &whole, sender.address.bytes ? &sender.address : NULL);
}

static uint64_t packet_key(const ProtobufCMessage *message)
{
	return ((const SkPacketEntry *)message)->id_for;
}

static void free_packet(SkPacketEntry **packet)
{
	if (*packet)
		sk_packet_entry__free_unpacked(*packet, NULL);
}

/* Packet number index of the image, the nth of this socket; *ret_is_its is false where it is another one's. */
static struct error *fill_from(const UnixSkEntry *entry, const GodwitSocketEntry *extras, size_t index, size_t nth,
                               struct restore_files *restore, bool *ret_is_its)
{
	const struct image_store *store = restore_store(restore);
	__attribute__((cleanup(free_packet))) SkPacketEntry *packet = NULL;
	size_t size_bytes;
	struct unix_packet whole = {0};

	TRY(image_get(store, IMAGE_SK_QUEUES, 0, index, (ProtobufCMessage **)&packet));
	assert(packet);
	*ret_is_its = packet->id_for == entry->id;
	if (!*ret_is_its)
		return NULL;
	image_get_bytes(store, IMAGE_SK_QUEUES, 0, index, &whole.bytes, &size_bytes);
	if (size_bytes != packet->length)
		return error_new(EBADMSG, "packet of %u bytes with %zu", packet->length, size_bytes);
	whole.entry = packet;
	whole.more = extras && nth < extras->n_packets ? extras->packets[nth] : NULL;
	return error_wrap(fill_one(entry, &whole, restore), "packet %zu", nth);
}

/* Its packets stand together, in order. */
static struct error *fill(const UnixSkEntry *entry, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	size_t first = 0;
	bool is_its;

	TRY(restore_find(restore, IMAGE_SK_QUEUES, packet_key, entry->id, &is_its, &first));
	if (!is_its)
		return NULL;
	TRY(socket_extras_find(restore, entry->id, &extras));
	size_t count = image_count(restore_store(restore), IMAGE_SK_QUEUES, 0);
	for (size_t i = first; i < count && is_its; i++)
		TRY(fill_from(entry, extras, i, i - first, restore, &is_its));
	return NULL;
}

/* ---- The end ---- */

/* A datagram socket that isn't one of a pair: behind its queue, since then only the other end may send to it. */
static struct error *connect_by_name(const UnixSkEntry *entry, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	struct unix_name address;
	const UnixSkEntry *peer;
	bool is_one_of_two;
	int place;

	TRY(socket_extras_find(restore, entry->id, &extras));
	TRY(unix_entry_is_pair(restore, entry, extras, &is_one_of_two, &peer));
	if (is_one_of_two || !unix_entry_is_connected(entry) || !peer)
		return NULL;
	TRY(unix_name_reach(unix_entry_borrow(restore, UNIX_KEY_HANDLE, peer->ino), &address, &place));
	auto_fd int owned_place = place;
	if (connect(unix_entry_borrow(restore, UNIX_KEY_HANDLE, entry->ino), (const struct sockaddr *)&address.address,
	            address.bytes) < 0)
		return error_new(errno, "connect");
	return NULL;
}

/* The other end that had been closed is closed now. Where it left something unread, it does again. */
static struct error *close_gone(const UnixSkEntry *entry, const GodwitSocketEntry *extras, int fd,
                                struct restore_files *restore)
{
	auto_fd int gone = restore_spare_take(restore, FD_TYPES__UNIXSK, unix_key(UNIX_KEY_GONE, entry->ino));

	if (gone >= 0 && extras && extras->has_is_reset && extras->is_reset && entry->type != SOCK_DGRAM &&
	    send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return error_new(errno, "send to an end that is closed then");
	return NULL;
}

static struct error *shut(const UnixSkEntry *entry, int fd)
{
	static const int ways[] = {
		[SK_SHUTDOWN__READ] = SHUT_RD, [SK_SHUTDOWN__WRITE] = SHUT_WR, [SK_SHUTDOWN__BOTH] = SHUT_RDWR};

	if (!entry->has_shutdown || entry->shutdown <= SK_SHUTDOWN__NONE || entry->shutdown > SK_SHUTDOWN__BOTH)
		return NULL;
	/* A closed other end has done it. */
	if (shutdown(fd, ways[entry->shutdown]) < 0 && errno != ENOTCONN)
		return error_new(errno, "shutdown(%d)", ways[entry->shutdown]);
	return NULL;
}

static struct error *settle(const UnixSkEntry *entry, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	int fd = unix_entry_borrow(restore, UNIX_KEY_HANDLE, entry->ino);

	TRY(socket_extras_find(restore, entry->id, &extras));
	TRY(close_gone(entry, extras, fd, restore));
	TRY(shut(entry, fd));
	TRY(socket_options_finish(fd, entry->opts));
	if (entry->opts->has_so_passcred && entry->opts->so_passcred)
		TRY(socket_set(fd, SOL_SOCKET, SO_PASSCRED, 1, "SO_PASSCRED"));
	return socket_extras_finish(fd, extras, SOCKET_UNIX);
}

/* All at once, when the first one's turn has come: also those that are in flight and have no turn. */
struct error *unix_finish(const struct placed_file *file, struct restore_files *restore, struct process *task)
{
	(void)file;
	(void)task;
	if (!restore_note(restore, FD_TYPES__UNIXSK, unix_key(UNIX_KEY_FINISHED, 0), 0))
		return NULL;
	TRY(each_entry(restore, prepare));
	TRY(each_entry(restore, fill));
	TRY(each_entry(restore, connect_by_name));
	return each_entry(restore, settle);
}

struct error *unix_resume(const FileEntry *entry, const struct image_store *store, int fd)
{
	(void)entry;
	(void)store;
	return unix_name_settle(fd);
}

struct error *unix_verify(const FileEntry *file, struct restore_files *restore)
{
	auto_socket_extras GodwitSocketEntry *extras = NULL;
	const UnixSkEntry *entry = file->usk;

	TRY(unix_entry_check(entry));
	TRY(unix_entries_find(restore));
	entry = unix_entry_noted(restore, UNIX_KEY_ID, file->id);
	if (!entry)
		return NULL;
	TRY(socket_extras_find(restore, entry->id, &extras));
	if (unix_outside_is(entry))
		TRY(unix_outside_verify(entry, extras));
	auto_free char *path = final_path(restore, entry, extras);
	const struct unix_binding binding = {.name = unix_entry_name(&entry->name), .path = path};
	return unix_name_verify(&binding);
}
