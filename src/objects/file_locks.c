/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "file-lock.pb-c.h"
#include "objects/file_locks.h"
#include "task/process.h"
#include "task/remote.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* flag of an entry: what the kernel calls FL_POSIX and so on. */
enum kind { KIND_POSIX = 1, KIND_FLOCK = 2, KIND_LEASE = 32, KIND_OFD = 1024 };

enum { LOCKS_PER_BATCH = 40 };

struct file_lock {
	enum kind kind;
	int type; /* F_RDLCK, F_WRLCK */
	int fd;
	int64_t start, length; /* 0: to the end, as far as it will ever be */
};

/* ---- Looking ---- */

/* The next line of fdinfo about a lock; NULL: none. */
static const char *next_line(const char *text)
{
	return strncmp(text, "lock:", 5) == 0 ? text : (text = strstr(text, "\nlock:")) ? text + 1 : NULL;
}

static bool take_kind(const char *name, enum kind *ret_kind)
{
	static const struct {
		const char *name;
		enum kind kind;
	} kinds[] = {{"POSIX", KIND_POSIX}, {"FLOCK", KIND_FLOCK}, {"LEASE", KIND_LEASE}, {"OFDLCK", KIND_OFD}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, name) == 0) {
			*ret_kind = kinds[i].kind;
			return true;
		}
	return false;
}

/* As in proc_locks(5): "lock: 1: POSIX  ADVISORY  WRITE 812 08:01:77 0 EOF". */
static struct error *parse(const char *line, int fd, struct file_lock *ret_lock)
{
	char kind[16];
	char state[16];
	char type[16];
	char end[24];

	if (sscanf(line, "lock: %*d: %15s %15s %15s %*d %*s %" SCNd64 " %23s", kind, state, type, &ret_lock->start,
	           end) != 5)
		return error_new(EPROTO, "fdinfo: \"%.*s\"", (int)strcspn(line, "\n"), line);
	if (!take_kind(kind, &ret_lock->kind) || strncmp(state, "BREAK", 5) == 0)
		return error_hint(error_new(ENOTSUP, "a lock of kind %s, %s", kind, state),
		                  "try again when the program has given it up");
	ret_lock->fd = fd;
	ret_lock->type = strcmp(type, "WRITE") == 0 ? F_WRLCK : F_RDLCK;
	ret_lock->length = strcmp(end, "EOF") == 0 ? 0 : strtoll(end, NULL, 10) - ret_lock->start + 1;
	return NULL;
}

struct error *file_locks_check(const struct open_file *file)
{
	for (const char *line = next_line(file->fdinfo); line; line = next_line(line + 1)) {
		struct file_lock lock;

		TRY(parse(line, file->fd, &lock));
	}
	return NULL;
}

/* ---- Saving ---- */

static void put(const struct file_lock *lock, pid_t pid, struct image_store *store)
{
	FileLockEntry entry = FILE_LOCK_ENTRY__INIT;

	entry.flag = lock->kind;
	entry.type = (uint32_t)lock->type;
	if (lock->kind == KIND_FLOCK)
		entry.type = lock->type == F_WRLCK ? LOCK_EX : LOCK_SH;
	entry.pid = pid;
	entry.fd = lock->fd;
	entry.start = lock->start;
	entry.len = lock->length;
	image_put(store, IMAGE_FILE_LOCKS, 0, &entry.base);
}

/* Where locks are looked at, and in whose name. */
struct view {
	const char *fdinfo;
	pid_t own_pid;
	int fd;
	bool is_second; /* of a description that another process has, too: only the locks of this one are new */
};

static struct error *save_of(const struct view *view, struct image_store *store)
{
	for (const char *line = next_line(view->fdinfo); line; line = next_line(line + 1)) {
		struct file_lock lock;

		TRY(parse(line, view->fd, &lock), "fd %d", view->fd);
		if (!view->is_second || lock.kind == KIND_POSIX)
			put(&lock, view->own_pid, store);
	}
	return NULL;
}

