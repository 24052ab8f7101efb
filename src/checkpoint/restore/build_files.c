/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Descriptors of a process that is built. Each description is made once and put at a number above all that the program
 * uses; then it is copied to where it belongs, and the high numbers are closed. Many files share a batch.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/restore/building.h"
#include "objects/reg_file.h"
#include "util/alloc.h"
#include "util/clock.h"

enum {
	CALLS_PER_FILE = 24, /* that a kind may append, and ours */
	DESCRIPTORS_MAX = 1 << 24,
	LOCK_AGAIN_US = 200,
};

/* A description while it is restored. */
struct file {
	FileEntry *entry; /* owned */
	const struct file_ops *ops;
	struct made_file made;
	struct arg high; /* its number above all others, in the batch that runs next */
	int high_fd;     /* the same, once that has run */
	int fd;          /* its lowest place; -1: none yet */
};

struct files {
	struct build *build;
	struct file *list; /* owned */
	size_t count;
	struct batch *batch; /* owned */
	size_t first_in_batch;
};

static void files_free(struct files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		if (files->list[i].made.local_fd >= 0)
			close(files->list[i].made.local_fd);
		file_entry__free_unpacked(files->list[i].entry, NULL);
	}
	free(files->list);
	batch_free(files->batch);
}

/* ---- Making them ---- */

/* Runs what was appended for the files since the last time, and notes where they are. */
static struct error *flush(struct files *files)
{
	TRY(process_run(files->build->process, files->batch));
	for (size_t i = files->first_in_batch; i < files->count; i++) {
		struct file *file = &files->list[i];

		if (!file->ops)
			continue;
		file->high_fd = (int)batch_result(files->batch, file->high);
		if (file->made.local_fd >= 0)
			close(file->made.local_fd);
		file->made.local_fd = -1;
	}
	files->first_in_batch = files->count;
	batch_free(files->batch);
	files->batch = process_batch(files->build->process, 0);
	return NULL;
}

static struct error *append(struct files *files, struct file *file)
{
	struct build *build = files->build;
	struct batch *batch = files->batch;

	batch_about(batch, file->ops->name, file->entry->id);
	TRY(file->ops->restore(file->entry, build->files, batch, &file->made), "%s %u", file->ops->name,
	    file->entry->id);
	struct arg fd = file->made.local_fd >= 0 ? build_fetch_fd(build, batch, file->made.local_fd) : file->made.fd;
	file->high = batch_call(batch, fcntl, fd, val(F_DUPFD_CLOEXEC), val((uint64_t)build->spare_base));
	batch_call(batch, close, fd);
	return NULL;
}

/* Entries that no descriptor refers to belong to mappings and such. */
static struct error *make(struct files *files, FileEntry *entry)
{
	struct file *file = &files->list[files->count++];

	*file = (struct file){.entry = entry, .made.local_fd = -1, .high_fd = -1, .fd = -1};
	file->ops = file_ops_of_type(entry->type);
	if (!file->ops)
		return error_new(ENOTSUP, "file %u of type %d", entry->id, (int)entry->type);
	if (batch_room(files->batch) < CALLS_PER_FILE) {
		files->count--;
		struct error *error = flush(files);
		files->count++;
		TRY(error);
	}
	return append(files, file);
}

/* ---- Placing them ---- */

static struct file *find_file(const struct files *files, uint32_t id)
{
	for (size_t i = 0; i < files->count; i++)
		if (files->list[i].entry->id == id)
			return &files->list[i];
	return NULL;
}

/* What fcntl(2) can set with F_SETFL; the rest was for open(2). */
static uint32_t settable(uint32_t flags)
{
	return flags & (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK);
}

