// The `darkroom` command. One file per command; this one only knows their names.

import { Command } from 'commander';
import { VERSION } from '../main.ts';
import { demoCommand } from './demo.ts';
import { serveCommand } from './serve.ts';

export const program = new Command('darkroom')
  .description("A generation gateway in front of a studio's own ComfyUI and Automatic1111 nodes.")
  .version(VERSION)
  .addHelpText(
    'after',
    `
Examples:
  darkroom serve                 start the gateway (settings: config/darkroom.yaml, DARKROOM_*)
  darkroom serve --port 9000     … on another port
  darkroom demo                  watch six pictures being made, without a GPU

Everything it answers is described at /docs of a running gateway.`,
  )
  .showHelpAfterError('(darkroom --help shows what there is)')
  .addCommand(serveCommand)
  .addCommand(demoCommand);
