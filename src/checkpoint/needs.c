/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/x86_64/cpu.h"
#include "checkpoint/file_table.h"
#include "checkpoint/needs.h"
#include "checkpoint/needs_sysv.h"
#include "objects/affinity.h"
#include "objects/outlet.h"
#include "objects/rlimits.h"
#include "util/alloc.h"
#include "util/procfs.h"

void needs_free(GodwitNeeds *needs)
{
	if (needs)
		godwit_needs__free_unpacked(needs, NULL);
}

char *needs_pid_space(void)
{
	auto_free char *boot = NULL;
	char namespace[64] = "";

	if (procfs_read(getpid(), "../sys/kernel/random/boot_id", &boot, NULL) < 0 ||
	    readlink("/proc/self/ns/pid", namespace, sizeof(namespace) - 1) < 0)
		return NULL;
	return xformat("%.*s %s", (int)strcspn(boot, "\n"), boot, namespace);
}

static void add_tid(pid_t own_tid, GodwitNeeds *needs)
{
	needs->tids = xrealloc(needs->tids, (needs->n_tids + 1) * sizeof(*needs->tids));
	needs->tids[needs->n_tids++] = (uint32_t)own_tid;
	if ((uint32_t)own_tid > needs->highest_tid)
		needs->highest_tid = (uint32_t)own_tid;
}

static void add_affinity(pid_t tid, GodwitNeeds *needs)
{
	ProtobufCBinaryData affinity = affinity_of(tid);
	bool is_new = affinity.data != NULL;

	for (size_t i = 0; is_new && i < needs->n_affinities; i++)
		is_new = needs->affinities[i].len != affinity.len ||
		         memcmp(needs->affinities[i].data, affinity.data, affinity.len) != 0;
	if (!is_new) {
		free(affinity.data);
		return;
	}
	needs->affinities = xrealloc(needs->affinities, (needs->n_affinities + 1) * sizeof(affinity));
	needs->affinities[needs->n_affinities++] = affinity;
}

/* As the program sees them. A process or thread that has ended by now needs nothing. */
static void add_tids(const struct open_task *task, GodwitNeeds *needs)
{
	auto_free int *tids = NULL;
	size_t count = 0;

	(void)procfs_numbers(task->pid, "task", &tids, &count);
	for (size_t i = 0; i < count; i++) {
		pid_t own_tid = tids[i];

		add_affinity(tids[i], needs);
		if (task->own_pid == task->pid || procfs_own_tid(task->pid, tids[i], &own_tid) == 0)
			add_tid(own_tid, needs);
	}
}

static struct error *read_ids(const struct live_tree *live, GodwitNeeds *needs)
{
	pid_t pid = live->list[0].pid;
	pid_t group = 0;
	pid_t session = 0;

	int r = procfs_own_groups(pid, &group, &session);
	if (r < 0)
		return error_new(-r, "process %d", pid);
	needs->pid = (uint32_t)live->list[0].own_pid;
	needs->pid_space = needs_pid_space();
	needs->has_start_time = procfs_start_time(pid, &needs->start_time) == 0;
	needs->group = (uint32_t)group;
	needs->session = (uint32_t)session;
	needs->has_highest_tid = true;
	for (size_t i = 0; i < live->tree.count; i++)
		add_tids(&live->list[i], needs);
	return NULL;
}

/* Pages of its own that will be filled, present or swapped out: proc_pid_status(5). */
static void add_memory(pid_t pid, GodwitNeeds *needs)
{
	static const char *const names[] = {"RssAnon", "VmSwap"};
	auto_free char *status = NULL;
	int r = procfs_read(pid, "status", &status, NULL);

	for (size_t i = 0; r == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t kilobytes;

		r = procfs_number(status, names[i], 10, &kilobytes);
		needs->memory_bytes += r == 0 ? kilobytes * 1024 : 0;
	}
}

/* What they share counts once. */
static struct error *add_shared_memory(const struct saver *saver, GodwitNeeds *needs)
{
	enum { BLOCK_BYTES = 512 }; /* of st_blocks: stat(3type) */
	auto_shared_objects struct shared_objects objects = {0};

