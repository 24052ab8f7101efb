/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/alive.h"
#include "checkpoint/connections.h"
#include "checkpoint/memory_extra.h"
#include "checkpoint/restore/building.h"
#include "checkpoint/restore/nursery.h"
#include "memory/areas.h"
#include "objects/ghost.h"
#include "objects/memfd.h"
#include "objects/reg_file.h"
#include "objects/standard_streams.h"
#include "objects/tty.h"
#include "util/alloc.h"
#include "util/number_map.h"
#include "util/problems.h"
#include "util/procfs.h"
#include "util/test_stop.h"

enum {
	SPARE_NUMBERS = 64, /* that the program may open more while it is built, without anything having to move */
	DEATH_MS = 5000,    /* that our death may take until it is known what has become of the program */
};

/* ---- Areas ---- */

struct mapped_file_source {
	struct file_source source;
	struct build_task *task;
	struct restore_files *files; /* borrowed */
};

/* How the file was open when it was mapped: that decides what mprotect(2) may make of it. */
static uint32_t open_flags(const VmaEntry *vma)
{
	if (vma->has_fdflags)
		return vma->fdflags & O_ACCMODE;
	return (vma->flags & MAP_SHARED) && (vma->prot & PROT_WRITE) ? O_RDWR : O_RDONLY;
}

static struct error *open_mapped(const struct mapped_file_source *mapped, const VmaEntry *vma, int *ret_fd)
{
	if (vma->status & AREA_ANON_SHARED)
		return build_shared_open(mapped->task->build, vma, ret_fd);
	if (vma->shmid > UINT32_MAX)
		return error_new(EBADMSG, "file %#" PRIx64 " of area %#" PRIx64, vma->shmid, vma->start);
	if (vma->status & AREA_MEMFD)
		return memfd_open_id((uint32_t)vma->shmid, open_flags(vma), mapped->files, ret_fd);
	return reg_file_open_id((uint32_t)vma->shmid, open_flags(vma), mapped->files, ret_fd);
}

static struct error *open_mapped_file(struct file_source *source, const VmaEntry *vma, int *ret_fd_in_task)
{
	const struct mapped_file_source *mapped = (struct mapped_file_source *)source;
	int opened = -1;

	TRY(open_mapped(mapped, vma, &opened));
	auto_fd int fd = opened;
	return build_fetch_fd_now(mapped->task, fd, ret_fd_in_task);
}

static struct error *map_areas(struct build_task *task, const struct image_store *store, const MmEntry *mm,
                               struct restore_files *files)
{
	struct mapped_file_source source = {.source.open = open_mapped_file, .task = task, .files = files};
	auto_memory_extra MemoryExtraEntry *extra = NULL;

	TRY(memory_extra_get(store, task->model->pid, &extra));
	TRY(build_shared_make(task->build, store, mm));
	TRY(build_shared_give(task->build, store, files));
	return memory_map(task->memory, mm, extra, &source.source);
}

/* ---- The models ---- */

/* The highest number of a table, once it is known to be sound. */
static struct error *highest_fd(const struct image_store *store, uint32_t files_id, uint32_t *highest)
{
	auto_number_map struct number_map *seen = number_map_new();

	for (size_t i = 0; i < image_count(store, IMAGE_FDINFO, files_id); i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_FDINFO, files_id, i, &message));
		uint32_t fd = ((FdinfoEntry *)message)->fd;
		fdinfo_entry__free_unpacked((FdinfoEntry *)message, NULL);
		if (!number_map_add(seen, fd, 0, 0))
			return error_new(EBADMSG, "fd %u is there twice", fd);
		if (fd > *highest)
			*highest = fd;
	}
	return *highest > INT32_MAX / 2 ? error_new(EBADMSG, "fd %u", *highest) : NULL;
}

/* Above all numbers that the program uses. */
static struct error *find_spare_base(const struct build *build, int *ret_base)
{
	uint32_t highest = 0;

