// models.yaml and workflows become a catalog, or are refused with the line of every mistake.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findModel, openCatalog, recipeFor, type Snapshot } from '../../src/catalog/catalog.ts';
import { silentLog } from '../../src/system/system.ts';
import { ManualClock } from '../harness/manual-clock.ts';
import { catalogFiles, GRAPH, MODELS, SLOTS, TINY } from './files.ts';

async function load(models: string, workflows: Readonly<Record<string, string>> = TINY): Promise<Snapshot> {
  using files = catalogFiles(models, workflows);
  const catalog = await openCatalog({
    models: files.models,
    workflows: [files.workflows],
    clock: new ManualClock(),
    log: silentLog,
    watch: false,
  });
  return catalog.current;
}

const refusal = (models: string, workflows?: Readonly<Record<string, string>>): Promise<string> =>
  load(models, workflows).then(
    () => 'accepted',
    (error: Error) => error.message,
  );

describe('a good catalog', () => {
  test('says what each model costs, takes and is served by', async () => {
    const { models } = await load(MODELS);
    expect(models.get('glow')).toMatchObject({
      name: 'glow',
      price: { perOutput: 1500, perStep: 0 },
      limits: { maxPixels: 1_048_576, multipleOf: 16, maxN: 4, maxSteps: 150 },
      defaults: { width: 1024, height: 1024, steps: null },
      routes: [{ backend: 'comfyui', workflow: 'tiny', checkpoint: 'base.safetensors', labels: [] }],
    });
  });

  test('knows a model by its aliases', async () => {
    const snapshot = await load(MODELS);
    expect(findModel(snapshot, 'shine')?.id).toBe('glow');
    expect(findModel(snapshot, 'dull')).toBeUndefined();
  });

  test('sums the parts of a composed price', async () => {
    const { models } = await load(
      MODELS.replace('price: 1.5', 'price: {per_output: 1, per_step: 0.001, per_node_second: 2}'),
    );
    expect(models.get('glow')?.price).toEqual({
      perOutput: 1000,
      perMegapixel: 0,
      perStep: 1,
      perSecond: 0,
      perNodeSecond: 2000,
    });
  });

  test('reads a recipe with slots, LoRA point, outputs, classes and the hash of the graph file', async () => {
    const recipe = (await load(MODELS)).recipes.get('tiny');
    expect(recipe?.slots.find((s) => s.name === 'twice')).toMatchObject({
      type: 'boolean',
      default: false,
      fills: [['3', 'twice']],
    });
    expect(recipe?.slots.find((s) => s.name === 'prompt')).toMatchObject({ type: 'string', fills: [['2', 'text']] });
    expect(recipe?.loras).toEqual({ model: ['1', 0], clip: ['1', 1] });
    expect(recipe?.outputs).toEqual(['9']);
    expect(recipe?.classes).toContain('Glow');
    expect(recipe?.hash).toMatch(/^[0-9a-f]{64}$/);
    expect(recipe?.files).toEqual([]);
  });

  test('names the files a graph asks for itself', async () => {
    const fixed = { 'tiny.json': JSON.stringify(GRAPH), 'tiny.slots.yaml': SLOTS.replace(/ {2}checkpoint.*\n/, '') };
    const { recipes } = await load(MODELS, fixed);
    expect(recipes.get('tiny')?.files).toEqual([['CheckpointLoaderSimple', 'ckpt_name', 'base.safetensors']]);
  });

  test('does not ask a node for a file that every request or route names anew', async () => {
    const given = SLOTS.replace('checkpoint: {', 'base: {type: string, ').replace(
      'amount: {',
      'file: {type: string, default: b.pth, fills: [1.inputs.other]}\n  amount: {',
    );
    const graph = JSON.stringify(GRAPH).replace('"ckpt_name"', '"other":"a.pth","ckpt_name"');
    const models = MODELS.replace(', checkpoint: base.safetensors', '');
    const { recipes } = await load(models, { 'tiny.json': graph, 'tiny.slots.yaml': given });
    expect(recipes.get('tiny')?.files).toEqual([['CheckpointLoaderSimple', 'other', 'b.pth']]);
  });

  test('leaves a graph alone that nobody has declared slots for', async () => {
    expect((await load(MODELS, { ...TINY, 'draft.json': '{}' })).recipes.has('draft')).toBe(false);
  });

  test('takes a workflow from the first directory that has it', async () => {
    using own = catalogFiles(MODELS, { ...TINY, 'tiny.slots.yaml': SLOTS.replace('default: 20', 'default: 33') });
    using shipped = catalogFiles(MODELS, { ...TINY, 'other.json': JSON.stringify(GRAPH), 'other.slots.yaml': SLOTS });
    const missing = join(own.directory, 'none');
    const { current } = await openCatalog({
      models: own.models,
      workflows: [missing, own.workflows, shipped.workflows],
      clock: new ManualClock(),
      log: silentLog,
      watch: false,
    });
    expect([...current.recipes.keys()].sort()).toEqual(['other', 'tiny']);
    expect(current.recipes.get('tiny')?.slots.find((s) => s.name === 'steps')?.default).toBe(33);
  });
});