	TRY(saver_shared(saver, &objects));
	for (size_t i = 0; i < objects.count; i++) {
		struct stat stat_there;

		/* One that has gone by now needs nothing. */
		if (stat(objects.list[i].source, &stat_there) == 0)
			needs->memory_bytes += (uint64_t)stat_there.st_blocks * BLOCK_BYTES;
	}
	return NULL;
}

static struct error *read_memory(const struct saver *saver, GodwitNeeds *needs)
{
	for (size_t i = 0; i < saver_count(saver); i++)
		if (saver_owns_memory(saver, i))
			add_memory(saver_live(saver)->list[i].pid, needs);
	return add_shared_memory(saver, needs);
}

static struct error *read_cpu(GodwitNeeds *needs)
{
	struct cpu cpu;

	TRY(cpu_read(&cpu));
	needs->cpu_model = cpu.model;
	needs->cpu_flags = cpu.flags;
	needs->n_cpu_flags = cpu.flag_count;
	return NULL;
}

static bool has_address(const GodwitNeeds *needs, const char *text)
{
	for (size_t i = 0; i < needs->n_addresses; i++)
		if (strcmp(needs->addresses[i], text) == 0)
			return true;
	return false;
}

/* Not that of a socket that is bound to any address. */
static void add_address(const struct flow *flow, GodwitNeeds *needs)
{
	static const uint8_t any[16];
	char text[INET6_ADDRSTRLEN];

	if (memcmp(flow->local_address, any, sizeof(any)) == 0 ||
	    !inet_ntop(flow->family, flow->local_address, text, sizeof(text)) || has_address(needs, text))
		return;
	needs->addresses = xrealloc(needs->addresses, (needs->n_addresses + 1) * sizeof(char *));
	needs->addresses[needs->n_addresses++] = xformat("%s", text);
}

static struct error *read_addresses(const struct saver *saver, GodwitNeeds *needs)
{
	auto_free struct flow *flows = NULL;
	size_t count;

	TRY(file_table_flows(saver_files(saver), &flows, &count));
	for (size_t i = 0; i < count; i++)
		add_address(&flows[i], needs);
	return NULL;
}

static void add_outlet(const struct open_file *file, const struct outlet *outlet, void *data)
{
	GodwitNeeds *needs = data;
	GodwitOutlet *entry = xalloc(sizeof(*entry));

	godwit_outlet__init(entry);
	entry->kind = outlet->kind;
	entry->path = xformat("%s", outlet->path);
	entry->fd = file->fd;
	needs->outlets = xrealloc(needs->outlets, (needs->n_outlets + 1) * sizeof(GodwitOutlet *));
	needs->outlets[needs->n_outlets++] = entry;
}

static struct error *read_sysv(const struct saver *saver, GodwitNeeds *needs)
{
	auto_image_store struct image_store *store = image_store_new();

	TRY(saver_save_sysv(saver, NULL, store));
	return needs_sysv_add(store, needs);
}

struct error *needs_read(const struct needs_request *request, GodwitNeeds **ret_needs)
{
	auto_needs GodwitNeeds *needs = xalloc(sizeof(*needs));

	godwit_needs__init(needs);
	TRY(read_ids(saver_live(request->saver), needs));
	if (request->is_shell_job)
		needs->session = needs->group = 0;
	if (saver_is_detached(request->saver))
		needs->session = needs->group = needs->pid;
	TRY(read_memory(request->saver, needs));
	TRY(read_cpu(needs));
	TRY(read_sysv(request->saver, needs));
	TRY(read_addresses(request->saver, needs));
	needs->has_processors = true;
	needs->processors = affinity_of_host();
	needs->rlimits = rlimits_read(request->pid);
	file_table_outlets(saver_files(request->saver), add_outlet, needs);
	needs->has_new_pids = true;
	needs->new_pids = request->new_pids;
	needs->cpu_caps = request->cpu_caps;
	needs->arriving = xalloc((request->arriving_count + 1) * sizeof(char *));
	for (; needs->n_arriving < request->arriving_count; needs->n_arriving++)
		needs->arriving[needs->n_arriving] = xformat("%s", request->arriving[needs->n_arriving]);
	*ret_needs = take(needs);
	return NULL;
}