	for (size_t i = 0; i < build->tree.count; i++)
		if (!build->tree.tasks[i].is_zombie && tree_owns(&build->tree, SHARED_FILES, i))
			TRY(highest_fd(build->store, build->tree.tasks[i].ids[SHARED_FILES], &highest), "process %d",
			    build->tree.tasks[i].pid);
	*ret_base = (int)highest + 1 + SPARE_NUMBERS;
	return NULL;
}

/* For a store; the caller frees it. */
static struct restore_files *new_files(const struct build *build, const struct image_store *store)
{
	struct restore_files *files = restore_files_new(store, build->options.carry);

	restore_files_set_ghosts(files, build->ghosts);
	return files;
}

/* All that is restored. */
static struct error *open_files(struct build *build)
{
	build->files = new_files(build, build->store);
	return standard_streams_replace(build->files, build->tree.tasks[0].ids[SHARED_FILES]);
}

static struct error *read_models(struct build *build)
{
	for (size_t i = 0; i < build->tree.count; i++) {
		struct build_task *task = build->tasks[i];

		TRY(model_read(build->store, &build->tree, i, &task->model), "process %d", build->tree.tasks[i].pid);
		task->vdso_address = task->model->mm ? build_vdso_address(task->model->mm) : 0;
	}
	return NULL;
}

static struct error *prepare(struct build *build, const struct image_store *store)
{
	build->store = store;
	build->ghosts = restored_ghosts_new();
	TRY(model_read_tree(store, &build->tree));
	build->tasks = xalloc(build->tree.count * sizeof(struct build_task *));
	for (size_t i = 0; i < build->tree.count; i++)
		build->tasks[i] = build_task_new(build, i);
	TRY(read_models(build));
	TRY(find_spare_base(build, &build->spare_base));
	TRY(open_files(build));
	if (build->options.program_runs)
		restore_files_set_running(build->files);
	return NULL;
}

static void forget_models(struct build *build)
{
	restore_files_free(take(build->files));
	for (size_t i = 0; i < build->tree.count; i++)
		model_free(take(build->tasks[i]->model));
}

/* ---- Beforehand ---- */

/* What the kinds of files know of this host. */
static struct error *preflight_kinds(struct restore_files *files)
{
	auto_problems struct problems problems = {0};

	for (size_t i = 0; i < image_count(restore_store(files), IMAGE_FILES, 0); i++) {
		FileEntry *entry;

		TRY(restore_nth_file_entry(files, i, &entry));
		const struct file_ops *ops = file_ops_of_type(entry->type);
		if (ops && ops->preflight)
			problems_add(&problems, ops->preflight(entry, files));
		file_entry__free_unpacked(entry, NULL);
	}
	return problems_error(&problems, "what the program has open can't be made here:");
}

static struct error *preflight_files(struct restore_files *files)
{
	return error_join(reg_files_verify(files), preflight_kinds(files));
}

struct error *build_preflight_sketch(const struct image_store *sketch, const struct carry_options *carry)
{
	struct restore_files *files = restore_files_new(sketch, carry);

	restore_files_set_running(files);
	struct error *error = preflight_files(files);
	restore_files_free(files);
	return error;
}

struct error *build_preflight(const struct image_store *store, const struct build_options *options)
{
	auto_build struct build *build = xalloc(sizeof(*build));

	build->own_pidfd = -1;
	build->options = *options;
	TRY(prepare(build, store));
	struct error *error = preflight_files(build->files);
	for (size_t i = 0; i < build->tree.count; i++)
		error = error_join(error, build_threads_preflight(build->tasks[i]));
	return error;
}

/* ---- Shadows ---- */

static struct error *fill_task(struct build_task *task)
{
	struct build *build = task->build;

	if (task->model->mm) {
		task->memory = memory_new(task->process);
		TRY(map_areas(task, build->store, task->model->mm, build->files));
	}
	return build_follow_threads(task, task->model->pstree->threads, task->model->thread_count);
}

struct error *build_new(const struct image_store *store, const struct build_options *options, struct build **ret_build)
{
	auto_build struct build *build = xalloc(sizeof(*build));

