/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <sys/sem.h>
#include <unistd.h>

#include "objects/sysv/undo.h"

enum {
	VALUE_MAX = 32767,  /* of a semaphore: SEMVMX of semctl(2) */
	NUMBER_MAX = 32767, /* of what is to be undone: SEMAEM */
	NUMBER_MIN = -32768,
	OPERATIONS_MAX = 6,
	PER_BATCH = 32, /* semaphores, with two calls each */
};

bool undo_is_common(pid_t tid, pid_t other)
{
	return syscall(SYS_kcmp, tid, other, KCMP_SYSVSEM, 0, 0) == 0;
}

/* We have no list. */
bool undo_is_possible(pid_t tid)
{
	return !undo_is_common(tid, getpid());
}

/* ---- Trying ---- */

struct trial {
	struct sembuf list[OPERATIONS_MAX];
	size_t count;
	unsigned short semaphore;
};

static void add(struct trial *trial, int operation, int flags)
{
	/* 0 would wait for 0. */
	if (operation)
		trial->list[trial->count++] =
			(struct sembuf){trial->semaphore, (short)operation, (short)(flags | IPC_NOWAIT)};
}

/* Changes the number by -change, in steps for which the value has room, and then waits for what can't be. */
static void try_change(struct trial *trial, unsigned short value, int change)
{
	int left = change;
	bool is_up = change > 0;

	add(trial, is_up ? -value : VALUE_MAX - value, 0);
	while (left) {
		int step = left > VALUE_MAX ? VALUE_MAX : left < -VALUE_MAX ? -VALUE_MAX : left;

		add(trial, step, SEM_UNDO);
		left -= step;
		if (left)
			add(trial, -step, 0);
	}
	add(trial, SHRT_MIN, 0);
}

static struct arg append_trial(struct batch *batch, uint32_t id, const struct trial *trial)
{
	struct arg call =
		batch_call(batch, semop, val(id),
	                   batch_bytes(batch, trial->list, trial->count * sizeof(trial->list[0])), val(trial->count));

	batch_may_fail(batch, call);
	return call;
}

static struct arg append_change(struct batch *batch, uint32_t id, size_t semaphore, unsigned short value, int change)
{
	struct trial trial = {.semaphore = (unsigned short)semaphore};

	try_change(&trial, value, change);
	return append_trial(batch, id, &trial);
}

static struct error *outcome(const struct batch *batch, struct arg call, bool *ret_is_out_of_range)
{
	int64_t result = batch_result(batch, call);

	*ret_is_out_of_range = result == -ERANGE;
	if (result == -ERANGE || result == -EAGAIN)
		return NULL;
	return error_new(result < 0 ? (int)-result : EPROTO, "what semop(2) would undo");
}

/* ---- Reading ---- */

/* The largest change up or down that the number has room for tells it. */
static struct error *search(struct process *process, uint32_t id, size_t semaphore, unsigned short value,
                            bool is_positive, int32_t *ret_number)
{
	int fits = 0;
	int too_much = NUMBER_MAX + 1;

	while (too_much - fits > 1) {
		int middle = (fits + too_much) / 2;
		auto_batch struct batch *batch = process_batch(process, process_caller(process));
		struct arg call = append_change(batch, id, semaphore, value, is_positive ? -middle : middle);
		bool is_out_of_range;

		TRY(process_run(process, batch));
		TRY(outcome(batch, call, &is_out_of_range));
		*(is_out_of_range ? &too_much : &fits) = middle;
	}
	*ret_number = is_positive ? NUMBER_MAX - fits : NUMBER_MIN + fits;
	return NULL;
}

/* Whether there are numbers at all is told by two trials for each. */
static struct error *read_some(struct process *process, uint32_t id, const unsigned short *values, size_t first,
                               size_t count, int32_t *numbers)
{
	auto_batch struct batch *batch = process_batch(process, process_caller(process));
	struct arg positive[PER_BATCH];
	struct arg negative[PER_BATCH];

	batch_about(batch, "System V semaphores", id);
	for (size_t i = 0; i < count; i++) {
		positive[i] = append_change(batch, id, first + i, values[first + i], -NUMBER_MAX);
		negative[i] = append_change(batch, id, first + i, values[first + i], -NUMBER_MIN);
	}
	TRY(process_run(process, batch));
	for (size_t i = 0; i < count; i++) {
		bool is_positive;
		bool is_negative;

		TRY(outcome(batch, positive[i], &is_positive));
		TRY(outcome(batch, negative[i], &is_negative));
		numbers[first + i] = 0;
		if (is_positive || is_negative)
			TRY(search(process, id, first + i, values[first + i], is_positive, &numbers[first + i]));
	}
	return NULL;
}

struct error *undo_read(struct process *process, uint32_t id, const unsigned short *values, size_t count,
                        int32_t *ret_numbers, bool *ret_is_any)
{
	*ret_is_any = false;
	for (size_t first = 0; first < count; first += PER_BATCH)
		TRY(read_some(process, id, values, first, count - first < PER_BATCH ? count - first : PER_BATCH,
		              ret_numbers));
	for (size_t i = 0; i < count; i++)
		*ret_is_any |= ret_numbers[i] != 0;
	return NULL;
}

/* ---- Setting ---- */

/* It is 0 so far. As above, but with an end that brings the value back. */
struct error *undo_set(struct process *process, uint32_t id, size_t semaphore, unsigned short value, int32_t number)
{
	struct trial trial = {.semaphore = (unsigned short)semaphore};
	auto_batch struct batch *batch = process_batch(process, process_caller(process));

	if (number < NUMBER_MIN || number > NUMBER_MAX)
		return error_new(EBADMSG, "%d to undo", number);
	try_change(&trial, value, -number);
	trial.count--;
	int now = 0;
	for (size_t i = 0; i < trial.count; i++)
		now += trial.list[i].sem_op;
	add(&trial, -now, 0);
	batch_about(batch, "System V semaphores", id);
	batch_call(batch, semop, val(id), batch_bytes(batch, trial.list, trial.count * sizeof(trial.list[0])),
	           val(trial.count));
	return process_run(process, batch);
}
