// A command with commands below it, as in `darkroom nodes list`. Alone it lists, since that is what people mean by it.

import { Command } from 'commander';

export const group = (name: string, description: string, commands: readonly Command[], examples: string): Command =>
  commands
    .reduce(
      (parent, command) => parent.addCommand(command, { isDefault: command.name() === 'list' }),
      new Command(name).description(description),
    )
    .addHelpText('after', `\nExamples:\n${examples}`);
