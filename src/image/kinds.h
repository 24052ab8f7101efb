/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What there is to know about a kind of image: its file's name, the words its file begins with, its messages and the
 * raw bytes behind them. A new kind is a line in enum image_kind and one in the table of kinds.c.
 */
#pragma once

#include <stdbool.h>

#include "image/store.h"

enum {
	IMAGE_NAME_MAX = 48,   /* of a file's name, its final NUL included */
	IMAGE_MAGICS_MAX = 2,  /* words at the start of a file */
	IMAGE_LENGTH_BYTES = 4 /* before each message: its length */
};

/* The raw bytes behind a message reach to the end of the file. */
static const uint64_t image_raw_rest = UINT64_MAX;

/* False: there is one image of that kind, and its id is 0. */
bool image_has_id(enum image_kind kind);

/* The name of the file that holds an image, for errors, too. */
void image_file_name(enum image_kind kind, uint64_t id, char ret_name[IMAGE_NAME_MAX]);

/* The other way round. False: not the name that an image of any kind has. */
bool image_of_file_name(const char *name, enum image_kind *ret_kind, uint64_t *ret_id);

/* The words at the start of the file; returns how many. */
size_t image_magics(enum image_kind kind, uint32_t ret_magics[IMAGE_MAGICS_MAX]);

/* About a save or restore, not about the program (statistics): a new one replaces the old one, and none is read. */
bool image_is_service(enum image_kind kind);

/* Of message number index. */
const ProtobufCMessageDescriptor *image_message(enum image_kind kind, size_t index);

/* How many raw bytes stand behind message, whose type is one that image_message() gives for this kind. */
uint64_t image_raw_bytes(enum image_kind kind, const ProtobufCMessage *message);
