// Where a file came from, in the forms that files carry: JSON, the "parameters" text that picture tools read, an XMP
// packet and an EXIF block. Pure text building; the containers put it into place.

/** What is written into the file and beside it. */
export interface Provenance {
  readonly generation: string;
  readonly model: string;
  readonly prompt: string;
  readonly negativePrompt: string | null;
  readonly seed: number;
  readonly steps: number | null;
  readonly guidance: number | null;
  readonly node: string;
  readonly workflowHash: string | null;
  readonly createdAt: string;
  readonly software: string;
}

/** The names used outside the house. */
export function provenanceRecord(p: Provenance): Readonly<Record<string, string | number | null>> {
  return {
    generation: p.generation,
    model: p.model,
    prompt: p.prompt,
    negative_prompt: p.negativePrompt,
    seed: p.seed,
    steps: p.steps,
    guidance: p.guidance,
    node: p.node,
    workflow_hash: p.workflowHash,
    created_at: p.createdAt,
    software: p.software,
  };
}

/** JSON in plain ASCII, so that it fits where only Latin-1 or ASCII may stand. */
export function provenanceJson(p: Provenance): string {
  const escaped = (c: string) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(provenanceRecord(p)).replace(/[\u007f-\uffff]/g, escaped);
}

/** The text that Automatic1111 writes and most picture tools read. */
export function parametersText(p: Provenance): string {
  const settings = [
    p.steps === null ? null : `Steps: ${p.steps}`,
    p.guidance === null ? null : `CFG scale: ${p.guidance}`,
    `Seed: ${p.seed}`,
    `Model: ${p.model}`,
  ];
  const negative = p.negativePrompt === null ? [] : [`Negative prompt: ${p.negativePrompt}`];
  return [p.prompt, ...negative, settings.filter((s) => s !== null).join(', ')].join('\n');
}

const XML_ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function xmlText(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: XML 1.0 has no way to write these, not even escaped.
  const legal = value.toWellFormed().replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '');
  return legal.replace(/[&<>"]/g, (c) => XML_ESCAPES[c] as string).replace(/[\t\n\r]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** An XMP packet: the common names where there are some (and IPTC's mark of a generated picture), ours for the rest. */
export function xmpPacket(p: Provenance): string {
  const ours = Object.entries(provenanceRecord(p)).filter(([, value]) => value !== null);
  const attributes = [
    ['xmp:CreatorTool', p.software],
    ['xmp:CreateDate', p.createdAt],
    ['Iptc4xmpExt:DigitalSourceType', 'http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia'],
    ...ours.map(([name, value]) => [`darkroom:${name}`, String(value)]),
  ].map(([name, value]) => ` ${name}="${xmlText(value as string)}"`);
  return [
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>',
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">',
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"',
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:darkroom="urn:darkroom:provenance:1"',
    ...attributes,
    '/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>',
  ].join('');
}

const ASCII = 2;
const SHORT = 3;

/** A TIFF block with one directory: description (our JSON), orientation (the picture's own), software. */
export function exifBlock(p: Provenance, orientation: number): Buffer {
  const turn = Buffer.alloc(4);
  turn.writeUInt16LE(orientation);
  const entries = [
    { tag: 0x010e, type: ASCII, data: Buffer.from(`${provenanceJson(p)}\0`, 'latin1') },
    ...(orientation === 1 ? [] : [{ tag: 0x0112, type: SHORT, data: turn }]),
    { tag: 0x0131, type: ASCII, data: Buffer.from(`${p.software}\0`, 'latin1') },
  ];
  const directory = Buffer.alloc(2 + entries.length * 12 + 4);
  directory.writeUInt16LE(entries.length);
  const values: Buffer[] = [];
  let offset = 8 + directory.length;
  for (const [i, { tag, type, data }] of entries.entries()) {
    const at = 2 + i * 12;
    directory.writeUInt16LE(tag, at);
    directory.writeUInt16LE(type, at + 2);
    directory.writeUInt32LE(type === SHORT ? 1 : data.length, at + 4);
    if (data.length <= 4) {
      data.copy(directory, at + 8);
      continue;
    }
    directory.writeUInt32LE(offset, at + 8);
    const even = data.length % 2 === 0 ? data : Buffer.concat([data, Buffer.alloc(1)]);
    values.push(even);
    offset += even.length;
  }
  return Buffer.concat([Buffer.from('49492a0008000000', 'hex'), directory, ...values]);
}
