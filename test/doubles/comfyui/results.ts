// What output nodes leave behind: pictures with text chunks, clips, sound, texts. One entry per class that saves.

import { flacClip, mp4Clip, webmClip, webpClip } from '../clips.ts';
import { type FileBytes, type PictureKind, picture } from '../pictures.ts';
import type { FileRef, Files, Folder } from './files.ts';
import type { Flow } from './plan.ts';
import type { Prompt } from './queue.ts';
import type { GraphNode } from './validate.ts';

export interface Save {
  readonly node: GraphNode;
  readonly flow: Flow;
  readonly prompt: Prompt;
  readonly files: Files;
  readonly image: PictureKind;
}

type Ui = Readonly<Record<string, unknown>>;

/** The `ui` of the node, with its files written; null for a node that shows nothing. */
export async function saveOutputs(save: Save): Promise<Ui | null> {
  switch (save.node.class_type) {
    case 'SaveImage':
      return { images: pictures(save, 'output', prefixOf(save)) };
    case 'PreviewImage':
      return { images: pictures(save, 'temp', `ComfyUI_temp_${letters(save.flow.salt)}`) };
    case 'SaveAnimatedWEBP':
      return { images: [put(save, 'output', 'webp', await webpClip(clip(save)))], animated: [true] };
    case 'SaveWEBM':
      return { images: [put(save, 'output', 'webm', await webmClip(clip(save)))], animated: [true] };
    case 'SaveVideo':
      return { images: [put(save, 'output', 'mp4', await mp4Clip(clip(save)))], animated: [true] };
    case 'VHS_VideoCombine':
      return { gifs: [await combined(save)] };
    case 'SaveAudio':
      return { audio: [put(save, 'output', 'flac', flacClip(save.flow.seconds, save.flow.salt))] };
    case 'PreviewAudio':
      return { audio: [put(save, 'temp', 'flac', flacClip(save.flow.seconds, save.flow.salt))] };
    case 'PreviewAny':
      return { text: [save.flow.salt.slice(0, 16)] };
    default:
      return null;
  }
}

const prefixOf = ({ node }: Save): string => String(node.inputs.filename_prefix ?? 'ComfyUI');

const put = (save: Save, type: Folder, extension: string, bytes: FileBytes): FileRef =>
  save.files.save(type, prefixOf(save), extension, bytes);

const sizeOf = ({ width, height }: Flow) => ({ width: width || 512, height: height || 512 });

/** Clips are made small whatever was asked: nobody looks at them, and the double must never be the bottleneck. */
const SIDE_MAX = 256;

function clip({ flow }: Save) {
  const { width, height } = sizeOf(flow);
  const scale = Math.min(1, SIDE_MAX / Math.max(width, height));
  const even = (side: number) => Math.max(2, Math.round((side * scale) / 2) * 2);
  const frames = flow.frames > 1 ? flow.frames : flow.batch;
  return { width: even(width), height: even(height), frames, salt: flow.salt };
}

function pictures({ flow, prompt, files, image }: Save, type: Folder, prefix: string): FileRef[] {
  const extra = (prompt.extra.extra_pnginfo ?? {}) as Readonly<Record<string, unknown>>;
  const named = Object.entries({ prompt: prompt.graph, ...extra });
  const text = Object.fromEntries(named.map(([key, value]) => [key, JSON.stringify(value)]));
  return Array.from({ length: flow.batch }, (_, i) => {
    const { width, height } = sizeOf(flow);
    return files.save(type, prefix, 'png', picture({ width, height, salt: `${flow.salt}/${i}`, kind: image, text }));
  });
}

async function combined(save: Save): Promise<Ui> {
  const rate = Number(save.node.inputs.frame_rate ?? 8);
  const format = String(save.node.inputs.format);
  const [extension, bytes] =
    format === 'image/webp'
      ? (['webp', await webpClip(clip(save))] as const)
      : format === 'video/webm'
        ? (['webm', await webmClip(clip(save))] as const)
        : (['mp4', await mp4Clip(clip(save))] as const);
  return { ...put(save, 'output', extension, bytes), format, frame_rate: rate, fullpath: '' };
}

const letters = (salt: string): string =>
  [...salt.slice(0, 5)].map((digit) => String.fromCharCode(97 + Number.parseInt(digit, 16))).join('');
