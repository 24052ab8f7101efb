/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Who a thread is and what it may: user and group ids, groups, capability sets, securebits, no_new_privs (credentials(7),
 * capabilities(7)). Each thread has its own; /proc/PID/task/TID/status tells all but securebits.
 *
 * Traps: setresuid(2) of root drops capabilities unless SECBIT_NO_SETUID_FIXUP holds; the bounding set and securebits
 * can be changed only while CAP_SETPCAP is in the effective set; an ambient capability must be permitted and
 * inheritable first. So: bounding set, groups, ids under NO_SETUID_FIXUP, a first capset(2) that keeps everything
 * permitted, ambient set, securebits, the final capset(2), no_new_privs.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "objects/state.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum {
	CAPABILITY_WORDS = _LINUX_CAPABILITY_U32S_3,
	GROUPS_MAX = 1024, /* more than those don't fit into a batch */
	ALL_IDS = 4,       /* real, effective, saved, file system */
};

/* ---- /proc/PID/task/TID/status ---- */

static char *status_of(pid_t pid, pid_t tid)
{
	auto_free char *path = xformat("task/%d/status", tid);
	char *status;

	return procfs_read(pid, path, &status, NULL) < 0 ? NULL : status;
}

/* The text behind "name:" at the start of a line. */
static const char *find_line(const char *text, const char *name)
{
	auto_free char *start = xformat("\n%s:", name);
	const char *line = strstr(text, start);

	return line ? line + strlen(start) : NULL;
}

/* Up to count_max numbers of a line; their count, or -1: no such line, or more. */
static int read_numbers(const char *text, const char *name, uint32_t *numbers, size_t count_max)
{
	const char *line = find_line(text, name);
	size_t count = 0;

	if (!line)
		return -1;
	for (;;) {
		line += strspn(line, " \t");
		if (*line == '\n' || *line == '\0')
			return (int)count;
		if (count == count_max || *line < '0' || *line > '9')
			return -1;
		char *end;
		numbers[count++] = (uint32_t)strtoul(line, &end, 10);
		line = end;
	}
}

static struct error *read_ids(const char *status, CredsEntry *creds)
{
	uint32_t users[ALL_IDS];
	uint32_t groups[ALL_IDS];

	if (read_numbers(status, "Uid", users, ALL_IDS) != ALL_IDS ||
	    read_numbers(status, "Gid", groups, ALL_IDS) != ALL_IDS)
		return error_new(EPROTO, "Uid and Gid in status");
	creds->uid = users[0];
	creds->euid = users[1];
	creds->suid = users[2];
	creds->fsuid = users[3];
	creds->gid = groups[0];
	creds->egid = groups[1];
	creds->sgid = groups[2];
	creds->fsgid = groups[3];
	return NULL;
}

static struct error *read_groups(const char *status, CredsEntry *creds)
{
	uint32_t numbers[GROUPS_MAX];
	int count = read_numbers(status, "Groups", numbers, GROUPS_MAX);

	if (count < 0)
		return error_new(ENOTSUP, "more than %d supplementary groups", GROUPS_MAX);
	if (count == 0)
		return NULL;
	creds->n_groups = (size_t)count;
	creds->groups = memcpy(xalloc((size_t)count * sizeof(uint32_t)), numbers, (size_t)count * sizeof(uint32_t));
	return NULL;
}

/* A set of capabilities as the image has it: 32-bit words, lowest first. */
static struct error *read_set(const char *status, const char *name, size_t *ret_count, uint32_t **ret_words)
{
	uint64_t set;
	int r = procfs_number(status, name, 16, &set);

	if (r < 0)
		return error_new(-r, "%s in status", name);
	*ret_count = CAPABILITY_WORDS;
	*ret_words = xalloc(CAPABILITY_WORDS * sizeof(uint32_t));
	(*ret_words)[0] = (uint32_t)set;
	(*ret_words)[1] = (uint32_t)(set >> 32);
	return NULL;
}

