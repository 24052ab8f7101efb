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
#include "checkpoint/interrupted_calls.h"
#include "checkpoint/mapped_files.h"
#include "checkpoint/memory_extra.h"
#include "checkpoint/save/file_sync.h"
#include "checkpoint/save/preconditions.h"
#include "checkpoint/save/save.h"
#include "checkpoint/save/save_mm.h"
#include "checkpoint/save/save_sysv.h"
#include "checkpoint/save/save_tree.h"
#include "checkpoint/save/shared_outsiders.h"
#include "checkpoint/shared_memory.h"
#include "checkpoint/thread_state.h"
#include "fs.pb-c.h"
#include "godwit-needs.pb-c.h"
#include "inventory.pb-c.h"
#include "memory/policies.h"
#include "memory/probes.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/ranges.h"

enum { AREA_TRIES = 20 };

/* What is known of a task, but for who it is. */
struct saved_task {
	struct areas areas;            /* of the last look */
	struct ranges gone;            /* what had been mapped and was not any more then, and nobody was told of */
	struct thread_states *states;  /* owned; NULL: a zombie */
	struct memory_answers answers; /* of the last save */
	bool has_looked;               /* at its areas, in this freeze */
};

struct look {
	struct live_tree live;
	struct saved_task *tasks; /* owned; one for each in live.tree; NULL: there was no look */
};

struct saver {
	pid_t pid; /* the root */
	const struct carry_options *options;
	struct live_tree live;
	struct saved_task *tasks; /* owned; one for each in live.tree */
	bool is_known;            /* the look was complete */
	struct look former;       /* the last complete one before */
	struct file_table *files; /* owned; of the last look; borrows from live */
	struct cpu cpu;
	struct mapped_files mapped;
	struct file_sync *sync; /* owned */
	bool has_looked;        /* at files, in this freeze */
	bool is_detached;       /* from the session that stays */
};

/* ---- Looking ---- */

static void look_free(struct look *look)
{
	for (size_t i = 0; look->tasks && i < look->live.tree.count; i++) {
		areas_free(&look->tasks[i].areas);
		ranges_free(&look->tasks[i].gone);
		thread_states_free(look->tasks[i].states);
	}
	free(take(look->tasks));
	live_tree_free(&look->live);
}

/* What is known by now is the former look, or forgotten where it is not complete. */
static void begin_look(struct saver *saver)
{
	struct look last = {.live = saver->live, .tasks = saver->tasks};

	file_table_free(take(saver->files));
	if (saver->is_known) {
		look_free(&saver->former);
		saver->former = last;
	} else {
		look_free(&last);
	}
	saver->live = (struct live_tree){0};
	saver->tasks = NULL;
	saver->has_looked = saver->is_known = false;
}

/* What is not as it was in the former look. A process that wasn't there has had nothing. */
static void find_gone(struct saver *saver, size_t task)
{
	int at = saver->former.tasks ? live_tree_find(&saver->former.live, saver->live.list[task].pid) : -1;

	if (at < 0)
		return;
	struct saved_task *former = &saver->former.tasks[at];
	bool is_same = program_id_is_same(&saver->former.live.programs[at], &saver->live.programs[task]);
	const struct areas none = {0}; /* what has executed another program has nothing of what it had */
	auto_ranges struct ranges gone = areas_gone(&former->areas, is_same ? &saver->tasks[task].areas : &none);
	ranges_unite(&gone, &former->gone);
	saver->tasks[task].gone = gone;
	gone = (struct ranges){0};
}

static struct error *look_at_task(struct saver *saver, size_t task)
{
	pid_t pid = saver->live.list[task].pid;

	TRY(areas_read(pid, &saver->tasks[task].areas));
	return thread_states_collect(pid, saver->options, &saver->tasks[task].states);
}

static struct error *look_at_tasks(struct saver *saver)
{
	saver->tasks = xalloc(saver->live.tree.count * sizeof(*saver->tasks));
	for (size_t i = 0; i < saver->live.tree.count; i++) {
		if (saver->live.tree.tasks[i].is_zombie)
			continue;
		TRY(look_at_task(saver, i));
		find_gone(saver, i);
	}
	return file_table_read(saver->live.list, saver->live.tree.count, NULL, saver->options, &saver->files);
}

struct error *saver_look(struct saver *saver)
{
	begin_look(saver);
	TRY(live_tree_read(saver->pid, &saver->live));
	saver->is_detached = preconditions_detach(saver->pid, saver->options);
	if (saver->is_detached)
		live_tree_detach(&saver->live);
	TRY(look_at_tasks(saver));
	saver->is_known = true;
	return NULL;
}

struct error *saver_new(pid_t pid, const struct carry_options *options, struct saver **ret_saver)
{
	auto_saver struct saver *saver = xalloc(sizeof(*saver));

