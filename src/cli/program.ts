// The `darkroom` command. One file per command; this one only knows their names. Commands load what is heavy when they
// run, so that `darkroom credits` opens no house.

import { Command, CommanderError } from 'commander';
import pack from '../../package.json' with { type: 'json' };
import { batchCommand } from './batch.ts';
import { cancelCommand } from './cancel.ts';
import { creditsCommand, usageCommand } from './credits.ts';
import { demoCommand } from './demo.ts';
import { doctorCommand } from './doctor.ts';
import { EXIT, fail, InputError } from './failing.ts';
import { generateCommand } from './generate.ts';
import { getCommand } from './get.ts';
import { keysCommand } from './keys.ts';
import { listCommand } from './list.ts';
import { loginCommand, logoutCommand } from './login.ts';
import { mcpCommand } from './mcp.ts';
import { modelsCommand } from './models.ts';
import { nodesCommand } from './nodes.ts';
import { serveCommand } from './serve.ts';
import { watchCommand } from './watch.ts';
import { webhooksCommand } from './webhooks.ts';
import { workspacesCommand } from './workspaces.ts';

export const program = new Command('darkroom')
  .description("A generation gateway in front of a studio's own ComfyUI and Automatic1111 nodes.")
  .version(pack.version)
  .commandsGroup('Make:')
  .addCommand(generateCommand)
  .addCommand(getCommand)
  .addCommand(listCommand)
  .addCommand(cancelCommand)
  .addCommand(batchCommand)
  .addCommand(watchCommand)
  .addCommand(modelsCommand)
  .addCommand(mcpCommand)
  .commandsGroup('Account:')
  .addCommand(loginCommand)
  .addCommand(logoutCommand)
  .addCommand(creditsCommand)
  .addCommand(usageCommand)
  .addCommand(webhooksCommand)
  .commandsGroup('Run a gateway:')
  .addCommand(serveCommand)
  .addCommand(demoCommand)
  .addCommand(doctorCommand)
  .addCommand(nodesCommand)
  .addCommand(workspacesCommand)
  .addCommand(keysCommand)
  .addHelpCommand(new Command('help').argument('[command]').description('how to use a command').helpGroup('Account:'))
  .addHelpText(
    'after',
    `
Examples:
  darkroom serve                                   start the gateway (settings: config/darkroom.yaml, DARKROOM_*)
  darkroom generate "a lighthouse at dawn"         make a picture and save it here
  darkroom list --status failed --since 1d         what went wrong since yesterday
  darkroom login --url http://darkroom.lan:8787    remember a gateway that runs elsewhere

Every command that speaks to a gateway takes --json: exactly one JSON document on stdout, whatever happens.
Exit status: 0 done, 1 a generation failed, 2 usage or input, 3 key refused, 4 no gateway there, 130 Ctrl-C.
Everything a gateway answers is described at its /docs.`,
  );

/** Runs the command line given. Never throws and never exits: the exit status is set. */
export async function run(argv: readonly string[]): Promise<void> {
  const json = argv.includes('--json');
  for (const command of [program, ...below(program)]) {
    command.exitOverride();
    if (json) command.configureOutput({ writeErr: () => {} });
    else command.showHelpAfterError(`(${pathOf(helpOf(command))} --help shows what there is)`);
  }
  try {
    await program.parseAsync(argv);
  } catch (error) {
    if (!(error instanceof CommanderError)) fail(error, { json });
    else if (error.exitCode !== 0) refuse(error, json);
  }
}

const below = (command: Command): Command[] => command.commands.flatMap((c) => [c as Command, ...below(c as Command)]);
/** A group alone lists, so that what is mistyped below it ends in its list. */
const helpOf = (command: Command): Command =>
  command.name() === 'list' && command.parent?.parent ? command.parent : command;
const pathOf = (command: Command): string => (command.parent ? `${pathOf(command.parent)} ` : '') + command.name();

/** Commander has told people already. */
function refuse(error: CommanderError, json: boolean): void {
  if (json) fail(new InputError(error.message.replace(/^error: /, '')), { json });
  process.exitCode = EXIT.input;
}
