/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A stream of text to the journal of systemd, as standard output and error of a service are: a connection whose first
 * lines say what the rest is.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "objects/objects.h"

/*
 * What was said of such a stream. The journal keeps it beside its socket, for a journal that is started again; where
 * that isn't found, what systemd says of a service. peer is the inode of the journal's end, 0: there is no such stream
 * yet. The caller frees. Runs frozen.
 */
GodwitJournalStream *journal_stream_of(const struct open_file *file, uint32_t peer);
void journal_stream_free(GodwitJournalStream *stream);
DEFINE_OWNED(GodwitJournalStream *, journal_stream_free)
#define auto_journal_stream AUTO(journal_stream_free)

/* Says it on a new connection. stream may be NULL. */
MUST_USE struct error *journal_stream_begin(int fd, const GodwitJournalStream *stream);
