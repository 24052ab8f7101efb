/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "task/batch.h"
#include "util/alloc.h"

/* What a call is for. */
struct object_ref {
	const char *kind; /* borrowed: a literal; NULL for the task itself */
	uint32_t id;
};

/* What the coordinator remembers of a call, for its error. Made into text only if it fails: the program waits. */
struct note {
	struct object_ref object;
	const char *name; /* borrowed: a literal */
	size_t arg_count;
};

struct batch {
	struct stub_control *control; /* laid out as in the task; what is there of it */
	struct note *notes;           /* for each call */
	size_t calls_max, data_offset, data_bytes;
	uint64_t task_address;
	size_t thread;
	size_t data_used_bytes;
	bool is_full;
	struct object_ref object; /* of the next call */
};

static struct batch *make(uint64_t task_address, size_t thread, size_t calls_max, size_t data_offset, size_t bytes)
{
	struct batch *batch = xalloc(sizeof(*batch) + bytes + calls_max * sizeof(struct note));

	batch->control = (struct stub_control *)(void *)(batch + 1);
	batch->notes = (struct note *)(void *)((uint8_t *)batch->control + bytes);
	batch->calls_max = calls_max;
	batch->data_offset = data_offset;
	batch->data_bytes = bytes - data_offset;
	batch->task_address = task_address;
	batch->thread = thread;
	return batch;
}

struct batch *batch_new(uint64_t task_address, size_t thread)
{
	return make(task_address, thread, STUB_CALLS_MAX, offsetof(struct stub_control, data),
	            sizeof(struct stub_control));
}

struct batch *batch_new_small(uint64_t task_address, size_t thread)
{
	return make(task_address, thread, STUB_SMALL_CALLS_MAX, STUB_SMALL_DATA_OFFSET, STUB_SMALL_BYTES);
}

static uint8_t *data_of(const struct batch *batch)
{
	return (uint8_t *)batch->control + batch->data_offset;
}

size_t batch_thread(const struct batch *batch)
{
	return batch->thread;
}

void batch_free(struct batch *batch)
{
	free(batch);
}

void batch_about(struct batch *batch, const char *kind, uint32_t id)
{
	batch->object = (struct object_ref){.kind = kind, .id = id};
}

struct arg batch_append(struct batch *batch, const char *name, long number, size_t arg_count, const struct arg *args)
{
	struct stub_control *control = batch->control;
	uint32_t index = control->count;

	assert(arg_count <= 6);
	if (index == batch->calls_max) {
		batch->is_full = true;
		return val(0);
	}

	struct stub_call *call = &control->calls[index];
	call->number = (uint16_t)number;
	for (size_t n = 0; n < arg_count; n++) {
		assert(!args[n].is_result || args[n].value < index);
		call->arg[n] = args[n].value;
		call->results |= (uint8_t)(args[n].is_result << n);
		call->loads |= (uint8_t)(args[n].is_load << n);
	}
	batch->notes[index] = (struct note){.object = batch->object, .name = name, .arg_count = arg_count};
	control->count++;
	return (struct arg){.value = index, .is_result = true};
}

void batch_may_fail(struct batch *batch, struct arg call)
{
	if (batch->is_full)
		return;
	assert(call.is_result && call.value < batch->control->count);
	batch->control->calls[call.value].flags |= STUB_MAY_FAIL;
}

void batch_always(struct batch *batch, struct arg call)
{
	if (batch->is_full)
		return;
	assert(call.is_result && call.value < batch->control->count);
	batch->control->calls[call.value].flags |= STUB_ALWAYS;
}

static uint64_t data_address(const struct batch *batch)
{
	return batch->task_address + batch->data_offset;
}

struct arg batch_space(struct batch *batch, size_t size_bytes)
{
	size_t offset = batch->data_used_bytes;

	if (size_bytes > batch->data_bytes - offset) {
		batch->is_full = true;
		return val(data_address(batch));
	}
	batch->data_used_bytes += (size_bytes + 7) & ~(size_t)7; /* the kernel may want its structs aligned */
	return val(data_address(batch) + offset);
}

struct arg batch_bytes(struct batch *batch, const void *bytes, size_t size_bytes)
{
	struct arg space = batch_space(batch, size_bytes);

	if (!batch->is_full)
		memcpy(data_of(batch) + (space.value - data_address(batch)), bytes, size_bytes);
	return space;
}

const void *batch_output(const struct batch *batch, struct arg space)
{
	size_t offset = space.value - data_address(batch);

	assert(offset < batch->data_bytes);
	return data_of(batch) + offset;
}

size_t batch_room(const struct batch *batch)
{
	return batch->calls_max - batch->control->count;
}

void batch_copy_out(const struct batch *batch, struct stub_control *pages)
{
	const struct stub_control *control = batch->control;

	pages->count = control->count;
	pages->done = 0;
	memcpy(pages->calls, control->calls, control->count * sizeof(control->calls[0]));
	memcpy((uint8_t *)pages + batch->data_offset, data_of(batch), batch->data_used_bytes);
}

struct error *batch_check_size(const struct batch *batch)
{
	if (batch->is_full)
		return error_new(E2BIG, "batch of %u calls and %zu bytes", batch->control->count,
		                 batch->data_used_bytes);
	return NULL;
}

void batch_take_results(struct batch *batch, const struct stub_control *pages)
{
	batch->control->done = pages->done;
	for (uint32_t i = 0; i < batch->control->count; i++)
		batch->control->calls[i].result = pages->calls[i].result;
	memcpy(data_of(batch), (const uint8_t *)pages + batch->data_offset, batch->data_used_bytes);
}

static uint64_t argument(const struct stub_control *control, const struct stub_call *call, size_t n)
{
	bool is_result = call->results & (1U << n);

	return is_result ? (uint64_t)control->calls[call->arg[n]].result : call->arg[n];
}

/* "write(0x5, 0x7f0000002000, 0x8)" */
static char *describe_call(const struct batch *batch, uint32_t index)
{
	const struct note *note = &batch->notes[index];
	char *text = NULL;
	size_t size_bytes = 0;
	FILE *out = open_memstream(&text, &size_bytes);

	if (!out)
		abort();
	fprintf(out, "%s(", note->name);
	for (size_t n = 0; n < note->arg_count; n++)
		fprintf(out, "%s%#" PRIx64, n ? ", " : "", argument(batch->control, &batch->control->calls[index], n));
	fputc(')', out);
	fclose(out);
	return text;
}

struct error *batch_check(const struct batch *batch)
{
	const struct stub_control *control = batch->control;
	uint32_t done = control->done; /* from the task's memory: may be anything */

	TRY(batch_check_size(batch));
	if (done > control->count)
		return error_new(EPROTO, "stub ran %u of %u calls", done, control->count);
	if (done == control->count)
		return NULL;

	auto_free char *call = describe_call(batch, done);
	int64_t result = control->calls[done].result;
	int errnum = result < 0 && result >= -4095 ? (int)-result : 0;
	struct error *error = error_new(errnum, "%s", call);
	const struct object_ref *object = &batch->notes[done].object;

	return object->kind ? error_wrap(error, "%s %#x", object->kind, object->id) : error;
}

int64_t batch_result(const struct batch *batch, struct arg call)
{
	assert(call.is_result && call.value < batch->control->done);
	return batch->control->calls[call.value].result;
}