static struct error *read_creds(const char *status, CredsEntry *creds)
{
	uint64_t no_new_privs;

	TRY(read_ids(status, creds));
	TRY(read_groups(status, creds));
	TRY(read_set(status, "CapInh", &creds->n_cap_inh, &creds->cap_inh));
	TRY(read_set(status, "CapPrm", &creds->n_cap_prm, &creds->cap_prm));
	TRY(read_set(status, "CapEff", &creds->n_cap_eff, &creds->cap_eff));
	TRY(read_set(status, "CapBnd", &creds->n_cap_bnd, &creds->cap_bnd));
	TRY(read_set(status, "CapAmb", &creds->n_cap_amb, &creds->cap_amb));
	int r = procfs_number(status, "NoNewPrivs", 10, &no_new_privs);
	if (r < 0)
		return error_new(-r, "NoNewPrivs in status");
	creds->has_no_new_privs = true;
	creds->no_new_privs = (uint32_t)no_new_privs;
	return NULL;
}

/* ---- Saving ---- */

/* A label of a security module would be lost, and with it what the module forbids the program. */
static struct error *check_label(pid_t pid)
{
	auto_free char *label = NULL;

	if (procfs_read(pid, "attr/current", &label, NULL) < 0 || !*label || strncmp(label, "unconfined", 10) == 0)
		return NULL;
	label[strcspn(label, "\n")] = '\0';
	return error_hint(error_new(ENOTSUP, "security label \"%s\"", label), "run the program unconfined");
}

static struct error *credentials_check(pid_t pid, pid_t tid, const struct carry_options *options)
{
	CredsEntry creds = CREDS_ENTRY__INIT;
	auto_free char *status = status_of(pid, tid);

	(void)options;
	if (!status)
		return NULL; /* it has ended */
	struct error *error = read_groups(status, &creds);
	free(creds.groups);
	return error ? error : check_label(pid);
}

static void *credentials_ask(const struct state_save *state, struct batch *batch)
{
	struct arg *answer = xalloc(sizeof(*answer));

	(void)state;
	*answer = batch_call(batch, prctl, val(PR_GET_SECUREBITS), val(0), val(0), val(0), val(0));
	return answer;
}

static struct error *credentials_save(const struct state_save *state, const void *collected, const void *asked,
                                      const struct batch *batch)
{
	auto_free char *status = status_of(state->process->pid, state->thread->tid);
	const struct arg *securebits = asked;
	CredsEntry *creds = state->core->thread_core->creds;

	(void)collected;
	if (!status)
		return error_new(ESRCH, "status of thread %d", state->thread->tid);
	creds->secbits = (uint32_t)batch_result(batch, *securebits);
	return read_creds(status, creds);
}

/* ---- Restoring ---- */

struct capabilities {
	uint64_t inheritable, permitted, effective, bounding, ambient;
};

static uint64_t set_of(size_t count, const uint32_t *words)
{
	return (count > 0 ? words[0] : 0) | (count > 1 ? (uint64_t)words[1] << 32 : 0);
}

static struct capabilities capabilities_of(const CredsEntry *creds)
{
	return (struct capabilities){
		.inheritable = set_of(creds->n_cap_inh, creds->cap_inh),
		.permitted = set_of(creds->n_cap_prm, creds->cap_prm),
		.effective = set_of(creds->n_cap_eff, creds->cap_eff),
		.bounding = set_of(creds->n_cap_bnd, creds->cap_bnd),
		.ambient = set_of(creds->n_cap_amb, creds->cap_amb),
	};
}

/* What the program may have been given elsewhere and can't be given here would fail later, and not say why. */
static struct error *check_allowed(const struct capabilities *wanted, const struct capabilities *here)
{
	uint64_t missing = (wanted->permitted & ~here->permitted) | (wanted->bounding & ~here->bounding);

	if (!missing)
		return NULL;
	return error_hint(
		error_new(EPERM, "capabilities %#" PRIx64 " of the program, which godwit doesn't have", missing),
		"run godwit with all the capabilities that the program had");
}

