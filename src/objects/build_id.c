/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The build ID that linkers put into programs and libraries, a note of an ELF file: elf(5). */
#include <elf.h>

#include "objects/reg_file.h"

enum {
	SEGMENTS_MAX = 256,
	NOTES_MAX_BYTES = 4096, /* the build ID comes early */
};

static size_t round_up(size_t size_bytes)
{
	return (size_bytes + 3) & ~(size_t)3;
}

/* Looks through the notes of one segment. */
static size_t find_note(const uint8_t *notes, size_t size_bytes, uint8_t ret_build_id[BUILD_ID_MAX_BYTES])
{
	Elf64_Nhdr note;

	while (size_bytes >= sizeof(note)) {
		memcpy(&note, notes, sizeof(note));
		notes += sizeof(note);
		size_bytes -= sizeof(note);
		if (note.n_namesz > size_bytes || note.n_descsz > size_bytes)
			return 0;
		size_t name_bytes = round_up(note.n_namesz);
		size_t note_bytes = name_bytes + round_up(note.n_descsz);
		if (note_bytes > size_bytes)
			return 0;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
		    memcmp(notes, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0 && note.n_descsz <= BUILD_ID_MAX_BYTES) {
			memcpy(ret_build_id, notes + name_bytes, note.n_descsz);
			return note.n_descsz;
		}
		notes += note_bytes;
		size_bytes -= note_bytes;
	}
	return 0;
}

static size_t read_notes(int fd, const Elf64_Phdr *segment, uint8_t ret_build_id[BUILD_ID_MAX_BYTES])
{
	uint8_t notes[NOTES_MAX_BYTES];
	size_t size_bytes = segment->p_filesz < sizeof(notes) ? segment->p_filesz : sizeof(notes);

	ssize_t count = pread(fd, notes, size_bytes, (off_t)segment->p_offset);
	return count < 0 ? 0 : find_note(notes, (size_t)count, ret_build_id);
}

size_t reg_file_build_id(int fd, uint8_t ret_build_id[BUILD_ID_MAX_BYTES])
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	size_t size_bytes = 0;

	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(segment) ||
	    header.e_phnum > SEGMENTS_MAX)
		return 0;
	for (size_t i = 0; i < header.e_phnum && size_bytes == 0; i++) {
		off_t offset = (off_t)(header.e_phoff + i * sizeof(segment));

		if (pread(fd, &segment, sizeof(segment), offset) != sizeof(segment))
			return 0;
		if (segment.p_type == PT_NOTE)
			size_bytes = read_notes(fd, &segment, ret_build_id);
	}
	return size_bytes;
}
