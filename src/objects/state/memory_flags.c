/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What prctl(2) and /proc say of a process's memory as a whole: whether it may dump core and what goes into it, huge pages
 * turned off, pages merged with equal ones, no memory that is writable and executable (PR_SET_MDWE); and what it has
 * registered with membarrier(2).
 *
 * Traps: a change of credentials resets the dump flag, so this stands behind them; PR_SET_MDWE can't be taken back and
 * hinders the building, so this stands last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mm.pb-c.h"
#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/uapi.h"

enum { DUMPABLE_ROOT_ONLY = 2 }; /* SUID_DUMP_ROOT: what the kernel sets, but prctl(2) refuses */

struct answers {
	struct arg mdwe, merge, thp, barriers;
};

/* Older kernels have none of these, and then nothing to carry. */
static struct arg ask_option(struct batch *batch, int option)
{
	struct arg call = batch_call(batch, prctl, val((uint64_t)option), val(0), val(0), val(0), val(0));

	batch_may_fail(batch, call);
	return call;
}

static void *memory_flags_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	answers->mdwe = ask_option(batch, UAPI_PR_GET_MDWE);
	answers->merge = ask_option(batch, UAPI_PR_GET_MEMORY_MERGE);
	answers->thp = ask_option(batch, PR_GET_THP_DISABLE);
	answers->barriers = batch_call(batch, membarrier, val(UAPI_MEMBARRIER_GET_REGISTRATIONS), val(0), val(0));
	batch_may_fail(batch, answers->barriers);
	return answers;
}

/* Positive answers only: an error says that the kernel doesn't have it. */
static uint32_t answered(const struct batch *batch, struct arg call)
{
	int64_t result = batch_result(batch, call);

	return result > 0 ? (uint32_t)result : 0;
}

static struct error *memory_flags_save(const struct state_save *state, const void *collected, const void *asked,
                                       const struct batch *batch)
{
	const struct answers *answers = asked;
	GodwitThreadEntry *extra = state->extra;
	TaskCoreEntry *tc = state->core->tc;
	auto_free char *filter = NULL;

	(void)collected;
	int r = procfs_read(state->process->pid, "coredump_filter", &filter, NULL);
	if (r == 0) {
		extra->has_coredump_filter = true;
		extra->coredump_filter = (uint32_t)strtoul(filter, NULL, 16);
	} else if (r != -ENOENT) { /* CONFIG_ELF_CORE */
		return error_new(-r, "coredump_filter of process %d", state->process->pid);
	}
	extra->mdwe = answered(batch, answers->mdwe);
	extra->has_mdwe = extra->mdwe != 0;
	extra->memory_merge = answered(batch, answers->merge) != 0;
	extra->has_memory_merge = extra->memory_merge;
	/* Bit 0 says that they are disabled, the others how: Linux 6.18. */
	extra->thp_disable_flags = answered(batch, answers->thp) & ~1U;
	extra->has_thp_disable_flags = extra->thp_disable_flags != 0;
	tc->membarrier_registration_mask = answered(batch, answers->barriers);
	tc->has_membarrier_registration_mask = tc->membarrier_registration_mask != 0;
	return NULL;
}

/* ---- Restoring ---- */

static void append_prctl(struct batch *batch, int option, uint64_t value)
{
	batch_call(batch, prctl, val((uint64_t)option), val(value), val(0), val(0), val(0));
}

/* While a process is built it has no huge pages: so this is set in any case. A kernel without them doesn't know it. */
static void append_thp(struct batch *batch, bool is_disabled, uint32_t flags)
{
	batch_may_fail(batch, batch_call(batch, prctl, val(PR_SET_THP_DISABLE), val(is_disabled),
	                                 val(is_disabled ? flags : 0), val(0), val(0)));
}

/* The image has these two with the areas. */
static struct error *restore_mm_flags(const struct state_restore *state, struct batch *batch)
{
	ProtobufCMessage *message;

	TRY(image_get(state->store, IMAGE_MM, (uint64_t)state->own_pid, 0, &message));
	const MmEntry *mm = (const MmEntry *)message;

	if (mm->has_dumpable && mm->dumpable != DUMPABLE_ROOT_ONLY)
		append_prctl(batch, PR_SET_DUMPABLE, (uint64_t)mm->dumpable);
	append_thp(batch, mm->has_thp_disabled && mm->thp_disabled, state->extra->thp_disable_flags);
	protobuf_c_message_free_unpacked(message, NULL);
	return NULL;
}

static struct error *write_coredump_filter(pid_t pid, uint32_t filter)
{
	auto_free char *path = xformat("/proc/%d/coredump_filter", pid);
	auto_free char *text = xformat("%#x", filter);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return error_new(errno, "%s: %s", path, text);
	return NULL;
}

static struct error *memory_flags_restore(const struct state_restore *state, struct batch *batch)
{
	const GodwitThreadEntry *extra = state->extra;
	uint32_t barriers = state->core->tc->membarrier_registration_mask;

	TRY(restore_mm_flags(state, batch));
	if (extra->has_coredump_filter)
		TRY(write_coredump_filter(state->pid, extra->coredump_filter));
	if (extra->has_memory_merge && extra->memory_merge)
		append_prctl(batch, UAPI_PR_SET_MEMORY_MERGE, 1);
	/* Each bit is the command that made the registration. */
	for (uint32_t bit = 1; bit && bit <= barriers; bit <<= 1)
		if (barriers & bit)
			batch_call(batch, membarrier, val(bit), val(0), val(0));
	if (extra->has_mdwe && extra->mdwe)
		append_prctl(batch, UAPI_PR_SET_MDWE, extra->mdwe);
	return NULL;
}

const struct state_ops memory_flags_ops = {
	.name = "memory flags",
	.scope = STATE_PROCESS,
	.ask = memory_flags_ask,
	.save = memory_flags_save,
	.restore = memory_flags_restore,
};
