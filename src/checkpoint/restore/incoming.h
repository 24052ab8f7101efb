/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The connections of a program that is built: locked before anyone can reach them (a packet for a socket that isn't
 * there yet makes the kernel reset the connection), and unlocked when they are.
 */
#pragma once

#include "image/store.h"
#include "util/error.h"

struct incoming;

/* Locks what the images tell of. Never NULL where it succeeds, also if there is nothing to lock. */
MUST_USE struct error *incoming_lock(const struct image_store *store, struct incoming **ret_incoming);

/* The sockets are there: no lock on them stays, nor one that a dump on this host has left. */
MUST_USE struct error *incoming_unlock(struct incoming *incoming);

void incoming_free(struct incoming *incoming);
DEFINE_OWNED(struct incoming *, incoming_free)
#define auto_incoming AUTO(incoming_free)
