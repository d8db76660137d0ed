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
  return Readable.from(translated(response.stream(), signal));
}

/** The HTTP parser notices missing bytes; here they get their meaning. */
async function* translated(body: Readable, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    yield* body as AsyncIterable<Buffer>;
  } catch (error) {
    signal.throwIfAborted();
    throw lost('The result broke off on its way from the node.', error);
  }
}

const lost = (message: string, cause: unknown) => new GatewayError('node_lost', message, { cause });
