// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The godwit authors

// An http server with timers, promises, the thread pool and a heap that the collector moves about. /verify looks
// whether all of it still adds up.
'use strict';
const crypto = require('crypto');
const http = require('http');

const kept = new Map(); // number -> what it must hash to
let turns = 0;
let hashes = 0;
let wrong = 0;

function hash(number) {
	return crypto.createHash('sha256').update(String(number)).digest('hex');
}

setInterval(() => {
	turns++;
	kept.set(turns % 5000, hash(turns % 5000));
}, 1);

(async () => {
	// In the thread pool of libuv.
	for (;;) {
		const key = await new Promise((resolve, reject) =>
			crypto.pbkdf2('godwit', 'salt', 2000, 32, 'sha256', (error, key) => (error ? reject(error) : resolve(key))));
		hashes++;
		if (key.toString('hex') !== crypto.pbkdf2Sync('godwit', 'salt', 2000, 32, 'sha256').toString('hex'))
			wrong++;
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
})();

function verify() {
	for (const [number, digest] of kept)
		if (digest !== hash(number))
			wrong++;
	return `${wrong === 0 && turns > 0 && hashes > 0 ? 'pass' : 'fail'}: ${turns} turns, ${hashes} hashes, ${wrong} wrong\n`;
}

const server = http.createServer((request, response) => {
	response.end(request.url === '/verify' ? verify() : `turn ${turns}\n`);
});
server.keepAliveTimeout = 600000;
server.listen(8080, process.argv[2]);
