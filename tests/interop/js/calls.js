// Calls as promises.
import { once } from "node:events";
import grpc from "@grpc/grpc-js";

// Resolves to the response, its headers and its trailers. Rejects with the status.
export function call(client, method, request = {}, { metadata = new grpc.Metadata(), ...options } = {}) {
  return new Promise((resolve, reject) => {
    let header, response;
    const sent = client[method](request, metadata, options, (error, value) => {
      response = value;
      if (error) reject(error);
    });
    sent.on("metadata", (received) => (header = received));
    sent.on("status", (status) => resolve({ response, header, trailer: status.metadata }));
  });
}

// A call of several messages: `next` resolves to one, to undefined after the last, or rejects with the status.
export class Stream {
  #ended;
  #messages;

  constructor(client, method, { metadata = new grpc.Metadata(), request, ...options } = {}) {
    this.call = request ? client[method](request, metadata, options) : client[method](metadata, options);
    this.call.on("metadata", (received) => (this.header = received));
    this.#ended = once(this.call, "status").then(([status]) => (this.trailer = status.metadata));
    this.#ended.catch(() => {}); // the same error comes from `next`
    this.#messages = this.call[Symbol.asyncIterator]();
  }

  async next() {
    const { value, done } = await this.#messages.next();
    if (done) await this.#ended;
    return value;
  }
}
