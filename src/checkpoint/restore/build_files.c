/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Descriptors of the tasks that are built. Each description is made once, by the first task that has it, and put at a
 * number above all that the program uses; then it is copied to where it belongs, also in the others, and the high numbers
 * are closed. Many files share a batch.
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
#include "util/number_map.h"

enum {
	CALLS_PER_FILE = 24, /* that a kind may append, and ours */
	DESCRIPTORS_MAX = 1 << 24,
	LOCK_AGAIN_US = 200,
};

/* A description while it is restored. */
struct file {
	FileEntry *entry; /* owned */
	const struct file_ops *ops;
	const struct build_task *maker; /* borrowed: the first task that has it */
	struct made_file made;
	struct arg high; /* its number above all others, in the batch that runs next */
	int high_fd;     /* the same, once that has run */
	int copy;        /* owned: a copy here, for the other tasks; -1: none yet */
	int fd;          /* its lowest place in its maker; -1: none yet */
};

struct files {
	struct build *build;
	const struct build_task *task; /* borrowed: the one whose turn it is */
	struct file *list;             /* owned */
	size_t count, room;
	struct number_map *by_id; /* owned: (id, 0): index in the list */
	struct batch *batch;      /* owned; in the task */
	size_t first_in_batch;
};

static void files_free(struct files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		if (files->list[i].made.local_fd >= 0)
			close(files->list[i].made.local_fd);
		if (files->list[i].copy >= 0)
			close(files->list[i].copy);
		file_entry__free_unpacked(files->list[i].entry, NULL);
	}
	free(files->list);
	number_map_free(files->by_id);
	batch_free(files->batch);
}

/* Batches are that task's from here on, and so is what files do in "the task". */
static void take_turn(struct files *files, const struct build_task *task)
{
	const struct restore_task turn = {.process = task->process, .own_pidfd = files->build->spare_base};

	files->task = task;
	batch_free(files->batch);
	files->batch = process_batch(task->process, 0);
	restore_files_set_task(files->build->files, &turn);
}

/* ---- Making them ---- */

/* Runs what was appended for the files since the last time, and notes where they are. */
static struct error *flush(struct files *files)
{
	TRY(process_run(files->task->process, files->batch));
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
	files->batch = process_batch(files->task->process, 0);
	return NULL;
}

static struct error *append(struct files *files, struct file *file)
{
	struct build *build = files->build;
	struct batch *batch = files->batch;

	batch_about(batch, file->ops->name, file->entry->id);
	TRY(file->ops->restore(file->entry, build->files, batch, &file->made), "%s %u", file->ops->name,
	    file->entry->id);
	struct arg fd =
		file->made.local_fd >= 0 ? build_fetch_fd(files->task, batch, file->made.local_fd) : file->made.fd;
	file->high = batch_call(batch, fcntl, fd, val(F_DUPFD_CLOEXEC), val((uint64_t)build->spare_base));
	batch_call(batch, close, fd);
	return NULL;
}

static struct file *add(struct files *files, FileEntry *entry)
{
	if (files->count == files->room) {
		files->room = files->room ? files->room * 2 : 64;
		files->list = xrealloc(files->list, files->room * sizeof(*files->list));
	}
	number_map_add(files->by_id, entry->id, 0, files->count);
	struct file *file = &files->list[files->count++];
	*file = (struct file){
		.entry = entry, .maker = files->task, .made.local_fd = -1, .high_fd = -1, .copy = -1, .fd = -1};
	return file;
}

/* Entries that no descriptor refers to belong to mappings and such. */
static struct error *make(struct files *files, FileEntry *entry)
{
	if (batch_room(files->batch) < CALLS_PER_FILE) {
		struct error *error = flush(files);

		if (error)
			file_entry__free_unpacked(entry, NULL);
		TRY(error);
	}
	struct file *file = add(files, entry);
	file->ops = file_ops_of_type(entry->type);
	return file->ops ? append(files, file) : error_new(ENOTSUP, "file %u of type %d", entry->id, (int)entry->type);
}

/* ---- Placing them ---- */

static struct file *find_file(const struct files *files, uint32_t id)
{
	uint64_t index;

	return number_map_find(files->by_id, id, 0, &index) ? &files->list[index] : NULL;
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

/* Where another task has made it: a copy, by way of us. */
static struct error *fetch(struct files *files, struct file *file, struct arg *ret_fd)
{
	if (file->copy < 0) {
		file->copy = (int)syscall(SYS_pidfd_getfd, file->maker->process->pidfd, file->high_fd, 0);
		if (file->copy < 0)
			return error_new(errno, "pidfd_getfd(%d)", file->high_fd);
	}
	*ret_fd = build_fetch_fd(files->task, files->batch, file->copy);
	return NULL;
}

static struct error *place(struct files *files, const FdinfoEntry *fdinfo)
{
	struct file *file = find_file(files, fdinfo->id);
	struct batch *batch = files->batch;

