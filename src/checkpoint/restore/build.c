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
	STUB_FIRST_ADDRESS = 0x3a, /* in units of stub_step: where programs and their libraries seldom are */
	STUB_LAST_ADDRESS = 0x50,
	SPARE_NUMBERS = 64, /* that the program may open more while it is built, without anything having to move */
	SPARE_THREADS = 64,
	DEATH_MS = 5000,     /* that our death may take until it is known what has become of the program */
	RSEQ_UNREGISTER = 1, /* RSEQ_FLAG_UNREGISTER of rseq(2) */
};
static const uint64_t stub_step = UINT64_C(1) << 40;
static const uint64_t user_end = UINT64_C(0x7ffffffff000);

/* ---- Descriptors from here to there ---- */

struct arg build_fetch_fd(struct build *build, struct batch *batch, int fd_here)
{
	return batch_call(batch, pidfd_getfd, val((uint64_t)build->spare_base), val((uint64_t)fd_here), val(0));
}

struct error *build_fetch_fd_now(struct build *build, int fd_here, int *ret_fd_in_task)
{
	auto_batch struct batch *batch = process_batch(build->process, 0);
	struct arg fd = build_fetch_fd(build, batch, fd_here);
	struct arg high = batch_call(batch, fcntl, fd, val(F_DUPFD_CLOEXEC), val((uint64_t)build->spare_base));

	batch_call(batch, close, fd);
	TRY(process_run(build->process, batch));
	*ret_fd_in_task = (int)batch_result(batch, high);
	return NULL;
}

/* ---- The bare task ---- */

static bool is_free(const struct model *model, const struct areas *areas, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < model->mm->n_vmas; i++)
		if (model->mm->vmas[i]->start < end && model->mm->vmas[i]->end > start)
			return false;
	for (size_t i = 0; i < areas->count; i++)
		if (areas->list[i].entry.start < end && areas->list[i].entry.end > start)
			return false;
	return true;
}

/* The program may start threads while it is built. */
static size_t stub_room(const struct build *build)
{
	return build->model->thread_count * 2 + SPARE_THREADS;
}

/* A place for the stub's pages that neither the bare task nor the program uses. */
static struct error *find_stub_address(const struct build *build, uint64_t *ret_address)
{
	auto_areas struct areas areas = {0};
	size_t size_bytes = process_stub_bytes(stub_room(build));

	TRY(areas_read(build->process->pid, &areas));
	for (uint64_t step = STUB_FIRST_ADDRESS; step < STUB_LAST_ADDRESS; step++) {
		uint64_t address = step * stub_step;

		if (is_free(build->model, &areas, address, address + size_bytes)) {
			*ret_address = address;
			return NULL;
		}
	}
	return error_new(ENOMEM, "no room of %zu bytes between the areas of the program", size_bytes);
}

static void unmap_range(struct batch *batch, uint64_t start, uint64_t end)
{
	if (start < end)
		batch_call(batch, munmap, val(start), val(end - start));
}

static bool is_inside(const struct area *area, const struct procfs_range *range)
{
	return area->entry.start >= range->start && area->entry.end <= range->end;
}

/* Unmaps all but the stub and what the kernel put there: vDSO and its data. */
static struct error *clear_memory(struct build *build)
{
	auto_areas struct areas areas = {0};
	auto_batch struct batch *batch = process_batch(build->process, 0);
	struct procfs_range stub[STUB_RANGES];
	const struct thread_rseq *rseq = &build->process->threads[0].rseq;
	uint64_t from = 0;

	/* libc registered it; the kernel would write to it at the next return to the task, and kill it. */
	if (rseq->address)
		batch_call(batch, rseq, val(rseq->address), val(rseq->size_bytes), val(RSEQ_UNREGISTER),
		           val(rseq->signature));
	process_stub_ranges(build->process, stub);
	TRY(areas_read(build->process->pid, &areas));
	for (size_t i = 0; i < areas.count; i++) {
		const struct area *area = &areas.list[i];
		bool is_stub = is_inside(area, &stub[0]) || is_inside(area, &stub[1]);

		if (area->entry.status & AREA_VSYSCALL) /* above all that can be unmapped */
			continue;
		if (!is_stub && !(area->entry.status & (AREA_VDSO | AREA_VVAR)))
			continue;
		unmap_range(batch, from, area->entry.start);
		from = area->entry.end;
	}
	unmap_range(batch, from, user_end);
	return process_run(build->process, batch);
}