/* In its first place: O_ASYNC remembers the descriptor's number. */
static void set_up(struct batch *batch, const struct file *file, struct arg fd)
{
	const FownEntry *owner = file->made.owner;
	uint32_t flags = settable(file->made.status_flags);

	if (owner && owner->pid) {
		const struct f_owner_ex ex = {.type = (__typeof__(ex.type))owner->pid_type, .pid = (pid_t)owner->pid};

		/* Of a task that has ended by now: the kernel refuses that, and sends nothing either way. */
		batch_may_fail(batch,
		               batch_call(batch, fcntl, fd, val(F_SETOWN_EX), batch_bytes(batch, &ex, sizeof(ex))));
	}
	if (owner && owner->signum)
		batch_call(batch, fcntl, fd, val(F_SETSIG), val(owner->signum));
	/* Also where none is set: a kind may have opened it with O_NONBLOCK, so as not to wait. */
	if (!(file->made.status_flags & O_PATH))
		batch_call(batch, fcntl, fd, val(F_SETFL), val(flags));
}

static struct error *place(struct files *files, const FdinfoEntry *fdinfo)
{
	struct file *file = find_file(files, fdinfo->id);
	struct batch *batch = files->batch;

	if (!file)
		return error_new(EBADMSG, "fd %u refers to file %u, which isn't there", fdinfo->fd, fdinfo->id);
	batch_about(batch, file->ops->name, file->entry->id);
	uint64_t flags = fdinfo->flags & FD_CLOEXEC ? O_CLOEXEC : 0;
	struct arg fd = batch_call(batch, dup3, val((uint64_t)file->high_fd), val(fdinfo->fd), val(flags));
	if (file->fd < 0) {
		file->fd = (int)fdinfo->fd;
		restore_note_place(files->build->files, file->entry->id, file->fd);
		set_up(batch, file, fd);
	}
	return batch_room(batch) < CALLS_PER_FILE ? flush(files) : NULL;
}

/* ---- Through all descriptors ---- */

static struct error *each_fdinfo(struct files *files,
                                 struct error *(*call)(struct files *files, const FdinfoEntry *fdinfo))
{
	const struct model *model = files->build->model;

	for (size_t i = 0; i < image_count(model->store, IMAGE_FDINFO, model->ids->files_id); i++) {
		ProtobufCMessage *message;

		TRY(image_get(model->store, IMAGE_FDINFO, model->ids->files_id, i, &message));
		FdinfoEntry *fdinfo = (FdinfoEntry *)message;
		struct error *error = call(files, fdinfo);
		int fd = (int)fdinfo->fd;
		fdinfo_entry__free_unpacked(fdinfo, NULL);
		TRY(error, "fd %d", fd);
	}
	return NULL;
}

static struct error *make_for(struct files *files, const FdinfoEntry *fdinfo)
{
	FileEntry *entry;

	if (find_file(files, fdinfo->id))
		return NULL;
	TRY(restore_file_entry(files->build->files, fdinfo->id, &entry));
	return make(files, entry);
}

static struct error *finish_all(struct files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		const struct file *file = &files->list[i];
		const struct placed_file placed = {.entry = file->entry, .fd = file->fd};

		if (file->ops->finish)
			TRY(file->ops->finish(&placed, files->build->files, files->build->process), "%s, fd %d",
			    file->ops->name, file->fd);
	}
	return NULL;
}

/* Connections are made to work again from here, when the network is open: we need copies until then. */
static struct error *keep_for_resume(struct files *files)
{
	struct build *build = files->build;

	build->resume = xalloc((files->count + 1) * sizeof(*build->resume));
	for (size_t i = 0; i < files->count; i++) {
		struct file *file = &files->list[i];

		if (!file->ops->resume)
			continue;
		int fd = (int)syscall(SYS_pidfd_getfd, build->process->pidfd, file->fd, 0);
		if (fd < 0)
			return error_new(errno, "pidfd_getfd(%d)", file->fd);
		build->resume[build->resume_count++] = (struct resume_file){.entry_id = file->entry->id, .fd = fd};
	}
	return NULL;
}

/* ---- Working and root folder ---- */