	saver->pid = pid;
	saver->options = options;
	saver->sync = file_sync_new();
	TRY(cpu_read(&saver->cpu));
	*ret_saver = take(saver);
	return NULL;
}

void saver_free(struct saver *saver)
{
	if (!saver)
		return;
	saver->is_known = false;
	begin_look(saver);
	look_free(&saver->former);
	cpu_free(&saver->cpu);
	mapped_files_free(&saver->mapped);
	file_sync_free(saver->sync);
	free(saver);
}

static struct sysv_users sysv_users(const struct saver *saver)
{
	return (struct sysv_users){.tasks = saver->live.list, .count = saver->live.tree.count};
}

/* ---- Checking ---- */

/* What has been found since then is about that task. The root is whom the user has named: nobody has to be told. */
static void name_task(const struct saver *saver, size_t task, struct problems *problems, size_t from)
{
	if (task == 0 || from == problems->count)
		return;
	auto_free char *process = open_files_process_text(saver->live.list[task].pid);
	for (size_t i = from; i < problems->count; i++)
		problems->list[i] = error_wrap(problems->list[i], "process %s", process);
}

static void check_task(struct saver *saver, size_t task, struct problems *problems)
{
	const struct areas *areas = &saver->tasks[task].areas;
	pid_t pid = saver->live.list[task].pid;
	size_t from = problems->count;

	preconditions_check(&saver->live, task, file_table_open_files(saver->files), saver->options, problems);
	thread_states_check(saver->tasks[task].states, problems);
	if (saver_owns_memory(saver, task)) {
		areas_check(areas, problems);
		problems_add(problems, probes_check(pid, areas));
		mapped_files_check(&saver->mapped, pid, areas, file_table_open_files(saver->files), problems);
	}
	name_task(saver, task, problems, from);
}

static void check_outsiders(const struct saver *saver, struct problems *problems)
{
	auto_number_map struct number_map *objects = NULL;

	for (size_t i = 0; i < saver->live.tree.count; i++)
		if (saver_owns_memory(saver, i))
			shared_outsiders_add(&saver->tasks[i].areas, &objects);
	shared_outsiders_check(objects, saver->live.list, saver->live.tree.count, problems);
}

void saver_check(struct saver *saver, struct problems *problems)
{
	const struct sysv_users users = sysv_users(saver);

	file_table_replace_stdio(saver->files);
	live_tree_check(&saver->live, problems);
	for (size_t i = 0; i < saver->live.tree.count; i++)
		if (!saver->live.tree.tasks[i].is_zombie)
			check_task(saver, i, problems);
	check_outsiders(saver, problems);
	save_sysv_check(&users, problems);
	file_table_check(saver->files, problems);
	problems_add(problems, saver_sync(saver));
	saver_drop_copies(saver);
}

struct error *saver_sync(struct saver *saver)
{
	TRY(file_sync_open(saver->sync, saver->files));
	for (size_t i = 0; i < saver->live.tree.count; i++)
		if (saver_owns_memory(saver, i))
			TRY(file_sync_mapped(saver->sync, saver->live.list[i].pid, &saver->tasks[i].areas));
	return NULL;
}

size_t saver_room_bytes(const struct saver *saver)
{
	enum { FILE_BYTES = 5120, AREA_BYTES = 1024, TASK_BYTES = 64 << 10 };
	size_t bytes = file_table_count(saver->files) * FILE_BYTES + saver->live.tree.count * TASK_BYTES;

	for (size_t i = 0; i < saver->live.tree.count; i++)
		bytes += saver->tasks[i].areas.count * AREA_BYTES;
	return bytes;
}

void saver_drop_copies(struct saver *saver)
{
	if (saver->files)
		file_table_drop_copies(saver->files);
}

/* ---- In the freeze ---- */

/* What is gone since the last look; process is NULL while it runs. */
static struct error *look_at_areas(struct saver *saver, size_t task, struct process *process, struct ranges *ret_gone)
{
	struct procfs_range stub[STUB_RANGES] = {0};
	struct areas *known = &saver->tasks[task].areas;
	struct areas areas;

	if (process)
		process_stub_ranges(process, stub);
	TRY(areas_refresh(saver->live.list[task].pid, known, stub, process ? STUB_RANGES : 0, &areas));
	struct error *error = process ? policies_ask(process, &areas) : NULL;
	if (error) {
		areas_free(&areas);
		return error;
	}
	*ret_gone = areas_gone(known, &areas);
	ranges_unite(ret_gone, &saver->tasks[task].gone);
	ranges_free(&saver->tasks[task].gone);
	areas_free(known);
	*known = areas;
	saver->tasks[task].has_looked = process;
	return NULL;
}

static struct error *look_at_files(struct saver *saver)
{
	struct file_table *files;

