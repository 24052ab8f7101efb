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
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

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

enum set { INHERITABLE, PERMITTED, EFFECTIVE, BOUNDING, AMBIENT, SETS };

/* What status tells. */
struct told {
	uint32_t users[ALL_IDS], group_ids[ALL_IDS];
	uint64_t sets[SETS];
	uint64_t no_new_privs;
	size_t group_count; /* of the supplementary ones; more than there is room for: GROUPS_MAX + 1 */
	unsigned lines;     /* a bit for each that was there and makes sense */
};

enum line_kind { LINE_IDS, LINE_GROUPS, LINE_SET, LINE_NUMBER };
static const struct line {
	const char *name;
	enum line_kind kind;
	size_t offset;
} lines[] = {
	{"Uid:", LINE_IDS, offsetof(struct told, users)},
	{"Gid:", LINE_IDS, offsetof(struct told, group_ids)},
	{"Groups:", LINE_GROUPS, 0},
	{"CapInh:", LINE_SET, offsetof(struct told, sets[INHERITABLE])},
	{"CapPrm:", LINE_SET, offsetof(struct told, sets[PERMITTED])},
	{"CapEff:", LINE_SET, offsetof(struct told, sets[EFFECTIVE])},
	{"CapBnd:", LINE_SET, offsetof(struct told, sets[BOUNDING])},
	{"CapAmb:", LINE_SET, offsetof(struct told, sets[AMBIENT])},
	{"NoNewPrivs:", LINE_NUMBER, offsetof(struct told, no_new_privs)},
};
enum { LINES = sizeof(lines) / sizeof(lines[0]) };

/* Up to count_max numbers of a line; their count, or count_max + 1: there are more, or other things. */
static size_t parse_numbers(const char *at, uint32_t *numbers, size_t count_max)
{
	for (size_t count = 0;; count++) {
		char *end;

		at += strspn(at, " \t");
		if (*at == '\n' || *at == '\0')
			return count;
		if (count == count_max || *at < '0' || *at > '9')
			return count_max + 1;
		numbers[count] = (uint32_t)strtoul(at, &end, 10);
		at = end;
	}
}

/* False: it makes no sense. */
static bool parse_line(const struct line *line, const char *at, struct told *told, uint32_t *groups, size_t groups_max)
{
	void *field = (char *)told + line->offset;
	uint64_t value;

	switch (line->kind) {
	case LINE_IDS:
		return parse_numbers(at, field, ALL_IDS) == ALL_IDS;
	case LINE_GROUPS:
		told->group_count = parse_numbers(at, groups, groups_max);
		return told->group_count <= groups_max;
	case LINE_SET:
	case LINE_NUMBER:
		at += strspn(at, " \t");
		value = strtoull(at, NULL, line->kind == LINE_SET ? 16 : 10);
		memcpy(field, &value, sizeof(value));
		return isxdigit((unsigned char)*at);
	}
	return false;
}

/* All lines in one go, and nothing is allocated: it is done for each thread while the program waits. */
static void parse_status(const char *status, struct told *ret_told, uint32_t *groups, size_t groups_max)
{
	*ret_told = (struct told){0};
	for (const char *at = status; *at;) {
		for (unsigned i = 0; i < LINES; i++) {
			size_t length = strlen(lines[i].name);

			if (*at != *lines[i].name || strncmp(at, lines[i].name, length) != 0)
				continue;
			if (parse_line(&lines[i], at + length, ret_told, groups, groups_max))
				ret_told->lines |= 1U << i;
			break;
		}
		at = strchrnul(at, '\n');
		at += *at == '\n';
	}
}

static bool is_all_told(const struct told *told)
{
	return told->lines == (1U << LINES) - 1;
}

/* The first line that is missing or makes no sense. */
static struct error *check_told(const struct told *told)
{
	for (unsigned i = 0; i < LINES; i++) {
		if (told->lines & (1U << i))
			continue;
		if (lines[i].kind == LINE_GROUPS)
			return error_new(ENOTSUP, "more than %d supplementary groups", GROUPS_MAX);
		return error_new(EPROTO, "%.*s in status", (int)strcspn(lines[i].name, ":"), lines[i].name);
	}
	return NULL;
}

/* A set of capabilities as the image has it: 32-bit words, lowest first. */
static void put_set(uint64_t set, size_t *ret_count, uint32_t **ret_words)
{
	*ret_count = CAPABILITY_WORDS;
	*ret_words = xalloc(CAPABILITY_WORDS * sizeof(uint32_t));
	(*ret_words)[0] = (uint32_t)set;
	(*ret_words)[1] = (uint32_t)(set >> 32);
}

