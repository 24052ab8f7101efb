/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* A store with an image of every kind, in which every field of every message has a value. */
#pragma once

#include "image/store.h"

enum {
	SAMPLE_ID = 0x1234,
	SAMPLE_CHUNKED_ID = 0xc4, /* of a deleted file whose content comes in chunks */
	SAMPLE_MESSAGES = 3,      /* in each image of which that isn't the first alone */
	SAMPLE_RAW_BYTES = 5000,  /* behind each message that has any */
};

/* A message with every field set, lists to four items each. The caller frees it as an unpacked one. */
ProtobufCMessage *sample_message(const ProtobufCMessageDescriptor *type);

/* The id of that kind's sample: SAMPLE_ID, or 0. */
uint64_t sample_id(enum image_kind kind);

/* Puts images of that kind into the store. */
void sample_put(struct image_store *store, enum image_kind kind);