	TRY(file_table_read(saver->live.list, saver->live.tree.count, saver->files, saver->options, &files));
	file_table_free(saver->files);
	saver->files = files;
	saver->has_looked = true;
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

/* And what else status tells: how much memory is locked. */
static struct error *put_fs(struct saver *saver, size_t task, uint64_t *ret_locked_bytes, struct image_store *store)
{
	FsEntry entry = FS_ENTRY__INIT;
	struct open_files *all = file_table_open_files(saver->files);
	pid_t pid = saver->live.list[task].pid;
	auto_free char *status = NULL;
	uint64_t umask = 0;
	uint64_t locked_kb = 0;

	int r = procfs_read(pid, "status", &status, NULL);
	if (r >= 0)
		r = procfs_number(status, "Umask", 8, &umask);
	if (r >= 0)
		r = procfs_number(status, "VmLck", 10, &locked_kb);
	if (r < 0)
		return error_new(-r, "status of process %d", pid);
	TRY(mapped_files_put_link(&saver->mapped, pid, "cwd", all, store, &entry.cwd_id));
	TRY(mapped_files_put_link(&saver->mapped, pid, "root", all, store, &entry.root_id));
	*ret_locked_bytes = locked_kb * 1024;
	entry.has_umask = true;
	entry.umask = (uint32_t)umask;
	image_put(store, IMAGE_FS, (uint64_t)saver->live.tree.tasks[task].pid, &entry.base);
	return NULL;
}

static struct error *put_mm(struct saver *saver, size_t task, uint32_t lock_future, struct image_store *store)
{
	const struct open_task *seen = &saver->live.list[task];
	struct saved_task *saved = &saver->tasks[task];

	memory_extra_put(seen->own_pid, &saved->areas, lock_future, store);
	return save_mm(&(struct save_mm){
		.pid = seen->pid,
		.own_pid = seen->own_pid,
		.areas = &saved->areas,
		.mapped = &saver->mapped,
		.all = file_table_open_files(saver->files),
		.answers = saved->answers,
		.store = store,
	});
}

/* Nothing is in this store yet. */
static void begin_store(struct saver *saver)
{
	mapped_files_begin(&saver->mapped);
	open_files_begin(file_table_open_files(saver->files));
}

/* What a task has of files without descriptors. */
static void sketch_task(struct saver *saver, size_t task, struct image_store *store)
{
	struct open_files *all = file_table_open_files(saver->files);
	pid_t pid = saver->live.list[task].pid;
	uint32_t id;

	mapped_files_sketch(&saver->mapped, pid, &saver->tasks[task].areas, all, store);
	error_free(mapped_files_put_link(&saver->mapped, pid, "cwd", all, store, &id));
	error_free(mapped_files_put_link(&saver->mapped, pid, "root", all, store, &id));
}

void saver_sketch(struct saver *saver, struct image_store *store)
{
	struct open_files *all = file_table_open_files(saver->files);

	begin_store(saver);
	all->is_sketch = true;
	file_table_sketch(saver->files, store);
	for (size_t i = 0; i < saver->live.tree.count; i++)
		if (!saver->live.tree.tasks[i].is_zombie)
			sketch_task(saver, i, store);
	all->is_sketch = false;
}

static struct error *put_segments(const struct saver *saver, size_t task, struct image_store *store)
{
	const struct sysv_users users = sysv_users(saver);

	return save_segments(&saver->tasks[task].areas, &users, store);
}

struct error *saver_save_sysv(const struct saver *saver, const struct frozen *frozen, struct image_store *store)
{
	const struct sysv_users users = sysv_users(saver);

	for (size_t i = 0; i < saver->live.tree.count; i++) {
		struct error *error = saver_owns_memory(saver, i) ? put_segments(saver, i, store) : NULL;

		/* While it runs one may have gone since the areas were looked at. */
		if (error && frozen)
			return error;
		error_free(error);
	}
	return save_semaphores_and_queues(&users, frozen ? frozen->processes : NULL, store);
}

static struct error *put_shared_of(const struct saver *saver, size_t task, struct image_store *store)
{
	auto_shared_objects struct shared_objects objects = {0};

	shared_objects_add_areas(&objects, saver->live.list[task].pid, &saver->tasks[task].areas);
	TRY(shared_memory_put(&objects, store));
	return put_segments(saver, task, store);
}

struct error *saver_save_areas(struct saver *saver, size_t task, const struct frozen *frozen, struct image_store *store,
                               struct ranges *ret_gone)
{
	struct process *process = frozen ? frozen->processes[task] : NULL;

