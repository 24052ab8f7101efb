/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A batch of system calls for a stopped task, as the coordinator writes it.
 *
 *     struct arg fd = batch_call(batch, eventfd2, val(0), val(EFD_SEMAPHORE));
 *     batch_call(batch, write, fd, batch_bytes(batch, &counter, sizeof(counter)), val(sizeof(counter)));
 *
 * Nothing runs here: fd stands for a result that is not there yet. Many objects share a batch, since stopping and
 * starting the task is what costs time; so each call remembers what it was for, and a failure names it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "stub/stub.h"
#include "util/error.h"

/* An argument: a value, the result of an earlier call of the same batch, or an int that an earlier call wrote. */
struct arg {
	uint64_t value;
	bool is_result;
	bool is_load;
};

static inline struct arg val(uint64_t value)
{
	return (struct arg){.value = value};
}

/* An int that an earlier call wrote at that address of the task, as pipe2(2) does: loaded(batch_space(...), 1). */
static inline struct arg loaded(struct arg address, size_t index)
{
	return (struct arg){.value = address.value + index * sizeof(int), .is_load = true};
}

struct batch;

/* task_address is where the control pages are mapped in the task, thread the number of the thread that will run it, as
 * its process counts. Never NULL. */
struct batch *batch_new(uint64_t task_address, size_t thread);

/* The same with STUB_SMALL_BYTES of control pages. */
struct batch *batch_new_small(uint64_t task_address, size_t thread);
size_t batch_thread(const struct batch *batch);
void batch_free(struct batch *batch);
DEFINE_OWNED(struct batch *, batch_free)
#define auto_batch AUTO(batch_free)

/* Says what the calls from here on are for: ("eventfd", 7). It appears in their errors. kind is a literal. */
void batch_about(struct batch *batch, const char *kind, uint32_t id);

/* Appends a call and stands for its result. A batch that is full keeps that in mind for batch_check(). */
#define batch_call(batch, name, ...)                                                                       \
	batch_append((batch), #name, SYS_##name, sizeof((struct arg[]){__VA_ARGS__}) / sizeof(struct arg), \
	             (struct arg[]){__VA_ARGS__})
struct arg batch_append(struct batch *batch, const char *name, long number, size_t arg_count, const struct arg *args);

/* A failure of this call is an answer, not the end of the batch. */
void batch_may_fail(struct batch *batch, struct arg call);

/* This call is made even if we die meanwhile: it undoes what an earlier one has done. */
void batch_always(struct batch *batch, struct arg call);

/* Copies bytes into the batch and stands for their address in the task. */
struct arg batch_bytes(struct batch *batch, const void *bytes, size_t size_bytes);

/* Zeroed room for what a call writes, and stands for its address in the task. */
struct arg batch_space(struct batch *batch, size_t size_bytes);

/* What a batch that has run left in room from batch_space(). Borrowed from the batch. */
const void *batch_output(const struct batch *batch, struct arg space);

/* An error if more was appended than a batch can hold. */
MUST_USE struct error *batch_check_size(const struct batch *batch);

/* How many more calls fit. */
size_t batch_room(const struct batch *batch);

/* Copies what there is of the batch, no more, to the task's control pages. */
void batch_copy_out(const struct batch *batch, struct stub_control *pages);

/* Takes over what the calls returned. Nothing else in the task's control pages is believed. */
void batch_take_results(struct batch *batch, const struct stub_control *pages);

/* NULL if every call did what was expected, else the first that did not: object, call, arguments, errno. */
MUST_USE struct error *batch_check(const struct batch *batch);

/* The result of a call of a batch that has run. */
int64_t batch_result(const struct batch *batch, struct arg call);
