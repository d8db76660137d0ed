// The short forms of node classes beyond the recorded ones: inputs, outputs, defaults and ranges, enough for the graphs
// that studios export. The recorded class table lends its sampler and scheduler names.

import recorded from '../../captures/comfyui/object_info-subset.json' with { type: 'json' };
import type { InputConfig, Installed } from './nodes.ts';

export type Short = Readonly<Record<string, InputConfig | string>>;

const int = (fallback: number, min: number, max: number): InputConfig => ['INT', { default: fallback, min, max }];
const float = (fallback: number, min: number, max: number): InputConfig => [
  'FLOAT',
  { default: fallback, min, max, step: 0.01 },
];
const string = (fallback = ''): InputConfig => ['STRING', { default: fallback, multiline: fallback === '' }];
const boolean = (fallback: boolean): InputConfig => ['BOOLEAN', { default: fallback }];
const combo = (...choices: readonly string[]): InputConfig => [choices];
const side = int(512, 16, 16384);
const prefix = string('ComfyUI');
const seed: InputConfig = ['INT', { default: 0, min: 0, max: 18446744073709552000, control_after_generate: true }];
const scaling = combo('nearest-exact', 'bilinear', 'area', 'bicubic', 'lanczos');
const samplers = recorded.KSampler.input.required.sampler_name[0] as readonly string[];
const schedulers = recorded.KSampler.input.required.scheduler[0] as readonly string[];
const conditions: Short = { positive: 'CONDITIONING', negative: 'CONDITIONING' };

export interface ShortNode {
  readonly category: string;
  readonly required: Short;
  readonly output: readonly string[];
  readonly optional?: Short;
  readonly module?: string;
}

const node = (category: string, required: Short, ...output: readonly string[]): ShortNode => ({
  category,
  required,
  output,
});
const custom = (required: Short, ...output: readonly string[]): ShortNode => ({
  ...node('custom', required, ...output),
  module: 'custom_nodes.probe',
});

export const OUTPUT_NODES = new Set(
  'SaveImage PreviewImage SaveImageWebsocket SaveAnimatedWEBP SaveAnimatedPNG SaveWEBM SaveVideo SaveAudio PreviewAudio PreviewAny VHS_VideoCombine ProbeText'.split(
    ' ',
  ),
);

const loaders = (on: Installed): Readonly<Record<string, ShortNode>> => ({
  ImageOnlyCheckpointLoader: node('loaders/video', { ckpt_name: [on.checkpoints] }, 'MODEL', 'CLIP_VISION', 'VAE'),
  UNETLoader: node(
    'advanced/loaders',
    { unet_name: [on.diffusion_models], weight_dtype: combo('default', 'fp8_e4m3fn', 'fp8_e4m3fn_fast', 'fp8_e5m2') },
    'MODEL',
  ),
  CLIPLoader: {
    ...node('advanced/loaders', { clip_name: [on.text_encoders], type: combo(...clipTypes) }, 'CLIP'),
    optional: { device: combo('default', 'cpu') },
  },
  DualCLIPLoader: {
    ...node(
      'advanced/loaders',
      { clip_name1: [on.text_encoders], clip_name2: [on.text_encoders], type: combo(...clipTypes) },
      'CLIP',
    ),
    optional: { device: combo('default', 'cpu') },
  },
  TripleCLIPLoader: node(
    'advanced/loaders',
    { clip_name1: [on.text_encoders], clip_name2: [on.text_encoders], clip_name3: [on.text_encoders] },
    'CLIP',
  ),
  VAELoader: node('loaders', { vae_name: [on.vae] }, 'VAE'),
  LoraLoader: node(
    'loaders',
    {
      model: 'MODEL',
      clip: 'CLIP',
      lora_name: [on.loras],
      strength_model: float(1, -100, 100),
      strength_clip: float(1, -100, 100),
    },
    'MODEL',
    'CLIP',
  ),
  LoraLoaderModelOnly: node(
    'loaders',
    { model: 'MODEL', lora_name: [on.loras], strength_model: float(1, -100, 100) },
    'MODEL',
  ),
  UpscaleModelLoader: node('loaders', { model_name: [on.upscale_models] }, 'UPSCALE_MODEL'),
  ControlNetLoader: node('loaders', { control_net_name: [on.controlnet] }, 'CONTROL_NET'),
  CLIPVisionLoader: node('loaders', { clip_name: [on.clip_vision] }, 'CLIP_VISION'),
});