static void append_prctl(struct batch *batch, long option, uint64_t value, uint64_t more)
{
	batch_call(batch, prctl, val((uint64_t)option), val(value), val(more), val(0), val(0));
}

static void append_bounding(struct batch *batch, uint64_t dropped)
{
	for (uint64_t cap = 0; cap < 64; cap++)
		if (dropped & (UINT64_C(1) << cap))
			append_prctl(batch, PR_CAPBSET_DROP, cap, 0);
}

static void append_ambient(struct batch *batch, uint64_t ambient)
{
	append_prctl(batch, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0);
	for (uint64_t cap = 0; cap < 64; cap++)
		if (ambient & (UINT64_C(1) << cap))
			append_prctl(batch, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap);
}

static void append_capset(struct batch *batch, uint64_t inheritable, uint64_t permitted, uint64_t effective)
{
	const struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct data[CAPABILITY_WORDS] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
	};

	batch_call(batch, capset, batch_bytes(batch, &header, sizeof(header)), batch_bytes(batch, data, sizeof(data)));
}

static void append_ids(struct batch *batch, const CredsEntry *creds)
{
	struct arg groups =
		creds->n_groups ? batch_bytes(batch, creds->groups, creds->n_groups * sizeof(uint32_t)) : val(0);

	batch_call(batch, setgroups, val(creds->n_groups), groups);
	batch_call(batch, setresgid, val(creds->gid), val(creds->egid), val(creds->sgid));
	batch_call(batch, setresuid, val(creds->uid), val(creds->euid), val(creds->suid));
	/* These two return the former id, never an error; the ids are those of a program that could set them. */
	batch_call(batch, setfsgid, val(creds->fsgid));
	batch_call(batch, setfsuid, val(creds->fsuid));
}

/* What the task has now: it is a child of ours, and has changed nothing. */
static struct error *read_own(struct capabilities *ret_own)
{
	CredsEntry creds = CREDS_ENTRY__INIT;
	auto_free char *status = status_of(getpid(), getpid());
	struct error *error = status ? read_creds(status, &creds) : error_new(ENOENT, "status of this process");

	*ret_own = capabilities_of(&creds);
	free(creds.groups);
	free(creds.cap_inh);
	free(creds.cap_prm);
	free(creds.cap_eff);
	free(creds.cap_bnd);
	free(creds.cap_amb);
	return error;
}

static struct error *credentials_restore(const struct state_restore *state, struct batch *batch)
{
	const CredsEntry *creds = state->core->thread_core->creds;
	struct capabilities own;

	if (!creds)
		return error_new(EBADMSG, "no credentials");
	if (creds->n_groups > GROUPS_MAX)
		return error_new(EBADMSG, "%zu supplementary groups", creds->n_groups);
	if (creds->lsm_profile && strcmp(creds->lsm_profile, "unconfined") != 0)
		return error_new(ENOTSUP, "security label \"%s\"", creds->lsm_profile);
	TRY(read_own(&own));
	const struct capabilities caps = capabilities_of(creds);
	TRY(check_allowed(&caps, &own));
	append_bounding(batch, own.bounding & ~caps.bounding);
	append_prctl(batch, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0);
	append_ids(batch, creds);
	append_capset(batch, caps.inheritable, own.permitted, own.permitted);
	append_ambient(batch, caps.ambient);
	append_prctl(batch, PR_SET_SECUREBITS, creds->secbits, 0);
	append_capset(batch, caps.inheritable, caps.permitted, caps.effective);
	if (creds->has_no_new_privs && creds->no_new_privs)
		append_prctl(batch, PR_SET_NO_NEW_PRIVS, 1, 0);
	return NULL;
}

const struct state_ops credentials_ops = {
	.name = "credentials",
	.scope = STATE_THREAD,
	.check = credentials_check,
	.ask = credentials_ask,
	.save = credentials_save,
	.restore = credentials_restore,
};