/* In its time namespace, if it needs one, which is for nobody else. */
static struct error *clone_in_time(const struct build *build, const struct nursery_request *request)
{
	int former;

	if (!build->options.clocks)
		return nursery_clone(request);
	TRY(clocks_enter(build->options.clocks, &former));
	auto_fd int former_fd = former;
	struct error *error = nursery_clone(request);
	return error_join(error, clocks_leave(former_fd));
}

/* There its init has number 1, and leads session and group 1. */
static struct error *check_numbers(const struct nursery_request *request)
{
	if (request->pid != 1 && request->session != 1 && request->group != 1)
		return NULL;
	return error_hint(error_new(ENOTSUP, "PID %d, session %d, group %d: 1 is that of the namespace's init",
	                            request->pid, request->session, request->group),
	                  "without --pids new it can be restored where these are free");
}

/* In its PID namespace, if it gets one. */
static struct error *clone_task(struct build *build, struct nursery_request *request, pid_t *ret_pid)
{
	*ret_pid = request->pid;
	if (!build->options.new_pids)
		return clone_in_time(build, request);
	TRY(check_numbers(request));
	TRY(pid_space_new(request->pid, build->options.is_child, &build->space));
	/* It is the init's child: that one is ours. */
	request->is_apart = true;
	request->is_child = false;
	TRY(pid_space_enter(build->space));
	struct error *error = clone_in_time(build, request);
	TRY(error_join(error, pid_space_leave()));
	return pid_space_only_child(build->space, ret_pid);
}

/* Whoever ends the groups that we are in (systemd stops ssh) isn't to end the program. */
static void leave_our_cgroups(struct build *build, pid_t pid)
{
	cgroup_home_enter(build->home, pid, build->space ? pid_space_init(build->space) : 0);
	auto_free char *line = cgroup_home_line(build->home);
	log_line(build->options.log, LOG_PHASES, "%s", line);
	if (cgroup_home_no_scope(build->home))
		log_line(build->options.log, LOG_PHASES, "systemd has made no scope for it: %s",
		         cgroup_home_no_scope(build->home));
	if (cgroup_home_refused(build->home))
		log_line(build->options.log, LOG_PHASES, "it stays in that of godwit in %s",
		         cgroup_home_refused(build->home));
}

/* What is half built is the first to go when memory runs out: oom_score_adj in proc_pid_oom_score_adj(5). The program's own
 * value comes with its state (objects/state/name.c). Where it can't be written nothing else changes. */
static void be_first_victim(pid_t pid)
{
	auto_free char *path = xformat("/proc/%d/oom_score_adj", pid);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written = fd < 0 ? -1 : write(fd, "1000", 4);

	(void)written;
}

/* Its session and its process group; 0: those that we are in. */
static void choose_groups(const struct build *build, struct nursery_request *request)
{
	const PstreeEntry *pstree = build->model->pstree;
	bool is_group_leader = pstree->pgid == pstree->pid;

	request->session = (pid_t)pstree->sid;
	request->group = (pid_t)pstree->pgid;
	if (standard_streams_detach(build->model->store, build->options.carry))
		request->session = request->group = (pid_t)pstree->pid;
	else if (build->options.carry->shell_job) {
		request->session = 0;
		request->group = is_group_leader ? request->group : 0;
	}
}

static struct error *make_task(struct build *build)
{
	struct nursery_request request = {
		.pid = build->model->pid,
		.kept_fd = build->own_pidfd,
		.kept_as = build->spare_base,
		.cgroup_fd = -1,
		.is_child = build->options.is_child,
	};
	uint64_t stub_address;
	pid_t pid;

