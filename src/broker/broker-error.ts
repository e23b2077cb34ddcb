/** What a client is answered instead: a status code of the protocol (src/protocol/messaging-service.ts) and what to change. */
export class BrokerError extends Error {
  override readonly name = "BrokerError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
