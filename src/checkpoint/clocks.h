/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME of a program that is carried: they never go backwards, and what it waits for until a
 * point in time comes at that point.
 *
 * Where it was saved since this host has booted, and had no time namespace, these clocks are the right ones. Else it gets a
 * time namespace (time_namespaces(7)) in which they go on from where they were: by what the image says, or, in a migration,
 * by what the source's clocks show, and a full round trip more, so that they are ahead of it and not behind.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "godwit-clocks.pb-c.h"
#include "image/store.h"

/* What a program sees, or what has to be added to the clocks of this process for it. */
struct clocks {
	int64_t monotonic_ns, boottime_ns;
};

/* What the program sees now. The caller frees entry->boot. */
MUST_USE struct error *clocks_fill(pid_t pid, GodwitClocksEntry *ret_entry);

/* The same into the store: clocks.godwit. */
MUST_USE struct error *clocks_save(pid_t pid, struct image_store *store);

/* Whether the program of those images needs a time namespace here, and then what to add if its clocks shall go on from now.
 * Images without clocks.godwit: only if they say that it had one (timens-0.img). */
MUST_USE struct error *clocks_needed(const struct image_store *store, bool *ret_is_needed, struct clocks *ret_offsets);

/* The same of a program that still runs, as somebody has told, ahead_ns ago at most. */
bool clocks_needed_by(const GodwitClocksEntry *entry, uint64_t ahead_ns, struct clocks *ret_offsets);

/*
 * From here on, processes that are cloned have a time namespace with clocks that are so much ahead of ours. *ret_former_fd is
 * for clocks_leave(), which ends that; it is owned by the caller.
 */
MUST_USE struct error *clocks_enter(const struct clocks *offsets, int *ret_former_fd);
MUST_USE struct error *clocks_leave(int former_fd);

/* Waits until clocks that are so much ahead of ours have passed what the program saw last, by its images. */
MUST_USE struct error *clocks_wait(const struct image_store *store, const struct clocks *offsets);