	if (!file)
		return error_new(EBADMSG, "fd %u refers to file %u, which isn't there", fdinfo->fd, fdinfo->id);
	bool is_maker = file->maker == files->task;
	struct arg from = val((uint64_t)file->high_fd);
	batch_about(batch, file->ops->name, file->entry->id);
	if (!is_maker)
		TRY(fetch(files, file, &from));
	uint64_t flags = fdinfo->flags & FD_CLOEXEC ? O_CLOEXEC : 0;
	/* What is fetched takes the lowest free number, above all if it is this one. */
	struct arg high = is_maker ? from
	                           : batch_call(batch, fcntl, from, val(F_DUPFD_CLOEXEC),
	                                        val((uint64_t)files->build->spare_base));
	if (!is_maker)
		batch_call(batch, close, from);
	struct arg fd = batch_call(batch, dup3, high, val(fdinfo->fd), val(flags));
	if (!is_maker)
		batch_call(batch, close, high);
	if (is_maker && file->fd < 0) {
		file->fd = (int)fdinfo->fd;
		restore_note_place(files->build->files, file->entry->id, files->task->process->pidfd, file->fd);
		set_up(batch, file, fd);
	}
	return batch_room(batch) < CALLS_PER_FILE ? flush(files) : NULL;
}

/* ---- Through all descriptors ---- */

static struct error *each_fdinfo(struct files *files,
                                 struct error *(*call)(struct files *files, const FdinfoEntry *fdinfo))
{
	const struct model *model = files->task->model;

	for (size_t i = 0; i < image_count(model->store, IMAGE_FDINFO, model->ids->files_id); i++) {
		ProtobufCMessage *message;

		TRY(image_get(model->store, IMAGE_FDINFO, model->ids->files_id, i, &message));
		FdinfoEntry *fdinfo = (FdinfoEntry *)message;
		struct error *error = call(files, fdinfo);
		int fd = (int)fdinfo->fd;
		fdinfo_entry__free_unpacked(fdinfo, NULL);
		TRY(error, "fd %d", fd);
	}
	return flush(files);
}

/* Of all tasks, of those that share a table only the first. */
static struct error *each_table(struct files *files,
                                struct error *(*call)(struct files *files, const FdinfoEntry *fdinfo))
{
	const struct build *build = files->build;
	size_t i = 0;

	for (const struct build_task *task = build_next(build, &i); task; task = build_next(build, &i)) {
		if (!tree_owns(&build->tree, SHARED_FILES, task->index))
			continue;
		take_turn(files, task);
		TRY(each_fdinfo(files, call), "process %d", task->model->pid);
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

		if (!file->ops->finish)
			continue;
		if (file->maker != files->task)
			take_turn(files, file->maker);
		TRY(file->ops->finish(&placed, files->build->files, file->maker->process), "%s, fd %d", file->ops->name,
		    file->fd);
	}
	return NULL;
}

/* Connections are made to work again from here, when the network is open: we need copies until then. */
static struct error *keep_for_resume(struct files *files)
{
	struct build *build = files->build;

	build->resume = xalloc((files->count + 1) * sizeof(*build->resume));
	for (size_t i = 0; i < files->count; i++) {
		const struct file *file = &files->list[i];

		if (!file->ops->resume)
			continue;
		int fd = (int)syscall(SYS_pidfd_getfd, file->maker->process->pidfd, file->fd, 0);
		if (fd < 0)
			return error_new(errno, "pidfd_getfd(%d)", file->fd);
		build->resume[build->resume_count++] = (struct resume_file){.entry_id = file->entry->id, .fd = fd};
	}
	return NULL;
}

/* ---- Working and root folder ---- */

static struct error *change_to(const struct build_task *task, uint32_t id, struct batch *batch, bool is_root)
{
	struct stat here;
	struct stat there;
	int opened;

	TRY(reg_file_open_id(id, O_RDONLY | O_DIRECTORY, task->build->files, &opened));
	auto_fd int fd = opened;
	if (fstat(fd, &there) < 0 || stat("/", &here) < 0)
		return error_new(errno, "stat");
	if (is_root && here.st_dev == there.st_dev && here.st_ino == there.st_ino)
		return NULL; /* chroot(2) needs a privilege that isn't needed then */
	struct arg fetched = build_fetch_fd(task, batch, fd);
	batch_call(batch, fchdir, fetched);
	if (is_root)
		batch_call(batch, chroot, batch_bytes(batch, ".", 2));
	batch_call(batch, close, fetched);
	return process_run(task->process, batch);
}

static struct error *restore_fs(const struct build_task *task)
{
	const FsEntry *fs = task->model->fs;
	auto_batch struct batch *root = process_batch(task->process, 0);
	auto_batch struct batch *cwd = process_batch(task->process, 0);

