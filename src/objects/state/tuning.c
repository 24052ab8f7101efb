/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Small things that a thread may have tuned: timer slack, I/O priority (ioprio_set(2)), whether it may read the time stamp
 * counter, what happens to it at a machine check (PR_SET_TIMERSLACK, PR_SET_TSC, PR_MCE_KILL of prctl(2)).
 *
 * What can't be carried is refused here, too: where a thread has such a thing, godwit says which.
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"
#include "util/uapi.h"

enum {
	IO_OF_PROCESS = 1, /* IOPRIO_WHO_PROCESS */
	ARCH_GET_CPUID = 0x1011,
	ARCH_GET_XCOMP_PERM = 0x1022,
	FLAG_IO_FLUSHER = 0x00100000, /* PF_LOCAL_THROTTLE among the flags of proc_pid_stat(5); Linux 5.6 */
};
static const uint64_t amx = UINT64_C(3) << 17; /* tile configuration and data in XCR0 */

/* ---- What is refused ---- */

static const struct {
	const char *line, *value; /* in /proc/TID/status: a line, and a part of its text */
	const char *what;
} refused[] = {
	{"x86_Thread_features", "shstk", "a shadow stack"},
	{"x86_Thread_features", "wrss", "a writable shadow stack"},
	{"Speculation_Store_Bypass", "thread", "speculative store bypass turned on or off (PR_SET_SPECULATION_CTRL)"},
	{"SpeculationIndirectBranch", "conditional disabled",
         "indirect branch speculation turned off (PR_SET_SPECULATION_CTRL)"},
	{"SpeculationIndirectBranch", "conditional force disabled",
         "indirect branch speculation turned off (PR_SET_SPECULATION_CTRL)"},
};

static bool has_value(const char *status, const char *line, const char *value)
{
	auto_free char *start = xformat("\n%s:", line);
	const char *found = strstr(status, start);

	if (!found)
		return false;
	found += strlen(start);
	const char *at = strstr(found, value);
	return at && at < found + strcspn(found, "\n");
}

static struct error *tuning_check(pid_t pid, pid_t tid, const struct carry_options *options)
{
	auto_free char *path = xformat("task/%d/status", tid);
	auto_free char *status = NULL;
	uint64_t flags;
	uint64_t untag_mask;

	(void)options;
	if (procfs_read(pid, path, &status, NULL) < 0)
		return NULL; /* it has ended */
	/* Kernels before 5.16 do that themselves to a thread with a filter, and will do it again. */
	bool is_by_filter = seccomp_mode(pid, tid) != SECCOMP_IS_OFF;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (has_value(status, refused[i].line, refused[i].value) &&
		    !(is_by_filter && strncmp(refused[i].line, "Spec", 4) == 0))
			return error_hint(error_new(ENOTSUP, "it has %s", refused[i].what), "start it without that");
	if (procfs_number(status, "untag_mask", 16, &untag_mask) == 0 && untag_mask != UINT64_MAX)
		return error_hint(error_new(ENOTSUP, "it uses tagged addresses (ARCH_ENABLE_TAGGED_ADDR)"),
		                  "start it without that");
	if (procfs_thread_stat_field(pid, tid, 9, &flags) == 0 && (flags & FLAG_IO_FLUSHER))
		return error_hint(error_new(ENOTSUP, "it is an I/O flusher (PR_SET_IO_FLUSHER)"),
		                  "servers of file systems and block devices can't be carried");
	return NULL;
}

/* ---- Saving ---- */

struct answers {
	struct arg slack, io_priority, tsc_mode, machine_check, cpuid, segments, components, components_call;
	struct arg core_cookie, core_cookie_call;
};

static struct arg ask_option(struct batch *batch, int option)
{
	return batch_call(batch, prctl, val((uint64_t)option), val(0), val(0), val(0), val(0));
}

