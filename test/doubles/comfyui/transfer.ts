// Bytes in and out: /view with its ranges, re-encodings and refusals; the two uploads.

import type { IncomingMessage, ServerResponse } from 'node:http';
import busboy from 'busboy';
import sharp from 'sharp';
import type { Faults } from '../faults.ts';
import { send, sendJson, TooLarge } from '../listener.ts';
import type { FileRef, Files, Folder, StoredFile } from './files.ts';
import type { ComfyUiFault } from './settings.ts';

const FOLDERS: readonly string[] = ['output', 'input', 'temp'];
const MIMES: Readonly<Record<string, string>> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  webp: 'image/webp',
  flac: 'audio/flac',
  mp4: 'video/mp4',
  webm: 'video/webm',
};
const mimeOf = (name: string) => MIMES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream';

export async function view(
  req: IncomingMessage,
  res: ServerResponse,
  query: URLSearchParams,
  files: Files,
  faults: Faults<ComfyUiFault>,
): Promise<void> {
  const ref = address(query);
  if (typeof ref === 'number') return send(res, ref);
  const file = files.get(ref);
  if (!file || faults.take('view_404')) return send(res, 404);
  if (faults.take('view_html')) {
    return send(res, 200, '<!DOCTYPE html><html><body>Sign in to continue</body></html>', {
      'content-type': 'text/html',
    });
  }
  const encoded = await reencode(file, query);
  if (encoded === null) return send(res, 500, '500 Internal Server Error\n\nServer got itself in trouble');
  const headers = {
    'content-disposition': `filename="${ref.filename}"`,
    'last-modified': new Date(file.modifiedAt).toUTCString(),
    etag: `"${file.modifiedAt.toString(16)}-${sizeOf(encoded).toString(16)}"`,
    'accept-ranges': 'bytes',
    'content-type': encoded.mime,
  };
  if (faults.take('view_truncated')) return truncated(res, encoded, headers);
  const range = /^bytes=(\d+)-(\d*)$/.exec(req.headers.range ?? '');
  if (!range) return send(res, 200, encoded.parts, headers);
  const whole = Buffer.concat([...encoded.parts]);
  const [from, to] = [Number(range[1]), range[2] ? Math.min(Number(range[2]), whole.length - 1) : whole.length - 1];
  if (from > to) return send(res, 416, '', { 'content-range': `bytes */${whole.length}` });
  const part = { ...headers, 'content-range': `bytes ${from}-${to}/${whole.length}` };
  send(res, 206, whole.subarray(from, to + 1), part);
}

const sizeOf = ({ parts }: Pick<StoredFile, 'parts'>) => parts.reduce((sum, part) => sum + part.length, 0);

/** Half of the promised bytes, then the connection is gone. */
function truncated(res: ServerResponse, { parts }: Pick<StoredFile, 'parts'>, headers: Record<string, string>): void {
  const whole = Buffer.concat([...parts]);
  res.writeHead(200, { ...headers, 'content-length': String(whole.length) });
  res.write(whole.subarray(0, Math.floor(whole.length / 2)), () => res.destroy());
}

/** Which file is meant, or the status that refuses the question. */
function address(query: URLSearchParams): FileRef | number {
  const asked = query.get('filename');
  if (asked === null) return 404;
  const [, path = '', marked] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(asked) ?? [];
  const type = marked ?? query.get('type') ?? 'output';
  const subfolder = query.get('subfolder') ?? '';
  if (path === '' || path.startsWith('/') || path.includes('..') || !FOLDERS.includes(type)) return 400;
  if (subfolder.startsWith('/') || subfolder.split('/').includes('..')) return 403;
  return { filename: path.split('/').at(-1) ?? '', subfolder, type: type as Folder };
}