	TRY(change_to(task, fs->root_id, root, true), "root folder");
	if (fs->has_umask)
		batch_call(cwd, umask, val(fs->umask));
	return error_wrap(change_to(task, fs->cwd_id, cwd, false), "working folder");
}

static struct error *restore_all_fs(const struct build *build)
{
	size_t i = 0;

	for (const struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		if (tree_owns(&build->tree, SHARED_FS, task->index))
			TRY(restore_fs(task), "process %d", task->model->pid);
	return NULL;
}

/* ---- Locks ---- */

static struct error *close_spare(const struct build_task *task)
{
	auto_batch struct batch *batch = process_batch(task->process, 0);

	batch_call(batch, close_range, val((uint64_t)task->build->spare_base), val(UINT32_MAX), val(0));
	return process_run(task->process, batch);
}

static struct error *take_locks_of(struct build_task *task)
{
	const struct build *build = task->build;

	TRY(file_locks_take(build->store, task->process, task->index == 0, &task->busy_locks));
	return build->options.program_runs ? NULL : file_locks_refusal(&task->busy_locks, task->process->pid);
}

/* Behind the last close(2): closing any descriptor of a file gives up the locks of POSIX on it. */
static struct error *take_locks(const struct build *build)
{
	size_t i = 0;

	for (const struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		if (tree_owns(&build->tree, SHARED_FILES, task->index))
			TRY(close_spare(task), "process %d", task->model->pid);
	i = 0;
	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		TRY(take_locks_of(task), "process %d", task->model->pid);
	return NULL;
}

bool build_has_busy_locks(const struct build *build)
{
	for (size_t i = 0; i < build->tree.count; i++)
		if (build->tasks[i]->busy_locks.count > 0)
			return true;
	return false;
}

/* Those that are free by now; what isn't by then is told. */
static struct error *take_late(const struct build *build)
{
	struct error *error = NULL;

	for (size_t i = 0; i < build->tree.count; i++) {
		struct build_task *task = build->tasks[i];

		if (task->busy_locks.count == 0)
			continue;
		file_locks_take_late(&task->busy_locks, task->process);
		error = error_join(error, file_locks_refusal(&task->busy_locks, task->process->pid));
	}
	return error;
}

struct error *build_take_locks(struct build *build, int wait_ms)
{
	uint64_t end_ns = clock_now_ns() + (uint64_t)wait_ms * 1000000;

	/* A thread that makes a call would meet it. */
	for (size_t i = 0; i < build->tree.count; i++)
		if (build->tasks[i]->busy_locks.count > 0)
			TRY(process_withdraw_stop(build->tasks[i]->process));
	for (;;) {
		auto_error struct error *error = take_late(build);

		if (!error || clock_now_ns() >= end_ns)
			return take(error);
		usleep(LOCK_AGAIN_US);
	}
}

static struct process *find_task(pid_t own_pid, void *context)
{
	const struct build *build = context;
	int index = tree_find(&build->tree, own_pid);

	return index < 0 ? NULL : build->tasks[index]->process;
}

struct error *build_files(struct build *build)
{
	__attribute__((cleanup(files_free))) struct files files = {.build = build, .by_id = number_map_new()};

	TRY(restore_all_fs(build));
	restore_files_watch_folders(build->files, build_watch_folder, build);
	restore_files_set_finder(build->files, find_task, build);
	TRY(each_table(&files, make_for));
	TRY(each_table(&files, place));
	TRY(finish_all(&files));
	TRY(keep_for_resume(&files));
	return take_locks(build);
}

static struct error *resume(const struct build *build, struct resume_file *resume)
{
	auto_fd int fd = take(resume->fd);
	FileEntry *entry;

	TRY(restore_file_entry(build->files, resume->entry_id, &entry));
	struct error *error = file_ops_of_type(entry->type)->resume(entry, build->store, fd);
	file_entry__free_unpacked(entry, NULL);
	return error;
}

/* What fails for one is nothing to the others: they have to work. */
struct error *build_resume(struct build *build)
{
	struct error *error = NULL;

	for (size_t i = 0; i < build->resume_count; i++)
		error = error_join(error, resume(build, &build->resume[i]));
	return error;
}
