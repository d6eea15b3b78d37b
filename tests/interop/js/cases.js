import { strict as assert } from "node:assert";
import grpc from "@grpc/grpc-js";
import { call, Stream } from "./calls.js";

const MEBIBYTE = 1 << 20;
const TEXT = "\t\nspaces\r\nBMP ☺, beyond 😈, 100 %\t\n";
const { status } = grpc;

async function fails(promise, code) {
  await assert.rejects(promise, (error) => error.code === code || assert.fail(error));
}

async function emptyUnary(client) {
  const { response } = await call(client, "Echo");
  assert.equal(response.payload.length, 0);
}

async function largeUnary(client) {
  const payload = Buffer.alloc(MEBIBYTE, "m");
  const { response } = await call(client, "Echo", { payload });
  assert.deepEqual(response.payload, payload);
}

async function serverStreaming(client) {
  const sizes = [31415, 0, 9, 2653, 589793];
  const stream = new Stream(client, "Sizes", { request: { sizes } });
  for (const size of sizes) assert.equal((await stream.next()).payload.length, size);
  assert.equal(await stream.next(), undefined);
}

async function pingPong(client) {
  const stream = new Stream(client, "Chat");
  for (const size of [27182, 8, 0, 1828, 459045]) {
    const payload = Buffer.alloc(size, "p");
    stream.call.write({ payload });
    assert.deepEqual((await stream.next()).payload, payload);
  }
  stream.call.end();
  assert.equal(await stream.next(), undefined);
}

async function emptyStream(client) {
  const stream = new Stream(client, "Chat");
  stream.call.end();
  assert.equal(await stream.next(), undefined);
}

async function statusWithDetails(client) {
  const failing = { code: status.FAILED_PRECONDITION, status_message: TEXT, reason: "INTEROP" };
  const chat = () => {
    const stream = new Stream(client, "Chat");
    stream.call.write(failing);
    return stream.next();
  };
  for (const fail of [() => call(client, "Echo", failing), chat]) {
    await assert.rejects(fail, (error) => {
      assert.equal(error.code, status.FAILED_PRECONDITION);
      assert.equal(error.details, TEXT);
      const [details] = error.metadata.get("grpc-status-details-bin");
      assert.ok(details.includes("google.rpc.ErrorInfo") && details.includes("INTEROP"));
      return true;
    });
  }
}

async function customMetadata(client) {
  const metadata = new grpc.Metadata();
  const values = [Buffer.from([0, 255, 1]), Buffer.alloc(0)];
  metadata.set("x-interop", "a text");
  for (const value of values) metadata.add("x-interop-bin", value);
  const stream = new Stream(client, "Chat", { metadata });
  stream.call.write({});
  await stream.next();
  stream.call.end();
  assert.equal(await stream.next(), undefined);
  for (const { header, trailer } of [await call(client, "Echo", {}, { metadata }), stream]) {
    assert.deepEqual(header.get("x-interop"), ["a text"]);
    assert.deepEqual(trailer.get("x-interop-bin"), values);
  }
}

async function deadline(client) {
  await emptyUnary(client); // connects, which takes a part of the time
  const soon = () => new Date(Date.now() + 200);
  await fails(call(client, "Echo", { wait_milliseconds: 10_000 }, { deadline: soon() }), status.DEADLINE_EXCEEDED);
  await fails(new Stream(client, "Chat", { deadline: soon() }).next(), status.DEADLINE_EXCEEDED);
}

async function cancelBefore(client) {
  const stream = new Stream(client, "Chat");
  stream.call.cancel();
  await fails(stream.next(), status.CANCELLED);
  await emptyUnary(client);
}

async function cancelAfter(client) {
  const stream = new Stream(client, "Chat");
  stream.call.write({ payload: Buffer.from("x") });
  await stream.next();
  stream.call.cancel();
  await fails(stream.next(), status.CANCELLED);
  await emptyUnary(client);
}

export const cases = {
  empty_unary: emptyUnary,
  large_unary: largeUnary,
  server_streaming: serverStreaming,
  ping_pong: pingPong,
  empty_stream: emptyStream,
  status: statusWithDetails,
  metadata: customMetadata,
  deadline,
  cancel_before: cancelBefore,
  cancel_after: cancelAfter,
  compressed: largeUnary, // by an option of the channel
  unimplemented_method: (client) => fails(call(client, "Missing"), status.UNIMPLEMENTED),
  unimplemented_service: (_, absent) => fails(call(absent, "Echo"), status.UNIMPLEMENTED),
};
