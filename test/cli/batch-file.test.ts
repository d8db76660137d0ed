// A shot list before anything is sent: what is read, what is refused and where, and by which key each shot is known.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { readRows, sayFaults } from '../../src/cli/batch-file.ts';
import { listItems } from '../../src/cli/batch-items.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const items = (name: string, text: string, defaults = {}, key: string[] | null = null) =>
  listItems(readRows(name, bytes(text)), defaults, key);
const requests = (name: string, text: string) =>
  items(name, text).items.map(({ request: { idempotency_key: _key, ...request } }) => request);
const sha = (text: string) => createHash('sha256').update(text).digest('hex');

describe('a JSONL file', () => {
  it('is one request per line; other fields become metadata, blank lines are skipped', () => {
    const text =
      '{"model":"sketch","prompt":"a","seed":7,"sku":"A1","hero":true}\n\n{"prompt":"b","metadata":{"x":1},"y":2}\n';
    const { items: list, faults } = items('shots.jsonl', text);
    expect(faults).toEqual([]);
    expect(list.map((i) => i.line)).toEqual([1, 3]);
    expect(requests('shots.jsonl', text)).toEqual([
      { model: 'sketch', prompt: 'a', seed: 7, metadata: { sku: 'A1', hero: true } },
      { prompt: 'b', metadata: { x: 1, y: 2 } },
    ]);
  });
  it('may have a byte order mark and the line ends of any system', () => {
    const plain = items('s.jsonl', '{"prompt":"a"}\n{"prompt":"b"}\n').items;
    expect(items('s.jsonl', '\uFEFF{"prompt":"a"}\r\n{"prompt":"b"}\r\n').items).toEqual(plain);
  });
  it('takes dotted names, and leaves out what is null', () => {
    expect(requests('s.jsonl', '{"prompt":"a","output.format":"webp","metadata.ticket":"T-1","seed":null}')).toEqual([
      { prompt: 'a', output: { format: 'webp' }, metadata: { ticket: 'T-1' } },
    ]);
  });
  it('tells every line that is wrong, with its number and field', () => {
    const { faults } = items(
      'shots.jsonl',
      [
        '{"prompt":"fine","sku":"1"}',
        '{"prompt":"a"',
        '[1]',
        '{"prompt":"a","width":"wide","sku":"2"}',
        '{"prompt":"a","note":{"deep":1},"sku":"3"}',
        `{"prompt":"a","note":"${'x'.repeat(501)}","sku":"4"}`,
        '{"prompt":"a","metadata":{"sku":"5"},"sku":"5"}',
      ].join('\n'),
    );
    const said = sayFaults('shots.jsonl', faults).split('\n');
    expect(said.map((l) => /^shots\.jsonl:\d+: \S+/.exec(l)?.[0] ?? l)).toEqual([
      'shots.jsonl:2: not',
      'shots.jsonl:3: expected',
      'shots.jsonl:4: width:',
      'shots.jsonl:5: metadata.note:',
      'shots.jsonl:6: metadata.note:',
      'shots.jsonl:7: metadata.sku',
      'Nothing was sent.',
    ]);
  });
  it('shows the first twenty wrong lines and how many more there are', () => {
    const { faults } = items('s.jsonl', 'x\n'.repeat(731));
    const said = sayFaults('s.jsonl', faults).split('\n');
    expect(said).toHaveLength(22);
    expect(said[20]).toBe('… and 711 more');
  });
  it('has to be text', () => {
    expect(readRows('s.jsonl', Uint8Array.of(0xff, 0xfe, 0x7b, 0)).faults[0]?.message).toContain('UTF-8');
  });
});

describe('a CSV file', () => {
  it('names its columns in the first line; cells get the type that their field needs', () => {
    const text =
      'sku,prompt,width,height,seed,output.format,loras,inputs.grain,inputs.note,metadata.ticket,approved\n' +
      'A1,"red, on slate",512,768,7,webp,"[{""name"":""film"",""strength"":0.5}]",0.5,007,00123,true\n' +
      'A2,plain,,,,,,,,,\n';
    expect(items('s.csv', text).faults).toEqual([]);
    expect(requests('s.csv', text)).toEqual([
      {
        prompt: 'red, on slate',
        width: 512,
        height: 768,
        seed: 7,
        output: { format: 'webp' },
        loras: [{ name: 'film', strength: 0.5 }],
        inputs: { grain: 0.5, note: '007' },
        metadata: { sku: 'A1', ticket: '00123', approved: 'true' },
      },
      { prompt: 'plain', metadata: { sku: 'A2' } },
    ]);
  });
  it('may be separated by semicolons or tabs, as spreadsheets write them', () => {
    const comma = items('s.csv', 'sku,prompt,seed\nA1,a,1\n').items;
    expect(items('s.csv', '\uFEFFsku;prompt;seed\r\nA1;a;1\r\n').items).toEqual(comma);
    expect(items('s.tsv', 'sku\tprompt\tseed\nA1\ta\t1\n').items).toEqual(comma);
  });
  it('is told apart by its first line that says anything, a .tsv by its name', () => {
    expect(items('s.csv', '\n\nsku;prompt\nA1;a, b\n').items[0]?.request.prompt).toBe('a, b');
    expect(items('s.tsv', 'sku\tprompt\tnote, internal\nA1\ta, b\tx\n').items[0]?.request.prompt).toBe('a, b');
  });
  it('counts lines as an editor does, over quoted line ends and blank lines', () => {
    const { items: list, faults } = items('s.csv', 'sku,prompt,seed\r\nA,"two\r\nlines",1\r\n\r\nB,b,x\r\nC,c,3\r\n');
    expect(list.map((i) => [i.line, i.request.prompt])).toEqual([
      [2, 'two\nlines'],
      [6, 'c'],
    ]);
    expect(faults).toMatchObject([{ line: 5, message: expect.stringContaining('seed') }]);
  });
  it.each([
    ['an unclosed quote', 'sku,prompt\nA,"x\nB,y\n', 'not CSV'],
    ['more cells than columns', 'sku,prompt\nA,red, on slate\n', '3 cells under 2 columns'],
    ['a column without a name', 'sku,,prompt\nA,b,c\n', 'column 2 has no name'],
    ['a column named twice', 'sku,sku\nA,b\n', 'sku is there twice'],
  ])('refuses %s', (_what, text, message) => {
    expect(items('s.csv', text).faults[0]?.message).toContain(message);
  });
});