static void put_creds(const struct told *told, const uint32_t *groups, CredsEntry *creds)
{
	size_t group_bytes = told->group_count * sizeof(uint32_t);

	creds->uid = told->users[0];
	creds->euid = told->users[1];
	creds->suid = told->users[2];
	creds->fsuid = told->users[3];
	creds->gid = told->group_ids[0];
	creds->egid = told->group_ids[1];
	creds->sgid = told->group_ids[2];
	creds->fsgid = told->group_ids[3];
	creds->n_groups = told->group_count;
	creds->groups = group_bytes ? memcpy(xalloc(group_bytes), groups, group_bytes) : NULL;
	put_set(told->sets[INHERITABLE], &creds->n_cap_inh, &creds->cap_inh);
	put_set(told->sets[PERMITTED], &creds->n_cap_prm, &creds->cap_prm);
	put_set(told->sets[EFFECTIVE], &creds->n_cap_eff, &creds->cap_eff);
	put_set(told->sets[BOUNDING], &creds->n_cap_bnd, &creds->cap_bnd);
	put_set(told->sets[AMBIENT], &creds->n_cap_amb, &creds->cap_amb);
	creds->has_no_new_privs = true;
	creds->no_new_privs = (uint32_t)told->no_new_privs;
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
	auto_free char *status = status_of(pid, tid);
	uint32_t groups[GROUPS_MAX];
	struct told told;

	(void)options;
	if (!status)
		return NULL; /* it has ended */
	parse_status(status, &told, groups, GROUPS_MAX);
	TRY(check_told(&told));
	return check_label(pid);
}

/* Few programs have more groups: then save() reads it once more. */
enum { LOOKED_GROUPS = 8, STATUS_BYTES = 4096 };
struct looked {
	struct told told;
	uint32_t groups[LOOKED_GROUPS];
};

static void credentials_look(int task_fd, pid_t tid, void *ret_looked)
{
	struct looked *looked = ret_looked;
	char name[sizeof("2147483647/status")];
	char text[STATUS_BYTES];

	snprintf(name, sizeof(name), "%d/status", tid);
	auto_fd int fd = openat(task_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return;
	text[n] = '\0';
	parse_status(text, &looked->told, looked->groups, LOOKED_GROUPS);
}

static void *credentials_ask(const struct state_save *state, struct batch *batch)
{
	struct arg *answer = xalloc(sizeof(*answer));

	(void)state;
	*answer = batch_call(batch, prctl, val(PR_GET_SECUREBITS), val(0), val(0), val(0), val(0));
	return answer;
}

static struct error *save_status(const struct state_save *state, CredsEntry *creds)
{
	auto_free char *status = status_of(state->process->pid, state->thread->tid);
	uint32_t groups[GROUPS_MAX];
	struct told told;

	if (!status)
		return error_new(ESRCH, "status of thread %d", state->thread->tid);
	parse_status(status, &told, groups, GROUPS_MAX);
	TRY(check_told(&told));
	put_creds(&told, groups, creds);
	return NULL;
}

static struct error *credentials_save(const struct state_save *state, const void *collected, const void *asked,
                                      const struct batch *batch)
{
	const struct arg *securebits = asked;
	const struct looked *looked = state->looked;
	CredsEntry *creds = state->core->thread_core->creds;

	(void)collected;
	creds->secbits = (uint32_t)batch_result(batch, *securebits);
	if (!is_all_told(&looked->told))
		return save_status(state, creds);
	put_creds(&looked->told, looked->groups, creds);
	return NULL;
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
	auto_free char *status = status_of(getpid(), getpid());
	uint32_t groups[GROUPS_MAX];
	struct told told;

	if (!status)
		return error_new(ENOENT, "status of this process");
	parse_status(status, &told, groups, GROUPS_MAX);
	*ret_own = (struct capabilities){
		.inheritable = told.sets[INHERITABLE],
		.permitted = told.sets[PERMITTED],
		.effective = told.sets[EFFECTIVE],
		.bounding = told.sets[BOUNDING],
		.ambient = told.sets[AMBIENT],
	};
	return check_told(&told);
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
	.look = credentials_look,
	.look_bytes = sizeof(struct looked),
	.save = credentials_save,
	.restore = credentials_restore,
};
