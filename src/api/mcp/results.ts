// Results of tool calls. A call that worked carries one object twice, as text and as structuredContent, because hosts
// show either; a call that failed is one text block and nothing else: clients of the older SDK throw on more.

import type { CallToolResult, ContentBlock } from '@modelcontextprotocol/server';
import { renderError } from '../../contract/errors.ts';
import type { GenerationBody } from '../../contract/generations.ts';
import { toFailure } from '../../domain/failure.ts';

const text = (body: object): ContentBlock => ({ type: 'text', text: JSON.stringify(body) });

export function answer(body: Record<string, unknown>, more: readonly ContentBlock[] = []): CallToolResult {
  return { content: [text(body), ...more], structuredContent: body };
}

/** A picture to look at, beside the object. Hosts that see structuredContent drop pictures, so there is none. */
export function pictures(blocks: readonly ContentBlock[], body: Record<string, unknown>): CallToolResult {
  return { content: [...blocks, text(body)] };
}

/** One link for each file that is still there. */
export function links(g: GenerationBody): ContentBlock[] {
  return g.outputs.flatMap(({ url, index, media_type, bytes }) =>
    url === null
      ? []
      : [{ type: 'resource_link', uri: url, name: `${g.id}-${index}`, mimeType: media_type, size: bytes }],
  );
}

/** What the call failed of, in the contract's words. Tells `fault` of errors that are nobody's answer. */
export function failed(error: unknown, fault: (error: unknown) => void): CallToolResult {
  const told = errorBody(error);
  if (told.error.code === 'internal') fault(error);
  return { content: [text(told)], isError: true };
}

export interface Told {
  readonly error: { readonly code: string; readonly message: string };
}

/** The contract's error object, whether the engine threw it or the client. */
export function errorBody(error: unknown): Told {
  if (!(error instanceof Error) || error.name !== 'DarkroomError') return renderError(toFailure(error));
  const { code, message, retryable, advice, details } = error as Error & Readonly<Record<string, unknown>>;
  return { error: { code, message, retryable, advice, ...(details === undefined ? {} : { details }) } } as Told;
}
