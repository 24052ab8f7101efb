#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 file-server.sh: what a program has written to a file system that others see, too, has reached its server
# when the program is saved, whether it was written by write(2) or through a mapping.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

disk=$SHARED/disk backing=$SHARED/backing
mkdir "$disk"
: >"$backing"

# How a program leaves something unwritten: in a file that is open, or in one that is only mapped any more.
cat >"$SHARED/writer.py" <<'END'
import mmap, os, signal, sys
how, path, ready = sys.argv[1:]
fd = os.open(path, os.O_RDWR)
if how == "map":
    os.ftruncate(fd, 8192)
    mapping = mmap.mmap(fd, 8192)
    for number in os.listdir("/proc/self/fd"):  # the mapping keeps one of its own
        if int(number) > 2:
            try:
                os.close(int(number))
            except OSError:
                pass
    mapping[4096:4103] = b"written"
else:
    os.write(fd, b"written by write")
open(ready, "w").close()
while True:
    signal.pause()
END

[ -e /dev/fuse ] || exit 77
server=$(start_on a "$SHARED/server.log" "$TOOLS/fuse_disk" "$disk" "$backing")
is_mounted() { on_a grep -q "$disk fuse" /proc/mounts; }
wait_until is_mounted

# By a program that closes what it has open, it would be written, too: but not forced.
is_forced() { grep -q written "$backing" && [ -s "$backing.forced" ]; }

for how in write map; do
	images=$SHARED/$how
	mkdir "$images"
	: >"$backing"
	pid=$(start_on a "$SHARED/writer.log" /usr/bin/python3 -S "$SHARED/writer.py" "$how" "$disk/file" "$SHARED/$how.ready")
	wait_for "$SHARED/$how.ready"
	: >"$backing.forced"
	! grep -q written "$backing" || fail "$how: nothing waits in memory, so this test says nothing"
	on_a "$GODWIT" dump --tree "$pid" --images-dir "$images" --leave-stopped >"$SHARED/log" 2>&1 ||
		fail "dump: $(cat "$SHARED/log")"
	is_forced || fail "$how: it wasn't forced to the server"
	on_a kill -KILL "$pid"
	wait_gone a "$pid"
	echo "ok $how"
done
on_a umount "$disk"
wait_gone a "$server"
