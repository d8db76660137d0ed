// Results by signed link: no key, one range at a time, cached hard because the bytes behind a link never change.

import { z } from 'zod';
import { failure, GatewayError } from '../../domain/failure.ts';
import type { FileToServe, Gateway } from '../../engine/gateway.ts';
import type { Clock } from '../../system/system.ts';
import { AcceptRanges, ContentRange, ETag, IfNoneMatch, IfRange, RangeHeader } from './headers.ts';
import { type Answer, type Asked, type Route, route } from './route.ts';
import { refusal } from './send.ts';

/** Mail and chat programs append parameters of their own to links. */
const LinkQuery = z.looseObject({
  expires: z
    .string()
    .regex(/^\d{1,12}$/)
    .describe('When the link ends, in seconds since 1970.'),
  signature: z.string().describe('Both come with the link.'),
});
type Link = z.infer<typeof LinkQuery>;

export function outputRoutes(gateway: Gateway, clock: Clock): readonly Route[] {
  const row = (path: string, what: 'output' | 'thumbnail', summary: string) =>
    route({
      method: 'get',
      path,
      tag: 'Outputs',
      summary,
      description: 'Signed, so it needs no key. Supports Range, ETag and HEAD. The link comes from the generation.',
      scope: null,
      query: LinkQuery,
      badQuery: badLink,
      reads: z.object({ Range: RangeHeader, 'If-Range': IfRange, 'If-None-Match': IfNoneMatch }),
      answers: {
        200: { says: 'The file.', headers: z.object({ ETag, 'Accept-Ranges': AcceptRanges }) },
        206: { says: 'A part of it.', headers: z.object({ ETag, 'Content-Range': ContentRange }) },
        304: { says: 'Nothing changed.', headers: z.object({ ETag }) },
        403: 'A bad or expired link.',
        404: 'The file was swept.',
        416: 'The range lies outside the file.',
      },
      run: (asked) => served(gateway, clock, asked, what),
    });
  return [
    row('/v1/outputs/:generation/:index', 'output', 'A result'),
    row('/v1/outputs/:generation/:index/thumbnail', 'thumbnail', 'Its thumbnail'),
  ];
}

async function served(
  gateway: Gateway,
  clock: Clock,
  asked: Asked<Link>,
  what: 'output' | 'thumbnail',
): Promise<Answer> {
  const { generation, index } = asked.params as { generation: string; index: string };
  const { expires, signature } = asked.query;
  if (!/^\d$/.test(index)) throw new GatewayError('not_found', 'There is no such output.');
  const expiresAt = Number(expires) * 1000;
  const file = await gateway.file(generation, Number(index), what, expiresAt, signature);
  const headers = headersOf(file, `${generation}-${index}`, what, expiresAt - clock.now());
  if (matches(asked.headers['if-none-match'], headers.etag)) return { status: 304, headers };
  const range = rangeOf(asked, file.stat.bytes, headers.etag);
  if (range === 'unsatisfiable') return unsatisfiable(file.stat.bytes);
  return asked.request.method === 'HEAD' ? headOf(file, headers, range) : bodyOf(file, headers, range);
}

const badLink = () => new GatewayError('forbidden', 'The link is not valid.');

interface Range {
  readonly start: number;
  readonly end: number;
}

type FileHeaders = Readonly<Record<string, string>> & { readonly etag: string };

function headersOf(file: FileToServe, name: string, what: 'output' | 'thumbnail', freshMs: number): FileHeaders {
  const { mediaType } = file.stat;
  const extension = (mediaType.split('/')[1] ?? 'bin').replace(/[^a-z0-9].*$/, '');
  const suffix = what === 'thumbnail' ? '-thumbnail' : '';
  return {
    'content-type': mediaType,
    'content-disposition': `inline; filename="${name}${suffix}.${extension}"`,
    'x-content-type-options': 'nosniff',
    'accept-ranges': 'bytes',
    'cache-control': `private, max-age=${Math.max(0, Math.floor(freshMs / 1000))}, immutable`,
    etag: `"${file.stat.etag}"`,
  };
}

function rangeOf({ headers, request }: Asked, size: number, etag: string): Range | 'unsatisfiable' | null {
  const condition = headers['if-range'];
  if (headers.range === undefined || (condition !== undefined && condition !== etag)) return null;
  const ranges = request.range(size);
  if (ranges === -1) return 'unsatisfiable';
  const only = Array.isArray(ranges) && ranges.type === 'bytes' && ranges.length === 1 ? ranges[0] : undefined;
  return only ?? null;
}

function unsatisfiable(size: number): Answer {
  const refused = failure('invalid_request', `The range lies outside the file, which has ${size} bytes.`);
  return refusal(refused, 416, { 'content-range': `bytes */${size}` });
}

function headOf({ stat }: FileToServe, headers: FileHeaders, range: Range | null): Answer {
  return { status: range ? 206 : 200, headers: { ...headers, ...lengthsOf(stat.bytes, range) } };
}

async function bodyOf(file: FileToServe, headers: FileHeaders, range: Range | null): Promise<Answer> {
  const stream = await (range ? file.open(range) : file.open());
  return { ...headOf(file, headers, range), stream };
}

function lengthsOf(size: number, range: Range | null): Record<string, string> {
  if (range === null) return { 'content-length': String(size) };
  return {
    'content-length': String(range.end - range.start + 1),
    'content-range': `bytes ${range.start}-${range.end}/${size}`,
  };
}

const matches = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined &&
  (ifNoneMatch === '*' || ifNoneMatch.split(',').some((one) => one.trim().replace(/^W\//, '') === etag));