const clipTypes = [
  'stable_diffusion',
  'stable_cascade',
  'sd3',
  'stable_audio',
  'mochi',
  'ltxv',
  'pixart',
  'cosmos',
  'lumina2',
  'wan',
  'hidream',
  'chroma',
  'ace',
  'omnigen2',
  'qwen_image',
  'sdxl',
  'flux',
  'hunyuan_video',
];

const latents: Readonly<Record<string, ShortNode>> = {
  EmptySD3LatentImage: node('latent', { width: side, height: side, batch_size: int(1, 1, 4096) }, 'LATENT'),
  EmptyHunyuanLatentVideo: node('latent', video(), 'LATENT'),
  EmptyLTXVLatentVideo: node('latent', video(), 'LATENT'),
  EmptyMochiLatentVideo: node('latent', video(), 'LATENT'),
  EmptyLatentAudio: node('latent', { seconds: float(47.6, 1, 1000), batch_size: int(1, 1, 4096) }, 'LATENT'),
  EmptyAceStepLatentAudio: node('latent', { seconds: float(120, 1, 1000), batch_size: int(1, 1, 4096) }, 'LATENT'),
  WanImageToVideo: {
    ...node('conditioning', { ...conditions, vae: 'VAE', ...video() }, 'CONDITIONING', 'CONDITIONING', 'LATENT'),
    optional: { start_image: 'IMAGE', clip_vision_output: 'CLIP_VISION_OUTPUT' },
  },
  VAEEncode: node('latent', { pixels: 'IMAGE', vae: 'VAE' }, 'LATENT'),
  VAEEncodeForInpaint: node(
    'latent',
    { pixels: 'IMAGE', vae: 'VAE', mask: 'MASK', grow_mask_by: int(6, 0, 64) },
    'LATENT',
  ),
  InpaintModelConditioning: {
    ...node(
      'conditioning',
      { ...conditions, vae: 'VAE', pixels: 'IMAGE', mask: 'MASK' },
      'CONDITIONING',
      'CONDITIONING',
      'LATENT',
    ),
    optional: { noise_mask: boolean(true) },
  },
  SetLatentNoiseMask: node('latent', { samples: 'LATENT', mask: 'MASK' }, 'LATENT'),
  RepeatLatentBatch: node('latent', { samples: 'LATENT', amount: int(1, 1, 64) }, 'LATENT'),
  LatentUpscale: node(
    'latent',
    { samples: 'LATENT', upscale_method: scaling, width: side, height: side, crop: combo('disabled', 'center') },
    'LATENT',
  ),
  LatentUpscaleBy: node(
    'latent',
    { samples: 'LATENT', upscale_method: scaling, scale_by: float(1.5, 0.01, 8) },
    'LATENT',
  ),
  VAEDecodeTiled: {
    ...node('latent', { samples: 'LATENT', vae: 'VAE', tile_size: int(512, 64, 4096) }, 'IMAGE'),
    optional: { overlap: int(64, 0, 4096), temporal_size: int(64, 8, 4096), temporal_overlap: int(8, 4, 4096) },
  },
  VAEDecodeAudio: node('latent/audio', { samples: 'LATENT', vae: 'VAE' }, 'AUDIO'),
};

function video(): Short {
  return { width: side, height: side, length: int(25, 1, 16384), batch_size: int(1, 1, 4096) };
}

