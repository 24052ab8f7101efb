/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/core.h"
#include "arch/x86_64/cpu.h"
#include "checkpoint/clocks.h"
#include "checkpoint/file_table.h"
#include "checkpoint/fixed_ids.h"
#include "checkpoint/interrupted_calls.h"
#include "checkpoint/mapped_files.h"
#include "checkpoint/memory_extra.h"
#include "checkpoint/save/file_sync.h"
#include "checkpoint/save/preconditions.h"
#include "checkpoint/save/save.h"
#include "checkpoint/save/save_mm.h"
#include "checkpoint/save/shared_outsiders.h"
#include "checkpoint/save/sysv_ipc.h"
#include "checkpoint/shared_memory.h"
#include "checkpoint/thread_state.h"
#include "fs.pb-c.h"
#include "godwit-needs.pb-c.h"
#include "inventory.pb-c.h"
#include "memory/policies.h"
#include "memory/probes.h"
#include "pstree.pb-c.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { AREA_TRIES = 20 };

struct saver {
	pid_t pid;
	pid_t own_pid; /* as it sees itself, and so in the images */
	int pidfd;     /* owned */
	const struct carry_options *options;
	struct file_table *files; /* owned; of the last look */
	struct areas areas;       /* of the last look */
	struct cpu cpu;
	struct mapped_files mapped;
	struct thread_states *states;  /* owned */
	struct memory_answers answers; /* of the last save */
	struct file_sync *sync;        /* owned */
	bool has_looked;               /* at all, in this freeze */
	bool is_detached;              /* from the session that stays */
};

struct error *saver_new(pid_t pid, const struct carry_options *options, struct saver **ret_saver)
{
	auto_saver struct saver *saver = xalloc(sizeof(*saver));

	saver->pid = saver->own_pid = pid;
	(void)procfs_own_tid(pid, pid, &saver->own_pid);
	saver->options = options;
	saver->is_detached = preconditions_detach(pid, options);
	saver->sync = file_sync_new();
	saver->pidfd = procfs_open_pid(pid);
	if (saver->pidfd < 0)
		return error_new(-saver->pidfd, "process %d", pid);
	TRY(cpu_read(&saver->cpu));
	TRY(areas_read(pid, &saver->areas));
	TRY(file_table_read(pid, saver->pidfd, NULL, options, &saver->files));
	TRY(thread_states_collect(pid, options, &saver->states));
	*ret_saver = take(saver);
	return NULL;
}

void saver_free(struct saver *saver)
{
	if (!saver)
		return;
	if (saver->pidfd >= 0)
		close(saver->pidfd);
	file_table_free(saver->files);
	areas_free(&saver->areas);
	cpu_free(&saver->cpu);
	mapped_files_free(&saver->mapped);
	thread_states_free(saver->states);
	file_sync_free(saver->sync);
	free(saver);
}

void saver_check(struct saver *saver, struct problems *problems)
{
	file_table_replace_stdio(saver->files);
	preconditions_check(saver->pid, saver->options, problems);
	thread_states_check(saver->states, problems);
	areas_check(&saver->areas, problems);
	problems_add(problems, probes_check(saver->pid, &saver->areas));
	shared_outsiders_check(saver->pid, &saver->areas, problems);
	sysv_ipc_check(saver->pid, problems);
	mapped_files_check(&saver->mapped, saver->pid, &saver->areas, file_table_open_files(saver->files), problems);
	file_table_check(saver->files, problems);
	problems_add(problems, saver_sync(saver));
	saver_drop_copies(saver);
}

struct error *saver_sync(struct saver *saver)
{
	return file_sync_all(saver->sync, saver->pid, saver->files, &saver->areas);
}

size_t saver_room_bytes(const struct saver *saver)
{
	enum { FILE_BYTES = 5120, AREA_BYTES = 1024 };

	return file_table_count(saver->files) * FILE_BYTES + saver->areas.count * AREA_BYTES;
}

void saver_drop_copies(struct saver *saver)
{
	file_table_drop_copies(saver->files);
}

/* ---- In the freeze ---- */

/* What is gone since the last look; process is NULL while it runs. */
static struct error *look_at_areas(struct saver *saver, struct process *process, struct ranges *ret_gone)
{
	struct procfs_range stub[STUB_RANGES] = {0};
	struct areas areas;

