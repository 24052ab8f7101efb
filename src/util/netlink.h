/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * netlink(7), on libmnl: messages sent and answered, lists asked for.
 *
 * A channel belongs to the network namespace in which its thread was when it was opened, wherever the thread goes
 * later. The kernel works on what is sent before sendto(2) returns, so nothing here waits for anybody, but for netlink_ask().
 */
#pragma once

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

#include "util/error.h"

struct netlink;

/* bus: NETLINK_ROUTE, NETLINK_NETFILTER, NETLINK_SOCK_DIAG … */
MUST_USE struct error *netlink_open(int bus, struct netlink **ret_netlink);
void netlink_free(struct netlink *netlink);
DEFINE_OWNED(struct netlink *, netlink_free)
#define auto_netlink AUTO(netlink_free)

/* The kernel's name for this channel, unique in its network namespace and bus. */
uint32_t netlink_port_id(const struct netlink *netlink);

/* For nlmsg_seq of the next message. */
uint32_t netlink_next_sequence(struct netlink *netlink);

/*
 * Sends one or more messages and takes what the kernel answers at once. The first refusal is the error, with the
 * kernel's own words where it has any. At least one message must have NLM_F_ACK.
 */
MUST_USE struct error *netlink_send(struct netlink *netlink, const void *messages, size_t size_bytes);

typedef struct error *netlink_each(const struct nlmsghdr *message, void *context);

/*
 * Sends a request with NLM_F_DUMP (or one with NLM_F_ACK, for one thing) and calls each for every message of the answer. If the list changed while it was
 * read the error is EINTR: ask again. After an error of each the rest is read and thrown away.
 */
MUST_USE struct error *netlink_dump(struct netlink *netlink, const struct nlmsghdr *request, netlink_each *each,
                                    void *context);

/* Sends a request without NLM_F_ACK and calls each for its one answer, which may take the kernel a moment. */
MUST_USE struct error *netlink_ask(struct netlink *netlink, const struct nlmsghdr *request, netlink_each *each,
                                   void *context);

/* The first attribute of that type behind a message's header of header_bytes, or NULL. */
const struct nlattr *netlink_attribute(const struct nlmsghdr *message, size_t header_bytes, uint16_t type);

/* The first attribute of that type inside of parent, or NULL; NULL also if parent is. */
const struct nlattr *netlink_nested(const struct nlattr *parent, uint16_t type);

/* The attribute inside of parent that follows previous (NULL: the first one), or NULL. */
const struct nlattr *netlink_next_nested(const struct nlattr *parent, const struct nlattr *previous);
