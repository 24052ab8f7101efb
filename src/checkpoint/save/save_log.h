/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What there is to save, for the log. */
#pragma once

#include "checkpoint/save/save.h"
#include "util/log.h"

/* As the saver saw it last. Not in the freeze. */
void save_log(struct log *log, const struct saver *saver);