	if (!build->options.is_child) {
		build->home = cgroup_home_new(build->model->pid);
		request.cgroup_fd = cgroup_home_fd(build->home);
		request.cgroup_door_count = cgroup_home_doors(build->home, &request.cgroup_doors);
	}
	choose_groups(build, &request);
	TRY(clone_task(build, &request, &pid));
	test_stop("destination-cloned");
	auto_error struct error *error = process_adopt(pid, build->model->pid, &build->process);
	if (error) {
		kill(pid, SIGKILL);
		return take(error);
	}
	be_first_victim(pid);
	if (build->home)
		leave_our_cgroups(build, pid);
	TRY(process_stop(build->process));
	TRY(find_stub_address(build, &stub_address));
	TRY(process_enter(build->process, stub_address, stub_room(build)));
	return clear_memory(build);
}

/* ---- Areas ---- */

struct mapped_file_source {
	struct file_source source;
	struct build *build;
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
		return build_shared_open(mapped->build, vma, ret_fd);
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
	return build_fetch_fd_now(mapped->build, fd, ret_fd_in_task);
}

static struct error *map_areas(struct build *build, const struct image_store *store, const MmEntry *mm,
                               struct restore_files *files)
{
	struct mapped_file_source source = {.source.open = open_mapped_file, .build = build, .files = files};

	auto_memory_extra MemoryExtraEntry *extra = NULL;

	TRY(memory_extra_get(store, build->model->pid, &extra));
	TRY(build_shared_make(build, store, mm));
	TRY(build_shared_give(build, store, files));
	return memory_map(build->memory, mm, extra, &source.source);
}

/* ---- The steps ---- */

/* Above all numbers that the program uses. */
static struct error *find_spare_base(const struct build *build, int *ret_base)
{
	uint64_t id = build->model->ids->files_id;
	uint32_t highest = 0;
	auto_number_map struct number_map *seen = number_map_new();

	for (size_t i = 0; i < image_count(build->model->store, IMAGE_FDINFO, id); i++) {
		ProtobufCMessage *message;

		TRY(image_get(build->model->store, IMAGE_FDINFO, id, i, &message));
		uint32_t fd = ((FdinfoEntry *)message)->fd;
		fdinfo_entry__free_unpacked((FdinfoEntry *)message, NULL);
		if (!number_map_add(seen, fd, 0, 0))
			return error_new(EBADMSG, "fd %u is there twice", fd);
		if (fd > highest)
			highest = fd;
	}
	if (highest > INT32_MAX / 2)
		return error_new(EBADMSG, "fd %u", highest);
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

static struct error *prepare(struct build *build, const struct image_store *store)
{
	build->ghosts = restored_ghosts_new();
	TRY(model_read(store, &build->model));
	TRY(find_spare_base(build, &build->spare_base));
	build->files = new_files(build, store);
	TRY(standard_streams_replace(build->files, build->model->ids->files_id));
	if (build->options.program_runs)
		restore_files_set_running(build->files);
	return NULL;
}

static void forget_model(struct build *build)
{
	restore_files_free(build->files);
	build->files = NULL;
	model_free(build->model);
	build->model = NULL;
}

/* What the kinds of files know of this host. */
static struct error *preflight_files(const struct build *build)
{
	auto_problems struct problems problems = {0};

	for (size_t i = 0; i < image_count(build->model->store, IMAGE_FILES, 0); i++) {
		FileEntry *entry;

		TRY(restore_nth_file_entry(build->files, i, &entry));
		const struct file_ops *ops = file_ops_of_type(entry->type);
		if (ops && ops->preflight)
			problems_add(&problems, ops->preflight(entry, build->files));
		file_entry__free_unpacked(entry, NULL);
	}
	return problems_error(&problems, "what the program has open can't be made here:");
}

struct error *build_preflight(const struct image_store *store, const struct build_options *options)
{
	auto_build struct build *build = xalloc(sizeof(*build));

