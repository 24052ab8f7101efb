/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The source's side of a live migration: rounds while the program runs, a short freeze, the handoff.
 *
 * Before the program is committed to the destination everything can fail, and it runs on here as if nothing had been.
 * After that only the destination's word ends or continues the copy that stands still here: see journal.h.
 */
#pragma once

#include "checkpoint/hooks.h"
#include "memory/tracker.h"
#include "migrate/channel.h"
#include "migrate/journal.h"
#include "migrate/pace.h"
#include "objects/objects.h"
#include "util/error.h"
#include "util/log.h"

/* What a migration has done so far, for whoever shows it. Durations in ns. */
struct migrate_progress {
	const char *phase; /* a literal */
	bool is_step;      /* a phase begins or a round has ended; else it is in the middle of one */
	unsigned round;
	uint64_t sent_bytes;
	uint64_t left_pages; /* that are still to be sent; in the first round only about */
	uint64_t bytes_per_second;
	uint64_t predicted_pause_ns;
};

/* How a migration went. */
struct migrate_statistics {
	unsigned rounds;
	const char *tracked_by; /* how written pages were told, a literal; NULL: there were no rounds */
	uint64_t sent_bytes;
	uint64_t check_ns, rounds_ns;
	uint64_t pause_ns; /* from the first stop to the destination's word that it runs */
	uint64_t stop_ns, areas_ns, pages_ns, state_ns, connections_ns, ready_ns, commit_ns, go_ns; /* of which */
	uint64_t dropped_packets;
	pid_t pid_there; /* of the program for its new host; 0: not known */
	char *warning;   /* owned by whoever gets them; NULL: none */
};

struct migrate_watcher {
	void (*progress)(struct migrate_watcher *watcher, const struct migrate_progress *progress);
	/* The program is committed and stands still, and the other side can't be asked yet: why, and when it is tried again. */
	void (*waiting)(struct migrate_watcher *watcher, const struct error *last, unsigned next_s);
};

struct migrate_options {
	pid_t pid;
	struct route route;
	const char *state_dir;
	struct pace_limits limits;
	enum track track;
	const char *stop_unit;        /* of systemd, stopped when it runs there; NULL: none */
	int exit_status;              /* with which the copy here ends; -1: by SIGKILL */
	bool new_pids;                /* over there it gets a PID namespace of its own */
	unsigned cpu_caps;            /* enum cpu_cap: what of the processor has to be there, too */
	const char *const *addresses; /* "ADDRESS[/PREFIX]" that move along */
	size_t address_count;
	uint64_t wait_children_ns; /* how long the end of child processes is waited for */
	struct carry_options carry;
	struct migrate_watcher *watcher; /* borrowed */
	struct hooks *hooks;             /* borrowed; may be NULL */
	struct log *log;                 /* borrowed; may be NULL */
};

/* What became of the program, whether the migration went well or not. */
enum migrate_outcome {
	MIGRATE_RUNS_HERE,
	MIGRATE_RUNS_THERE,
	MIGRATE_UNDECIDED, /* stands still here; godwit resolve asks the destination */
};

/* SIGINT, SIGTERM, SIGHUP and SIGQUIT must be blocked: the first three end it as long as it can be undone, the last one
 * also ends the waiting for the destination's word. */
MUST_USE struct error *migrate_run(const struct migrate_options *options, enum migrate_outcome *ret_outcome,
                                   struct migrate_statistics *ret_statistics);
