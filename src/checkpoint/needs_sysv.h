/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A program's objects of System V among what it needs: their ids and keys must be free. */
#pragma once

#include "godwit-needs.pb-c.h"
#include "image/store.h"
#include "util/problems.h"

/* Those that a store tells of. */
MUST_USE struct error *needs_sysv_add(const struct image_store *store, GodwitNeeds *needs);

/* Adds which of them can't be made here, and who holds what they need. */
void needs_sysv_check(const GodwitNeeds *needs, struct problems *problems);
