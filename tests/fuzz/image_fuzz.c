/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Image files: the input is any number of them, each a line with its name, a line with its length, and its bytes behind
 * the magic. They are put into a store, every message of it is read, and a model is made of it.
 */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/model.h"
#include "fuzz.h"
#include "image/kinds.h"
#include "util/alloc.h"

static const uint8_t *line_end(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));

	return newline ? newline : end;
}

/* What stands in front of *at as a line. */
static char *take_line(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *stop = line_end(*at, end);
	char *line = xformat("%.*s", (int)(stop - *at), (const char *)*at);

	*at = stop < end ? stop + 1 : end;
	return line;
}

static struct error *add_file(struct image_store *store, const uint8_t **at, const uint8_t *end)
{
	auto_free char *name = take_line(at, end);
	auto_free char *length = take_line(at, end);
	struct image_file file;
	size_t left = (size_t)(end - *at);

	file.bytes = *at;
	file.size_bytes = strtoul(length, NULL, 10);
	if (file.size_bytes > left)
		file.size_bytes = left;
	*at += file.size_bytes;
	return image_of_file_name(name, &file.kind, &file.id) ? image_store_add(store, &file) : NULL;
}

static void read_all(const struct image_store *store)
{
	struct image_file file;

	for (size_t n = 0; image_store_file(store, n, &file); n++)
		for (size_t i = 0; i < image_count(store, file.kind, file.id); i++) {
			ProtobufCMessage *message;
			const uint8_t *bytes;
			size_t size_bytes;
			struct error *error = image_get(store, file.kind, file.id, i, &message);

			if (!error)
				protobuf_c_message_free_unpacked(message, NULL);
			error_free(error);
			image_get_bytes(store, file.kind, file.id, i, &bytes, &size_bytes);
		}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes)
{
	auto_image_store struct image_store *store = image_store_new();
	const uint8_t *at = bytes;
	auto_tree struct tree tree = {0};

	while (at < bytes + size_bytes)
		error_free(add_file(store, &at, bytes + size_bytes));
	read_all(store);
	error_free(model_read_tree(store, &tree));
	for (size_t i = 0; i < tree.count; i++) {
		struct model *model = NULL;

		error_free(model_read(store, &tree, i, &model));
		model_free(model);
	}
	return 0;
}
