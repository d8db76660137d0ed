// A catalog directory for one test, written and rewritten as an editor would.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface CatalogFiles extends Disposable {
  readonly directory: string;
  readonly models: string;
  readonly workflows: string;
  write(name: string, text: string): void;
}

export function catalogFiles(models: string, workflows: Readonly<Record<string, string>> = TINY): CatalogFiles {
  const directory = mkdtempSync(join(tmpdir(), 'darkroom-catalog-'));
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
  mkdirSync(join(directory, 'workflows'));
  write('models.yaml', models);
  for (const [name, text] of Object.entries(workflows)) write(join('workflows', name), text);
  return {
    directory,
    models: join(directory, 'models.yaml'),
    workflows: join(directory, 'workflows'),
    write,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}

/** A graph with something of everything: a checkpoint, a text, a picture, a number. */
export const GRAPH = {
  '1': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'base.safetensors' } },
  '2': { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['1', 1] } },
  '3': { class_type: 'Glow', inputs: { text: ['2', 0], amount: 0.5, mode: 'soft', twice: false, steps: 20 } },
  '9': { class_type: 'SaveImage', inputs: { images: ['3', 0], filename_prefix: 'x' } },
};

export const SLOTS = `slots:
  prompt: {required: true, fills: [2.inputs.text]}
  checkpoint: {required: true, fills: [1.inputs.ckpt_name]}
  steps: {default: 20, fills: [3.inputs.steps]}
  amount: {type: number, default: 0.5, min: 0, max: 1, fills: [3.inputs.amount]}
  mode: {type: choice, choices: [soft, hard], default: soft, fills: [3.inputs.mode]}
  twice: {type: boolean, default: false, fills: [[3, twice]]}
loras: {model: "1.0", clip: "1.1"}
outputs: ["9"]
`;

export const TINY = { 'tiny.json': JSON.stringify(GRAPH), 'tiny.slots.yaml': SLOTS };

export const MODELS = `models:
  glow:
    kind: image
    capabilities: [text-to-image, seed]
    price: 1.5
    limits: {max_pixels: 1048576, multiple_of: 16, max_n: 4}
    routes:
      - {backend: comfyui, workflow: tiny, checkpoint: base.safetensors}
  sketch:
    kind: image
    capabilities: [text-to-image]
    price: 0
    fallback: [glow]
    routes: [{backend: sketch}]
aliases: {shine: glow}
`;