describe('a bad models.yaml is refused with its line', () => {
  const cases: readonly (readonly [what: string, from: string, to: string, message: RegExp])[] = [
    [
      'an unknown key',
      '    price: 1.5\n',
      '    price: 1.5\n    prise: 2\n',
      /^models\.yaml:6: models\.glow\.prise: expected no such key$/m,
    ],
    [
      'an unknown key inside',
      'max_n: 4',
      'max_m: 4',
      /^models\.yaml:6: models\.glow\.limits\.max_m: expected no such key$/m,
    ],
    [
      'a capability nobody knows',
      '[text-to-image, seed]',
      '[text-to-image, sorcery]',
      /^models\.yaml:4: models\.glow\.capabilities\.1: expected one of text-to-image, /m,
    ],
    ['a price of text', 'price: 1.5', 'price: cheap', /^models\.yaml:5: models\.glow\.price: expected credits/m],
    [
      'a price finer than a thousandth',
      'price: 1.5',
      'price: 1.0005',
      /^models\.yaml:5: models\.glow\.price: expected credits/m,
    ],
    ['a missing price', '    price: 1.5\n', '', /^models\.yaml:2: models\.glow\.price: expected credits/m],
    [
      'a missing kind',
      '    kind: image\n    capabilities: [text-to-image, seed]',
      '    capabilities: [seed]',
      /^models\.yaml:2: models\.glow\.kind: expected one of image, video, audio$/m,
    ],
    [
      'a fallback nobody knows',
      'fallback: [glow]',
      'fallback: [shine]',
      /^models\.yaml:13: models\.sketch\.fallback\.0: expected the id of a model, not "shine"$/m,
    ],
    [
      'a workflow nobody has',
      'workflow: tiny',
      'workflow: huge',
      /^models\.yaml:8: models\.glow\.routes\.0\.workflow: expected one of the workflows tiny, not "huge"$/m,
    ],
    [
      'a missing checkpoint',
      ', checkpoint: base.safetensors',
      '',
      /^models\.yaml:8: models\.glow\.routes\.0\.workflow: expected a checkpoint beside workflow tiny$/m,
    ],
    [
      'a hosted route without the remote id',
      '{backend: sketch}',
      '{backend: fal}',
      /^models\.yaml:14: models\.sketch\.routes\.0: expected remote: /m,
    ],
    [
      'an alias to nowhere',
      'shine: glow',
      'shine: gloom',
      /^models\.yaml:15: aliases\.shine: expected the id of a model, not "gloom"$/m,
    ],
    [
      'an alias over a model',
      'shine: glow',
      'sketch: glow',
      /^models\.yaml:15: aliases\.sketch: expected a name that is not a model's own$/m,
    ],
    [
      'a default beyond the limits',
      'max_n: 4}',
      'max_n: 4}\n    defaults: {width: 2048, height: 1024}',
      /^models\.yaml:7: models\.glow\.defaults: expected width × height within/m,
    ],
    [
      'a default off the grid',
      'max_n: 4}',
      'max_n: 4}\n    defaults: {width: 1000, height: 1024}',
      /^models\.yaml:7: models\.glow\.defaults\.width: expected a multiple of 16$/m,
    ],
    [
      'a default length that is not made',
      'max_n: 4}',
      'max_n: 4, seconds: [5, 9]}\n    defaults: {inputs: {seconds: 6}}',
      /^models\.yaml:7: models\.glow\.defaults\.inputs\.seconds: expected 5 or 9 of limits\.seconds$/m,
    ],
    [
      'a default input without a slot',
      'max_n: 4}',
      'max_n: 4}\n    defaults: {inputs: {colour: 1}}',
      /expected workflow tiny to declare the slot "colour"/,
    ],
    [
      'a date that is none',
      'price: 1.5',
      'price: 1.5\n    retires: soon',
      /^models\.yaml:6: models\.glow\.retires: expected a date like 2027-01-31$/m,
    ],
    ['a model twice', '  sketch:\n', '  glow:\n', /^models\.yaml:9: expected valid YAML: /m],
    [
      'YAML that breaks off',
      'aliases: {shine: glow}',
      'aliases: {shine: glow',
      /^models\.yaml:1[56]: expected valid YAML: /m,
    ],
  ];
  test.each(cases)('%s', async (_, from, to, message) => {
    expect(MODELS).toContain(from);
    expect(await refusal(MODELS.replace(from, to))).toMatch(message);
  });

  test('a fallback must make the same kind of thing', async () => {
    const mixed = MODELS.replace('  sketch:\n    kind: image', '  sketch:\n    kind: audio');
    expect(await refusal(mixed)).toMatch(
      /^models\.yaml:13: models\.sketch\.fallback\.0: expected a model that makes audio too; glow makes image$/,
    );
  });

  test('mistakes of shape come in the order of the file, whatever order they are found in', async () => {
    const wrong = MODELS.replace('models:', 'extra: 1\nmodels:').replace(
      '    kind: image\n',
      '    colour: 1\n    kind: imago\n',
    );
    expect((await refusal(wrong)).split('\n').map((line) => line.split(':')[1])).toEqual(['1', '4', '5']);
  });

  test('every mistake is told, in the order of the file', async () => {
    const message = await refusal(
      MODELS.replace('workflow: tiny', 'workflow: huge').replace('shine: glow', 'shine: gloom'),
    );
    expect(message.split('\n').map((line) => line.split(':')[1])).toEqual(['8', '15']);
  });

  test('a missing file is named', async () => {
    const opening = openCatalog({
      models: '/nowhere/models.yaml',
      workflows: [],
      clock: new ManualClock(),
      log: silentLog,
      watch: false,
    });
    await expect(opening).rejects.toThrow('models.yaml:1: expected a readable file (ENOENT)');
  });
});

