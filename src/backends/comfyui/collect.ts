// A history entry's outputs → files. Nodes put them under any key they like, so every key is walked and every list member
// with a file name counts. Results beat previews (`type: temp`), files beat text. Names come from the node and
// go nowhere but back to it.

import { Readable } from 'node:stream';
import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { RemoteFile } from '../backend.ts';
import type { HistoryEntry } from './replies.ts';
import type { Place, Server } from './server.ts';

const item = z.object({
  filename: z.string().min(1),
  subfolder: z.string().catch(''),
  type: z.string().catch('output'),
  format: z.string().nullish().catch(null),
});
type Item = z.infer<typeof item>;

/** Files of the wanted nodes (all nodes when none are named), in the order of the outputs. */
export function collect(server: Server, { outputs }: HistoryEntry, wanted: readonly string[]): RemoteFile[] {
  const ids = wanted.length > 0 ? wanted : Object.keys(outputs);
  const nodes = ids.map((id) => outputs[id] ?? {});
  const members: unknown[] = nodes.flatMap((node) => Object.values(node).filter(Array.isArray).flat());
  const items = members.flatMap((member) => item.safeParse(member).data ?? []);
  const best = ['output', 'temp'].map((type) => items.filter((i) => i.type === type)).find((kept) => kept.length > 0);
  if (best) return best.map((file) => remoteFile(server, file));
  return nodes.flatMap((node) => z.array(z.string()).catch([]).parse(node.text)).map(textFile);
}

function remoteFile(server: Server, { format, ...place }: Item): RemoteFile {
  return {
    name: place.filename,
    mediaType: format && /^\w+\/[\w.+-]+$/.test(format) ? format : null,
    open: (signal) => open(server, place, signal),
  };
}

const textFile = (text: string): RemoteFile => ({
  name: 'text.txt',
  mediaType: 'text/plain',
  open: async () => Readable.from([Buffer.from(text)]),
});

async function open(server: Server, place: Place, signal: AbortSignal): Promise<Readable> {
  const response = await server.view(place, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw lost('The result could not be fetched from the node.', error);
  });
  const isPage = response.header('content-type')?.startsWith('text/html');
  if (!response.ok || isPage) {
    response.discard();
    throw lost(
      'The node no longer has the result.',
      new Error(`HTTP ${response.status}${isPage ? ', a web page' : ''}`),
    );
  }
  const length = response.header('content-encoding') ? null : response.header('content-length');
  return Readable.from(whole(response.stream(), length === null ? null : Number(length), signal));
}

/** Passes the bytes on, and fails unless all of them came. */
async function* whole(body: Readable, length: number | null, signal: AbortSignal): AsyncGenerator<Buffer> {
  let size = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      size += chunk.length;
      yield chunk;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw lost('The result broke off on its way from the node.', error);
  }
  if (size === 0 || (length !== null && size !== length))
    throw lost('The result came incomplete from the node.', new Error(`${size} of ${length} bytes`));
}

const lost = (message: string, cause: unknown) => new GatewayError('node_lost', message, { cause });