describe('the key of a shot', () => {
  const row = { sku: 'A1', variant: 'red', model: 'sketch', prompt_version: 3, prompt: 'x', seed: 1 };
  it('is the sha256 of its identity fields joined by |', () => {
    const [item] = items('s.jsonl', JSON.stringify(row)).items;
    expect(item?.key).toBe(sha('A1|red|sketch|3'));
    expect(item?.request.idempotency_key).toBe(item?.key);
    expect(item?.label).toBe('A1-red-sketch-3');
  });
  it('uses those identity fields that the file has, the default model included', () => {
    expect(items('s.jsonl', '{"sku":"A1","prompt":"x"}', { model: 'sketch' }).items[0]?.key).toBe(sha('A1|sketch'));
    expect(items('s.jsonl', '{"metadata":{"sku":"A1"},"prompt":"x"}').items[0]?.key).toBe(sha('A1'));
  });
  it('is the same from CSV and from JSONL', () => {
    const csv = 'sku,variant,model,prompt_version,prompt\nA1,red,sketch,3,another\n';
    expect(items('s.csv', csv).items[0]?.key).toBe(sha('A1|red|sketch|3'));
  });
  it('is made of all fields where none names a shot, whatever their order', () => {
    const [a] = items('s.jsonl', '{"model":"sketch","prompt":"x"}').items;
    const [b] = items('s.jsonl', '{"prompt":"x","model":"sketch"}').items;
    const [c] = items('s.jsonl', '{"prompt":"y","model":"sketch"}').items;
    expect(a?.key).toBe(b?.key);
    expect(a?.key).not.toBe(c?.key);
  });
  it('is made of the named columns; one that no line has is refused', () => {
    expect(items('s.jsonl', JSON.stringify(row), {}, ['prompt', 'seed']).items[0]?.key).toBe(sha('x|1'));
    expect(items('s.jsonl', JSON.stringify(row), {}, ['shot']).faults[0]?.message).toContain('sku');
  });
  it('is the one that the file gives', () => {
    expect(items('s.jsonl', '{"prompt":"x","idempotency_key":"mine"}').items[0]?.key).toBe('mine');
  });
  it('cannot be that of another line: both are named, with what to do', () => {
    const { faults } = items('s.jsonl', '{"sku":"1","prompt":"a"}\n{"sku":"2","prompt":"b"}\n{"sku":"1","prompt":"c"}');
    expect(faults).toEqual([{ line: 3, message: expect.stringMatching(/line 1.*--key/) }]);
  });
});

describe('defaults', () => {
  it('hold where a line says nothing', () => {
    const text = '{"prompt":"a","steps":9}\n{"prompt":"b"}';
    expect(
      items('s.jsonl', text, { steps: 4, model: 'm' }).items.map((i) => [i.request.steps, i.request.model]),
    ).toEqual([
      [9, 'm'],
      [4, 'm'],
    ]);
  });
  it('do not mix sizes: a line with an aspect ratio keeps its own', () => {
    const { items: list, faults } = items('s.jsonl', '{"prompt":"a","aspect_ratio":"16:9"}\n{"prompt":"b"}', {
      size: '512x512',
    });
    expect(faults).toEqual([]);
    expect(list.map((i) => [i.request.size, i.request.aspect_ratio])).toEqual([
      [undefined, '16:9'],
      ['512x512', undefined],
    ]);
  });
});

it('ten thousand lines are read in a moment', () => {
  const text = Array.from({ length: 10_000 }, (_, i) =>
    JSON.stringify({ sku: `A${i}`, prompt: `shot ${i}`, seed: i }),
  ).join('\n');
  expect(items('s.jsonl', text).items).toHaveLength(10_000);
});

it.each(['shots.jsonl', 'shots.csv'])('the sample %s can be asked for', async (name) => {
  const bytes = await readFile(new URL(`../../config/examples/${name}`, import.meta.url));
  const { items: list, faults } = listItems(readRows(name, bytes), {}, null);
  expect(faults).toEqual([]);
  expect(list.length).toBeGreaterThan(2);
});
