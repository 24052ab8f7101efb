/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The IP addresses that move along with a program: at the source, and at the destination. */
#pragma once

#include "network/address.h"

/* ---- At the source ---- */

struct moving;

/* addresses are "ADDRESS" or "ADDRESS/PREFIX"; each must be on an interface here. */
MUST_USE struct error *moving_new(const char *const *addresses, size_t count, struct moving **ret_moving);
void moving_free(struct moving *moving);

/* Runs frozen, behind the lock. */
MUST_USE struct error *moving_remove(struct moving *moving);

/* As before; does nothing where nothing was removed. NULL does nothing. */
void moving_put_back(struct moving *moving);

/* What moving_put_back() needs, for a later process. The caller frees; NULL: no address moves. */
void moving_bytes(const struct moving *moving, uint8_t **ret_bytes, size_t *ret_size_bytes);

/* From these bytes, as if all had been removed. */
MUST_USE struct error *moving_from_bytes(const uint8_t *bytes, size_t size_bytes, struct moving **ret_moving);

/* ---- At the destination ---- */

/* Where an address that comes will be: the interface that has its subnet. */
MUST_USE struct error *arriving_place(const char *address, struct interface_address *ret_place);
