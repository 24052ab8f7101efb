/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Settling a migration that a crash or a cut left undecided: by its records, by looking, and by asking the other side.
 * docs/handoff.md has the table of what is found and what is done.
 *
 * The source that lives asks by itself, over a new connection. For one that has died its keeper does, and where that has
 * died, too, godwit resolve.
 */
#pragma once

#include "migrate/journal.h"
#include "migrate/route.h"
#include "task/keeper.h"
#include "util/error.h"

/* What has become of the program, as far as this host is concerned. */
enum settled {
	SETTLED_HERE,  /* it runs on here */
	SETTLED_THERE, /* it runs at the destination; the copy here has been ended */
	SETTLED_GONE,  /* there is no copy here, and nobody has to know more */
	SETTLED_WAITS, /* at a destination: it runs here; the source will ask */
};

/* ---- Asking ---- */

struct asking {
	const struct route *route; /* borrowed */
	const char *migration;     /* borrowed */
	/* Called between two attempts, with why the last one failed. May be NULL. */
	void (*tell)(const struct asking *asking, const struct error *last, unsigned next_s);
	void *context;
};

/* Asks once. The channel is for settle_done(). */
MUST_USE struct error *settle_ask(const struct asking *asking, struct channel **ret_channel, bool *ret_is_going);

/*
 * Asks again and again, at longer and longer intervals, for ten minutes. SIGQUIT, which must be blocked, ends that: the
 * error's errno is EINTR then.
 */
MUST_USE struct error *settle_keep_asking(const struct asking *asking, struct channel **ret_channel,
                                          bool *ret_is_going);

/* The source's copy is gone, and nobody asks any more: the other side may forget. If it doesn't say that it has, it is
 * told once more over a new connection; whether it hears that matters little. */
void settle_done(const struct asking *asking, struct channel *channel);

/* ---- What others have left ---- */

/*
 * A record of this host, of a source or a destination that has died. The error's errno is EBUSY where a process is at work
 * on it; where the other side can't be asked, it says why, and all stays as it was.
 */
MUST_USE struct error *settle_record(const char *state_dir, const struct journal_record *which,
                                     enum settled *ret_settled);

/* Without asking: the program goes on here. For when the other host is gone for good. */
MUST_USE struct error *settle_take_back(const char *state_dir, const struct journal_record *which);

/* What the keeper is to do when we die: settle_record() of this record, with patience. The undo borrows from keep. */
struct settle_keep {
	char state_dir[KEEPER_BYTES_MAX - MIGRATION_ID_BYTES - 1];
	char migration[MIGRATION_ID_BYTES];
	bool is_source;
};
MUST_USE struct error *settle_undo(const char *state_dir, const struct journal_record *record,
                                   struct settle_keep *ret_keep, struct keeper_undo *ret_undo);

/* ---- Of the destination ---- */

/* The source knows. */
MUST_USE struct error *settle_forget(const char *state_dir, const char *migration);

/* The answer to a question: is it going? What has begun to go is finished, what never did is forgotten. */
MUST_USE struct error *settle_answer(const char *state_dir, const char *migration, bool *ret_is_going);