	if (process)
		process_stub_ranges(process, stub);
	TRY(areas_refresh(saver->pid, &saver->areas, stub, process ? STUB_RANGES : 0, &areas));
	struct error *error = process ? policies_ask(process, &areas) : NULL;
	if (error) {
		areas_free(&areas);
		return error;
	}
	*ret_gone = areas_gone(&saver->areas, &areas);
	areas_free(&saver->areas);
	saver->areas = areas;
	return NULL;
}

static struct error *look_at_files(struct saver *saver)
{
	struct file_table *files;

	TRY(file_table_read(saver->pid, saver->pidfd, saver->files, saver->options, &files));
	file_table_free(saver->files);
	saver->files = files;
	return NULL;
}

static void put_inventory(struct image_store *store, const TaskKobjIdsEntry *ids)
{
	InventoryEntry entry = INVENTORY_ENTRY__INIT;
	TaskKobjIdsEntry root_ids = *ids;

	entry.img_version = 2; /* of the layout that this is: files.img, ids in fdinfo-ID.img */
	entry.has_fdinfo_per_id = true;
	entry.fdinfo_per_id = true;
	entry.has_ns_per_id = true;
	entry.ns_per_id = true;
	entry.root_ids = &root_ids;
	entry.has_lsmtype = true;
	entry.lsmtype = LSMTYPE__NO_LSM;
	image_put(store, IMAGE_INVENTORY, 0, &entry.base);
}

static void put_processor(const struct cpu *cpu, struct image_store *store)
{
	GodwitProcessor entry = GODWIT_PROCESSOR__INIT;

	entry.model = cpu->model;
	entry.flags = cpu->flags;
	entry.n_flags = cpu->flag_count;
	image_put(store, IMAGE_GODWIT_PROCESSOR, 0, &entry.base);
}

/* Who is who. */
static struct error *put_pstree(const struct saver *saver, uint32_t *tids, size_t count, struct image_store *store)
{
	PstreeEntry entry = PSTREE_ENTRY__INIT;
	pid_t group;
	pid_t session;

	int r = procfs_own_groups(saver->pid, &group, &session);
	if (r < 0)
		return error_new(-r, "group and session of process %d", saver->pid);
	entry.pid = (uint32_t)saver->own_pid;
	entry.pgid = saver->is_detached ? entry.pid : (uint32_t)group;
	entry.sid = saver->is_detached ? entry.pid : (uint32_t)session;
	entry.n_threads = count;
	entry.threads = tids;
	image_put(store, IMAGE_PSTREE, 0, &entry.base);
	return NULL;
}

static struct error *put_held_threads(const struct saver *saver, const struct process *process,
                                      struct image_store *store)
{
	auto_free uint32_t *tids = xalloc(process->thread_count * sizeof(*tids));

	for (size_t i = 0; i < process->thread_count; i++)
		tids[i] = (uint32_t)process->threads[i].own_tid;
	return put_pstree(saver, tids, process->thread_count, store);
}

/* Those that there are just now, the leader first. */
static struct error *put_running_threads(const struct saver *saver, struct image_store *store)
{
	auto_free int *all = NULL;
	size_t count;
	size_t used = 1;

	int r = procfs_numbers(saver->pid, "task", &all, &count);
	if (r < 0)
		return error_new(-r, "threads of process %d", saver->pid);
	auto_free uint32_t *tids = xalloc((count + 1) * sizeof(*tids));
	tids[0] = (uint32_t)saver->own_pid;
	for (size_t i = 0; i < count; i++) {
		pid_t own_tid = all[i];

		if (all[i] == saver->pid)
			continue;
		/* One that has ended by now is left out. */
		if (saver->own_pid == saver->pid || procfs_own_tid(saver->pid, all[i], &own_tid) == 0)
			tids[used++] = (uint32_t)own_tid;
	}
	return put_pstree(saver, tids, used, store);
}

/* And what else status tells: how much memory is locked. */
static struct error *put_fs(struct saver *saver, uint64_t *ret_locked_bytes, struct image_store *store)
{
	FsEntry entry = FS_ENTRY__INIT;
	struct open_files *all = file_table_open_files(saver->files);
	auto_free char *status = NULL;
	uint64_t umask = 0;
	uint64_t locked_kb = 0;

