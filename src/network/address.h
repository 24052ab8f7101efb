/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * IP addresses that move with a program, by rtnetlink(7), in the network namespace of the calling thread.
 *
 * At the source an address is noted before the freeze, removed in it, and put back if the move fails. Traps: with a
 * primary IPv4 address its secondaries go (unless promote_secondaries is set), with the last one of an interface its
 * routes. So a note holds all addresses and routes of the interface: what is lost besides the address comes back at
 * once, and the rest when the address does.
 *
 * At the destination it is added ready for use: IFA_F_NODAD, since an IPv6 address is tentative for more than a second
 * otherwise and can't be bound to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "util/error.h"

/* An address as a user names it. */
struct ip_address {
	sa_family_t family;
	uint8_t bytes[16]; /* network order; IPv4 in the first 4 */
};

struct interface_address {
	struct ip_address ip;
	uint8_t prefix_bits;
	int interface_index;
};

/* "10.0.0.1" or "fd00::1". False: neither. */
bool ip_address_parse(const char *text, struct ip_address *ret_ip);

/* All addresses of all interfaces. The caller frees the array with free(3). */
MUST_USE struct error *addresses_list(struct interface_address **ret_addresses, size_t *ret_count);

/* Where an address is. The error's errno is EADDRNOTAVAIL if it is on no interface. */
MUST_USE struct error *address_find(const struct ip_address *ip, struct interface_address *ret_address);

/* The interface where an address would belong: it has one of the same subnet, whose prefix is taken over. The error's
 * errno is EADDRNOTAVAIL if there is none. */
MUST_USE struct error *address_place(const struct ip_address *ip, struct interface_address *ret_address);

struct address_note;

/* All that is needed to remove an address and to put it back. Before the freeze. */
MUST_USE struct error *address_note(const struct ip_address *ip, struct address_note **ret_note);
void address_note_free(struct address_note *note);
DEFINE_OWNED(struct address_note *, address_note_free)
#define auto_address_note AUTO(address_note_free)

/* A note as bytes, and back: for a later process that puts the address back. The caller frees. */
void address_note_bytes(const struct address_note *note, uint8_t **ret_bytes, size_t *ret_size_bytes);
MUST_USE struct error *address_note_from_bytes(const uint8_t *bytes, size_t size_bytes, struct address_note **ret_note);

/* The address that was noted, for the destination. */
const struct interface_address *address_noted(const struct address_note *note);

/* Removes it; its neighbours stay. Runs frozen: three calls, more only if a neighbour has to be put back. */
MUST_USE struct error *address_remove(const struct address_note *note);

/* As it was before address_remove(), routes too. No error if it is there. */
MUST_USE struct error *address_put_back(const struct address_note *note);

/* Adds an address, ready for use. No error if that interface has it. */
MUST_USE struct error *address_add(const struct interface_address *address);

/* Removes what address_add() added. No error if it isn't there. */
MUST_USE struct error *address_delete(const struct interface_address *address);

/*
 * Tells the neighbours where the address is now: gratuitous ARP (as a request and as a reply, since each is ignored
 * by somebody), or an unsolicited neighbor advertisement. Nothing on an interface without link-layer addresses.
 *
 * In three steps, since closing a packet socket takes 6 ms (seen): the first before the freeze, the last after it.
 */
struct announcer;
MUST_USE struct error *announcer_new(const struct interface_address *address, struct announcer **ret_announcer);
MUST_USE struct error *announcer_send(const struct announcer *announcer);
void announcer_free(struct announcer *announcer);
DEFINE_OWNED(struct announcer *, announcer_free)
#define auto_announcer AUTO(announcer_free)

/* All three. */
MUST_USE struct error *address_announce(const struct interface_address *address);