	TRY(look_at_areas(saver, task, process, ret_gone));
	if (process && !saver->has_looked)
		TRY(look_at_files(saver));
	begin_store(saver);
	if (process && task == 0)
		TRY(shared_memory_put_memfds(saver->files, store));
	TRY(save_tree_entry(&saver->live, task, process, store));
	TRY(put_shared_of(saver, task, store));
	return put_mm(saver, task, 0, store);
}

struct error *saver_save_moving_areas(struct saver *saver, size_t task, struct image_store **store,
                                      struct ranges *ret_gone)
{
	for (int tries = 1;; tries++) {
		auto_ranges struct ranges gone = {0};
		auto_error struct error *error = saver_save_areas(saver, task, NULL, *store, &gone);

		ranges_unite(ret_gone, &gone);
		if (!error || tries == AREA_TRIES)
			return take(error);
		image_store_free(take(*store));
		*store = image_store_new();
	}
}

static struct error *look_at_all(struct saver *saver, const struct frozen *frozen)
{
	for (size_t i = 0; i < saver->live.tree.count; i++) {
		auto_ranges struct ranges gone = {0};

		if (saver_owns_memory(saver, i) && !saver->tasks[i].has_looked)
			TRY(look_at_areas(saver, i, frozen->processes[i], &gone));
		ranges_unite(&saver->tasks[i].gone, &gone);
		saver->tasks[i].has_looked = false;
	}
	if (!saver->has_looked)
		TRY(look_at_files(saver));
	saver->has_looked = false;
	TRY(live_tree_refresh(&saver->live));
	if (saver->is_detached)
		live_tree_detach(&saver->live);
	return NULL;
}

/* What is a task's own. */
static struct error *save_task(struct saver *saver, size_t task, struct process *process, struct image_store *store)
{
	struct saved_task *saved = &saver->tasks[task];
	struct procfs_range stub[STUB_RANGES];
	uint64_t locked_bytes = 0;
	uint32_t lock_future = 0;

	TRY(thread_states_save(saved->states, process, store, &saved->answers));
	interrupted_calls_save(process, store);
	const struct sysv_users users = sysv_users(saver);
	TRY(save_sysv_check_calls(&users, process));
	TRY(put_fs(saver, task, &locked_bytes, store));
	if (!saver_owns_memory(saver, task))
		return NULL;
	process_stub_ranges(process, stub);
	TRY(areas_lock_future(process->pid, &saved->areas, &stub[0], locked_bytes, &lock_future));
	return put_mm(saver, task, lock_future, store);
}

struct error *saver_save(struct saver *saver, const struct frozen *frozen, struct image_store *store)
{
	TaskKobjIdsEntry ids;
	auto_shared_objects struct shared_objects objects = {0};

	TRY(look_at_all(saver, frozen));
	TRY(saver_sync(saver));
	begin_store(saver);
	save_tree_ids(&saver->live.tree.tasks[0], &ids);
	put_inventory(store, &ids);
	put_processor(&saver->cpu, store);
	TRY(save_tree(&saver->live, frozen, store));
	for (size_t i = 0; i < saver->live.tree.count; i++) {
		if (!frozen->processes[i])
			continue;
		struct error *error = save_task(saver, i, frozen->processes[i], store);
		if (error)
			return i == 0 ? error : error_wrap(error, "process %d", saver->live.list[i].pid);
		if (saver_owns_memory(saver, i))
			shared_objects_add_areas(&objects, saver->live.list[i].pid, &saver->tasks[i].areas);
	}
	TRY(shared_memory_put(&objects, store));
	TRY(saver_save_sysv(saver, frozen, store));
	TRY(file_table_save(saver->files, store));
	/* Last: what is left of a timer was asked before, so that none comes before its time by these clocks. */
	return clocks_save(saver->pid, store);
}

/* ---- What others ask ---- */

const struct live_tree *saver_live(const struct saver *saver)
{
	return &saver->live;
}

size_t saver_count(const struct saver *saver)
{
	return saver->live.tree.count;
}

pid_t saver_own_pid(const struct saver *saver)
{
	return saver->live.list[0].own_pid;
}

bool saver_owns_memory(const struct saver *saver, size_t task)
{
	const struct tree *tree = &saver->live.tree;

	return !tree->tasks[task].is_zombie && tree_owns(tree, SHARED_VM, task);
}

const struct areas *saver_areas(const struct saver *saver, size_t task)
{
	return &saver->tasks[task].areas;
}

struct error *saver_shared(const struct saver *saver, struct shared_objects *ret_objects)
{
	for (size_t i = 0; i < saver->live.tree.count; i++)
		if (saver_owns_memory(saver, i))
			shared_objects_add_areas(ret_objects, saver->live.list[i].pid, &saver->tasks[i].areas);
	return shared_memory_add_memfds(saver->files, ret_objects);
}

bool saver_is_detached(const struct saver *saver)
{
	return saver->is_detached;
}

struct file_table *saver_files(const struct saver *saver)
{
	return saver->files;
}
