/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A server for counter_client: as much of redis as it takes. Each connection has its own counter, every INCR whatever
 * its key adds one and is answered with the sum. With it a ticker has connections that are checked from outside.
 */
#pragma once

/* Listens on port of address (a number), then serves for ever in a thread of its own. */
void counter_server_start(const char *address, unsigned int port);
