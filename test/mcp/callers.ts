// Agents of every kind on one address: the current SDK in both eras and the older one, each bounded and closed with the
// test.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as OldTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { onTestFinished } from 'vitest';
import { ADMIN_KEY } from '../api/fake-gateway.ts';

export interface ToolResult {
  readonly isError?: boolean;
  readonly content: readonly {
    readonly type: string;
    readonly text?: string;
    readonly uri?: string;
    readonly data?: string;
    readonly mimeType?: string;
  }[];
  readonly structuredContent?: Readonly<Record<string, unknown>>;
}

export interface CallOptions {
  readonly onprogress?: (p: { progress: number; total?: number | undefined; message?: string | undefined }) => void;
  readonly signal?: AbortSignal;
  readonly timeout?: number;
}

export interface Agent {
  call(name: string, args?: object, options?: CallOptions): Promise<ToolResult>;
  tools(): Promise<readonly { readonly name: string }[]>;
  readonly instructions: string | undefined;
  /** Drops the connections, answered or not. */
  close(): Promise<void>;
}

export type Kind = 'current' | 'legacy' | 'v1';
export const KINDS: readonly Kind[] = ['current', 'legacy', 'v1'];

const WHO = { name: 'test', version: '1' };

export async function agent(
  kind: Kind,
  url: string,
  key = ADMIN_KEY,
  headers: Record<string, string> = {},
): Promise<Agent> {
  const requestInit = { headers: { authorization: `Bearer ${key}`, ...headers } };
  const address = new URL('/mcp', url);
  const client =
    kind === 'v1'
      ? new OldClient(WHO)
      : new Client(WHO, { versionNegotiation: { mode: kind === 'legacy' ? 'legacy' : 'auto' } });
  const transport =
    kind === 'v1'
      ? new OldTransport(address, { requestInit })
      : new StreamableHTTPClientTransport(address, { requestInit });
  await client.connect(transport as never);
  onTestFinished(() => client.close());
  return {
    async call(name, args = {}, options = {}) {
      const params = { name, arguments: args as Record<string, unknown> };
      const result =
        client instanceof OldClient
          ? await client.callTool(params, undefined, options as never)
          : await client.callTool(params, options as never);
      return result as unknown as ToolResult;
    },
    tools: async () => (await client.listTools()).tools,
    instructions: client.getInstructions(),
    close: () => client.close(),
  };
}

/** The object of a result, which must stand in the text alone and in structuredContent alone. */
export const objectOf = (result: ToolResult): Record<string, unknown> =>
  JSON.parse(result.content.find((block) => block.type === 'text')?.text ?? 'null') as Record<string, unknown>;
