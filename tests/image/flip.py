#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors
"""flip.py FILE: flips one bit at a random place of it, and says which."""
import os
import random
import sys

path = sys.argv[1]
place = random.randrange(os.path.getsize(path) * 8)
with open(path, "r+b") as file:
    file.seek(place // 8)
    byte = file.read(1)[0] ^ 1 << place % 8
    file.seek(place // 8)
    file.write(bytes([byte]))
print(f"{path}: bit {place}")
