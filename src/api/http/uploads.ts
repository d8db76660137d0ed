// Input pictures: multipart or the raw bytes, streamed through and never held. The first file part counts; the gateway
// sniffs what it is, whatever the headers say.

import { finished, Readable } from 'node:stream';
import busboy from 'busboy';
import type { Request } from 'express';
import { MAX_UPLOAD_BYTES, renderUpload, UploadBody } from '../../contract/uploads.ts';
import { GatewayError } from '../../domain/failure.ts';
import type { Gateway } from '../../engine/gateway.ts';
import { json, type Route, route } from './route.ts';

/** Room for boundaries and part headers around the file. */
const MULTIPART_ROOM = 64 * 1024;

export function uploadRoutes(gateway: Gateway): readonly Route[] {
  return [
    route({
      method: 'post',
      path: '/v1/uploads',
      tag: 'Uploads',
      summary: 'Upload a picture',
      description: 'multipart/form-data with one file, or the bytes as the body. At most 64 MB and 64 megapixels.',
      scope: 'generate',
      file: true,
      answers: { 201: UploadBody },
      newWork: true,
      async run({ caller, request, signal }) {
        const bytes = await bytesOf(request);
        try {
          return json(renderUpload(await gateway.upload(caller, bounded(bytes), signal)), 201);
        } finally {
          bytes.resume();
        }
      },
    }),
  ];
}

const tooLarge = () => new GatewayError('too_large', `The file is larger than ${MAX_UPLOAD_BYTES} bytes.`);

async function bytesOf(request: Request): Promise<Readable> {
  const multipart = /^multipart\/form-data/i.test(request.headers['content-type'] ?? '');
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > MAX_UPLOAD_BYTES + (multipart ? MULTIPART_ROOM : 0)) throw tooLarge();
  return multipart ? firstFile(request) : request;
}

/**
 * The stream of the first file part. Whatever follows it is read and dropped. A form may break at any time, also before
 * its file is read and after its reader has let go: somebody always listens.
 */
function firstFile(request: Request): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const form = parserOf(request);
    form.on('file', (_field, file) => resolve(file.on('error', heard)));
    form.on('error', (error: Error) => form.destroy(error)); // busboy complains of part headers and goes on
    form.on('close', () => reject(malformed(form.errored))); // without effect once there is a file
    finished(request, { writable: false }, (error) => {
      if (error) form.destroy(error);
    });
    request.pipe(form);
  });
}

/** Whoever reads a broken stream is told by the reading. */
const heard = () => {};

function parserOf(request: Request): busboy.Busboy {
  const limits = { files: 1, fields: 20, fieldSize: 10_000, fileSize: MAX_UPLOAD_BYTES + 1 };
  try {
    return busboy({ headers: request.headers, limits });
  } catch (cause) {
    throw malformed(cause);
  }
}

const malformed = (cause: unknown) =>
  new GatewayError('invalid_request', 'Expected multipart/form-data with one file part.', { cause });

/**
 * The same bytes; too many end in too_large, a broken form or connection in invalid_request. What is left unread is
 * drained by the door, not destroyed: a form that nobody reads on would hold the connection.
 */
function bounded(bytes: Readable): Readable {
  async function* counted() {
    let size = 0;
    try {
      for await (const chunk of bytes.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > MAX_UPLOAD_BYTES) throw tooLarge();
        yield chunk;
      }
    } catch (error) {
      throw error instanceof GatewayError ? error : malformed(error);
    }
  }
  return Readable.from(counted(), { objectMode: false }).on('error', heard);
}
