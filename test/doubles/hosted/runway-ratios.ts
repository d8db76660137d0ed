// The frames that Runway's own models and Google's make there, every one of them, in the words of its client: a frame more
// or less in a new version of the client does not compile.

import type { ImageToVideoCreateParams } from '@runwayml/sdk/resources/image-to-video';
import type { TextToImageCreateParams } from '@runwayml/sdk/resources/text-to-image';
import type { TextToVideoCreateParams } from '@runwayml/sdk/resources/text-to-video';

type Params = {
  text_to_image: TextToImageCreateParams;
  text_to_video: TextToVideoCreateParams;
  image_to_video: ImageToVideoCreateParams;
};
export type TaskKind = keyof Params;
type Model =
  | 'gen4.5'
  | 'gen4_turbo'
  | 'veo3.1'
  | 'veo3.1_fast'
  | 'gen4_image'
  | 'gen4_image_turbo'
  | 'gemini_2.5_flash';
type Frames<P extends { model: string }> = {
  readonly [M in P['model'] & Model]: Readonly<
    Record<Extract<P, { model: M }> extends { ratio: infer Ratio extends string } ? Ratio : never, true>
  >;
};

const WIDE_OR_TALL = { '1280:720': true, '720:1280': true } as const;
const VEO = { ...WIDE_OR_TALL, '1920:1080': true, '1080:1920': true } as const;
const CLIP = { ...WIDE_OR_TALL, '1104:832': true, '832:1104': true, '960:960': true, '1584:672': true } as const;
const PICTURE = {
  ...VEO,
  '1024:1024': true,
  '1080:1080': true,
  '1168:880': true,
  '1360:768': true,
  '1440:1080': true,
  '1080:1440': true,
  '1808:768': true,
  '2112:912': true,
  '720:720': true,
  '960:720': true,
  '720:960': true,
  '1680:720': true,
} as const;
const GEMINI = {
  '1024:1024': true,
  '1344:768': true,
  '768:1344': true,
  '1184:864': true,
  '864:1184': true,
  '1536:672': true,
  '832:1248': true,
  '1248:832': true,
  '896:1152': true,
  '1152:896': true,
} as const;

const FRAMES: { readonly [K in TaskKind]: Frames<Params[K]> } = {
  text_to_image: { gen4_image: PICTURE, gen4_image_turbo: PICTURE, 'gemini_2.5_flash': GEMINI },
  text_to_video: { 'gen4.5': WIDE_OR_TALL, 'veo3.1': VEO, 'veo3.1_fast': VEO },
  image_to_video: { 'gen4.5': CLIP, gen4_turbo: CLIP, 'veo3.1': VEO, 'veo3.1_fast': VEO },
};

/** By task and model. */
export const RUNWAY_RATIOS: readonly (readonly [kind: TaskKind, model: string, ratios: readonly string[]])[] = (
  Object.keys(FRAMES) as TaskKind[]
).flatMap((kind) => Object.entries(FRAMES[kind]).map(([model, ratios]) => [kind, model, Object.keys(ratios)] as const));