/* One in flight belongs to none. */
static pid_t own_pid_of(const struct open_file *file)
{
	const struct open_task *task = open_files_task(file->all, file->pid);

	return task ? task->own_pid : file->all->tasks[0].own_pid;
}

/* Each lock shows at the description through which it was taken. Those of POSIX belong to a process, and show only in its own
 * fdinfo. */
struct error *file_locks_save(const struct open_files *files, struct image_store *store)
{
	for (size_t i = 0; i < files->count; i++) {
		const struct open_file *file = &files->list[i];
		const struct view view = {.fdinfo = file->fdinfo, .own_pid = own_pid_of(file), .fd = file->fd};

		TRY(save_of(&view, store));
	}
	for (size_t i = 0; i < files->number_count; i++) {
		const struct open_number *number = &files->numbers[i];
		const struct view view = {
			.fdinfo = number->locks,
			.own_pid = files->tasks[number->task].own_pid,
			.fd = number->fd,
			.is_second = true,
		};

		if (view.fdinfo)
			TRY(save_of(&view, store));
	}
	return NULL;
}

/* ---- Taking ---- */

void file_locks_free(struct file_locks *locks)
{
	free(locks->list);
	*locks = (struct file_locks){0};
}

static struct error *read_lock(const struct image_store *store, size_t index, pid_t *ret_pid,
                               struct file_lock *ret_lock)
{
	ProtobufCMessage *message;

	TRY(image_get(store, IMAGE_FILE_LOCKS, 0, index, &message));
	const FileLockEntry *entry = (FileLockEntry *)message;
	*ret_pid = entry->pid;
	*ret_lock = (struct file_lock){
		.kind = (enum kind)entry->flag,
		.type = (int)entry->type,
		.fd = entry->fd,
		.start = entry->start,
		.length = entry->len,
	};
	if (ret_lock->kind == KIND_FLOCK)
		ret_lock->type = entry->type == LOCK_EX ? F_WRLCK : F_RDLCK;
	protobuf_c_message_free_unpacked(message, NULL);
	if (ret_lock->kind != KIND_POSIX && ret_lock->kind != KIND_FLOCK && ret_lock->kind != KIND_LEASE &&
	    ret_lock->kind != KIND_OFD)
		return error_new(ENOTSUP, "file lock of kind %d", (int)ret_lock->kind);
	if (ret_lock->fd < 0 || (ret_lock->type != F_RDLCK && ret_lock->type != F_WRLCK))
		return error_new(EBADMSG, "file lock of type %d on fd %d", ret_lock->type, ret_lock->fd);
	return NULL;
}

static struct flock range_of(const struct file_lock *lock)
{
	return (struct flock){
		.l_type = (short)lock->type,
		.l_whence = SEEK_SET,
		.l_start = lock->start,
		.l_len = lock->length,
	};
}

static struct arg append(struct batch *batch, const struct file_lock *lock)
{
	const struct flock range = range_of(lock);
	struct arg fd = val((uint64_t)lock->fd);
	struct arg call;

	switch (lock->kind) {
	case KIND_FLOCK:
		call = batch_call(batch, flock, fd, val(lock->type == F_WRLCK ? LOCK_EX | LOCK_NB : LOCK_SH | LOCK_NB));
		break;
	case KIND_LEASE:
		call = batch_call(batch, fcntl, fd, val(F_SETLEASE), val((uint64_t)lock->type));
		break;
	case KIND_POSIX:
	case KIND_OFD:
		call = batch_call(batch, fcntl, fd, val(lock->kind == KIND_OFD ? F_OFD_SETLK : F_SETLK),
		                  batch_bytes(batch, &range, sizeof(range)));
		break;
	}
	batch_may_fail(batch, call);
	return call;
}

static void add_busy(struct file_locks *busy, const struct file_lock *lock)
{
	busy->list = xrealloc(busy->list, (busy->count + 1) * sizeof(*busy->list));
	busy->list[busy->count++] = *lock;
}