describe('a bad workflow is refused with its line', () => {
  const slots = (from: string, to: string) => ({ ...TINY, 'tiny.slots.yaml': SLOTS.replace(from, to) });
  const cases: readonly (readonly [what: string, workflows: Readonly<Record<string, string>>, message: RegExp])[] = [
    [
      'broken JSON',
      { ...TINY, 'tiny.json': '{"1": {\n  "class_type": }}' },
      /^tiny\.json:2:17: expected valid JSON, found "}"$/m,
    ],
    [
      'JSON that breaks off',
      { ...TINY, 'tiny.json': '{"1": {\n  "class' },
      /^tiny\.json:2:9: expected valid JSON, but it ends here$/m,
    ],
    [
      "the editor's own format",
      { ...TINY, 'tiny.json': '{"nodes": [], "links": []}' },
      /^tiny\.json:1: expected the API format.*Export \(API\)/m,
    ],
    [
      'a node without a class',
      { ...TINY, 'tiny.json': '{"1": {"inputs": {}}}' },
      /^tiny\.json:1: 1\.class_type: expected a class_type$/m,
    ],
    [
      'a dangling link',
      { ...TINY, 'tiny.json': JSON.stringify(GRAPH).replace('["2",0]', '["5",0]') },
      /^tiny\.json:1: 3\.inputs\.text: expected a link to a node of the graph$/m,
    ],
    [
      'a slot that fills no node',
      slots('2.inputs.text', '7.inputs.text'),
      /^tiny\.slots\.yaml:2: slots\.prompt\.fills\.0: expected a node of the graph, not "7"$/m,
    ],
    [
      'a slot that fills no input',
      slots('2.inputs.text', '2.inputs.words'),
      /slots\.prompt\.fills\.0: expected an input of node 2 \(CLIPTextEncode: text, clip\), not "words"$/m,
    ],
    [
      'a default outside the range',
      slots('default: 0.5', 'default: 5'),
      /^tiny\.slots\.yaml:5: slots\.amount\.default: expected at most 1$/m,
    ],
    [
      'a choice outside the choices',
      slots('default: soft', 'default: loud'),
      /slots\.mode\.default: expected one of soft, hard$/m,
    ],
    [
      'a request field of another type',
      slots('prompt: {', 'prompt: {type: number, '),
      /slots\.prompt\.type: expected string, as the request field "prompt" is$/m,
    ],
    [
      'an output that is no node',
      slots('outputs: ["9"]', 'outputs: ["8"]'),
      /^tiny\.slots\.yaml:9: outputs\.0: expected a node of the graph, not "8"$/m,
    ],
    ['a LoRA point that is no node', slots('"1.0"', '"4.0"'), /loras\.model: expected a node of the graph, not "4"$/m],
    [
      'an unknown key',
      slots('outputs:', 'output: 1\noutputs:'),
      /^tiny\.slots\.yaml:9: output: expected no such key$/m,
    ],
    [
      'no declaration at all',
      { 'tiny.json': JSON.stringify(GRAPH) },
      /not "tiny" \(tiny\.json has no tiny\.slots\.yaml beside it\)$/m,
    ],
    [
      'a graph too big to be one',
      { ...TINY, 'tiny.json': ' '.repeat(8 * 1024 * 1024 + 1) },
      /^tiny\.json:1: expected at most 8388608 bytes/m,
    ],
  ];
  test.each(cases)('%s', async (_, workflows, message) => {
    expect(await refusal(MODELS, workflows)).toMatch(message);
  });
});

