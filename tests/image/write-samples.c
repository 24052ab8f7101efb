/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* write-samples DIRECTORY: writes an image of every kind into it, for crit.sh. */
#include <fcntl.h>

#include "image/pages.h"
#include "image/samples.h"
#include "image/store.h"

static struct error *write_samples(int dir_fd)
{
	auto_image_store struct image_store *store = image_store_new();

	for (enum image_kind kind = 0; kind < IMAGE_KIND_COUNT; kind++)
		sample_put(store, kind);
	return image_store_write(store, dir_fd);
}

static struct error *write_pages(int dir_fd)
{
	static const uint8_t pages[3 * PAGE_BYTES] = {1};
	auto_pages_writer struct pages_writer *writer = NULL;

	TRY(pages_writer_open(dir_fd, SAMPLE_ID, 7, &writer));
	TRY(pages_writer_put(writer, 0x10000, pages, 3));
	TRY(pages_writer_put_in_parent(writer, 0x20000, 5));
	TRY(pages_writer_put(writer, 0x7ffff0000000, pages, 1));
	return pages_writer_finish(writer);
}

int main(int argc, char **argv)
{
	auto_fd int dir_fd = argc == 2 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (dir_fd < 0) {
		fprintf(stderr, "usage: write-samples DIRECTORY\n");
		return 2;
	}
	auto_error struct error *error = write_samples(dir_fd);
	if (!error)
		error = write_pages(dir_fd);
	if (error)
		error_print(error, stderr);
	return error ? 1 : 0;
}