	build->options = *options;
	arch_fpu_layout_read(&build->layout);
	build->own_pidfd = procfs_open_pid(getpid());
	if (build->own_pidfd < 0)
		return error_new(-build->own_pidfd, "pidfd_open(%d)", getpid());
	TRY(prepare(build, store));
	TRY(build_make_root(build), "make task %d", build->tree.tasks[0].pid);
	TRY(build_make_family(build));
	build->shared = shared_build_new();
	size_t i = 0;
	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		TRY(fill_task(task), "process %d", task->model->pid);
	*ret_build = take(build);
	return NULL;
}

static struct build_task *find_task(const struct build *build, pid_t own_pid)
{
	int at = tree_find(&build->tree, own_pid);

	return at >= 0 && build->tasks[at]->process ? build->tasks[at] : NULL;
}

static struct error *follow_threads(struct build_task *task, const struct image_store *store)
{
	ProtobufCMessage *message;

	TRY(image_get(store, IMAGE_PSTREE, 0, 0, &message));
	PstreeEntry *pstree = (PstreeEntry *)message;
	struct error *error = build_follow_threads(task, pstree->threads, pstree->n_threads);
	pstree_entry__free_unpacked(pstree, NULL);
	return error;
}

struct error *build_remap(struct build *build, pid_t own_pid, const struct image_store *store,
                          const struct ranges *gone)
{
	auto_restore_files struct restore_files *files = new_files(build, store);
	struct build_task *task = find_task(build, own_pid);
	ProtobufCMessage *message;

	if (!task || !task->memory)
		return error_new(EBADMSG, "areas of process %d, which isn't there", own_pid);
	if (build->options.program_runs)
		restore_files_set_running(files);
	TRY(image_get(store, IMAGE_MM, (uint64_t)own_pid, 0, &message));
	struct error *error = memory_unmap(task->memory, gone);
	if (!error)
		error = map_areas(task, store, (const MmEntry *)message, files);
	mm_entry__free_unpacked((MmEntry *)message, NULL);
	return error ? error : follow_threads(task, store);
}

/* Our pidfd steps aside for descriptors that the program has opened meanwhile. */
static struct error *move_spare_base(struct build *build, int base)
{
	size_t i = 0;

	if (base <= build->spare_base)
		return NULL;
	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i)) {
		auto_batch struct batch *batch = process_batch(task->process, 0);

		batch_call(batch, dup3, val((uint64_t)build->spare_base), val((uint64_t)base), val(O_CLOEXEC));
		batch_call(batch, close, val((uint64_t)build->spare_base));
		TRY(process_run(task->process, batch));
	}
	build->spare_base = base;
	return NULL;
}

/* Other images of the program, in which all has changed but what its tasks have already. */
static struct error *take_images(struct build *build, const struct image_store *store)
{
	int base = 0;

	forget_models(build);
	build->store = store;
	TRY(build_match(build));
	TRY(read_models(build));
	TRY(open_files(build));
	TRY(ghosts_refresh(build->files));
	TRY(find_spare_base(build, &base));
	return move_spare_base(build, base - SPARE_NUMBERS);
}

struct error *build_follow(struct build *build, const struct image_store *store, char **ret_new)
{
	size_t i = 0;

	TRY(take_images(build, store));
	if (build->options.program_runs)
		restore_files_set_running(build->files);
	TRY(build_make_family(build));
	*ret_new = xcopy("");
	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i)) {
		if (task->memory || !task->model->mm)
			continue;
		TRY(fill_task(task), "process %d", task->model->pid);
		auto_free char *former = *ret_new;
		*ret_new = xformat("%s%s%d", former, *former ? " " : "", task->model->pid);
	}
	return NULL;
}

struct error *build_renew(struct build *build, const struct image_store *store)
{
	TRY(take_images(build, store));
	for (size_t i = 0; i < build->tree.count; i++)
		if (!build->tree.tasks[i].is_zombie && (!build->tasks[i]->process || build->tasks[i]->is_torn))
			return error_new(EBADMSG, "process %d has come too late", build->tree.tasks[i].pid);
	return build_make_family(build);
}

struct shared_build *build_shared(struct build *build)
{
	return build->shared;
}

struct memory *build_memory(const struct build *build, pid_t own_pid)
{
	const struct build_task *task = find_task(build, own_pid);

	return task ? task->memory : NULL;
}