	build->own_pidfd = -1;
	build->options = *options;
	TRY(prepare(build, store));
	return error_join(error_join(reg_files_verify(build->files), preflight_files(build)),
	                  build_threads_preflight(build));
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
	TRY(make_task(build), "make task %d", build->model->pid);
	build->memory = memory_new(build->process);
	build->shared = shared_build_new();
	TRY(map_areas(build, store, build->model->mm, build->files));
	TRY(build_follow_threads(build, build->model->pstree->threads, build->model->thread_count));
	*ret_build = take(build);
	return NULL;
}

static struct error *follow_threads(struct build *build, const struct image_store *store)
{
	ProtobufCMessage *message;

	TRY(image_get(store, IMAGE_PSTREE, 0, 0, &message));
	PstreeEntry *pstree = (PstreeEntry *)message;
	struct error *error = build_follow_threads(build, pstree->threads, pstree->n_threads);
	pstree_entry__free_unpacked(pstree, NULL);
	return error;
}

struct error *build_remap(struct build *build, const struct image_store *store, const struct ranges *gone)
{
	auto_restore_files struct restore_files *files = new_files(build, store);
	ProtobufCMessage *message;

	if (build->options.program_runs)
		restore_files_set_running(files);
	TRY(image_get(store, IMAGE_MM, (uint64_t)build->model->pid, 0, &message));
	struct error *error = memory_unmap(build->memory, gone);
	if (!error)
		error = map_areas(build, store, (const MmEntry *)message, files);
	mm_entry__free_unpacked((MmEntry *)message, NULL);
	return error ? error : follow_threads(build, store);
}

/* Our pidfd steps aside for descriptors that the program has opened meanwhile. */
static struct error *move_spare_base(struct build *build, int base)
{
	auto_batch struct batch *batch = process_batch(build->process, 0);

	if (base <= build->spare_base)
		return NULL;
	batch_call(batch, dup3, val((uint64_t)build->spare_base), val((uint64_t)base), val(O_CLOEXEC));
	batch_call(batch, close, val((uint64_t)build->spare_base));
	TRY(process_run(build->process, batch));
	build->spare_base = base;
	return NULL;
}

struct error *build_renew(struct build *build, const struct image_store *store)
{
	int base = 0;
	pid_t pid = build->model->pid;

	forget_model(build);
	TRY(model_read(store, &build->model));
	if (build->model->pid != pid)
		return error_new(EBADMSG, "images of PID %d, not %d", build->model->pid, pid);
	build->files = new_files(build, store);
	TRY(ghosts_refresh(build->files));
	TRY(find_spare_base(build, &base));
	return move_spare_base(build, base - SPARE_NUMBERS);
}

struct shared_build *build_shared(struct build *build)
{
	return build->shared;
}

struct memory *build_memory(struct build *build)
{
	return build->memory;
}

pid_t build_pid(const struct build *build)
{
	return build->process ? build->process->pid : build->model->pid;
}

pid_t build_child(const struct build *build)
{
	return build->space ? pid_space_init(build->space) : build_pid(build);
}

pid_t build_own_pid(const struct build *build)
{
	return build->model->pid;
}

/* What the task has already. Setting it again would fail, since by now it is mapped: prctl(2), PR_SET_MM_EXE_FILE. */
static bool is_own_executable(int fd)
{
	struct stat own;
	struct stat other;

	return stat("/proc/self/exe", &own) == 0 && fstat(fd, &other) == 0 && own.st_ino == other.st_ino &&
	       own.st_dev == other.st_dev;
}

bool build_stays_stopped(const struct build *build)
{
	enum { TASK_STOPPED = 3 };

	return build->options.is_left_stopped || build->model->cores[0]->tc->task_state == TASK_STOPPED;
}

struct outliving {
	struct lock_holder holder;
	bool stays_stopped;
};

/* In the keeper: we have died when it was about to live without us, or had just begun to. */
static void undo_death(const void *bytes, const int *fds, size_t fd_count)
{
	struct outliving outliving;
	bool is_alive = false;

	(void)fds;
	(void)fd_count;
	memcpy(&outliving, bytes, sizeof(outliving));
	error_free(alive_prove(&outliving.holder, DEATH_MS, &is_alive));
	if (is_alive)
		error_free(alive_go_on(&outliving.holder, outliving.stays_stopped));
}

static struct error *tell_keeper(const struct build *build)
{
	struct outliving outliving = {
		.holder.pid = build->process->pid,
		.stays_stopped = build_stays_stopped(build),
	};
	const struct keeper_undo undo = {.undo = undo_death, .bytes = &outliving, .size_bytes = sizeof(outliving)};
	uint32_t id;

