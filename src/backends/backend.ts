// How to speak to one kind of server: probe it, run one generation, resume one, cancel one. A Connection is one
// node's; it may keep a socket open. Nothing here knows about stores, credits or other nodes.
//
// A run is an async iterator that the engine pulls. The order is the contract:
//   intent    the reference under which work is *about to be* submitted. The engine stores it durably before it pulls
//             again, and only then may the backend send anything that costs GPU time. A run that was killed in between
//             is resumed by that reference.
//             Where nothing is submitted anywhere, neither this nor the next is said.
//   accepted  the server has it (with a better reference, where the server chose one).
//   progress / preview   decoration, droppable. Fractions never fall.
//   trouble   why it cannot be said how the work stands, for as long as it lasts. Should time run out meanwhile, this is why.
//   rendered  the node is free for the next render. It waits for no download.
//   file      one result, before or after that: as soon as it can be had. `open` may be called again after a broken
//             download; it never renders again.
// Failures are thrown as GatewayError; an abort rethrows signal.reason.

import type { Readable } from 'node:stream';
import { type Failure, GatewayError } from '../domain/failure.ts';
import type { RemoteRef } from '../domain/generation.ts';
import type { BackendKind, Kind, Recipe, Route } from '../domain/model.ts';
import type { Given, NodeReport, NodeSpec } from '../domain/node.ts';
import type { Params } from '../domain/params.ts';
import type { Bytes, GenerationId } from '../domain/units.ts';
import type { System } from '../system/system.ts';

/** An input picture as a local file, verified by media. */
export interface InputFile {
  readonly role: 'init_image' | 'mask';
  readonly path: string;
  readonly mediaType: string;
  readonly sha256: string;
  readonly bytes: Bytes;
}

/** One attempt's work order. */
export interface Job {
  readonly id: GenerationId;
  /** 1 for the first attempt. */
  readonly attempt: number;
  readonly kind: Kind;
  readonly route: Route;
  /** comfyui only. */
  readonly recipe: Recipe | null;
  readonly params: Params;
  readonly files: readonly InputFile[];
  /** Should the node send previews while it works? The engine does not ask for them yet. */
  readonly previews: boolean;
}

export interface RemoteFile {
  /** The node's own name of it; a hint only. */
  readonly name: string;
  /** What the node says it is; media sniffs the bytes. */
  readonly mediaType: string | null;
  /** The seed it was made with, where that is not told by its place among the files (others were withheld). */
  readonly seed?: number;
  /** Opens the bytes. May be called again after a failure. Throws GatewayError('node_lost') when it is not to be had. */
  open(signal: AbortSignal): Promise<Readable>;
}

/** False: the reference itself says that nothing was asked for under it, or that all was refused; whoever understands the rest may be gone. */
export const wasAsked = ({ asked }: RemoteRef): boolean => asked !== false;
/** The route's name of the model that it was asked for; null: the reference does not say. */
export const modelIn = ({ model }: RemoteRef): string | null => (typeof model === 'string' ? model : null);

/** The node would not take the job, or (`node_lost`) could not be reached to be asked: nothing ran. */
export class Refusal extends GatewayError {}

export type RunEvent =
  | { readonly type: 'intent'; readonly remote: RemoteRef }
  | { readonly type: 'accepted'; readonly remote: RemoteRef }
  /** fraction 0…1 of the whole run; message like "loading model", "denoising step 32/50", "decoding". */
  | { readonly type: 'progress'; readonly fraction: number; readonly message: string }
  | { readonly type: 'preview'; readonly mediaType: string; readonly bytes: Buffer }
  | { readonly type: 'warning'; readonly message: string }
  /** Null: it is over. */
  | { readonly type: 'trouble'; readonly failure: Failure | null }
  | { readonly type: 'rendered' }
  | { readonly type: 'file'; readonly file: RemoteFile };

export interface Connection {
  /** One look at the node: who it is, what is installed. Throws GatewayError('node_lost', why) when unreachable or not what its kind says. */
  probe(signal: AbortSignal): Promise<NodeReport>;
  /** Runs one job. Breaking off the iteration or aborting stops listening; call `cancel` to stop the work itself. */
  run(job: Job, signal: AbortSignal): AsyncIterable<RunEvent>;
  /** Goes on with what `remote` names: adopts it if the node still has it (running, pending or done); throws GatewayError('node_lost') if it is certainly gone. */
  resume(job: Job, remote: RemoteRef, signal: AbortSignal): AsyncIterable<RunEvent>;
  /** Makes sure the node is not working on it, whatever its state. Resolves when that is so, or throws. Never touches another's work. */
  cancel(remote: RemoteRef, signal: AbortSignal): Promise<void>;
  /** Why it never serves this route with what is given, in words that follow its name; null or absent: it may. */
  refuses?(route: Route, given: Given): string | null;
  /** Does a run's slot-worth of work survive a gateway restart (so that `resume` can succeed)? False while only a probe could tell. */
  readonly resumable: boolean;
  /** What was begun costs money whether we fetch it or not: it is never begun again for a failure of ours. */
  readonly paid?: boolean;
  /** Why the server answers but will never run anything again until it is restarted; null or absent: nothing of the kind was seen. */
  readonly wedged?: string | null;
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly spec: NodeSpec;
  readonly system: System;
  /** A directory for this connection's temporary files; exists, and is swept at start. */
  readonly scratch: string;
}

export type Connect = (options: ConnectOptions) => Connection;

/** The table of kinds; composed in `main.ts` so that backends do not know each other. */
export type Backends = Readonly<Record<BackendKind, Connect>>;
