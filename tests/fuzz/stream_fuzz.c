/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What comes over the connection of a migration, until it ends or makes no sense. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "migrate/frames.h"

static void take_answer(const uint8_t *bytes, size_t size_bytes)
{
	GodwitAnswer *answer = godwit_answer__unpack(NULL, size_bytes, bytes);

	if (answer)
		godwit_answer__free_unpacked(answer, NULL);
}

static struct error *take_frame(const struct frame *frame, struct image_store *store)
{
	struct ranges ranges = {0};
	struct page_frame pages;
	struct error *error = NULL;
	pid_t pid;

	switch (frame->type) {
	case FRAME_IMAGE:
		return frame_take_image(frame, store);
	case FRAME_PAGES:
	case FRAME_DROP:
		return frame_take_pages(frame, &pages);
	case FRAME_GONE:
		error = frame_take_ranges(frame, &pid, &ranges);
		ranges_free(&ranges);
		return error;
	case FRAME_ANSWER:
		take_answer(frame->bytes, frame->size_bytes);
		return NULL;
	case FRAME_REMAP:
		return frame_take_pid(frame, &pid);
	case FRAME_HELLO:
	case FRAME_BEGIN:
	case FRAME_ROUND:
	case FRAME_COMPLETE:
	case FRAME_GO:
	case FRAME_DONE:
	case FRAME_CLOCKS:
	case FRAME_NEEDS:
	case FRAME_SETTLE:
		break;
	}
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	auto_image_store struct image_store *store = image_store_new();
	auto_frame struct frame frame = {0};
	int fd = memfd_create("stream", MFD_CLOEXEC);

	if (fd < 0 || write(fd, bytes, size_bytes) != (ssize_t)size_bytes || lseek(fd, 0, SEEK_SET) != 0)
		abort();
	auto_channel struct channel *channel = channel_over_fds(fd, fd);
	for (;;) {
		struct error *error = frame_receive(channel, 0, &frame);
		bool is_over = error != NULL;

		error_free(error);
		if (is_over)
			return 0;
		error_free(take_frame(&frame, store));
	}
}
