/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "arch/arch.h"
#include "memory/vdso_code.h"
#include "util/error.h"

enum { NAME_BYTES_MAX = 64, HEADERS_MAX = 16, DYNAMIC_MAX = 64 };

/* What a function without its beginning, "__vdso_", is called, and what becomes of it. */
enum fate {
	FATE_REDIRECTED,
	/* Its state in the program is for its own code. That stays, and asks the kernel: there is no key for it in pages
	 * full of zeros (getrandom), and an enclave is a device. */
	FATE_KEPT,
	FATE_UNKNOWN,
};

static const struct {
	const char *name;
	enum fate fate;
} functions[] = {
	{"clock_getres", FATE_REDIRECTED}, {"clock_gettime", FATE_REDIRECTED}, {"getcpu", FATE_REDIRECTED},
	{"getrandom", FATE_KEPT},          {"gettimeofday", FATE_REDIRECTED},  {"sgx_enter_enclave", FATE_KEPT},
	{"time", FATE_REDIRECTED},
};

/* Where the parts of it are, in bytes from its beginning. */
struct symbols {
	struct vdso_code code;
	uint64_t base; /* that addresses in it begin with */
	uint64_t table;
	uint64_t count;
	uint64_t names;
};

struct function {
	char name[NAME_BYTES_MAX]; /* without "__vdso_" */
	uint64_t offset;
	uint64_t size_bytes;
};

/* ---- Reading ---- */

static bool read_at(const struct vdso_code *code, uint64_t offset, void *ret_bytes, size_t size_bytes)
{
	if (offset > code->size_bytes || size_bytes > code->size_bytes - offset)
		return false;
	memcpy(ret_bytes, code->bytes + offset, size_bytes);
	return true;
}

/* Finds one of its program headers. */
static bool read_header(const struct vdso_code *code, uint32_t type, Elf64_Phdr *ret_header)
{
	Elf64_Ehdr elf;

	if (!read_at(code, 0, &elf, sizeof(elf)) || memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
	    elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_phnum > HEADERS_MAX)
		return false;
	for (unsigned i = 0; i < elf.e_phnum; i++)
		if (elf.e_phoff <= code->size_bytes &&
		    read_at(code, elf.e_phoff + i * sizeof(*ret_header), ret_header, sizeof(*ret_header)) &&
		    ret_header->p_type == type)
			return true;
	return false;
}

/* The kernel's linker script puts the names right behind the symbols; nothing else tells how many there are. */
static bool read_tables(const struct vdso_code *code, struct symbols *ret_symbols)
{
	Elf64_Phdr load;
	Elf64_Phdr dynamic;
	uint64_t symbols = 0;
	uint64_t names = 0;

	if (!read_header(code, PT_LOAD, &load) || !read_header(code, PT_DYNAMIC, &dynamic) ||
	    dynamic.p_offset > code->size_bytes)
		return false;
	for (unsigned i = 0; i < DYNAMIC_MAX; i++) {
		Elf64_Dyn entry;

		if (!read_at(code, dynamic.p_offset + i * sizeof(entry), &entry, sizeof(entry)))
			return false;
		if (entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == DT_SYMTAB)
			symbols = entry.d_un.d_ptr;
		if (entry.d_tag == DT_STRTAB)
			names = entry.d_un.d_ptr;
	}
	*ret_symbols = (struct symbols){
		.code = *code,
		.base = load.p_vaddr - load.p_offset,
		.table = symbols - (load.p_vaddr - load.p_offset),
		.count = (names - symbols) / sizeof(Elf64_Sym),
		.names = names - (load.p_vaddr - load.p_offset),
	};
	return symbols < names && ret_symbols->table < code->size_bytes && ret_symbols->names < code->size_bytes;
}

static struct error *symbols_read(const struct vdso_code *code, struct symbols *ret_symbols)
{
	return read_tables(code, ret_symbols) ? NULL : error_new(EBADMSG, "its code is no vDSO");
}

/* False: that symbol is something else. */
static bool read_function(const struct symbols *symbols, uint64_t index, struct function *ret_function)
{
	static const char begin[] = "__vdso_";
	const struct vdso_code *code = &symbols->code;
	Elf64_Sym symbol;

	if (!read_at(code, symbols->table + index * sizeof(symbol), &symbol, sizeof(symbol)) ||
	    ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF)
		return false;
	uint64_t at = symbols->names + symbol.st_name;
	if (at >= code->size_bytes)
		return false;
	const char *name = (const char *)code->bytes + at;
	size_t length = strnlen(name, code->size_bytes - at);
	if (length > sizeof(begin) - 1 && memcmp(name, begin, sizeof(begin) - 1) == 0) {
		name += sizeof(begin) - 1;
		length -= sizeof(begin) - 1;
	}
	if (length == 0 || length >= sizeof(ret_function->name))
		return false;
	*ret_function = (struct function){.offset = symbol.st_value - symbols->base, .size_bytes = symbol.st_size};
	memcpy(ret_function->name, name, length);
	return true;
}

/* ---- Redirecting ---- */

static enum fate fate_of(const char *name)
{
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (strcmp(functions[i].name, name) == 0)
			return functions[i].fate;
	return FATE_UNKNOWN;
}

static bool find_function(const struct symbols *symbols, const char *name, struct function *ret_function)
{
	for (uint64_t i = 0; i < symbols->count; i++)
		if (read_function(symbols, i, ret_function) && strcmp(ret_function->name, name) == 0)
			return true;
	return false;
}

static struct error *redirect_function(const struct vdso_code *program, const struct function *function,
                                       const struct symbols *kernel)
{
	uint8_t jump[ARCH_JUMP_BYTES];
	struct function other;

	if (!find_function(kernel, function->name, &other))
		return error_hint(error_new(ENOTSUP, "this kernel's vDSO has no %s", function->name),
		                  "restore it on a host with a newer kernel");
	if (function->size_bytes < sizeof(jump) || function->offset > program->size_bytes ||
	    program->size_bytes - function->offset < sizeof(jump))
		return error_new(EBADMSG, "%s in the program's vDSO: no room for a jump", function->name);
	arch_jump(jump, kernel->code.address + other.offset);
	memcpy(program->bytes + function->offset, jump, sizeof(jump));
	return NULL;
}

static struct error *redirect(const struct vdso_code *program, const struct function *function,
                              const struct symbols *kernel)
{
	switch (fate_of(function->name)) {
	case FATE_REDIRECTED:
		return redirect_function(program, function, kernel);
	case FATE_KEPT:
		return NULL;
	case FATE_UNKNOWN:
		break;
	}
	return error_hint(error_new(ENOTSUP, "the program's vDSO has a function %s", function->name),
	                  "restore it on a host with the kernel that it ran on before");
}

struct error *vdso_redirect(const struct vdso_code *program, const struct vdso_code *kernel)
{
	struct symbols from = {0};
	struct symbols to = {0};
	struct function function;

	TRY(symbols_read(program, &from), "the program's vDSO");
	TRY(symbols_read(kernel, &to), "this kernel's vDSO");
	for (uint64_t i = 0; i < from.count; i++)
		if (read_function(&from, i, &function))
			TRY(redirect(program, &function, &to));
	return NULL;
}