async function reencode(file: StoredFile, query: URLSearchParams): Promise<StoredFile | null> {
  const [format, quality] = (query.get('preview') ?? '').split(';');
  const channel = query.get('channel');
  if (!format && (channel === null || channel === 'rgba')) return file;
  try {
    let image = sharp(Buffer.concat([...file.parts]));
    if (channel === 'rgb') image = image.removeAlpha();
    if (channel === 'a') image = image.ensureAlpha().extractChannel('alpha');
    const kind = format === 'jpeg' || format === 'webp' ? format : format ? 'webp' : 'png';
    const encoded = kind === 'png' ? image.png() : image.toFormat(kind, { quality: Number(quality ?? 90) || 90 });
    return { ...file, parts: [await encoded.toBuffer()], mime: `image/${kind}` };
  } catch {
    return null;
  }
}

interface Form {
  readonly fields: Readonly<Record<string, string>>;
  readonly file: { readonly name: string | null; readonly bytes: Buffer } | null;
}

/** POST /upload/image. */
export async function uploadImage(req: IncomingMessage, res: ServerResponse, files: Files, limit: number) {
  const form = await readForm(req, limit);
  const { type = 'input', subfolder = '', overwrite } = form?.fields ?? {};
  if (!form?.file) return send(res, 400);
  if (!FOLDERS.includes(type) || form.file.name === null) {
    return send(res, 500, '500 Internal Server Error\n\nServer got itself in trouble');
  }
  if (subfolder.split('/').includes('..') || subfolder.startsWith('/')) return send(res, 400);
  const ref = { filename: form.file.name, subfolder, type: type as Folder };
  const stored = files.upload(ref, form.file.bytes, mimeOf(ref.filename), overwrite === 'true' || overwrite === '1');
  sendJson(res, 200, { name: stored.filename, subfolder: stored.subfolder, type: stored.type });
}

/** POST /upload/mask: the mask's alpha on the original. A missing original is not noticed: 200, and nothing is written. */
export async function uploadMask(req: IncomingMessage, res: ServerResponse, files: Files, limit: number) {
  const form = await readForm(req, limit);
  if (!form?.file) return send(res, 400);
  const original = form.fields.original_ref;
  if (original === undefined) return send(res, 500, '500 Internal Server Error\n\nServer got itself in trouble');
  const meant = JSON.parse(original) as Partial<FileRef>;
  const source = files.get({
    filename: meant.filename ?? '',
    subfolder: meant.subfolder ?? '',
    type: meant.type ?? 'output',
  });
  const { type = 'input', subfolder = '' } = form.fields;
  const ref = { filename: form.file.name ?? 'mask.png', subfolder, type: type as Folder };
  if (source) {
    const alpha = await sharp(form.file.bytes).ensureAlpha().extractChannel('alpha').toBuffer();
    const joined = await sharp(Buffer.concat([...source.parts]))
      .removeAlpha()
      .joinChannel(alpha)
      .png()
      .toBuffer();
    files.put(ref, { parts: [joined], mime: 'image/png' });
  }
  sendJson(res, 200, { name: ref.filename, subfolder, type });
}

/** null when it is no multipart body. Rejects with TooLarge. */
function readForm(req: IncomingMessage, limit: number): Promise<Form | null> {
  if (Number(req.headers['content-length'] ?? 0) > limit) throw new TooLarge();
  if (!req.headers['content-type']?.startsWith('multipart/form-data')) return Promise.resolve(null);
  return new Promise((resolve, reject) => {
    const fields: Record<string, string> = {};
    let file: Form['file'] = null;
    const parser = busboy({ headers: req.headers, limits: { fileSize: limit }, preservePath: false });
    parser.on('field', (name, value) => {
      fields[name] = value;
    });
    parser.on('file', (_name, stream, { filename }) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('limit', () => reject(new TooLarge()));
      stream.on('end', () => {
        file = { name: filename || null, bytes: Buffer.concat(chunks) };
      });
    });
    parser.on('close', () => resolve({ fields, file }));
    parser.on('error', reject);
    req.pipe(parser);
  });
}