bool build_next_memory(const struct build *build, size_t *index, pid_t *ret_own_pid, struct memory **ret_memory)
{
	for (const struct build_task *task = build_next(build, index); task; task = build_next(build, index)) {
		if (!task->memory)
			continue;
		*ret_own_pid = task->model->pid;
		*ret_memory = task->memory;
		return true;
	}
	return false;
}

pid_t build_pid(const struct build *build)
{
	const struct build_task *root = build_root(build);

	return root->process ? root->process->pid : root->model->pid;
}

pid_t build_child(const struct build *build)
{
	return build->space ? pid_space_init(build->space) : build_pid(build);
}

/* ---- Completing ---- */

static bool stays_stopped(const struct build_task *task)
{
	enum { TASK_STOPPED = 3 };

	return task->build->options.is_left_stopped || task->model->cores[0]->tc->task_state == TASK_STOPPED;
}

size_t build_count(const struct build *build)
{
	size_t count = 0;
	size_t i = 0;

	while (build_next(build, &i))
		count++;
	return count;
}

pid_t *build_stopped(const struct build *build, size_t *ret_count)
{
	pid_t *pids = xalloc((build->tree.count + 1) * sizeof(*pids));
	size_t i = 0;

	*ret_count = 0;
	for (const struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		if (stays_stopped(task))
			pids[(*ret_count)++] = task->process->pid;
	return pids;
}

/* What the task has already. Setting it again would fail, since by now it is mapped: prctl(2), PR_SET_MM_EXE_FILE. */
static bool is_own_executable(int fd)
{
	struct stat own;
	struct stat other;

	return stat("/proc/self/exe", &own) == 0 && fstat(fd, &other) == 0 && own.st_ino == other.st_ino &&
	       own.st_dev == other.st_dev;
}

static struct error *finish_memory(struct build_task *task)
{
	struct build *build = task->build;
	auto_memory_extra MemoryExtraEntry *extra = NULL;
	int exe_here;
	int exe_there = -1;

	TRY(reg_file_open_id(task->model->mm->exe_file_id, O_RDONLY, build->files, &exe_here), "executable");
	auto_fd int exe = exe_here;
	if (!is_own_executable(exe))
		TRY(build_fetch_fd_now(task, exe, &exe_there), "executable");
	TRY(memory_extra_get(build->store, task->model->pid, &extra));
	return error_wrap(memory_finish(task->memory, task->model->mm, extra, exe_there), "memory");
}

/* ---- Outliving us ---- */

struct outliving {
	struct lock_holder root;
	size_t count;
};

/* In the keeper: we have died when they were about to live without us, or had just begun to. The file has those that stay
 * stopped. */
static void undo_death(const void *bytes, const int *fds, size_t fd_count)
{
	struct outliving outliving;
	struct stat stat = {0};
	bool is_alive = false;

	memcpy(&outliving, bytes, sizeof(outliving));
	if (fd_count != 1 || fstat(fds[0], &stat) < 0)
		return;
	auto_free pid_t *stopped = xalloc((size_t)stat.st_size + 1);
	ssize_t n = pread(fds[0], stopped, (size_t)stat.st_size, 0);
	const struct alive_tree tree = {
		.root = outliving.root,
		.count = outliving.count,
		.stopped = stopped,
		.stopped_count = n > 0 ? (size_t)n / sizeof(*stopped) : 0,
	};
	error_free(alive_prove_tree(&tree, DEATH_MS, &is_alive));
	if (is_alive)
		error_free(alive_go_on(&tree));
}

static struct error *write_stopped(const struct build *build, int fd)
{
	size_t count;
	auto_free pid_t *pids = build_stopped(build, &count);
	size_t size_bytes = count * sizeof(*pids);

	if (write(fd, pids, size_bytes) != (ssize_t)size_bytes)
		return error_new(errno, "note of stopped processes");
	return NULL;
}

static struct error *tell_keeper(const struct build *build)
{
	struct outliving outliving = {.root.pid = build_pid(build), .count = build_count(build)};
	auto_fd int fd = -1;
	const struct keeper_undo undo = {
		.undo = undo_death,
		.bytes = &outliving,
		.size_bytes = sizeof(outliving),
		.fds = &fd,
		.fd_count = 1,
	};
	uint32_t id;

	if (build->options.is_on_record)
		return NULL;
	int r = procfs_start_time(outliving.root.pid, &outliving.root.start_time);
	if (r < 0)
		return error_new(-r, "start time of process %d", outliving.root.pid);
	fd = memfd_create("stopped", MFD_CLOEXEC);
	if (fd < 0)
		return error_new(errno, "memfd_create");
	TRY(write_stopped(build, fd));
	return keeper_add(build->options.keeper, &undo, &id);
}

static bool is_child_of_tree(const struct build_task *task)
{
	return task->index > 0 && !task->build->options.is_left_stopped;
}

/* Children before their parents: who is stopped is so before its parent could notice that it has just been. */
static struct error *complete_tasks(struct build *build)
{
	for (size_t i = build->tree.count; i-- > 0;) {
		struct build_task *task = build->tasks[i];

		if (!task->process)
			continue;
		TRY(build_threads(task), "process %d", task->model->pid);
		TRY(process_complete(task->process));
		if (is_child_of_tree(task) && stays_stopped(task))
			TRY(build_stop_child(task), "process %d", task->model->pid);
	}
	return NULL;
}

struct error *build_complete(struct build *build)
{
	size_t i = 0;

	if (build->options.program_runs)
		TRY(reg_files_verify_written(build->files));
	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		if (task->memory)
			TRY(finish_memory(task), "process %d", task->model->pid);
	TRY(build_shared_give(build, build->store, build->files));
	TRY(build_files(build));
	TRY(build_shared_seal(build));
	TRY(build_semaphores_and_queues(build));
	TRY(complete_tasks(build));
	if (build->options.clocks)
		TRY(clocks_wait(build->store, build->options.clocks));
	return tell_keeper(build);
}

struct error *build_outlive(struct build *build)
{
	size_t i = 0;

	restore_files_keep_made(build->files);
	/* A spare end of a pipe that is still held here would delay its EOF. */
	restore_files_free(take(build->files));
	/* So would that of a pseudoterminal delay the end of its session. */
	restored_ghosts_free(take(build->ghosts));
	build->ghosts = restored_ghosts_new();
	TRY(open_files(build));
	/* The root first, and parents before their children: whoever finds some of them finds all that live. */
	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i)) {
		TRY(process_outlive(task->process, stays_stopped(task)));
		if (i == 1 && build->tree.count > 1)
			test_stop(build->options.is_on_record ? "destination-outlives-in-part" : "outlives-in-part");
	}
	build->is_released = true;
	return NULL;
}

