// The WebSocket side: one registry entry per client id, exactly as fragile as the real one. A second socket with the same
// id takes the entry over; when the first finally closes, it takes the entry away, and the second is deaf for good.

import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';

export interface Sockets {
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** To one client id; null sends to all. Dropped when nobody is registered. */
  send(to: string | null, type: string, data: unknown): void;
  /** A picture on its way: the older frame, or the one with metadata where the client asked for it. */
  sendImage(to: string | null, image: Buffer, format: 'jpeg' | 'png', metadata: ImageMetadata): void;
  sendText(to: string | null, node: string, text: string): void;
  /** Does this client get pictures with metadata? They come before `progress`, the older ones after. */
  wantsMetadata(to: string | null): boolean;
  /** Cuts the connections of one client id, or all. */
  drop(clientId: string | null): void;
  readonly count: number;
}

export interface ImageMetadata {
  readonly node_id: string;
  readonly prompt_id: string;
  readonly display_node_id: string;
  readonly parent_node_id: null;
  readonly real_node_id: string;
}

export interface SocketsOptions {
  readonly features: Readonly<Record<string, unknown>> | null;
  readonly queueRemaining: () => number;
  /** The node that runs now for this client id. */
  readonly running: (clientId: string) => string | null;
  /** Nothing is sent while this holds. */
  readonly silent: () => boolean;
}

const FORMATS = { jpeg: 1, png: 2 } as const;

export function createSockets({ features, queueRemaining, running, silent }: SocketsOptions): Sockets {
  const server = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  const registry = new Map<string, WebSocket>();
  const metadata = new Set<string>();
  const open = new Map<WebSocket, string>();

  const write = (socket: WebSocket, frame: string | Buffer) => {
    if (!silent()) socket.send(frame);
  };
  const say = (socket: WebSocket, type: string, data: unknown) => write(socket, JSON.stringify({ type, data }));
  const listeners = (to: string | null): [string, WebSocket][] =>
    to === null ? [...registry] : [...registry].filter(([id]) => id === to);

  const attach = (socket: WebSocket, id: string) => {
    registry.set(id, socket);
    metadata.delete(id);
    open.set(socket, id);
    say(socket, 'status', { status: { exec_info: { queue_remaining: queueRemaining() } }, sid: id });
    const node = running(id);
    if (node !== null) say(socket, 'executing', { node });
    let first = true;
    socket.on('message', (raw, binary) => {
      const message = binary ? null : flags(raw.toString());
      if (message === null) return;
      if (first && features && message.type === 'feature_flags') {
        if (message.data?.supports_preview_metadata === true) metadata.add(id);
        say(socket, 'feature_flags', features);
      }
      first = false;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      open.delete(socket);
      registry.delete(id);
      metadata.delete(id);
    });
  };

  return {
    upgrade(req, socket, head) {
      const asked = new URL(req.url ?? '/', 'http://box').searchParams.get('clientId');
      server.handleUpgrade(req, socket, head, (ws) => attach(ws, asked || randomUUID().replaceAll('-', '')));
    },
    send(to, type, data) {
      const frame = JSON.stringify({ type, data });
      for (const [, socket] of listeners(to)) write(socket, frame);
    },
    sendImage(to, image, format, about) {
      for (const [id, socket] of listeners(to)) {
        const json = Buffer.from(JSON.stringify({ ...about, image_type: `image/${format}` }));
        const head = metadata.has(id) ? [words(4, json.length), json] : [words(1, FORMATS[format])];
        write(socket, Buffer.concat([...head, image]));
      }
    },
    sendText(to, node, text) {
      const id = Buffer.from(node);
      for (const [, socket] of listeners(to)) {
        write(socket, Buffer.concat([words(3, id.length), id, Buffer.from(text)]));
      }
    },
    wantsMetadata: (to) => to !== null && metadata.has(to),
    drop(clientId) {
      for (const [socket, id] of open) if (clientId === null || id === clientId) socket.terminate();
    },
    get count() {
      return open.size;
    },
  };
}

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value, i * 4);
  });
  return bytes;
}

function flags(text: string): { type?: unknown; data?: Record<string, unknown> } | null {
  try {
    const message: unknown = JSON.parse(text);
    return message !== null && typeof message === 'object' ? message : {};
  } catch {
    return null;
  }
}