const conditioning: Readonly<Record<string, ShortNode>> = {
  CLIPTextEncodeFlux: node(
    'conditioning',
    { clip: 'CLIP', clip_l: string(), t5xxl: string(), guidance: float(3.5, 0, 100) },
    'CONDITIONING',
  ),
  CLIPTextEncodeSDXL: node(
    'conditioning',
    {
      clip: 'CLIP',
      width: int(1024, 0, 16384),
      height: int(1024, 0, 16384),
      crop_w: int(0, 0, 16384),
      crop_h: int(0, 0, 16384),
      target_width: int(1024, 0, 16384),
      target_height: int(1024, 0, 16384),
      text_g: string(),
      text_l: string(),
    },
    'CONDITIONING',
  ),
  TextEncodeAceStepAudio: node(
    'conditioning',
    { clip: 'CLIP', tags: string(), lyrics: string(), lyrics_strength: float(1, 0, 10) },
    'CONDITIONING',
  ),
  ConditioningStableAudio: node(
    'conditioning',
    { ...conditions, seconds_start: float(0, 0, 1000), seconds_total: float(47, 0, 1000) },
    'CONDITIONING',
    'CONDITIONING',
  ),
  LTXVConditioning: node(
    'conditioning',
    { ...conditions, frame_rate: float(25, 0, 1000) },
    'CONDITIONING',
    'CONDITIONING',
  ),
  FluxGuidance: node('conditioning', { conditioning: 'CONDITIONING', guidance: float(3.5, 0, 100) }, 'CONDITIONING'),
  ConditioningZeroOut: node('conditioning', { conditioning: 'CONDITIONING' }, 'CONDITIONING'),
  CLIPSetLastLayer: node('conditioning', { clip: 'CLIP', stop_at_clip_layer: int(-1, -24, -1) }, 'CLIP'),
  CLIPVisionEncode: node(
    'conditioning',
    { clip_vision: 'CLIP_VISION', image: 'IMAGE', crop: combo('center', 'none') },
    'CLIP_VISION_OUTPUT',
  ),
  ModelSamplingSD3: node('advanced/model', { model: 'MODEL', shift: float(3, 0, 100) }, 'MODEL'),
  ModelSamplingAuraFlow: node('advanced/model', { model: 'MODEL', shift: float(1.73, 0, 100) }, 'MODEL'),
  ModelSamplingFlux: node(
    'advanced/model',
    { model: 'MODEL', max_shift: float(1.15, 0, 100), base_shift: float(0.5, 0, 100), width: side, height: side },
    'MODEL',
  ),
  DifferentialDiffusion: node('_for_testing', { model: 'MODEL' }, 'MODEL'),
};

const sampling: Readonly<Record<string, ShortNode>> = {
  KSamplerAdvanced: node(
    'sampling',
    {
      model: 'MODEL',
      add_noise: combo('enable', 'disable'),
      noise_seed: seed,
      steps: int(20, 1, 10000),
      cfg: float(8, 0, 100),
      sampler_name: [samplers],
      scheduler: [schedulers],
      ...conditions,
      latent_image: 'LATENT',
      start_at_step: int(0, 0, 10000),
      end_at_step: int(10000, 0, 10000),
      return_with_leftover_noise: combo('disable', 'enable'),
    },
    'LATENT',
  ),
  SamplerCustomAdvanced: node(
    'sampling/custom_sampling',
    { noise: 'NOISE', guider: 'GUIDER', sampler: 'SAMPLER', sigmas: 'SIGMAS', latent_image: 'LATENT' },
    'LATENT',
    'LATENT',
  ),
  RandomNoise: node('sampling/custom_sampling', { noise_seed: seed }, 'NOISE'),
  KSamplerSelect: node('sampling/custom_sampling', { sampler_name: [samplers] }, 'SAMPLER'),
  BasicScheduler: node(
    'sampling/custom_sampling',
    { model: 'MODEL', scheduler: [schedulers], steps: int(20, 1, 10000), denoise: float(1, 0, 1) },
    'SIGMAS',
  ),
  BasicGuider: node('sampling/custom_sampling', { model: 'MODEL', conditioning: 'CONDITIONING' }, 'GUIDER'),
  CFGGuider: node('sampling/custom_sampling', { model: 'MODEL', ...conditions, cfg: float(8, 0, 100) }, 'GUIDER'),
};

