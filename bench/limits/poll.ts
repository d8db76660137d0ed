// The limit of B2: what raw node:http answers for a JSON body of the size of a poll.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const { body } = JSON.parse(process.argv[2] ?? '{}') as { body: string };
const server = createServer((_request, response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}).listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit());