test('one route runs another workflow when a picture comes', async () => {
  const picture = { ...GRAPH, '5': { class_type: 'LoadImage', inputs: { image: 'x.png' } } };
  const snapshot = await load(MODELS, {
    ...TINY,
    'tiny.slots.yaml': `${SLOTS}variants: {init_image: redo}\n`,
    'redo.json': JSON.stringify(picture),
    'redo.slots.yaml': SLOTS.replace('slots:\n', 'slots:\n  init_image: {required: true, fills: [5.inputs.image]}\n'),
  });
  const route = snapshot.models.get('glow')?.routes[0];
  if (!route) throw new Error('no route');
  const url = { kind: 'url', url: 'https://example.com/a.png' } as const;
  expect(recipeFor(snapshot, route, { initImage: null, mask: null })?.name).toBe('tiny');
  expect(recipeFor(snapshot, route, { initImage: url, mask: null })?.name).toBe('redo');
  expect(recipeFor(snapshot, route, { initImage: url, mask: url })).toBeNull();
});

test('a variant that is not there is refused', async () => {
  const workflows = { ...TINY, 'tiny.slots.yaml': `${SLOTS}variants: {mask: nowhere}\n` };
  expect(await refusal(MODELS, workflows)).toMatch(
    /^models\.yaml:8: .*expected the variant "nowhere" of workflow tiny/,
  );
});
