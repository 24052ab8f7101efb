/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Bare tasks, which everything else is put into: one that has nothing but the stub, the vDSO, and one descriptor, by which
 * it fetches others from us.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "checkpoint/restore/building.h"
#include "checkpoint/restore/nursery.h"
#include "memory/areas.h"
#include "objects/standard_streams.h"
#include "util/alloc.h"
#include "util/test_stop.h"

enum {
	STUB_FIRST_ADDRESS = 0x3a, /* in units of stub_step: where programs and their libraries seldom are */
	STUB_LAST_ADDRESS = 0x50,
	SPARE_THREADS = 64,
	RSEQ_UNREGISTER = 1, /* RSEQ_FLAG_UNREGISTER of rseq(2) */
};
static const uint64_t stub_step = UINT64_C(1) << 40;
static const uint64_t user_end = UINT64_C(0x7ffffffff000);

/* ---- Descriptors from here to there ---- */

struct arg build_fetch_fd(const struct build_task *task, struct batch *batch, int fd_here)
{
	return batch_call(batch, pidfd_getfd, val((uint64_t)task->build->spare_base), val((uint64_t)fd_here), val(0));
}

struct error *build_fetch_fd_now(const struct build_task *task, int fd_here, int *ret_fd_in_task)
{
	auto_batch struct batch *batch = process_batch(task->process, 0);
	struct arg fd = build_fetch_fd(task, batch, fd_here);
	struct arg high = batch_call(batch, fcntl, fd, val(F_DUPFD_CLOEXEC), val((uint64_t)task->build->spare_base));

	batch_call(batch, close, fd);
	TRY(process_run(task->process, batch));
	*ret_fd_in_task = (int)batch_result(batch, high);
	return NULL;
}

/* ---- The bare task ---- */

/* mm is NULL for one that is about to end. */
static bool is_free(const MmEntry *mm, const struct areas *areas, uint64_t start, uint64_t end)
{
	for (size_t i = 0; mm && i < mm->n_vmas; i++)
		if (mm->vmas[i]->start < end && mm->vmas[i]->end > start)
			return false;
	for (size_t i = 0; i < areas->count; i++)
		if (areas->list[i].entry.start < end && areas->list[i].entry.end > start)
			return false;
	return true;
}

/* The program may start threads while it is built. */
static size_t stub_room(const struct build_task *task)
{
	return task->model->thread_count * 2 + SPARE_THREADS;
}

/* A place for the stub's pages that neither the bare task nor the program uses. */
static struct error *find_stub_address(const struct build_task *task, uint64_t *ret_address)
{
	auto_areas struct areas areas = {0};
	size_t size_bytes = process_stub_bytes(stub_room(task));
	size_t owner = tree_owner(&task->build->tree, SHARED_VM, task->index);
	const MmEntry *mm = task->build->tasks[owner]->model->mm;

	TRY(areas_read(task->process->pid, &areas));
	for (uint64_t step = STUB_FIRST_ADDRESS; step < STUB_LAST_ADDRESS; step++) {
		uint64_t address = step * stub_step;

		if (is_free(mm, &areas, address, address + size_bytes)) {
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

struct error *build_clear_memory(const struct build_task *task)
{
	auto_areas struct areas areas = {0};
	auto_batch struct batch *batch = process_batch(task->process, 0);
	struct procfs_range stub[STUB_RANGES];
	const struct thread_rseq *rseq = &task->process->threads[0].rseq;
	uint64_t from = 0;

	/* libc registered it; the kernel would write to it at the next return to the task, and kill it. */
	if (rseq->address)
		batch_call(batch, rseq, val(rseq->address), val(rseq->size_bytes), val(RSEQ_UNREGISTER),
		           val(rseq->signature));
	process_stub_ranges(task->process, stub);
	TRY(areas_read(task->process->pid, &areas));
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
	return process_run(task->process, batch);
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
	const PstreeEntry *pstree = build_root(build)->model->pstree;
	bool is_group_leader = pstree->pgid == pstree->pid;

	request->session = (pid_t)pstree->sid;
	request->group = (pid_t)pstree->pgid;
	if (standard_streams_detach(build->store, build->options.carry))
		request->session = request->group = (pid_t)pstree->pid;
	else if (build->options.carry->shell_job) {
		request->session = 0;
		request->group = is_group_leader ? request->group : 0;
	}
}

struct error *build_enter(struct build_task *task)
{
	uint64_t stub_address;

	TRY(find_stub_address(task, &stub_address));
	return process_enter(task->process, stub_address, stub_room(task));
}

struct error *build_make_root(struct build *build)
{
	struct build_task *root = build_root(build);
	struct nursery_request request = {
		.pid = root->model->pid,
		.kept_fd = build->own_pidfd,
		.kept_as = build->spare_base,
		.cgroup_fd = -1,
		.is_child = build->options.is_child,
	};
	pid_t pid;

	if (!build->options.is_child) {
		build->home = cgroup_home_new(root->model->pid);
		request.cgroup_fd = cgroup_home_fd(build->home);
		request.cgroup_door_count = cgroup_home_doors(build->home, &request.cgroup_doors);
	}
	choose_groups(build, &request);
	TRY(clone_task(build, &request, &pid));
	test_stop("destination-cloned");
	auto_error struct error *error = process_adopt(pid, root->model->pid, &root->process);
	if (error) {
		kill(pid, SIGKILL);
		return take(error);
	}
	be_first_victim(pid);
	if (build->home)
		leave_our_cgroups(build, pid);
	TRY(process_stop(root->process));
	TRY(build_enter(root));
	return build_clear_memory(root);
}
