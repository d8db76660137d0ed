// The command with its batch group alone, so that a process starts fast.

import { Command } from 'commander';
import { batchCommand } from '../../src/cli/batch.ts';

await new Command('darkroom').addCommand(batchCommand).parseAsync();
