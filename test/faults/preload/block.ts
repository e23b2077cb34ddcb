/**
 * Loaded into a server before its own code (`node --import`): SIGUSR2 makes it compute for LAB_BLOCK_MS without ever
 * returning to its event loop, as a runaway loop in a handler or a very long garbage collection would.
 */
const blockMs = Number(process.env.LAB_BLOCK_MS);

process.on("SIGUSR2", () => {
  const endMs = performance.now() + blockMs;
  while (performance.now() < endMs);
});