static struct error *change_to(struct build *build, uint32_t id, struct batch *batch, bool is_root)
{
	struct stat here;
	struct stat there;
	int opened;

	TRY(reg_file_open_id(id, O_RDONLY | O_DIRECTORY, build->files, &opened));
	auto_fd int fd = opened;
	if (fstat(fd, &there) < 0 || stat("/", &here) < 0)
		return error_new(errno, "stat");
	if (is_root && here.st_dev == there.st_dev && here.st_ino == there.st_ino)
		return NULL; /* chroot(2) needs a privilege that isn't needed then */
	struct arg fetched = build_fetch_fd(build, batch, fd);
	batch_call(batch, fchdir, fetched);
	if (is_root)
		batch_call(batch, chroot, batch_bytes(batch, ".", 2));
	batch_call(batch, close, fetched);
	return process_run(build->process, batch);
}

static struct error *restore_fs(struct build *build)
{
	const FsEntry *fs = build->model->fs;
	auto_batch struct batch *root = process_batch(build->process, 0);
	auto_batch struct batch *cwd = process_batch(build->process, 0);

	TRY(change_to(build, fs->root_id, root, true), "root folder");
	if (fs->has_umask)
		batch_call(cwd, umask, val(fs->umask));
	return error_wrap(change_to(build, fs->cwd_id, cwd, false), "working folder");
}

/* Behind the last close(2): closing any descriptor of a file gives up the locks of POSIX on it. */
static struct error *take_locks(struct build *build)
{
	TRY(file_locks_take(build->model->store, build->process, &build->busy_locks));
	return build->options.program_runs ? NULL : file_locks_refusal(&build->busy_locks, build->process->pid);
}

bool build_has_busy_locks(const struct build *build)
{
	return build->busy_locks.count > 0;
}

struct error *build_take_locks(struct build *build, int wait_ms)
{
	uint64_t end_ns = clock_now_ns() + (uint64_t)wait_ms * 1000000;

	/* A thread that makes a call would meet it. */
	TRY(process_withdraw_stop(build->process));
	for (;;) {
		file_locks_take_late(&build->busy_locks, build->process);
		if (build->busy_locks.count == 0 || clock_now_ns() >= end_ns)
			return file_locks_refusal(&build->busy_locks, build->process->pid);
		usleep(LOCK_AGAIN_US);
	}
}

struct error *build_files(struct build *build)
{
	const struct model *model = build->model;
	size_t room = image_count(model->store, IMAGE_FDINFO, model->ids->files_id);
	__attribute__((cleanup(files_free))) struct files files = {
		.build = build,
		.list = xalloc((room + 1) * sizeof(struct file)),
		.batch = process_batch(build->process, 0),
	};

	const struct restore_task task = {.process = build->process, .own_pidfd = build->spare_base};

	TRY(restore_fs(build));
	restore_files_set_task(build->files, &task);
	restore_files_watch_folders(build->files, build_watch_folder, build);
	TRY(each_fdinfo(&files, make_for));
	TRY(flush(&files));
	TRY(each_fdinfo(&files, place));
	TRY(flush(&files));
	TRY(finish_all(&files));
	TRY(keep_for_resume(&files));
	batch_about(files.batch, NULL, 0);
	batch_call(files.batch, close_range, val((uint64_t)build->spare_base), val(UINT32_MAX), val(0));
	TRY(process_run(build->process, files.batch));
	return take_locks(build);
}

struct error *build_resume(struct build *build)
{
	for (size_t i = 0; i < build->resume_count; i++) {
		struct resume_file *resume = &build->resume[i];
		auto_fd int fd = take(resume->fd);
		FileEntry *entry;

		TRY(restore_file_entry(build->files, resume->entry_id, &entry));
		struct error *error = file_ops_of_type(entry->type)->resume(entry, build->model->store, fd);
		file_entry__free_unpacked(entry, NULL);
		TRY(error);
	}
	return NULL;
}
