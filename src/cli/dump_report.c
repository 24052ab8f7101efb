/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cli/dump_report.h"

static struct error *write_statistics(const struct common_options *options, const struct dump_statistics *statistics)
{
	const char *dir = options->work_dir ? options->work_dir : options->images_dir;
	auto_fd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "work folder: open(%s)", dir);
	return dump_statistics_write(statistics, fd);
}

/* The program is saved, whether anyone learns how long it took. */
static void add_warning(struct dump_statistics *statistics, struct error *error)
{
	if (error && !statistics->warning)
		statistics->warning = error_line(error);
	error_free(error);
}

void dump_report(struct report *report, const struct common_options *options, struct dump_statistics *statistics)
{
	add_warning(statistics, write_statistics(options, statistics));
	report_ms(report, "freezing_ms", statistics->freezing_ns);
	report_ms(report, "frozen_ms", statistics->frozen_ns);
	report_ms(report, "memory_ms", statistics->memory_ns);
	report_ms(report, "write_ms", statistics->write_ns);
	report_number(report, "pages_scanned", statistics->pages_scanned);
	report_number(report, "pages_skipped_parent", statistics->pages_kept);
	report_number(report, "pages_written", statistics->pages_written);
	report_text(report, "warning", statistics->warning);
	if (statistics->warning)
		fprintf(stderr, "warning: %s\n", statistics->warning);
	dump_statistics_free(statistics);
}
