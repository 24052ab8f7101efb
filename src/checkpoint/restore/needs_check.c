/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Whether this host has what a program needs: the second half of needs.h. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/x86_64/cpu.h"
#include "checkpoint/needs.h"
#include "checkpoint/needs_sysv.h"
#include "network/address.h"
#include "objects/affinity.h"
#include "objects/outlet.h"
#include "objects/rlimits.h"
#include "task/cgroup_memory.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* ---- PIDs ---- */

/* Whoever has it as PID, group or session: a number is in use as long as one of them is. 0: nobody. */
static pid_t holder_of(pid_t number, const int *pids, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t group = 0;
		uint64_t session = 0;

		if (pids[i] == number)
			return pids[i];
		procfs_stat_field(pids[i], 5, &group);
		procfs_stat_field(pids[i], 6, &session);
		if ((pid_t)group == number || (pid_t)session == number)
			return pids[i];
	}
	/* A thread is in no list of /proc, but it is there. */
	return kill(number, 0) == 0 || errno == EPERM ? number : 0;
}

static bool is_dead(pid_t pid)
{
	auto_free char *stat = NULL;

	if (procfs_read(pid, "stat", &stat, NULL) < 0)
		return true;
	const char *name_end = strrchr(stat, ')');
	return name_end && strlen(name_end) > 2 && strchr("ZX", name_end[2]);
}

static void check_number(uint32_t number, const char *what, const int *pids, size_t count, struct problems *problems)
{
	auto_free char *name = NULL;
	pid_t holder = holder_of((pid_t)number, pids, count);

	/* One that has died is gone soon, and waited for: nursery.c. */
	if (!holder || is_dead(holder))
		return;
	if (procfs_read(holder, "comm", &name, NULL) == 0)
		name[strcspn(name, "\n")] = '\0';
	problems_add(problems,
	             error_hint(error_new(EEXIST, "%s %u of the program is in use here by process %d (%s)", what,
	                                  number, holder, name ? name : "?"),
	                        "End that process, start it again so that it gets another PID, or pass --pids new: the "
	                        "program gets a PID namespace of its own then"));
}

static void check_pid_max(const GodwitNeeds *needs, struct problems *problems)
{
	auto_free char *text = NULL;
	uint32_t highest = needs->session > needs->group ? needs->session : needs->group;

	if (needs->highest_tid > highest)
		highest = needs->highest_tid;
	if (procfs_read(getpid(), "../sys/kernel/pid_max", &text, NULL) < 0)
		return;
	unsigned long limit = strtoul(text, NULL, 10);
	if (highest >= limit)
		problems_add(problems, error_hint(error_new(0, "PID %u of the program is above all PIDs here", highest),
		                                  "sysctl kernel.pid_max=4194304 (it is %lu)", limit));
}

static void check_pids(const GodwitNeeds *needs, struct problems *problems)
{
	auto_free int *pids = NULL;
	size_t count = 0;

	check_pid_max(needs, problems);
	if (needs->new_pids || procfs_numbers(getpid(), "..", &pids, &count) < 0)
		return;
	for (size_t i = 0; i < needs->n_tids; i++)
		check_number(needs->tids[i], needs->tids[i] == needs->pid ? "PID" : "thread ID", pids, count, problems);
	if (needs->group && needs->group != needs->pid)
		check_number(needs->group, "process group", pids, count, problems);
	if (needs->session && needs->session != needs->pid && needs->session != needs->group)
		check_number(needs->session, "session", pids, count, problems);
}

/* ---- Memory ---- */

static struct error *check_free_memory(const GodwitNeeds *needs)
{
	auto_free char *text = NULL;
	uint64_t available_kb;
	uint64_t swap_kb;

	if (procfs_read(getpid(), "../meminfo", &text, NULL) < 0 ||
	    procfs_number(text, "MemAvailable", 10, &available_kb) < 0 ||
	    procfs_number(text, "SwapFree", 10, &swap_kb) < 0 || needs->memory_bytes / 1024 <= available_kb + swap_kb)
		return NULL;
	return error_hint(error_new(ENOMEM,
	                            "the program has %" PRIu64 " MB of memory, and %" PRIu64 " MB are free here",
	                            needs->memory_bytes >> 20, (available_kb + swap_kb) >> 10),
	                  "End something here, or add swap");
}

static struct error *check_group_memory(const GodwitNeeds *needs)
{
	struct cgroup_memory memory;

	if (!cgroup_memory_read(&memory))
		return NULL;
	auto_free char *group = memory.group;
	if (needs->memory_bytes <= memory.left_bytes)
		return NULL;
	return error_hint(error_new(ENOMEM,
	                            "the program has %" PRIu64
	                            " MB of memory, and its control group here, %s, has %" PRIu64 " MB left",
	                            needs->memory_bytes >> 20, group, memory.left_bytes >> 20),
	                  "Raise the limit of that group: memory.max, or memory.limit_in_bytes of version 1");
}