	int r = procfs_read(saver->pid, "status", &status, NULL);
	if (r >= 0)
		r = procfs_number(status, "Umask", 8, &umask);
	if (r >= 0)
		r = procfs_number(status, "VmLck", 10, &locked_kb);
	if (r < 0)
		return error_new(-r, "status of process %d", saver->pid);
	TRY(mapped_files_put_link(&saver->mapped, saver->pid, "cwd", all, store, &entry.cwd_id));
	TRY(mapped_files_put_link(&saver->mapped, saver->pid, "root", all, store, &entry.root_id));
	*ret_locked_bytes = locked_kb * 1024;
	entry.has_umask = true;
	entry.umask = (uint32_t)umask;
	image_put(store, IMAGE_FS, (uint64_t)saver->own_pid, &entry.base);
	return NULL;
}

static struct error *put_mm(struct saver *saver, uint32_t lock_future, struct image_store *store)
{

	memory_extra_put(saver->own_pid, &saver->areas, lock_future, store);
	TRY(shared_memory_put(saver->pid, &saver->areas, store));
	return save_mm(&(struct save_mm){
		.pid = saver->pid,
		.own_pid = saver->own_pid,
		.areas = &saver->areas,
		.mapped = &saver->mapped,
		.all = file_table_open_files(saver->files),
		.answers = saver->answers,
		.store = store,
	});
}

/* Nothing is in this store yet. */
static void begin_store(struct saver *saver)
{
	mapped_files_begin(&saver->mapped);
	open_files_begin(file_table_open_files(saver->files));
}

struct error *saver_save_areas(struct saver *saver, struct process *process, struct image_store *store,
                               struct ranges *ret_gone)
{
	TRY(look_at_areas(saver, process, ret_gone));
	saver->has_looked = process;
	if (process)
		TRY(look_at_files(saver));
	begin_store(saver);
	if (process)
		TRY(shared_memory_put_memfds(saver->files, store));
	TRY(process ? put_held_threads(saver, process, store) : put_running_threads(saver, store));
	return put_mm(saver, 0, store);
}

struct error *saver_save_moving_areas(struct saver *saver, struct image_store **store, struct ranges *ret_gone)
{
	for (int tries = 1;; tries++) {
		auto_ranges struct ranges gone = {0};
		auto_error struct error *error = saver_save_areas(saver, NULL, *store, &gone);

		ranges_unite(ret_gone, &gone);
		if (!error || tries == AREA_TRIES)
			return take(error);
		image_store_free(take(*store));
		*store = image_store_new();
	}
}

struct error *saver_save(struct saver *saver, struct process *process, struct image_store *store)
{
	TaskKobjIdsEntry ids = TASK_KOBJ_IDS_ENTRY__INIT;
	auto_ranges struct ranges gone = {0};
	struct procfs_range stub[STUB_RANGES];
	uint64_t locked_bytes = 0;
	uint32_t lock_future = 0;

	if (!saver->has_looked) {
		TRY(look_at_areas(saver, process, &gone));
		TRY(look_at_files(saver));
	}
	saver->has_looked = false;
	TRY(saver_sync(saver));
	begin_store(saver);
	fixed_ids(&ids);
	put_inventory(store, &ids);
	put_processor(&saver->cpu, store);
	TRY(put_held_threads(saver, process, store));
	image_put(store, IMAGE_IDS, (uint64_t)saver->own_pid, &ids.base);
	TRY(thread_states_save(saver->states, process, store, &saver->answers));
	interrupted_calls_save(process, store);
	TRY(put_fs(saver, &locked_bytes, store));
	process_stub_ranges(process, stub);
	TRY(areas_lock_future(saver->pid, &saver->areas, &stub[0], locked_bytes, &lock_future));
	TRY(put_mm(saver, lock_future, store));
	TRY(file_table_save(saver->files, ids.files_id, store));
	/* Last: what is left of a timer was asked before, so that none comes before its time by these clocks. */
	return clocks_save(saver->pid, store);
}

pid_t saver_own_pid(const struct saver *saver)
{
	return saver->own_pid;
}

const struct areas *saver_areas(const struct saver *saver)
{
	return &saver->areas;
}

struct error *saver_shared(const struct saver *saver, struct shared_objects *ret_objects)
{
	return shared_memory_list(saver->pid, &saver->areas, saver->files, ret_objects);
}

bool saver_is_detached(const struct saver *saver)
{
	return saver->is_detached;
}

struct file_table *saver_files(const struct saver *saver)
{
	return saver->files;
}