struct error *build_release(struct build *build)
{
	size_t i = 0;
	struct error *error = NULL;

	for (struct build_task *task = build_next(build, &i); task; task = build_next(build, &i))
		error = error_join(error, process_release(task->process));
	if (!error && build->options.carry->shell_job)
		tty_tell_size(build->store, build_pid(build));
	return error;
}

/* ---- The end ---- */

void build_free(struct build *build)
{
	if (!build)
		return;
	/* On the way out of something that failed for a reason of its own, which is the one to tell. */
	for (size_t i = build->tree.count; i-- > 0 && !build->is_released && build->tasks;)
		if (build->tasks[i] && build->tasks[i]->process)
			build_task_end(build->tasks[i]);
	if (!build->is_released)
		cgroup_home_remove(build->home);
	cgroup_home_free(build->home);
	if (!build->is_released)
		build_sysv_undo(build);
	shared_build_free(build->shared);
	restore_files_free(build->files);
	for (size_t i = 0; build->tasks && i < build->tree.count; i++)
		build_task_free(build->tasks[i]);
	free(build->tasks);
	tree_free(&build->tree);
	pid_space_free(build->space);
	restored_ghosts_free(build->ghosts);
	for (size_t i = 0; i < build->resume_count; i++)
		if (build->resume[i].fd >= 0)
			close(build->resume[i].fd);
	free(build->resume);
	free(build->sysv);
	if (build->own_pidfd >= 0)
		close(build->own_pidfd);
	free(build);
}