/* ---- Processor ---- */

static bool has_flag(const struct cpu *cpu, const char *flag)
{
	for (size_t i = 0; i < cpu->flag_count; i++)
		if (strcmp(cpu->flags[i], flag) == 0)
			return true;
	return false;
}

/* What the program may use and this processor lacks, in one line; NULL: nothing. The caller frees. */
static char *missing_flags(const GodwitNeeds *needs, const struct cpu *cpu)
{
	char *missing = NULL;

	for (size_t i = 0; i < needs->n_cpu_flags; i++) {
		auto_free char *former = NULL;

		if (!cpu_flag_counts(needs->cpu_flags[i], needs->cpu_caps) || has_flag(cpu, needs->cpu_flags[i]))
			continue;
		former = missing;
		missing = xformat("%s%s%s", former ? former : "", former ? " " : "", needs->cpu_flags[i]);
	}
	return missing;
}

static struct error *check_cpu(const GodwitNeeds *needs)
{
	static const char hint[] =
		"A program that has found out at its start that they are there would crash. If it doesn't use "
		"them: --cpu-cap none";
	auto_cpu struct cpu cpu = {0};

	TRY(cpu_read(&cpu));
	auto_free char *missing = missing_flags(needs, &cpu);
	if (missing)
		return error_hint(error_new(ENOTSUP, "the processor here lacks: %s", missing), "%s", hint);
	if ((needs->cpu_caps & CPU_CAP_CPU) && needs->cpu_model && cpu.model &&
	    strcmp(needs->cpu_model, cpu.model) != 0)
		return error_hint(error_new(ENOTSUP, "the processor here is %s, not %s", cpu.model, needs->cpu_model),
		                  "--cpu-cap fpu,ins compares only what it can do");
	return NULL;
}

/* ---- Addresses ---- */

static bool is_arriving(const GodwitNeeds *needs, const char *address)
{
	size_t length = strlen(address);

	for (size_t i = 0; i < needs->n_arriving; i++)
		if (strncmp(needs->arriving[i], address, length) == 0 &&
		    (needs->arriving[i][length] == '/' || !needs->arriving[i][length]))
			return true;
	return false;
}

static struct error *check_address(const GodwitNeeds *needs, const char *address)
{
	struct interface_address found;
	struct ip_address ip;

	if (!ip_address_parse(address, &ip))
		return error_new(EBADMSG, "\"%s\" is no IP address", address);
	if (is_arriving(needs, address))
		return NULL;
	auto_error struct error *error = address_find(&ip, &found);
	if (!error)
		return NULL;
	return error_hint(error_new(EADDRNOTAVAIL, "the program has sockets at %s, which is no address here", address),
	                  "--move-address %s takes it along", address);
}

/* ---- Services ---- */

static struct error *check_outlet(const GodwitOutlet *outlet)
{
	struct error *error = error_wrap(outlet_check(outlet->kind, outlet->path), "fd %d", outlet->fd);

	if (outlet->kind == OUTLET_FILE)
		return error_hint(error, "mkdir -p its folder there, or name another file: --stdio FILE");
	if (outlet->fd > STDERR_FILENO)
		return error_hint(error, "start that service there");
	return error_hint(error,
	                  "start that service there, or give the program something else: --stdio null, or a file");
}

/* ---- All of it ---- */

/* ssh to localhost, to an address of our own, to the old host by its new name. With PIDs of its own it could move there. */
static bool is_here(const GodwitNeeds *needs)
{
	auto_free char *space = needs_pid_space();
	uint64_t start_time;

	return !needs->new_pids && space && needs->pid_space && strcmp(space, needs->pid_space) == 0 &&
	       needs->has_start_time && procfs_start_time((pid_t)needs->pid, &start_time) == 0 &&
	       start_time == needs->start_time;
}

bool needs_check(const GodwitNeeds *needs, struct problems *problems)
{
	if (is_here(needs)) {
		problems_add(problems, error_hint(error_new(0, "this is the host that it runs on"),
		                                  "name the host that it is to move to"));
		return false;
	}
	check_pids(needs, problems);
	problems_add(problems, check_free_memory(needs));
	problems_add(problems, check_group_memory(needs));
	problems_add(problems, check_cpu(needs));
	problems_add(problems, rlimits_check(needs->rlimits));
	for (size_t i = 0; i < needs->n_affinities; i++)
		problems_add(problems, affinity_check(&needs->affinities[i], &needs->processors));
	needs_sysv_check(needs, problems);
	for (size_t i = 0; i < needs->n_outlets; i++)
		problems_add(problems, check_outlet(needs->outlets[i]));
	for (size_t i = 0; i < needs->n_addresses; i++)
		problems_add(problems, check_address(needs, needs->addresses[i]));
	return true;
}
