// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The godwit authors

// cluster.js ADDRESS FOLDER: node's cluster: three workers share a listening socket and talk to their primary by channels. Each
// answer is counted by the primary too: FOLDER/verdict compares when FOLDER/stop is there.
'use strict';
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');

const [, , address, folder] = process.argv;

function bePrimary() {
	const told = new Map(); // worker id -> the last number that it told
	let wrong = 0;

	cluster.on('message', (worker, message) => {
		if (message.number !== (told.get(worker.id) || 0) + 1)
			wrong++;
		told.set(worker.id, message.number);
	});
	cluster.on('exit', () => wrong++);
	for (let i = 0; i < 3; i++)
		cluster.fork();
	setInterval(() => {
		if (!fs.existsSync(`${folder}/stop`))
			return;
		const total = [...told.values()].reduce((sum, number) => sum + number, 0);
		fs.writeFileSync(`${folder}/verdict.new`, wrong === 0 && total > 0 ? 'pass\n' : `${wrong} wrong of ${total}\n`);
		fs.renameSync(`${folder}/verdict.new`, `${folder}/verdict`);
		process.exit(0);
	}, 20);
}

function beWorker() {
	let number = 0;

	http.createServer((request, response) => {
		process.send({ number: ++number });
		response.end(`worker ${cluster.worker.id}\n`);
	}).listen(8080, address);
}

if (cluster.isPrimary)
	bePrimary();
else
	beWorker();