static struct error *take_some(struct process *process, const struct file_lock *locks, size_t count,
                               struct file_locks *busy)
{
	auto_batch struct batch *batch = process_batch(process, 0);
	struct arg calls[LOCKS_PER_BATCH];

	for (size_t i = 0; i < count; i++) {
		batch_about(batch, "lock on fd", (uint32_t)locks[i].fd);
		calls[i] = append(batch, &locks[i]);
	}
	TRY(process_run(process, batch));
	for (size_t i = 0; i < count; i++) {
		int64_t r = batch_result(batch, calls[i]);

		if (r == -EAGAIN || r == -EACCES)
			add_busy(busy, &locks[i]);
		else if (r < 0)
			return error_new((int)-r, "lock on fd %d", locks[i].fd);
	}
	return NULL;
}

struct error *file_locks_take(const struct image_store *store, struct process *process, bool takes_orphans,
                              struct file_locks *ret_busy)
{
	size_t count = image_count(store, IMAGE_FILE_LOCKS, 0);
	struct file_lock locks[LOCKS_PER_BATCH];

	for (size_t i = 0; i < count;) {
		size_t some = 0;

		for (; some < LOCKS_PER_BATCH && i < count; i++) {
			pid_t pid;

			TRY(read_lock(store, i, &pid, &locks[some]));
			some += pid > 0 ? pid == process->own_pid : takes_orphans;
		}
		TRY(take_some(process, locks, some, ret_busy));
	}
	return NULL;
}

struct error *file_locks_refusal(const struct file_locks *busy, pid_t pid)
{
	struct error *error = NULL;

	for (size_t i = 0; i < busy->count; i++) {
		auto_free char *link = xformat("/proc/%d/fd/%d", pid, busy->list[i].fd);
		char path[PATH_MAX] = "?";

		ssize_t length = readlink(link, path, sizeof(path) - 1);
		path[length < 0 ? 1 : length] = '\0';
		error = error_join(
			error, error_new(EAGAIN, "fd %d (%s): somebody else has a lock on it", busy->list[i].fd, path));
	}
	return error_hint(error,
	                  "/proc/locks and lslocks(8) show who; a stopped original has its locks until it is ended");
}

/* ---- Late ---- */

static void fill_request(const struct file_lock *lock, uint64_t range_address, struct remote_request *request)
{
	*request = (struct remote_request){.name = "lock", .number = SYS_fcntl};
	request->arguments[0] = (uint64_t)lock->fd;
	switch (lock->kind) {
	case KIND_FLOCK:
		request->number = SYS_flock;
		request->arguments[1] = lock->type == F_WRLCK ? LOCK_EX | LOCK_NB : LOCK_SH | LOCK_NB;
		break;
	case KIND_LEASE:
		request->arguments[1] = F_SETLEASE;
		request->arguments[2] = (uint64_t)lock->type;
		break;
	case KIND_POSIX:
	case KIND_OFD:
		request->arguments[1] = lock->kind == KIND_OFD ? F_OFD_SETLK : F_SETLK;
		request->arguments[2] = range_address;
		break;
	}
}

static bool take_late(const struct file_lock *lock, struct process *process)
{
	const struct flock range = range_of(lock);
	struct remote_request request;
	uint64_t range_address = 0;
	int64_t result = -EAGAIN;

	auto_error struct error *error = remote_room_put(process, &range, sizeof(range), &range_address);
	if (error)
		return false;
	fill_request(lock, range_address, &request);
	error = remote_call_idle(process, &request, &result);
	remote_room_clear(process, sizeof(range));
	return !error && result >= 0;
}

void file_locks_take_late(struct file_locks *busy, struct process *process)
{
	size_t left = 0;

	for (size_t i = 0; i < busy->count; i++)
		if (!take_late(&busy->list[i], process))
			busy->list[left++] = busy->list[i];
	busy->count = left;
	remote_slot_clear(process);
}