	if (build->options.is_on_record)
		return NULL;
	int r = procfs_start_time(outliving.holder.pid, &outliving.holder.start_time);
	if (r < 0)
		return error_new(-r, "start time of process %d", outliving.holder.pid);
	return keeper_add(build->options.keeper, &undo, &id);
}

struct error *build_complete(struct build *build)
{
	int exe_here;
	int exe_there = -1;

	if (build->options.program_runs)
		TRY(reg_files_verify_written(build->files));
	TRY(reg_file_open_id(build->model->mm->exe_file_id, O_RDONLY, build->files, &exe_here), "executable");
	auto_fd int exe = exe_here;
	if (!is_own_executable(exe))
		TRY(build_fetch_fd_now(build, exe, &exe_there), "executable");
	auto_memory_extra MemoryExtraEntry *extra = NULL;
	TRY(memory_extra_get(build->model->store, build->model->pid, &extra));
	TRY(memory_finish(build->memory, build->model->mm, extra, exe_there), "memory");
	TRY(build_shared_give(build, build->model->store, build->files));
	TRY(build_files(build));
	TRY(build_shared_seal(build));
	TRY(build_threads(build));
	TRY(process_complete(build->process));
	if (build->options.clocks)
		TRY(clocks_wait(build->model->store, build->options.clocks));
	return tell_keeper(build);
}

struct error *build_outlive(struct build *build)
{
	restore_files_keep_made(build->files);
	/* A spare end of a pipe that is still held here would delay its EOF. */
	restore_files_free(build->files);
	build->files = new_files(build, build->model->store);
	TRY(standard_streams_replace(build->files, build->model->ids->files_id));
	TRY(process_outlive(build->process, build_stays_stopped(build)));
	build->is_released = true;
	return NULL;
}

struct error *build_release(struct build *build)
{
	TRY(process_release(build->process));
	if (build->options.carry->shell_job)
		tty_tell_size(build->model->store, build->process->pid);
	return NULL;
}

/* Waits for one thread's end, whatever it has to tell before. It may never have been made. */
static void wait_end(pid_t tid)
{
	for (;;) {
		int status;
		pid_t ended = waitpid(tid, &status, __WALL);

		if (ended < 0 ? errno != EINTR : !WIFSTOPPED(status))
			return;
	}
}

/* All threads are traced by us, also those that haven't been joined yet; the leader's end waits for theirs. */
static void end_task(const struct build *build)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	if (procfs_numbers(build->process->pid, "task", &tids, &count) < 0)
		count = 0;
	kill(build->process->pid, SIGKILL);
	for (size_t i = count; i-- > 0;)
		if (tids[i] != build->process->pid)
			wait_end(tids[i]);
	wait_end(build->process->pid);
}

void build_free(struct build *build)
{
	if (!build)
		return;
	/* On the way out of something that failed for a reason of its own, which is the one to tell. */
	if (build->process && !build->is_released)
		end_task(build);
	if (!build->is_released)
		cgroup_home_remove(build->home);
	cgroup_home_free(build->home);
	memory_free(build->memory);
	shared_build_free(build->shared);
	process_free(build->process);
	pid_space_free(build->space);
	forget_model(build);
	restored_ghosts_free(build->ghosts);
	for (size_t i = 0; i < build->resume_count; i++)
		if (build->resume[i].fd >= 0)
			close(build->resume[i].fd);
	free(build->resume);
	file_locks_free(&build->busy_locks);
	if (build->own_pidfd >= 0)
		close(build->own_pidfd);
	free(build);
}
