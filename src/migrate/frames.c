/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <assert.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/pages.h"
#include "memory/pages.h"
#include "migrate/frames.h"
#include "util/alloc.h"

/* Type and size, in little-endian order. */
enum {
	HEADER_BYTES = 8,
	FRAME_BYTES_MAX = 1 << 30,
	IMAGE_HEADER_BYTES = 12,
	PID_BYTES = 8,
	PAGES_HEADER_BYTES = 32,
	HEAD_BYTES_MAX = 32
};

void frame_free(struct frame *frame)
{
	free(frame->bytes);
	*frame = (struct frame){0};
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

/* ---- Frames ---- */

static struct error *make_room(struct frame *frame, size_t size_bytes)
{
	if (size_bytes <= frame->room)
		return NULL;
	uint8_t *bytes = realloc(frame->bytes, size_bytes);
	if (!bytes)
		return error_new(ENOMEM, "frame of %zu bytes", size_bytes);
	frame->bytes = bytes;
	frame->room = size_bytes;
	return NULL;
}

/* Most often a shell's greeting: what .bashrc and its like print comes before anything of godwit's. */
static struct error *no_frame(const uint8_t header[HEADER_BYTES])
{
	char text[HEADER_BYTES + 1] = "";

	for (size_t i = 0; i < HEADER_BYTES && isprint(header[i]); i++)
		text[i] = (char)header[i];
	if (text[0] && text[1] && text[2])
		return error_hint(
			error_new(EPROTO, "what answers there says \"%s...\", which godwit doesn't", text),
			"ssh HOST true has to print nothing: let .bashrc and .profile over there print only in "
			"interactive shells");
	return error_hint(error_new(EPROTO, "frame of type %u with %u bytes", get32(header), get32(header + 4)),
	                  "is it godwit that answers there?");
}

struct error *frame_receive(struct channel *channel, int timeout_ms, struct frame *frame)
{
	uint8_t header[HEADER_BYTES];

	TRY(channel_read(channel, header, sizeof(header), timeout_ms));
	uint32_t type = get32(header);
	uint32_t size_bytes = get32(header + 4);
	if (type < FRAME_HELLO || type > FRAME_NEEDS || size_bytes > FRAME_BYTES_MAX)
		return no_frame(header);
	TRY(make_room(frame, size_bytes));
	TRY(channel_read(channel, frame->bytes, size_bytes, CHANNEL_PATIENCE_MS));
	frame->type = (enum frame_type)type;
	frame->size_bytes = size_bytes;
	return NULL;
}

/* The start of a frame in pieces, of which head is copied. */
static void begin_frame(uint8_t header[HEADER_BYTES + HEAD_BYTES_MAX], enum frame_type type, const void *head,
                        size_t head_bytes, size_t size_bytes)
{
	assert(head_bytes <= HEAD_BYTES_MAX);
	put32(header, type);
	put32(header + 4, (uint32_t)(head_bytes + size_bytes));
	if (head_bytes > 0)
		memcpy(header + HEADER_BYTES, head, head_bytes);
}

static struct error *send_parts(struct channel *channel, enum frame_type type, const void *head, size_t head_bytes,
                                const void *bytes, size_t size_bytes)
{
	uint8_t header[HEADER_BYTES + HEAD_BYTES_MAX];
	struct iovec parts[] = {{header, HEADER_BYTES + head_bytes}, {(void *)(uintptr_t)bytes, size_bytes}};

	if (size_bytes > FRAME_BYTES_MAX - head_bytes)
		return error_new(EFBIG, "frame of %zu bytes", size_bytes);
	begin_frame(header, type, head, head_bytes, size_bytes);
	/* Pages are always followed by something that says what they are for. */
	return type == FRAME_PAGES ? channel_put(channel, parts, 2) : channel_write(channel, parts, 2);
}

struct error *frame_send(struct channel *channel, enum frame_type type, const void *bytes, size_t size_bytes)
{
	return send_parts(channel, type, NULL, 0, bytes, size_bytes);
}

struct error *frame_send_message(struct channel *channel, enum frame_type type, const ProtobufCMessage *message)
{
	size_t size_bytes = protobuf_c_message_get_packed_size(message);
	auto_free uint8_t *bytes = xalloc(size_bytes + 1);

	protobuf_c_message_pack(message, bytes);
	return frame_send(channel, type, bytes, size_bytes);
}

/* ---- Answers ---- */

enum { ANSWER_LINES_MAX = 1000 };

/* An error in pieces. The steps are owned by who asks, the hints are borrowed from it. */
struct error_pieces {
	char *steps[ANSWER_LINES_MAX];
	char *hints[ANSWER_LINES_MAX];
	size_t step_count, hint_count;
};

static void take_apart(const struct error *error, struct error_pieces *pieces)
{
	while (pieces->step_count < ANSWER_LINES_MAX &&
	       (pieces->steps[pieces->step_count] = error_nth_step(error, pieces->step_count)))
		pieces->step_count++;
	while (pieces->hint_count < ANSWER_LINES_MAX &&
	       (pieces->hints[pieces->hint_count] = (char *)(uintptr_t)error_nth_hint(error, pieces->hint_count)))
		pieces->hint_count++;
}

struct error *frame_send_answer(struct channel *channel, const struct error *error, const char *text)
{
	auto_free struct error_pieces *pieces = xalloc(sizeof(*pieces));
	GodwitAnswer answer = GODWIT_ANSWER__INIT;

	take_apart(error, pieces);
	answer.is_ok = !error;
	answer.text = (char *)(uintptr_t)text;
	answer.steps = pieces->steps;
	answer.n_steps = pieces->step_count;
	answer.hints = pieces->hints;
	answer.n_hints = pieces->hint_count;
	struct error *failure = frame_send_message(channel, FRAME_ANSWER, &answer.base);
	for (size_t i = 0; i < pieces->step_count; i++)
		free(pieces->steps[i]);
	return failure;
}

static void answer_free(GodwitAnswer *answer)
{
	if (answer)
		godwit_answer__free_unpacked(answer, NULL);
}
DEFINE_OWNED(GodwitAnswer *, answer_free)

/* As it was there, but for which hint belongs to which step: no step has more than one. */
static struct error *error_of(const GodwitAnswer *answer)
{
	struct error *all = NULL;

	for (size_t i = 0; i < answer->n_steps; i++) {
		struct error *step = error_new(0, "%s", answer->steps[i]);

		if (i < answer->n_hints)
			step = error_hint(step, "%s", answer->hints[i]);
		all = error_join(all, step);
	}
	return all ? error_wrap(all, "on the other host")
	           : error_new(EPROTO, "the other host refuses, without a reason");
}

struct error *frame_send_runs(struct channel *channel, pid_t pid, const char *text)
{
	GodwitAnswer answer = GODWIT_ANSWER__INIT;

	answer.is_ok = true;
	answer.text = (char *)(uintptr_t)text;
	answer.has_pid = true;
	answer.pid = (uint32_t)pid;
	return frame_send_message(channel, FRAME_ANSWER, &answer.base);
}

/* A "yes". */
static struct error *receive_yes(struct channel *channel, int timeout_ms, GodwitAnswer **ret_answer)
{
	auto_frame struct frame frame = {0};

	TRY(frame_receive(channel, timeout_ms, &frame));
	if (frame.type != FRAME_ANSWER)
		return error_new(EPROTO, "frame of type %d instead of an answer", (int)frame.type);
	AUTO(answer_free) GodwitAnswer *answer = godwit_answer__unpack(NULL, frame.size_bytes, frame.bytes);
	if (!answer)
		return error_new(EPROTO, "an answer that makes no sense");
	if (!answer->is_ok)
		return error_of(answer);
	*ret_answer = take(answer);
	return NULL;
}

struct error *frame_receive_answer(struct channel *channel, int timeout_ms, char **ret_text)
{
	AUTO(answer_free) GodwitAnswer *answer = NULL;

	TRY(receive_yes(channel, timeout_ms, &answer));
	assert(answer);
	if (ret_text)
		*ret_text = xformat("%s", answer->text ? answer->text : "");
	return NULL;
}

struct error *frame_receive_runs(struct channel *channel, int timeout_ms, pid_t *ret_pid)
{
	AUTO(answer_free) GodwitAnswer *answer = NULL;

	TRY(receive_yes(channel, timeout_ms, &answer));
	assert(answer);
	*ret_pid = (pid_t)answer->pid;
	return NULL;
}

struct error *frame_reason(struct channel *channel, struct error *error)
{
	int errnum = error ? error_errnum(error) : 0;

	if (errnum != EPIPE && errnum != ECONNRESET)
		return error;
	struct error *reason = frame_receive_answer(channel, 0, NULL);
	bool is_said = reason && error_errnum(reason) == 0;
	error_free(is_said ? error : reason);
	return is_said ? reason : error;
}

/* ---- Images ---- */

struct error *frame_send_store(struct channel *channel, const struct image_store *store)
{
	struct image_file file;

	for (size_t n = 0; image_store_file(store, n, &file); n++) {
		uint8_t head[IMAGE_HEADER_BYTES];

		put32(head, file.kind);
		put64(head + 4, file.id);
		TRY(send_parts(channel, FRAME_IMAGE, head, sizeof(head), file.bytes, file.size_bytes));
	}
	return NULL;
}

struct error *frame_take_image(const struct frame *frame, struct image_store *store)
{
	if (frame->size_bytes < IMAGE_HEADER_BYTES || get32(frame->bytes) >= IMAGE_KIND_COUNT)
		return error_new(EPROTO, "image of %zu bytes", frame->size_bytes);
	const struct image_file file = {
		.kind = (enum image_kind)get32(frame->bytes),
		.id = get64(frame->bytes + 4),
		.bytes = frame->bytes + IMAGE_HEADER_BYTES,
		.size_bytes = frame->size_bytes - IMAGE_HEADER_BYTES,
	};

	return image_store_add(store, &file);
}

/* ---- Pages ---- */

struct error *frame_send_pages(struct channel *channel, const struct page_frame *pages)
{
	uint8_t head[PAGES_HEADER_BYTES];

	put64(head, (uint64_t)pages->pid);
	put64(head + 8, pages->shared_id);
	put64(head + 16, pages->address);
	put64(head + 24, pages->page_count);
	return send_parts(channel, pages->bytes ? FRAME_PAGES : FRAME_DROP, head, sizeof(head), pages->bytes,
	                  pages->bytes ? pages->page_count * PAGE_BYTES : 0);
}

struct error *frame_take_pid(const struct frame *frame, pid_t *ret_pid)
{
	uint64_t pid = frame->size_bytes < PID_BYTES ? UINT64_MAX : get64(frame->bytes);

	if (pid > INT32_MAX)
		return error_new(EPROTO, "frame of type %d without a PID", (int)frame->type);
	*ret_pid = (pid_t)pid;
	return NULL;
}

static struct error *take_head(const struct frame *frame, struct page_frame *ret_pages)
{
	if (frame->size_bytes < PAGES_HEADER_BYTES)
		return error_new(EPROTO, "pages in %zu bytes", frame->size_bytes);
	*ret_pages = (struct page_frame){
		.shared_id = get64(frame->bytes + 8),
		.address = get64(frame->bytes + 16),
		.page_count = get64(frame->bytes + 24),
		.bytes = frame->bytes + PAGES_HEADER_BYTES,
	};
	TRY(frame_take_pid(frame, &ret_pages->pid));
	if (ret_pages->address % PAGE_BYTES || ret_pages->page_count > UINT64_MAX / PAGE_BYTES)
		return error_new(EPROTO, "%zu pages at %#llx", ret_pages->page_count,
		                 (unsigned long long)ret_pages->address);
	return NULL;
}

struct error *frame_take_pages(const struct frame *frame, struct page_frame *ret_pages)
{
	TRY(take_head(frame, ret_pages));
	if (ret_pages->page_count > PAGE_SINK_BYTES / PAGE_BYTES ||
	    frame->size_bytes - PAGES_HEADER_BYTES != ret_pages->page_count * PAGE_BYTES)
		return error_new(EPROTO, "%zu pages in %zu bytes", ret_pages->page_count, frame->size_bytes);
	return NULL;
}

struct error *frame_take_drop(const struct frame *frame, struct page_frame *ret_pages)
{
	return take_head(frame, ret_pages);
}

struct error *frame_send_pid(struct channel *channel, enum frame_type type, pid_t pid)
{
	uint8_t bytes[PID_BYTES];

	put64(bytes, (uint64_t)pid);
	return frame_send(channel, type, bytes, sizeof(bytes));
}

struct error *frame_send_ranges(struct channel *channel, enum frame_type type, pid_t pid, const struct ranges *ranges)
{
	uint8_t head[PID_BYTES];
	auto_free uint8_t *bytes = xalloc(ranges->count * sizeof(struct range) + 1);

	for (size_t i = 0; i < ranges->count; i++) {
		put64(bytes + i * sizeof(struct range), ranges->list[i].start);
		put64(bytes + i * sizeof(struct range) + sizeof(uint64_t), ranges->list[i].end);
	}
	put64(head, (uint64_t)pid);
	return send_parts(channel, type, head, sizeof(head), bytes, ranges->count * sizeof(struct range));
}

struct error *frame_take_ranges(const struct frame *frame, pid_t *ret_pid, struct ranges *ret_ranges)
{
	uint64_t former_end = 0;

	TRY(frame_take_pid(frame, ret_pid));
	if ((frame->size_bytes - PID_BYTES) % sizeof(struct range))
		return error_new(EPROTO, "ranges in %zu bytes", frame->size_bytes);
	for (size_t at = PID_BYTES; at < frame->size_bytes; at += sizeof(struct range)) {
		uint64_t start = get64(frame->bytes + at);
		uint64_t end = get64(frame->bytes + at + sizeof(uint64_t));

		if (start % PAGE_BYTES || end % PAGE_BYTES || start >= end || start < former_end)
			return error_new(EPROTO, "range %#llx-%#llx", (unsigned long long)start,
			                 (unsigned long long)end);
		ranges_append(ret_ranges, start, end);
		former_end = end;
	}
	return NULL;
}
