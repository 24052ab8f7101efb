/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The numbers that families and groups of NETLINK_GENERIC have on a host: each gets the next one when its module is loaded.
 *
 * A program asks for them once and remembers them, so a socket can go on only where they mean the same.
 */
#pragma once

#include "godwit-sockets.pb-c.h"
#include "util/error.h"

/* All families of this host, and those of their groups whose bit (group 1 first) is in groups, into extras, which owns
 * them until netlink_generic_free(). Runs frozen. */
MUST_USE struct error *netlink_generic_save(const uint32_t *groups, size_t word_count, GodwitSocketEntry *extras);
void netlink_generic_free(GodwitSocketEntry *extras);

/* Do they have the same numbers here? */
MUST_USE struct error *netlink_generic_check(const GodwitSocketEntry *extras);
