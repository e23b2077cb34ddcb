/** Where a server of ours listens: how that is written, and what to change when it cannot. */
export type ListenAddress = { readonly host: string; readonly port: number };

export const shownAddress = ({ host, port }: ListenAddress): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

/** `who` cannot listen: the same error, or one that names the `settings` that give it another address. */
export const notListening = (error: unknown, address: ListenAddress, who: string, settings: string): unknown => {
  const at = shownAddress(address);
  const errorCode = error instanceof Error && "code" in error ? String(error.code) : "";
  if (errorCode === "EADDRINUSE") {
    return new Error(`another program listens on ${at}: stop it, or give ${who} another address (${settings})`);
  }
  if (["EACCES", "EADDRNOTAVAIL", "ENOTFOUND", "EAI_AGAIN"].includes(errorCode)) {
    return new Error(`${who} cannot listen on ${at} (${errorCode}): give it an address of this machine (${settings})`);
  }
  return error;
};
