/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "objects/file_extra.h"
#include "objects/journal_stream.h"
#include "objects/outlet.h"
#include "objects/services.h"
#include "objects/socket_options.h"
#include "objects/standard_streams.h"
#include "objects/tty.h"
#include "objects/unix_diag.h"
#include "objects/unix_outside.h"
#include "util/alloc.h"

const char stdio_terminal_hint[] =
	"start it apart: setsid -f PROG </dev/null >LOG 2>&1; or pass --shell-job: then it gets the terminal and joins "
	"the "
	"session that it is restored from; or --stdio null: then it gets /dev/null, and a session of its own";

/* ---- Files ---- */

static void put_file(const struct open_file *file, const char *path, uint32_t more_flags, struct image_store *store)
{
	static const uint32_t kept = O_ACCMODE | O_NONBLOCK | O_ASYNC;
	auto_free char *name = xformat("%s", path);
	RegFileEntry reg = REG_FILE_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;

	reg.id = file->id;
	reg.flags = (file->status_flags & kept) | more_flags;
	reg.fown = file->owner;
	reg.name = name;
	entry.type = FD_TYPES__REG;
	entry.id = file->id;
	entry.reg = &reg;
	image_put(store, IMAGE_FILES, 0, &entry.base);
}

static struct error *null_save(const struct open_file *file, struct image_store *store)
{
	put_file(file, "/dev/null", 0, store);
	return NULL;
}

static struct error *output_save(const struct open_file *file, struct image_store *store)
{
	FileExtraEntry extra = FILE_EXTRA_ENTRY__INIT;

	extra.type = FD_TYPES__REG;
	extra.id = file->id;
	extra.has_is_output = true;
	extra.is_output = true;
	put_file(file, file->options->stdio_path, O_APPEND, store);
	image_put(store, IMAGE_FILE_EXTRA, 0, &extra.base);
	return NULL;
}

static bool output_outlet(const struct open_file *file, struct outlet *ret_outlet)
{
	*ret_outlet = (struct outlet){.kind = OUTLET_FILE, .path = xformat("%s", file->options->stdio_path)};
	return true;
}

/* ---- A stream to the journal ---- */

/* No socket of the program has this inode: they count upwards. */
static uint32_t inode_for(const struct open_file *file)
{
	return UINT32_MAX - file->id;
}

static struct error *journal_save(const struct open_file *file, struct image_store *store)
{
	auto_fd int fresh = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	auto_socket_options struct socket_options options = {0};
	auto_journal_stream GodwitJournalStream *stream = journal_stream_of(file, 0);
	auto_free char *service = xformat("%s", journal_path);
	GodwitSocketEntry extras = GODWIT_SOCKET_ENTRY__INIT;
	UnixSkEntry socket = UNIX_SK_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;

	if (fresh < 0)
		return error_new(errno, "socket(AF_UNIX)");
	TRY(socket_options_save(fresh, SOCKET_UNIX, &options));
	socket.id = file->id;
	socket.ino = inode_for(file);
	socket.type = SOCK_STREAM;
	socket.state = UNIX_ESTABLISHED;
	socket.flags = O_RDWR | (file->status_flags & O_NONBLOCK);
	socket.fown = file->owner;
	socket.opts = &options.entry;
	socket.has_shutdown = true;
	socket.shutdown = SK_SHUTDOWN__READ; /* it says nothing */
	unix_outside_mark(&socket);
	extras.service = service;
	extras.journal = stream;
	TRY(socket_extras_save(fresh, file, SOCKET_UNIX, &extras, store));

	entry.type = FD_TYPES__UNIXSK;
	entry.id = file->id;
	entry.usk = &socket;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static bool journal_outlet(const struct open_file *file, struct outlet *ret_outlet)
{
	(void)file;
	*ret_outlet = (struct outlet){.kind = OUTLET_STREAM, .path = xformat("%s", journal_path)};
	return true;
}

/* ---- Which one ---- */

static const struct file_ops null_ops = {.name = "stdio", .type = FD_TYPES__REG, .save = null_save};

static const struct file_ops output_ops = {
	.name = "stdio",
	.type = FD_TYPES__REG,
	.outlet = output_outlet,
	.save = output_save,
};

static const struct file_ops journal_ops = {
	.name = "stdio",
	.type = FD_TYPES__UNIXSK,
	.outlet = journal_outlet,
	.save = journal_save,
};

const struct file_ops *stdio_ops_for(const struct open_file *file)
{
	bool is_output = (file->status_flags & O_ACCMODE) != O_RDONLY;

	switch (file->options->stdio) {
	case STDIO_KEEP:
		return NULL;
	case STDIO_NULL:
		return &null_ops;
	case STDIO_JOURNAL:
		return is_output ? &journal_ops : &null_ops;
	case STDIO_FILE:
		return is_output ? &output_ops : &null_ops;
	}
	return NULL;
}

/* ---- In images ---- */

/* What of an entry the ones above look at. */
static struct open_file describe(const FileEntry *entry, const struct carry_options *options, struct open_files *all)
{
	bool is_socket = entry->type == FD_TYPES__UNIXSK;

	return (struct open_file){
		.id = entry->id,
		.status_flags = is_socket ? entry->usk->flags | O_RDWR : entry->tty->flags,
		.owner = is_socket ? entry->usk->fown : entry->tty->fown,
		.options = options,
		.all = all,
	};
}

static struct error *take_over(const struct image_store *from, enum image_kind kind, uint64_t key,
                               struct restore_files *restore)
{
	ProtobufCMessage *message;

	if (image_count(from, kind, 0) == 0)
		return NULL;
	TRY(image_get(from, kind, 0, 0, &message));
	restore_replace(restore, kind, key, message);
	return NULL;
}

/* By saving it, into a store of its own. */
static struct error *replace(const FileEntry *entry, struct restore_files *restore)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_open_files struct open_files all = {0};
	const struct open_file file = describe(entry, restore_options(restore), &all);

	TRY(stdio_ops_for(&file)->save(&file, store));
	TRY(take_over(store, IMAGE_FILES, entry->id, restore));
	TRY(take_over(store, IMAGE_FILE_EXTRA, file_extra_key(FD_TYPES__REG, entry->id), restore));
	return take_over(store, IMAGE_GODWIT_SOCKETS, entry->id, restore);
}

static struct error *replace_if_it_stays(uint32_t id, struct restore_files *restore)
{
	FileEntry *entry;

	TRY(restore_file_entry(restore, id, &entry));
	const struct file_ops *ops = file_ops_of_type(entry->type);
	struct error *error =
		ops && ops->entry_stays && ops->entry_stays(entry, restore) ? replace(entry, restore) : NULL;
	file_entry__free_unpacked(entry, NULL);
	return error;
}

struct error *standard_streams_replace(struct restore_files *restore, uint32_t files_id)
{
	const struct image_store *store = restore_store(restore);
	size_t count = restore_options(restore)->stdio == STDIO_KEEP ? 0 : image_count(store, IMAGE_FDINFO, files_id);

	for (size_t i = 0; i < count; i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_FDINFO, files_id, i, &message));
		uint32_t fd = ((const FdinfoEntry *)message)->fd;
		uint32_t id = ((const FdinfoEntry *)message)->id;
		protobuf_c_message_free_unpacked(message, NULL);
		if (fd <= STDERR_FILENO)
			TRY(replace_if_it_stays(id, restore), "fd %u", fd);
	}
	return NULL;
}

bool standard_streams_detach(const struct image_store *store, const struct carry_options *options)
{
	return options->stdio != STDIO_KEEP && !options->shell_job && tty_is_of_session(store);
}
