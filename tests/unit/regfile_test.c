/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Files by their paths: what is refused, what is found to be missing or different, what a crafted entry can't do. */

#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <sys/mount.h>

#include "ghost-file.pb-c.h"
#include "lib/file_trip.h"
#include "objects/reg_file.h"

struct scene {
	char dir[32];
	struct trip trip;
};

static int set_up(void **state)
{
	struct scene *scene = xalloc(sizeof(*scene));

	strcpy(scene->dir, "/tmp/regfile-XXXXXX");
	assert_non_null(mkdtemp(scene->dir));
	trip_begin(&scene->trip);
	*state = scene;
	return 0;
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *place)
{
	(void)stat;
	(void)type;
	(void)place;
	return remove(path);
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	trip_end(&scene->trip);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
	assert_int_equal(nftw(scene->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
	free(scene);
	return 0;
}

static char *path_of(const struct scene *scene, const char *name)
{
	return xformat("%s/%s", scene->dir, name);
}

static int make(const struct scene *scene, const char *name, int flags, const char *content)
{
	auto_free char *path = path_of(scene, name);
	int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	return fd;
}

static void assert_says(const struct error *error, const char *text)
{
	assert_non_null(error);
	auto_free char *line = error_line(error);

	if (!strstr(line, text))
		fail_msg("'%s' does not say '%s'", line, text);
}

static void remove_file(const struct scene *scene, const char *name)
{
	auto_free char *path = path_of(scene, name);

	assert_int_equal(unlink(path), 0);
}

static void test_a_file_comes_back_at_its_position(void **state)
{
	struct scene *scene = *state;
	auto_fd int before = make(scene, "a", O_RDWR, "0123456789");
	auto_fd int after = -1;

	lseek(before, 4, SEEK_SET);
	uint32_t id = trip_add(&scene->trip, before)->id;
	assert_ok(trip_check(&scene->trip.files[0]));
	assert_ok(trip_save(&scene->trip));
	assert_ok(trip_restore(&scene->trip, id, &after));
	assert_int_equal(lseek(after, 0, SEEK_CUR), 4);
	assert_int_equal(fcntl(after, F_GETFL), fcntl(before, F_GETFL));
}

static void test_a_file_that_was_renamed_is_found(void **state)
{
	struct scene *scene = *state;
	auto_fd int before = make(scene, "old", O_RDWR, "x");
	auto_fd int after = -1;
	auto_free char *old = path_of(scene, "old");
	auto_free char *new = path_of(scene, "new (deleted)");
	uint32_t id = trip_add(&scene->trip, before)->id;

	assert_int_equal(rename(old, new), 0);
	close(make(scene, "old", O_RDWR, "another"));
	assert_ok(trip_save(&scene->trip));
	assert_ok(trip_restore(&scene->trip, id, &after));
	auto_free char *link = xformat("/proc/self/fd/%d", after);
	char seen[PATH_MAX] = "";
	assert_true(readlink(link, seen, sizeof(seen) - 1) > 0);
	assert_string_equal(seen, new);
}

static void test_a_deleted_file_that_is_open_twice_is_one_file(void **state)
{
	struct scene *scene = *state;
	auto_fd int before = make(scene, "ghost", O_RDWR, "boo");
	auto_free char *link = xformat("/proc/self/fd/%d", before);
	auto_fd int again = open(link, O_RDONLY | O_CLOEXEC);
	auto_fd int after = -1, after_again = -1;
	char seen[4] = "";

	remove_file(scene, "ghost");
	uint32_t id = trip_add(&scene->trip, before)->id;
	uint32_t id_again = trip_add(&scene->trip, again)->id;
	assert_ok(trip_save(&scene->trip));
	assert_int_equal(image_count(scene->trip.store, IMAGE_REMAP_FPATH, 0), 2);
	assert_ok(trip_restore(&scene->trip, id, &after));
	assert_ok(trip_restore(&scene->trip, id_again, &after_again));
	assert_int_equal(pwrite(after, "B", 1, 0), 1);
	assert_int_equal(pread(after_again, seen, 3, 0), 3);
	assert_string_equal(seen, "Boo");
}

static void test_a_deleted_file_with_another_name_is_refused(void **state)
{
	struct scene *scene = *state;
	auto_fd int fd = make(scene, "one", O_RDWR, "x");
	auto_free char *one = path_of(scene, "one");
	auto_free char *two = path_of(scene, "two");

	assert_int_equal(link(one, two), 0);
	remove_file(scene, "one");
	const struct open_file *file = trip_add(&scene->trip, fd);
	auto_error struct error *error = trip_check(file);
	assert_says(error, "hard links");
	assert_says(error, "one");

	auto_free char *source = xformat("/proc/self/fd/%d", fd); /* what the hint says */
	assert_int_equal(linkat(AT_FDCWD, source, AT_FDCWD, one, AT_SYMLINK_FOLLOW), 0);
	assert_ok(trip_check(file));
}

static void test_a_deleted_file_above_the_limit_is_refused(void **state)
{
	struct scene *scene = *state;
	auto_fd int fd = make(scene, "big", O_RDWR, "x");

	assert_int_equal(ftruncate(fd, 1 << 30), 0);
	remove_file(scene, "big");
	const struct open_file *file = trip_add(&scene->trip, fd);
	assert_ok(trip_check(file)); /* a hole is no data */
	assert_int_equal(posix_fallocate(fd, 0, 2 << 20), 0);
	auto_error struct error *error = trip_check(file);
	assert_int_equal(error_errnum(error), EFBIG);
}

static void test_a_file_under_a_mount_is_refused(void **state)
{
	struct scene *scene = *state;
	auto_fd int fd = make(scene, "hidden", O_RDWR, "x");

	assert_int_equal(mount("none", scene->dir, "tmpfs", 0, ""), 0);
	auto_error struct error *nothing = trip_check(trip_add(&scene->trip, fd));
	close(make(scene, "hidden", O_RDWR, "other"));
	auto_error struct error *other = trip_check(&scene->trip.files[0]);
	assert_int_equal(umount(scene->dir), 0);
	assert_says(nothing, "nothing is there");
	assert_says(other, "a mount hides it");
}

static void test_a_device_with_state_is_refused(void **state)
{
	struct scene *scene = *state;
	auto_fd int fd = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
	auto_error struct error *error = trip_check(trip_add(&scene->trip, fd));

	assert_says(error, "character device 1:11");
}

static void test_all_missing_and_different_files_are_told_at_once(void **state)
{
	struct scene *scene = *state;
	auto_fd int gone = make(scene, "gone", O_RDWR, "x");
	auto_fd int kept = make(scene, "kept", O_RDWR, "x");
	auto_fd int longer = make(scene, "it's longer", O_RDWR, "x");
	auto_fd int log = make(scene, "log", O_WRONLY | O_APPEND, "x");
	auto_fd int mode = make(scene, "mode", O_RDWR, "x");
	auto_fd int ghost = make(scene, "ghost", O_RDWR, "x");
	const int all[] = {gone, kept, longer, log, mode, ghost};

	remove_file(scene, "ghost");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		trip_add(&scene->trip, all[i]);
	assert_ok(trip_save(&scene->trip));
	scene->trip.restore = restore_files_new(scene->trip.store, &scene->trip.options);
	assert_ok(reg_files_verify(scene->trip.restore));

	remove_file(scene, "gone");
	assert_int_equal(write(longer, "y", 1), 1);
	assert_int_equal(write(log, "y", 1), 1);
	assert_int_equal(fchmod(mode, 0600), 0);

	auto_error struct error *error = reg_files_verify(scene->trip.restore);
	auto_free char *text = NULL;
	size_t size_bytes = 0;
	FILE *out = open_memstream(&text, &size_bytes);
	error_print(error, out);
	fclose(out);
	auto_free char *expected = xformat("error: 3 of the files that the program has are missing or different here\n"
	                                   "       %1$s/gone: missing here\n"
	                                   "       %1$s/it's longer: 2 bytes here, 1 when it was saved\n"
	                                   "       %1$s/mode: mode 600 here, 640 when it was saved\n"
	                                   "hint:  rsync -a SOURCE:'%1$s/gone' '%1$s/gone'\n"
	                                   "hint:  rsync -a SOURCE:'%1$s/it'\\''s longer' '%1$s/it'\\''s longer'\n"
	                                   "hint:  rsync -a SOURCE:'%1$s/mode' '%1$s/mode'\n",
	                                   scene->dir);
	assert_string_equal(text, expected);
}

/* Saves one file that is written, and lets somebody look who is told that the program runs, or stands still. */
static struct error *look_again(struct scene *scene, bool is_running)
{
	restore_files_free(take(scene->trip.restore));
	scene->trip.restore = restore_files_new(scene->trip.store, &scene->trip.options);
	if (is_running)
		restore_files_set_running(scene->trip.restore);
	return reg_files_verify(scene->trip.restore);
}

static void test_a_shared_file_may_change_while_the_program_runs(void **state)
{
	struct scene *scene = *state;
	auto_fd int fd = make(scene, "data", O_RDWR, "0123");
	auto_fd int after = -1;

	uint32_t id = trip_add(&scene->trip, fd)->id;
	assert_ok(trip_save(&scene->trip));
	assert_int_equal(write(fd, "4", 1), 1);
	assert_ok(look_again(scene, true));
	assert_ok(trip_restore(&scene->trip, id, &after));
	assert_error(look_again(scene, false), 0, "5 bytes here, 4 when it was saved");
	assert_error(reg_files_verify_written(scene->trip.restore), 0, "5 bytes here");
	remove_file(scene, "data");
	assert_ok(look_again(scene, true));
	assert_error(look_again(scene, false), 0, "missing here");
}

/* The same names in another folder: a copy, of the age that its time says. */
static void replace_by_copy(const struct scene *scene, time_t seconds, long nanoseconds)
{
	const struct timespec times[] = {{.tv_sec = seconds, .tv_nsec = nanoseconds},
	                                 {.tv_sec = seconds, .tv_nsec = nanoseconds}};
	auto_free char *folder = path_of(scene, "folder");
	auto_free char *old = path_of(scene, "old");

	assert_int_equal(rename(folder, old), 0);
	assert_int_equal(mkdir(folder, 0755), 0);
	auto_fd int copy = make(scene, "folder/data", O_RDWR, "0123");
	assert_int_equal(futimens(copy, times), 0);
}

static void set_time_of_copy(const struct scene *scene, time_t seconds, long nanoseconds)
{
	const struct timespec times[] = {{.tv_sec = seconds, .tv_nsec = nanoseconds},
	                                 {.tv_sec = seconds, .tv_nsec = nanoseconds}};
	auto_free char *path = path_of(scene, "folder/data");

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_a_copy_from_before_the_last_write_is_refused(void **state)
{
	struct scene *scene = *state;
	auto_free char *folder = path_of(scene, "folder");
	const struct timespec times[] = {{.tv_sec = 1700000000, .tv_nsec = 7}, {.tv_sec = 1700000000, .tv_nsec = 7}};

	assert_int_equal(mkdir(folder, 0755), 0);
	auto_fd int fd = make(scene, "folder/data", O_RDWR, "0123");
	assert_int_equal(futimens(fd, times), 0);
	trip_add(&scene->trip, fd);
	assert_ok(trip_save(&scene->trip));

	replace_by_copy(scene, 1700000000, 6);
	assert_error(look_again(scene, true), 0, "written to it since this copy was made");
	assert_error(look_again(scene, false), 0, "written to it since this copy was made");
	set_time_of_copy(scene, 1700000000, 0); /* in whole seconds */
	assert_ok(look_again(scene, false));
	set_time_of_copy(scene, 1699999999, 0);
	assert_error(look_again(scene, false), 0, "written to it since this copy was made");
	set_time_of_copy(scene, 1700000000, 7);
	assert_ok(look_again(scene, false));
	/* A copy of another size is found at once: it isn't the one that is being written. */
	auto_free char *path = path_of(scene, "folder/data");
	assert_int_equal(truncate(path, 3), 0);
	assert_error(look_again(scene, true), 0, "3 bytes here, 4 when it was saved");
}

static void test_what_the_kernel_makes_up_has_no_age(void **state)
{
	struct scene *scene = *state;
	auto_fd int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);

	trip_add(&scene->trip, fd);
	assert_ok(trip_save(&scene->trip));
	assert_int_equal(image_count(scene->trip.store, IMAGE_FILE_EXTRA, 0), 0);
}

static void test_a_log_that_grew_is_continued_at_its_end(void **state)
{
	struct scene *scene = *state;
	auto_fd int log = make(scene, "log", O_WRONLY | O_APPEND, "one ");
	auto_fd int after = -1;
	struct stat stat;

	uint32_t id = trip_add(&scene->trip, log)->id;
	assert_ok(trip_save(&scene->trip));
	assert_int_equal(write(log, "two ", 4), 4);
	assert_ok(trip_restore(&scene->trip, id, &after));
	assert_int_equal(write(after, "three", 5), 5);
	assert_int_equal(fstat(log, &stat), 0);
	assert_int_equal(stat.st_size, 13);
}

static void test_another_build_is_noticed(void **state)
{
	struct scene *scene = *state;
	auto_fd int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint8_t build_id[BUILD_ID_MAX_BYTES] = {0};
	struct stat stat;
	int fd = -1;
	struct reg_file file = {
		.id = 5,
		.source = "/proc/self/exe",
		.flags = O_RDONLY,
		.build_id = build_id,
		.build_id_bytes = reg_file_build_id(exe, build_id),
		.all = &scene->trip.all,
	};

	assert_int_equal(file.build_id_bytes, 20);
	assert_int_equal(fstat(exe, &stat), 0);
	file.dev = stat.st_dev;
	file.ino = stat.st_ino;
	assert_ok(reg_file_put(&file, scene->trip.store));
	file.id = 6;
	build_id[19] ^= 1;
	assert_ok(reg_file_put(&file, scene->trip.store));

	scene->trip.restore = restore_files_new(scene->trip.store, &scene->trip.options);
	assert_ok(reg_file_open_id(5, O_RDONLY, scene->trip.restore, &fd));
	close(fd);
	auto_error struct error *error = reg_file_open_id(6, O_RDONLY, scene->trip.restore, &fd);
	assert_says(error, "another build");
}

static void test_crafted_paths_are_refused_and_nothing_is_made(void **state)
{
	struct scene *scene = *state;
	auto_free char *up = xformat("%s/../tmp", scene->dir);
	auto_free char *victim = path_of(scene, "victim");
	const char *const names[] = {"", "etc/passwd", "/etc/../etc/passwd", "/etc//passwd", "/etc/.", "/..",
	                             up, victim};
	RegFileEntry reg = REG_FILE_ENTRY__INIT;
	FownEntry owner = FOWN_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	int fd = -1;

	entry.type = FD_TYPES__REG;
	auto_error struct error *no_path = trip_restore_entry(&scene->trip, &entry, &fd);
	assert_int_equal(error_errnum(no_path), EBADMSG);

	entry.reg = &reg;
	reg.fown = &owner;
	reg.flags = O_RDWR | O_CREAT | O_TRUNC | O_TMPFILE;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		auto_free char *name = xformat("%s", names[i]);
		reg.name = name;
		auto_error struct error *error = trip_restore_entry(&scene->trip, &entry, &fd);
		assert_non_null(error);
	}
	assert_int_equal(access(victim, F_OK), -1);
	assert_int_equal(fd, -1);
}

static void test_crafted_content_of_a_deleted_file_is_refused(void **state)
{
	struct scene *scene = *state;
	auto_fd int before = make(scene, "ghost", O_RDWR, "boo");
	GhostChunkEntry chunk = GHOST_CHUNK_ENTRY__INIT;
	auto_fd int after = -1;

	remove_file(scene, "ghost");
	uint32_t id = trip_add(&scene->trip, before)->id;
	assert_ok(trip_save(&scene->trip));
	chunk.off = UINT64_MAX;
	chunk.len = 3;
	image_put(scene->trip.store, IMAGE_GHOST_FILE, 1000, &chunk.base);
	image_put_bytes(scene->trip.store, IMAGE_GHOST_FILE, 1000, "bad", 3);
	auto_error struct error *error = trip_restore(&scene->trip, id, &after);
	assert_int_equal(error_errnum(error), EBADMSG);
}

#define SCENE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(test_a_file_comes_back_at_its_position),
		SCENE_TEST(test_a_file_that_was_renamed_is_found),
		SCENE_TEST(test_a_deleted_file_that_is_open_twice_is_one_file),
		SCENE_TEST(test_a_deleted_file_with_another_name_is_refused),
		SCENE_TEST(test_a_deleted_file_above_the_limit_is_refused),
		SCENE_TEST(test_a_file_under_a_mount_is_refused),
		SCENE_TEST(test_a_device_with_state_is_refused),
		SCENE_TEST(test_all_missing_and_different_files_are_told_at_once),
		SCENE_TEST(test_a_shared_file_may_change_while_the_program_runs),
		SCENE_TEST(test_a_copy_from_before_the_last_write_is_refused),
		SCENE_TEST(test_what_the_kernel_makes_up_has_no_age),
		SCENE_TEST(test_a_log_that_grew_is_continued_at_its_end),
		SCENE_TEST(test_another_build_is_noticed),
		SCENE_TEST(test_crafted_paths_are_refused_and_nothing_is_made),
		SCENE_TEST(test_crafted_content_of_a_deleted_file_is_refused),
	};

	/* What is mounted here is nobody else's business. */
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
