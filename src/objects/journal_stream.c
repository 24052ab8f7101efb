/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "objects/journal_stream.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum {
	RECORD_BYTES_MAX = 4096,
	NAME_BYTES_MAX = 256, /* of identifier and unit */
};

void journal_stream_free(GodwitJournalStream *stream)
{
	if (stream)
		godwit_journal_stream__free_unpacked(stream, NULL);
}

/* ---- The journal's own record ---- */

/* "/run/systemd/journal/streams/DEV:INODE" of the journal's end; in memory, so that it can be read in the freeze. */
static bool read_record(const struct open_file *file, uint32_t peer, char record[RECORD_BYTES_MAX])
{
	auto_free char *path = xformat("/run/systemd/journal/streams/%ju:%" PRIu32, (uintmax_t)file->stat.st_dev, peer);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, record, RECORD_BYTES_MAX - 1);

	if (n < 0)
		return false;
	record[n] = '\0';
	return true;
}

/* The value of a line "NAME=value"; NULL: there is none. */
static const char *find_value(const char *record, const char *name, size_t *ret_length)
{
	size_t name_length = strlen(name);

	for (const char *line = record; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, name_length) == 0 && line[name_length] == '=') {
			*ret_length = strcspn(line + name_length + 1, "\n");
			return line + name_length + 1;
		}
	}
	return NULL;
}

static uint32_t number_of(const char *record, const char *name, uint32_t otherwise)
{
	size_t length;
	const char *value = find_value(record, name, &length);

	return value && length > 0 ? (uint32_t)strtoul(value, NULL, 10) : otherwise;
}

/* What has characters that would have to be escaped is left out: names of programs and units have none. */
static void take_name(const char *record, const char *name, char **ret_text)
{
	size_t length;
	const char *value = find_value(record, name, &length);

	if (!value || length == 0 || length > NAME_BYTES_MAX || memchr(value, '\\', length))
		return;
	free(*ret_text);
	*ret_text = xformat("%.*s", (int)length, value);
}

static char *program_name(pid_t pid)
{
	char *name = NULL;

	if (procfs_read(pid, "comm", &name, NULL) < 0)
		return xformat("%s", "");
	name[strcspn(name, "\n")] = '\0';
	return name;
}

GodwitJournalStream *journal_stream_of(const struct open_file *file, uint32_t peer)
{
	GodwitJournalStream *stream = xalloc(sizeof(*stream));
	char record[RECORD_BYTES_MAX] = "";

	if (peer)
		(void)read_record(file, peer, record);
	godwit_journal_stream__init(stream);
	stream->identifier = program_name(file->pid);
	stream->unit = xformat("%s", "");
	take_name(record, "IDENTIFIER", &stream->identifier);
	take_name(record, "UNIT", &stream->unit);
	stream->priority = number_of(record, "PRIORITY", LOG_INFO);
	stream->has_level_prefix = number_of(record, "LEVEL_PREFIX", 1) != 0;
	stream->to_syslog = number_of(record, "FORWARD_TO_SYSLOG", 0) != 0;
	stream->to_kmsg = number_of(record, "FORWARD_TO_KMSG", 0) != 0;
	stream->to_console = number_of(record, "FORWARD_TO_CONSOLE", 0) != 0;
	return stream;
}

/* ---- The first lines ---- */

/* An image is somebody else's word: a line more would be another line's value. */
static bool is_line(const char *text)
{
	return strlen(text) <= NAME_BYTES_MAX && !strchr(text, '\n');
}

struct error *journal_stream_begin(int fd, const GodwitJournalStream *stream)
{
	GodwitJournalStream plain = GODWIT_JOURNAL_STREAM__INIT;

	plain.priority = LOG_INFO;
	plain.has_level_prefix = true;
	if (!stream)
		stream = &plain;
	const char *identifier = stream->identifier ? stream->identifier : "";
	const char *unit = stream->unit ? stream->unit : "";
	if (!is_line(identifier) || !is_line(unit))
		return error_new(EBADMSG, "stream to the journal with a name that isn't one");
	auto_free char *lines =
		xformat("%s\n%s\n%" PRIu32 "\n%d\n%d\n%d\n%d\n", identifier, unit, stream->priority,
	                stream->has_level_prefix, stream->to_syslog, stream->to_kmsg, stream->to_console);
	size_t size_bytes = strlen(lines);
	if (send(fd, lines, size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size_bytes)
		return error_new(errno, "first lines for the journal");
	return NULL;
}
