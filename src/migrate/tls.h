/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* TLS 1.3 over a connected socket, with a key that both sides have and nothing else: no certificates. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/error.h"

struct tls;

/* fd is borrowed until free. key is 32 bytes. */
MUST_USE struct error *tls_connect(int fd, const uint8_t *key, struct tls **ret_tls);
MUST_USE struct error *tls_accept(int fd, const uint8_t *key, struct tls **ret_tls);
void tls_free(struct tls *tls);

/* As read(2) and write(2), with errno. */
ssize_t tls_read(struct tls *tls, void *bytes, size_t size_bytes);
ssize_t tls_write(struct tls *tls, const void *bytes, size_t size_bytes);

/* Sends what tls_write() has taken. 0 or a negative errno. */
int tls_flush(struct tls *tls);

/* Is there input that poll(2) on the socket wouldn't tell of? */
bool tls_pending(const struct tls *tls);
