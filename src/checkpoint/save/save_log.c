/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <inttypes.h>

#include "checkpoint/file_table.h"
#include "checkpoint/save/save_log.h"
#include "memory/areas.h"

static void log_files(struct log *log, const struct open_files *files)
{
	log_line(log, LOG_COUNTS, "%zu descriptors of %zu open files", files->number_count, files->count);
	for (size_t i = 0; i < files->number_count; i++)
		log_line(log, LOG_OBJECTS, "process %d, fd %d: %s (file %u)", files->tasks[files->numbers[i].task].pid,
		         files->numbers[i].fd, files->numbers[i].file->link, files->numbers[i].file->id);
}

static void log_areas(struct log *log, pid_t pid, const struct areas *areas)
{
	log_line(log, LOG_COUNTS, "%zu areas of memory in process %d", areas->count, pid);
	for (size_t i = 0; i < areas->count; i++)
		log_line(log, LOG_OBJECTS, "area %" PRIx64 "-%" PRIx64 ": protection %u, %s",
		         areas->list[i].entry.start, areas->list[i].entry.end, areas->list[i].entry.prot,
		         areas->list[i].path ? areas->list[i].path : "no name");
}

void save_log(struct log *log, const struct saver *saver)
{
	if (!log)
		return;
	log_files(log, file_table_open_files((struct file_table *)(uintptr_t)saver_files(saver)));
	for (size_t i = 0; i < saver_count(saver); i++)
		if (saver_owns_memory(saver, i))
			log_areas(log, saver_live(saver)->list[i].pid, saver_areas(saver, i));
}
