// What Runway's models take, by task: frame sizes, lengths, and whether a seed or a negative prompt is known to them. The
// frames of a model that is not listed are not guessed: hardly two of them are alike.

import { nearest, type Size, shapeDistance, sizeIn } from '../hosted/asked.ts';

export type TaskKind = 'text_to_video' | 'image_to_video' | 'text_to_image';

export interface Abilities {
  readonly path: TaskKind;
  /** None: they are not known here. */
  readonly ratios: readonly string[];
  /** Seconds, going up; none for pictures. */
  readonly lengths: readonly number[];
  readonly seed: boolean;
  readonly negative: boolean;
}

const WIDE_OR_TALL = ['1280:720', '720:1280'];
const GEN4_CLIP = ['1280:720', '720:1280', '1104:832', '832:1104', '960:960', '1584:672'];
const VEO = ['1280:720', '720:1280', '1920:1080', '1080:1920'];
const GEN4_PICTURE = [
  ...['1024:1024', '1080:1080', '1168:880', '1360:768', '1440:1080', '1080:1440', '1808:768', '1920:1080'],
  ...['1080:1920', '2112:912', '1280:720', '720:1280', '720:720', '960:720', '720:960', '1680:720'],
];
const GEMINI = [
  ...['1024:1024', '1344:768', '768:1344', '1184:864', '864:1184', '1536:672'],
  ...['832:1248', '1248:832', '896:1152', '1152:896'],
];
const TWO_TO_TEN = [2, 3, 4, 5, 6, 7, 8, 9, 10];

export function abilitiesOf(remote: string, path: TaskKind): Abilities {
  const gen4 = remote.startsWith('gen4');
  if (path === 'text_to_image') {
    const ratios = gen4 ? GEN4_PICTURE : remote === 'gemini_2.5_flash' ? GEMINI : [];
    return { path, ratios, lengths: [], seed: gen4, negative: false };
  }
  if (remote.startsWith('veo')) return { path, ratios: VEO, lengths: [4, 6, 8], seed: false, negative: true };
  const ratios = !gen4 ? [] : path === 'image_to_video' ? GEN4_CLIP : WIDE_OR_TALL;
  return { path, ratios, lengths: TWO_TO_TEN, seed: gen4, negative: false };
}

/** The frame nearest in shape, and of those alike the nearest in size. Without a size the first. The list is not empty. */
export function ratioFor(
  size: Size | null,
  ratios: readonly string[],
): { readonly ratio: string; readonly exact: boolean } {
  const [first = '1280:720'] = ratios;
  if (size === null) return { ratio: first, exact: true };
  const area = ({ width, height }: Size) => Math.abs(Math.log((width * height) / (size.width * size.height)));
  const ratio = nearest(ratios, (one) => Math.round(1e4 * shapeDistance(size, sizeIn(one))) + area(sizeIn(one)) / 100);
  const made = sizeIn(ratio);
  return { ratio, exact: made.width === size.width && made.height === size.height };
}
