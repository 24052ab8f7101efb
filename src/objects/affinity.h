/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Processors that threads are bound to, while the program runs: state/affinity.c has the rest. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <sys/types.h>

#include "util/error.h"

/* Those of a thread; data is NULL where it has ended. Those that the host has. One bit each; the caller frees data. */
ProtobufCBinaryData affinity_of(pid_t tid);
ProtobufCBinaryData affinity_of_host(void);

/* That this host has any of those that a thread is bound to: processors are those of the host that it comes from. */
MUST_USE struct error *affinity_check(const ProtobufCBinaryData *affinity, const ProtobufCBinaryData *processors);
