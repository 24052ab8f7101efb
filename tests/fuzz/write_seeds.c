/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * write-seeds TARGET DIR: what the fuzz target begins with, one file for each input. Their libraries tell libFuzzer
 * nothing, so it wouldn't find out by itself what a message looks like.
 */
#include <fcntl.h>
#include <string.h>

#include "fdinfo.pb-c.h"
#include "image/kinds.h"
#include "image/samples.h"
#include "migrate/frames.h"
#include "util/alloc.h"

static struct error *write_seed(int dir_fd, const char *name, const void *bytes, size_t size_bytes)
{
	auto_fd int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, bytes, size_bytes) != (ssize_t)size_bytes)
		return error_new(errno, "write %s", name);
	return NULL;
}

/* One of each type, with everything that any type has. */
static struct error *write_entries(int dir_fd)
{
	const ProtobufCEnumDescriptor *types = &fd_types__descriptor;

	for (unsigned i = 0; i < types->n_values; i++) {
		ProtobufCMessage *entry = sample_message(&file_entry__descriptor);

		((FileEntry *)entry)->type = (FdTypes)types->values[i].value;
		auto_free uint8_t *bytes = xalloc(protobuf_c_message_get_packed_size(entry));
		size_t size_bytes = protobuf_c_message_pack(entry, bytes);
		protobuf_c_message_free_unpacked(entry, NULL);
		TRY(write_seed(dir_fd, types->values[i].name, bytes, size_bytes));
	}
	return NULL;
}

/* Each image: a line with its name, a line with its length, what is behind its magic. */
static struct error *write_images(int dir_fd)
{
	auto_image_store struct image_store *store = image_store_new();
	struct image_file file;

	for (enum image_kind kind = 0; kind < IMAGE_KIND_COUNT; kind++)
		sample_put(store, kind);
	for (size_t n = 0; image_store_file(store, n, &file); n++) {
		char name[IMAGE_NAME_MAX];

		image_file_name(file.kind, file.id, name);
		auto_free char *head = xformat("%s\n%zu\n", name, file.size_bytes);
		size_t head_bytes = strlen(head);
		auto_free char *whole = xalloc(head_bytes + file.size_bytes);
		memcpy(whole, head, head_bytes);
		memcpy(whole + head_bytes, file.bytes, file.size_bytes);
		TRY(write_seed(dir_fd, name, whole, head_bytes + file.size_bytes));
	}
	return NULL;
}

static struct error *send_all(struct channel *channel)
{
	static const uint8_t page[4096] = {0x5a};
	const struct page_frame pages = {.pid = 812, .address = 0x10000, .page_count = 1, .bytes = page};
	const struct page_frame drop = {.shared_id = 3, .address = 0x20000, .page_count = 7};
	auto_image_store struct image_store *store = image_store_new();
	auto_error struct error *no = error_hint(error_new(ENOENT, "a file"), "make it");
	auto_ranges struct ranges gone = {0};

	ranges_append(&gone, 0x30000, 0x38000);
	sample_put(store, IMAGE_FILES);
	TRY(frame_send_ranges(channel, FRAME_GONE, 812, &gone));
	TRY(frame_send_pages(channel, &pages));
	TRY(frame_send_pages(channel, &drop));
	TRY(frame_send_pid(channel, FRAME_REMAP, 812));
	TRY(frame_send_store(channel, store));
	TRY(frame_send_answer(channel, NULL, "yes"));
	TRY(frame_send_answer(channel, no, NULL));
	return frame_send(channel, FRAME_GO, NULL, 0);
}

static struct error *write_stream(int dir_fd)
{
	int fd = openat(dir_fd, "all", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return error_new(errno, "open(all)");
	auto_channel struct channel *channel = channel_over_fds(fd, fd);
	return send_all(channel);
}

int main(int argc, char **argv)
{
	auto_fd int dir_fd = argc == 3 ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	auto_error struct error *error = NULL;

	if (dir_fd < 0) {
		fprintf(stderr, "usage: write-seeds TARGET DIR\n");
		return 2;
	}
	if (strcmp(argv[1], "file_entry") == 0)
		error = write_entries(dir_fd);
	else if (strcmp(argv[1], "image") == 0)
		error = write_images(dir_fd);
	else if (strcmp(argv[1], "stream") == 0)
		error = write_stream(dir_fd);
	if (error)
		error_print(error, stderr);
	return error ? 1 : 0;
}
