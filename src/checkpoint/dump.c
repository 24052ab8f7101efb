/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>

#include "checkpoint/dump.h"
#include "checkpoint/freeze.h"
#include "checkpoint/save.h"
#include "image/pages.h"
#include "memory/pages.h"
#include "util/clock.h"

enum { PAGES_ID = 1 };

/* Pages on their way into pages-1.img. */
struct file_sink {
	struct page_sink sink;
	struct pages_writer *writer; /* borrowed */
};

static struct error *put_pages(struct page_sink *sink, uint64_t address, const void *bytes, size_t page_count)
{
	return pages_writer_put(((struct file_sink *)sink)->writer, address, bytes, page_count);
}

/* A page that reads as zeros isn't written: it is missing in the restored program, too. */
static struct error *drop_pages(struct page_sink *sink, uint64_t address, size_t page_count)
{
	(void)sink;
	(void)address;
	(void)page_count;
	return NULL;
}

struct dump {
	const struct dump_options *options;
	struct saver *saver;   /* owned */
	struct frozen *frozen; /* owned */
	struct dump_statistics *statistics;
};

static void dump_free(struct dump *dump)
{
	frozen_free(dump->frozen);
	saver_free(dump->saver);
}

static struct error *write_pages(struct dump *dump)
{
	auto_pages_writer struct pages_writer *writer = NULL;
	uint64_t start_ns = clock_now_ns();

	TRY(pages_writer_open(dump->options->images_dir_fd, dump->options->pid, PAGES_ID, &writer));
	struct file_sink sink = {.sink.put = put_pages, .sink.drop = drop_pages, .writer = writer};
	TRY(pages_send(dump->frozen->process, saver_areas(dump->saver), &sink.sink));
	uint64_t sent_ns = clock_now_ns();
	TRY(pages_writer_finish(writer));
	dump->statistics->memory_ns = sent_ns - start_ns;
	dump->statistics->write_ns = clock_now_ns() - sent_ns;
	dump->statistics->pages_written = pages_writer_count(writer);
	return NULL;
}

static struct error *check(struct dump *dump)
{
	auto_problems struct problems problems = {0};

	saver_check(dump->saver, &problems);
	return problems_error(&problems, "process %d can't be carried:", dump->options->pid);
}

/* Without its own help: it is parked, so nothing of it runs any more. */
static struct error *end_program(struct dump *dump)
{
	TRY(process_end(dump->frozen->process));
	process_free(take(dump->frozen->process));
	return NULL;
}

static struct error *end(struct dump *dump, enum dump_outcome *ret_outcome)
{
	switch (dump->options->end) {
	case DUMP_KILL:
		TRY(end_program(dump));
		*ret_outcome = DUMP_ENDED;
		return NULL;
	case DUMP_LEAVE_STOPPED:
		TRY(frozen_leave_stopped(dump->frozen));
		*ret_outcome = DUMP_STOPPED;
		return NULL;
	case DUMP_LEAVE_RUNNING:
		TRY(frozen_thaw(dump->frozen));
		return NULL;
	}
	return NULL;
}

struct error *dump_run(const struct dump_options *options, enum dump_outcome *ret_outcome,
                       struct dump_statistics *ret_statistics)
{
	auto_image_store struct image_store *store = image_store_new();
	__attribute__((cleanup(dump_free))) struct dump dump = {.options = options, .statistics = ret_statistics};
	uint64_t start_ns;

	*ret_outcome = DUMP_RUNS;
	*ret_statistics = (struct dump_statistics){0};
	TRY(saver_new(options->pid, &options->carry, &dump.saver));
	TRY(check(&dump));
	start_ns = clock_now_ns();
	TRY(freeze(options->pid, &dump.frozen));
	uint64_t frozen_ns = clock_now_ns();
	ret_statistics->freezing_ns = frozen_ns - start_ns;
	TRY(saver_save(dump.saver, dump.frozen->process, store));
	if (saver_needs_lock(dump.saver))
		TRY(saver_save_locked(dump.saver, store));
	TRY(write_pages(&dump));
	if (options->end == DUMP_LEAVE_RUNNING) {
		TRY(end(&dump, ret_outcome));
		ret_statistics->frozen_ns = clock_now_ns() - frozen_ns;
		return image_store_write(store, options->images_dir_fd);
	}
	TRY(image_store_write(store, options->images_dir_fd));
	TRY(end(&dump, ret_outcome));
	ret_statistics->frozen_ns = clock_now_ns() - frozen_ns;
	return NULL;
}