static void *tuning_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	answers->slack = ask_option(batch, PR_GET_TIMERSLACK);
	answers->io_priority = batch_call(batch, ioprio_get, val(IO_OF_PROCESS), val(0));
	answers->tsc_mode = batch_space(batch, sizeof(int));
	batch_call(batch, prctl, val(PR_GET_TSC), answers->tsc_mode);
	answers->machine_check = ask_option(batch, PR_MCE_KILL_GET);
	/* Older kernels and other processors don't know these, and so have nothing to tell. */
	answers->cpuid = batch_call(batch, arch_prctl, val(ARCH_GET_CPUID), val(0));
	batch_may_fail(batch, answers->cpuid);
	answers->segments =
		batch_call(batch, modify_ldt, val(0), batch_space(batch, sizeof(uint64_t)), val(sizeof(uint64_t)));
	batch_may_fail(batch, answers->segments);
	answers->components = batch_space(batch, sizeof(uint64_t));
	answers->components_call = batch_call(batch, arch_prctl, val(ARCH_GET_XCOMP_PERM), answers->components);
	batch_may_fail(batch, answers->components_call);
	answers->core_cookie = batch_space(batch, sizeof(uint64_t));
	answers->core_cookie_call = batch_call(batch, prctl, val(UAPI_PR_SCHED_CORE), val(UAPI_PR_SCHED_CORE_GET),
	                                       val(0), val(0), answers->core_cookie);
	batch_may_fail(batch, answers->core_cookie_call);
	return answers;
}

static uint64_t answered(const struct batch *batch, struct arg call, struct arg space)
{
	uint64_t value = 0;

	if (batch_result(batch, call) == 0)
		memcpy(&value, batch_output(batch, space), sizeof(value));
	return value;
}

static struct error *check_answers(const struct answers *answers, const struct batch *batch)
{
	if (batch_result(batch, answers->cpuid) == 0)
		return error_new(ENOTSUP, "it must not use the CPUID instruction (ARCH_SET_CPUID)");
	if (batch_result(batch, answers->segments) > 0)
		return error_new(ENOTSUP, "it has segments of its own (modify_ldt(2))");
	if (answered(batch, answers->components_call, answers->components) & amx)
		return error_new(ENOTSUP, "it uses AMX tiles (ARCH_REQ_XCOMP_PERM)");
	if (answered(batch, answers->core_cookie_call, answers->core_cookie))
		return error_hint(error_new(ENOTSUP, "it has a core scheduling cookie (PR_SCHED_CORE)"),
		                  "coresched new -t pid -d PID sets another one; start it without");
	return NULL;
}

static struct error *tuning_save(const struct state_save *state, const void *collected, const void *asked,
                                 const struct batch *batch)
{
	const struct answers *answers = asked;
	GodwitThreadEntry *extra = state->extra;
	int tsc_mode;

	(void)collected;
	TRY(check_answers(answers, batch));
	memcpy(&tsc_mode, batch_output(batch, answers->tsc_mode), sizeof(tsc_mode));
	extra->has_timer_slack_ns = extra->has_io_priority = extra->has_tsc_mode = extra->has_machine_check = true;
	extra->timer_slack_ns = (uint64_t)batch_result(batch, answers->slack);
	extra->io_priority = (uint32_t)batch_result(batch, answers->io_priority);
	extra->tsc_mode = (uint32_t)tsc_mode;
	extra->machine_check = (uint32_t)batch_result(batch, answers->machine_check);
	return NULL;
}

/* ---- Restoring ---- */

static struct error *tuning_restore(const struct state_restore *state, struct batch *batch)
{
	const GodwitThreadEntry *extra = state->extra;

	/* 0 would mean the slack that it began with; real-time threads have none. */
	if (extra->timer_slack_ns)
		batch_call(batch, prctl, val(PR_SET_TIMERSLACK), val(extra->timer_slack_ns), val(0), val(0), val(0));
	if (extra->io_priority)
		batch_call(batch, ioprio_set, val(IO_OF_PROCESS), val(0), val(extra->io_priority));
	if (extra->has_tsc_mode && extra->tsc_mode != PR_TSC_ENABLE)
		batch_call(batch, prctl, val(PR_SET_TSC), val(extra->tsc_mode));
	if (extra->has_machine_check && extra->machine_check != PR_MCE_KILL_DEFAULT)
		batch_call(batch, prctl, val(PR_MCE_KILL), val(PR_MCE_KILL_SET), val(extra->machine_check), val(0),
		           val(0));
	return NULL;
}

const struct state_ops tuning_ops = {
	.name = "tuning",
	.scope = STATE_THREAD,
	.check = tuning_check,
	.ask = tuning_ask,
	.save = tuning_save,
	.restore = tuning_restore,
};
