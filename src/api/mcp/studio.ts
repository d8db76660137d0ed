// What the tools need of a gateway, in the words of the wire, so that the same tools serve agents at /mcp (from the
// engine) and on stdio (over HTTP). The client of `client/` is all but one as it stands.

import type { CreditsBody } from '../../contract/credits.ts';
import type { GenerationBody, GenerationRequest } from '../../contract/generations.ts';
import type { PageBody } from '../../contract/lists.ts';
import type { ModelBody } from '../../contract/models.ts';
import type { Frame } from '../../contract/socket.ts';

export interface Studio {
  /** The answer also says what is left of the credits. */
  submit(request: GenerationRequest): Promise<GenerationBody & { readonly replayed: boolean }>;
  /** `wait`: seconds to hold the answer until it is final. An abort ends the holding, never the generation. */
  get(id: string, options?: { readonly wait?: number; readonly signal?: AbortSignal }): Promise<GenerationBody>;
  list(query: StudioQuery): Promise<PageBody<GenerationBody>>;
  /** `whileQueued`: not if it has begun meanwhile, where that can be told in one step. */
  cancel(id: string, options?: { readonly whileQueued?: true }): Promise<GenerationBody>;
  credits(): Promise<CreditsBody>;
  models(): Promise<readonly ModelBody[]>;
  /** Progress of these generations, from now until the signal aborts; other frames may come too. */
  watch(options: { readonly ids: readonly string[]; readonly signal: AbortSignal }): AsyncIterable<Frame>;
  /** The bytes behind a link of a generation. */
  download(url: string): Promise<Response>;
}

export interface StudioQuery {
  readonly limit: number;
  readonly cursor?: string;
  /** Several with commas between. */
  readonly status?: string;
  readonly model?: string;
  readonly batch_id?: string;
  readonly since?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}
