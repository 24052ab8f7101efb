/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/moving.h"
#include "util/alloc.h"

enum { PREFIX_MAX = 128 };

struct moving {
	struct address_note **notes; /* owned, both */
	size_t count;
	size_t removed;
};

enum { ADDRESSES_MAX = 1024 }; /* more than these in what was written down are none of ours */

/* "ADDRESS[/PREFIX]"; *ret_prefix is -1 where none is given. */
static struct error *parse(const char *text, struct ip_address *ret_ip, int *ret_prefix)
{
	const char *slash = strchrnul(text, '/');
	auto_free char *address = xformat("%.*s", (int)(slash - text), text);
	char *end = NULL;

	*ret_prefix = -1;
	if (!ip_address_parse(address, ret_ip))
		return error_new(0, "\"%s\" is no IP address", text);
	if (!*slash)
		return NULL;
	long prefix = strtol(slash + 1, &end, 10);
	if (end == slash + 1 || *end || prefix < 0 || prefix > PREFIX_MAX)
		return error_new(EINVAL, "\"%s\" has no prefix length", text);
	*ret_prefix = (int)prefix;
	return NULL;
}

static void free_moving(struct moving **moving)
{
	moving_free(*moving);
}

struct error *moving_new(const char *const *addresses, size_t count, struct moving **ret_moving)
{
	__attribute__((cleanup(free_moving))) struct moving *moving = xalloc(sizeof(*moving));

	moving->notes = xalloc((count + 1) * sizeof(struct address_note *));
	for (; moving->count < count; moving->count++) {
		struct ip_address ip;
		int prefix;

		TRY(parse(addresses[moving->count], &ip, &prefix));
		TRY(address_note(&ip, &moving->notes[moving->count]), "--move-address %s", addresses[moving->count]);
	}
	*ret_moving = take(moving);
	return NULL;
}

void moving_free(struct moving *moving)
{
	if (!moving)
		return;
	for (size_t i = 0; i < moving->count; i++)
		address_note_free(moving->notes[i]);
	free(moving->notes);
	free(moving);
}

/* Each note behind the number of its bytes. */
void moving_bytes(const struct moving *moving, uint8_t **ret_bytes, size_t *ret_size_bytes)
{
	uint8_t *all = NULL;
	size_t all_bytes = 0;

	for (size_t i = 0; i < moving->count; i++) {
		auto_free uint8_t *bytes = NULL;
		uint64_t size_bytes;

		address_note_bytes(moving->notes[i], &bytes, &size_bytes);
		all = xrealloc(all, all_bytes + sizeof(size_bytes) + size_bytes);
		memcpy(all + all_bytes, &size_bytes, sizeof(size_bytes));
		memcpy(all + all_bytes + sizeof(size_bytes), bytes, size_bytes);
		all_bytes += sizeof(size_bytes) + size_bytes;
	}
	*ret_bytes = all;
	*ret_size_bytes = all_bytes;
}

struct error *moving_from_bytes(const uint8_t *bytes, size_t size_bytes, struct moving **ret_moving)
{
	__attribute__((cleanup(free_moving))) struct moving *moving = xalloc(sizeof(*moving));

	moving->notes = xalloc(ADDRESSES_MAX * sizeof(struct address_note *));
	while (size_bytes > 0) {
		uint64_t note_bytes;

		if (size_bytes < sizeof(note_bytes) || moving->count == ADDRESSES_MAX)
			return error_new(EBADMSG, "notes of addresses");
		memcpy(&note_bytes, bytes, sizeof(note_bytes));
		bytes += sizeof(note_bytes);
		size_bytes -= sizeof(note_bytes);
		if (note_bytes > size_bytes)
			return error_new(EBADMSG, "notes of addresses");
		TRY(address_note_from_bytes(bytes, note_bytes, &moving->notes[moving->count]));
		moving->count++;
		bytes += note_bytes;
		size_bytes -= note_bytes;
	}
	moving->removed = moving->count;
	*ret_moving = take(moving);
	return NULL;
}

struct error *moving_remove(struct moving *moving)
{
	for (; moving->removed < moving->count; moving->removed++)
		TRY(address_remove(moving->notes[moving->removed]));
	return NULL;
}

void moving_put_back(struct moving *moving)
{
	if (!moving)
		return;
	while (moving->removed > 0) {
		const struct address_note *note = moving->notes[--moving->removed];

		/* On the way out of something that failed for a reason of its own, which is the one to tell. */
		error_free(address_put_back(note));
		error_free(address_announce(address_noted(note)));
	}
}

struct error *arriving_place(const char *address, struct interface_address *ret_place)
{
	struct ip_address ip;
	int prefix;

	TRY(parse(address, &ip, &prefix));
	TRY(address_place(&ip, ret_place), "address %s", address);
	if (prefix >= 0)
		ret_place->prefix_bits = (uint8_t)prefix;
	return NULL;
}
