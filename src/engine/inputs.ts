// Input pictures: uploads, earlier outputs, data: URLs and https: URLs → references, and references → local files.

import type { InputFile } from '../backends/backend.ts';
import type { Caller } from '../domain/caller.ts';
import { GatewayError } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import type { InputRef } from '../domain/params.ts';
import { dataUrlToStream, fetchInput } from '../media/media.ts';
import type { Upload } from '../store/store.ts';
import { complaintAbout, publicAddress } from '../system/system.ts';
import { keepInput } from './files.ts';
import type { Rooms } from './rooms.ts';

const ACCEPT_MS = 20_000;

/** What the caller named → a reference. https: URLs are only checked here and fetched when the attempt starts. */
export async function resolveInput(
  rooms: Rooms,
  caller: Caller,
  path: string,
  source: string | undefined,
): Promise<InputRef | null> {
  if (source === undefined) return null;
  if (source.startsWith('upl_')) return fromUpload(rooms, caller, path, source);
  if (source.startsWith('gen_')) return fromOutput(rooms, caller, path, source);
  if (/^data:/i.test(source)) return fromData(rooms, caller, path, source);
  refuseUrl(path, source, rooms.settings.allowPrivate);
  return { kind: 'url', url: source };
}

async function fromData(rooms: Rooms, caller: Caller, path: string, url: string): Promise<InputRef> {
  try {
    const kept = await keepInput(rooms, caller.workspace.id, dataUrlToStream(url), AbortSignal.timeout(ACCEPT_MS));
    return blobOf(kept);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.failure.code !== 'invalid_request') throw error;
    throw refused(path, error.message);
  }
}

async function fromUpload(rooms: Rooms, caller: Caller, path: string, id: string): Promise<InputRef> {
  const upload = await rooms.store.files.upload(caller.workspace.id, id, rooms.system.clock.now());
  if (upload === null)
    throw refused(path, `there is no upload ${id}; uploads are kept for 24 hours after their last use`);
  return blobOf(upload);
}

const blobOf = ({ blob, sha256, mediaType, width, height, bytes }: Upload) =>
  ({ kind: 'blob', blob, sha256, mediaType, width, height, bytes }) as const;

async function fromOutput(rooms: Rooms, caller: Caller, path: string, name: string): Promise<InputRef> {
  const [id, index = '0'] = name.split('/');
  const g = await rooms.store.generations.get(id as string);
  const output =
    g?.workspaceId === caller.workspace.id && g.state.status === 'succeeded'
      ? g.state.outputs[Number(index)]
      : undefined;
  if (output === undefined || output.kind !== 'image' || output.width === null || output.height === null) {
    throw refused(path, `there is no finished picture ${name}`);
  }
  if (g && (await rooms.store.files.swept(g.id))) throw refused(path, `the files of ${id} were swept`);
  const { blob, sha256, mediaType, width, height, bytes } = output;
  return { kind: 'blob', blob, sha256, mediaType, width, height, bytes };
}

/** Refuses an address that is private by its very text; names are checked again at every connection. */
export function refuseUrl(path: string, url: string, allowPrivate: readonly string[]): void {
  const why = complaintAbout(url, publicAddress(allowPrivate));
  if (why !== null) throw refused(path, why);
}

const refused = (path: string, message: string) =>
  new GatewayError('invalid_request', `${path}: ${message}`, { details: [{ path, message }] });

/** References → verified local files for a backend. Fetches https: URLs now. */
export async function openInputs(
  rooms: Rooms,
  { workspaceId, params }: Pick<Generation, 'workspaceId' | 'params'>,
  signal: AbortSignal,
): Promise<readonly InputFile[]> {
  const wanted = [
    ['init_image', params.initImage],
    ['mask', params.mask],
  ] as const;
  const files: InputFile[] = [];
  for (const [role, ref] of wanted) {
    if (ref === null) continue;
    const blob =
      ref.kind === 'blob'
        ? ref
        : blobOf(await keepInput(rooms, workspaceId, await fetchInput(rooms.system.http, ref.url, signal), signal));
    const { mediaType, sha256, bytes } = blob;
    files.push({ role, path: await rooms.media.blobs.path(blob.blob), mediaType, sha256, bytes });
  }
  return files;
}