const images: Readonly<Record<string, ShortNode>> = {
  LoadImageMask: node('mask', { image: combo(), channel: combo('alpha', 'red', 'green', 'blue') }, 'MASK'),
  ImageToMask: node('mask', { image: 'IMAGE', channel: combo('red', 'green', 'blue', 'alpha') }, 'MASK'),
  MaskToImage: node('mask', { mask: 'MASK' }, 'IMAGE'),
  InvertMask: node('mask', { mask: 'MASK' }, 'MASK'),
  GrowMask: node('mask', { mask: 'MASK', expand: int(0, -16384, 16384), tapered_corners: boolean(true) }, 'MASK'),
  ImageScale: node(
    'image/upscaling',
    {
      image: 'IMAGE',
      upscale_method: scaling,
      width: int(512, 0, 16384),
      height: int(512, 0, 16384),
      crop: combo('disabled', 'center'),
    },
    'IMAGE',
  ),
  ImageScaleBy: node(
    'image/upscaling',
    { image: 'IMAGE', upscale_method: scaling, scale_by: float(1, 0.01, 8) },
    'IMAGE',
  ),
  ImageUpscaleWithModel: node('image/upscaling', { upscale_model: 'UPSCALE_MODEL', image: 'IMAGE' }, 'IMAGE'),
  ImageInvert: node('image', { image: 'IMAGE' }, 'IMAGE'),
  ImageBatch: node('image', { image1: 'IMAGE', image2: 'IMAGE' }, 'IMAGE'),
  ImageCompositeMasked: {
    ...node(
      'image',
      {
        destination: 'IMAGE',
        source: 'IMAGE',
        x: int(0, 0, 16384),
        y: int(0, 0, 16384),
        resize_source: boolean(false),
      },
      'IMAGE',
    ),
    optional: { mask: 'MASK' },
  },
  ImagePadForOutpaint: node(
    'image',
    {
      image: 'IMAGE',
      left: int(0, 0, 16384),
      top: int(0, 0, 16384),
      right: int(0, 0, 16384),
      bottom: int(0, 0, 16384),
      feathering: int(40, 0, 16384),
    },
    'IMAGE',
    'MASK',
  ),
  CreateVideo: {
    ...node('image/video', { images: 'IMAGE', fps: float(30, 1, 120) }, 'VIDEO'),
    optional: { audio: 'AUDIO' },
  },
};

const outputs: Readonly<Record<string, ShortNode>> = {
  SaveImageWebsocket: { ...node('api/image', { images: 'IMAGE' }), module: 'custom_nodes.websocket_image_save' },
  SaveAnimatedWEBP: node('image/animation', {
    images: 'IMAGE',
    filename_prefix: prefix,
    fps: float(6, 0.01, 1000),
    lossless: boolean(true),
    quality: int(80, 0, 100),
    method: combo('default', 'fastest', 'slowest'),
  }),
  SaveWEBM: node('image/video', {
    images: 'IMAGE',
    filename_prefix: prefix,
    codec: combo('vp9', 'av1'),
    fps: float(24, 0.01, 1000),
    crf: float(32, 0, 63),
  }),
  SaveVideo: node('image/video', {
    video: 'VIDEO',
    filename_prefix: prefix,
    format: combo('auto', 'mp4'),
    codec: combo('auto', 'h264'),
  }),
  SaveAudio: node('audio', { audio: 'AUDIO', filename_prefix: prefix }),
  PreviewAudio: node('audio', { audio: 'AUDIO' }),
  PreviewAny: node('utils', { source: '*' }),
  VHS_VideoCombine: {
    ...node('Video Helper Suite', {
      images: 'IMAGE',
      frame_rate: float(8, 1, 1000),
      loop_count: int(0, 0, 100),
      filename_prefix: prefix,
      format: combo('video/h264-mp4', 'video/webm', 'image/webp'),
      pingpong: boolean(false),
      save_output: boolean(true),
    }),
    module: 'custom_nodes.ComfyUI-VideoHelperSuite',
  },
};

/** The nodes the recordings were made with: one runs out of memory, one blocks its branch, one says a text. */
const probes: Readonly<Record<string, ShortNode>> = {
  ProbeOOM: custom({ image: 'IMAGE', kind: combo('torch', 'ram') }, 'IMAGE'),
  TestExecutionBlocker: custom({ input: '*', block: boolean(true), verbose: boolean(true) }, '*'),
  ProbeText: custom({ text: string('') }),
};

/** All of them, with the box's own file lists in the loaders' choices. */
export const shortNodes = (on: Installed): Readonly<Record<string, ShortNode>> => ({
  ...loaders(on),
  ...latents,
  ...conditioning,
  ...sampling,
  ...images,
  ...outputs,
  ...probes,
});
