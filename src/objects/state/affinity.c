/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * On which processors a thread may run: sched_setaffinity(2).
 *
 * A thread that may run on all processors of its host is bound to none: it may run on all of the next host, too. One that
 * is bound keeps the numbers: those that the next host doesn't have are left out, and a thread of which none is left can't
 * go there.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "objects/affinity.h"
#include "objects/state.h"
#include "util/alloc.h"

enum { MASK_BYTES = 1024 }; /* 8192 processors, the most that x86-64 can have: CONFIG_NR_CPUS */

struct mask {
	uint8_t bytes[MASK_BYTES];
};

static void add_range(struct mask *mask, unsigned long first, unsigned long last)
{
	for (unsigned long cpu = first; cpu <= last && cpu < MASK_BYTES * 8UL; cpu++)
		mask->bytes[cpu / 8] |= (uint8_t)(1U << (cpu % 8));
}

/* "0-3,8": ranges of numbers. Without sysfs the processors are taken to be those below their count. */
static void read_online(struct mask *ret_online)
{
	auto_fd int fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
	char text[4096] = "";
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	*ret_online = (struct mask){0};
	if (n <= 0) {
		add_range(ret_online, 0, (unsigned long)sysconf(_SC_NPROCESSORS_ONLN) - 1);
		return;
	}
	for (char *next = text; *next >= '0' && *next <= '9'; next += *next == ',') {
		unsigned long first = strtoul(next, &next, 10);
		unsigned long last = *next == '-' ? strtoul(next + 1, &next, 10) : first;

		add_range(ret_online, first, last);
	}
}

/* ---- Saving ---- */

static struct error *affinity_collect(pid_t pid, pid_t tid, void **ret_collected)
{
	if (tid != pid)
		return NULL;
	*ret_collected = xalloc(sizeof(struct mask));
	read_online(*ret_collected);
	return NULL;
}

ProtobufCBinaryData affinity_of(pid_t tid)
{
	struct mask mask;
	long size_bytes = syscall(SYS_sched_getaffinity, tid, sizeof(mask), &mask);
	ProtobufCBinaryData affinity = {0};

	if (size_bytes <= 0)
		return affinity;
	affinity.len = (size_t)size_bytes;
	affinity.data = memcpy(xalloc(affinity.len), &mask, affinity.len);
	return affinity;
}

ProtobufCBinaryData affinity_of_host(void)
{
	ProtobufCBinaryData processors = {.len = MASK_BYTES, .data = xalloc(MASK_BYTES)};

	read_online((struct mask *)processors.data);
	return processors;
}

struct answers {
	struct arg mask, size_bytes;
};

static void *affinity_ask(const struct state_save *state, struct batch *batch)
{
	struct answers *answers = xalloc(sizeof(*answers));

	(void)state;
	answers->mask = batch_space(batch, MASK_BYTES);
	answers->size_bytes = batch_call(batch, sched_getaffinity, val(0), val(MASK_BYTES), answers->mask);
	return answers;
}

static void put_bytes(ProtobufCBinaryData *field, protobuf_c_boolean *has_field, const void *bytes, size_t size_bytes)
{
	*has_field = true;
	field->len = size_bytes;
	field->data = memcpy(xalloc(size_bytes), bytes, size_bytes);
}

static struct error *affinity_save(const struct state_save *state, const void *collected, const void *asked,
                                   const struct batch *batch)
{
	const struct answers *answers = asked;
	const struct mask *online = collected;
	size_t size_bytes = (size_t)batch_result(batch, answers->size_bytes);

	if (size_bytes > MASK_BYTES)
		return error_new(EPROTO, "affinity of %zu bytes", size_bytes);
	put_bytes(&state->extra->affinity, &state->extra->has_affinity, batch_output(batch, answers->mask), size_bytes);
	if (online)
		put_bytes(&state->extra->processors, &state->extra->has_processors, online, size_bytes);
	return NULL;
}

/* ---- Restoring ---- */

/* Is there a processor of its former host that it may not use? */
static bool is_bound(const ProtobufCBinaryData *affinity, const ProtobufCBinaryData *processors)
{
	for (size_t i = 0; affinity->data && i < processors->len; i++)
		if (processors->data[i] & ~(i < affinity->len ? affinity->data[i] : 0))
			return true;
	return false;
}

struct error *affinity_check(const ProtobufCBinaryData *affinity, const ProtobufCBinaryData *processors)
{
	struct mask online;
	bool is_any_left = false;

	if (!is_bound(affinity, processors))
		return NULL;
	if (affinity->len > MASK_BYTES)
		return error_new(EBADMSG, "affinity of %zu bytes", affinity->len);
	read_online(&online);
	for (size_t i = 0; i < affinity->len; i++)
		is_any_left |= (online.bytes[i] & affinity->data[i]) != 0;
	if (is_any_left)
		return NULL;
	return error_hint(error_new(EINVAL, "it is bound to processors that this host doesn't have"),
	                  "bind it to others before: taskset -a -p -c 0-%ld PID", sysconf(_SC_NPROCESSORS_ONLN) - 1);
}

static struct error *affinity_preflight(const struct state_restore *state)
{
	return affinity_check(&state->extra->affinity, &state->leader->processors);
}

static struct error *affinity_restore(const struct state_restore *state, struct batch *batch)
{
	const GodwitThreadEntry *extra = state->extra;
	struct mask mask = {0};

	(void)batch;
	if (!is_bound(&extra->affinity, &state->leader->processors))
		return NULL;
	TRY(affinity_preflight(state));
	memcpy(mask.bytes, extra->affinity.data, extra->affinity.len);
	if (sched_setaffinity(state->tid, sizeof(mask), (const cpu_set_t *)(const void *)&mask) < 0)
		return error_new(errno, "sched_setaffinity(%d)", state->tid);
	return NULL;
}

const struct state_ops affinity_ops = {
	.name = "affinity",
	.scope = STATE_THREAD,
	.collect = affinity_collect,
	.ask = affinity_ask,
	.save = affinity_save,
	.preflight = affinity_preflight,
	.restore = affinity_restore,
};
