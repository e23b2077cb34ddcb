import { Output } from "./output.ts";
import { runProgram } from "./program.ts";

/**
 * The command `escapement`. The exit code is set rather than enforced, so that what was printed reaches its pipe and
 * `serve` goes on running; only an interrupted command leaves at once, since its input may never end.
 */
const code = await runProgram(process.argv.slice(2), new Output());
process.exitCode = code;
if (code !== 0) process.stdin.unref?.();
